/* meddiff status RUN: what a run directory holds and how far it is. Reads only, without a lock, so
   a live run is not disturbed. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "job.h"
#include "rundir.h"
#include "store/data.h"
#include "store/masks.h"
#include "store/pairs.h"

static bool in_run(const char *run, const char *name, char path[PATH_MAX])
{
    return md_path_join(path, PATH_MAX, run, name) == MD_OK && md_file_exists(path);
}

static md_status print_data(const char *path)
{
    data_store *d = NULL;
    int64_t count[2][DATA_N_SPLITS] = {{0}}, used = 0;
    MD_TRY(data_open(path, DATA_IMAGES, &d));
    md_status status = MD_OK;
    for (int64_t i = 0; i < data_rows(d) && status == MD_OK; i++) {
        data_row row;
        status = data_read_row(d, i, &row);
        if (status != MD_OK)
            break;
        count[row.kind != DATA_LESION][row.split]++;
        used += row.kind == DATA_LESION && row.used;
    }
    int64_t size = data_size(d);
    data_close(d);
    MD_TRY(status);
    for (int k = 0; k < 2; k++)
        (void)printf("%-12s %lld train, %lld val, %lld test\n", k ? "lesion-free" : "pairs",
                     (long long)count[k][DATA_TRAIN], (long long)count[k][DATA_VAL],
                     (long long)count[k][DATA_TEST]);
    (void)printf("%-12s %lld training pairs of %lldx%lld pixels\n", "used", (long long)used,
                 (long long)size, (long long)size);
    return MD_OK;
}

static md_status print_backgrounds(const char *path)
{
    data_store *d = NULL;
    MD_TRY(data_open(path, DATA_BACKGROUNDS, &d));
    (void)printf("%-12s %lld\n", "backgrounds", (long long)data_rows(d));
    data_close(d);
    return MD_OK;
}

/* masks.h5 and pairs.h5 have the same states. */
static void print_slots(const char *what, int64_t rows, const int64_t count[PAIRS_N_STATES])
{
    static const char *const names[PAIRS_N_STATES] = {"empty", "written, not assessed", "accepted",
                                                      "rejected", "failed"};
    int64_t done = rows - count[PAIRS_EMPTY] - count[PAIRS_WRITTEN];
    (void)printf("%-12s %lld of %lld slots finished (%.1f %%)\n", what, (long long)done,
                 (long long)rows, 100.0 * (double)done / (double)rows);
    for (int s = 0; s < PAIRS_N_STATES; s++)
        if (count[s])
            (void)printf("%-12s %lld %s\n", "", (long long)count[s], names[s]);
}

_Static_assert((int)MASKS_N_STATES == (int)PAIRS_N_STATES &&
                   (int)MASKS_ACCEPTED == (int)PAIRS_ACCEPTED &&
                   (int)MASKS_FAILED == (int)PAIRS_FAILED,
               "print_slots serves both");

static md_status print_masks(const char *path)
{
    masks_store *m = NULL;
    int64_t count[PAIRS_N_STATES] = {0};
    MD_TRY(masks_open_reader(path, &m));
    size_t rows = (size_t)masks_rows(m);
    uint8_t *state = malloc(rows);
    int32_t *attempt = malloc(rows * sizeof *attempt);
    md_status status = state && attempt ? masks_read_states(m, state, attempt)
                                        : md_fail(MD_NOMEM, __FILE__, __LINE__, "out of memory");
    for (size_t i = 0; i < rows && status == MD_OK; i++)
        count[state[i] < PAIRS_N_STATES ? state[i] : PAIRS_FAILED]++;
    masks_close(m);
    free(state);
    free(attempt);
    MD_TRY(status);
    print_slots("masks", (int64_t)rows, count);
    return MD_OK;
}

static md_status print_pairs(const char *path)
{
    pairs_store *p = NULL;
    int64_t count[PAIRS_N_STATES];
    MD_TRY(pairs_open_reader(path, &p));
    int64_t rows = pairs_rows(p);
    md_status status = pairs_count_states(p, count);
    pairs_close(p);
    MD_TRY(status);
    print_slots("generated", rows, count);
    return MD_OK;
}

/* The newest file of the log tells whether somebody still works here. */
static void print_age(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0)
        (void)printf("%-12s last line %.0f s ago\n", "log", difftime(time(NULL), st.st_mtime));
}

static void print_outcome(const char *path)
{
    void *text = NULL;
    size_t n = 0;
    if (md_file_read(path, 1 << 16, &text, &n) != MD_OK)
        return;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        (void)printf("%-12s %s\n", line == text ? "result" : "", line);
    free(text);
}

/* The newest checkpoint in checkpoints/NAME, or -1. */
static int64_t newest_checkpoint(const char *checkpoints, const char *name)
{
    char folder[PATH_MAX], **list = NULL;
    size_t n = 0;
    long long step, newest = -1;
    if (!in_run(checkpoints, name, folder) || md_dir_list(folder, &list, &n) != MD_OK)
        return -1;
    for (size_t i = 0; i < n; i++) {
        char rest;
        if (sscanf(list[i], "step-%lld%c", &step, &rest) == 1 && step > newest)
            newest = step;
    }
    free(list);
    return newest;
}

static void print_models(const char *run)
{
    static const char *const names[] = {"lesion", "background", "masks"};
    char path[PATH_MAX], name[64], **list = NULL;
    size_t n = 0;
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof name, "models/%s", names[i]);
        if (!in_run(run, name, path))
            continue;
        (void)snprintf(name, sizeof name, "models/%s/DONE", names[i]);
        (void)printf("%-12s models/%s%s\n", "trained", names[i],
                     in_run(run, name, path) ? "" : " (not complete)");
    }
    if (in_run(run, "checkpoints", path) && md_dir_list(path, &list, &n) == MD_OK)
        for (size_t i = 0; i < n; i++)
            (void)printf("%-12s %s, last saved at step %lld\n", "training", list[i],
                         (long long)newest_checkpoint(path, list[i]));
    free(list);
}

md_status job_status(job *j)
{
    static const struct {
        const char *name, *none;
        md_status (*print)(const char *path);
    } stores[] = {{"data.h5", "not imported yet", print_data},
                  {"masks.h5", NULL, print_masks},
                  {"backgrounds.h5", NULL, print_backgrounds},
                  {"pairs.h5", "no pairs yet", print_pairs}};
    char path[PATH_MAX];
    MD_TRY(rundir_look(j->arg));
    int damaged = 0;
    for (size_t i = 0; i < sizeof stores / sizeof *stores; i++) {
        if (i == 1)
            print_models(j->arg);
        bool there = in_run(j->arg, stores[i].name, path);
        if (!there && stores[i].none)
            (void)printf("%-12s %s\n", "", stores[i].none);
        if (there && stores[i].print(path) != MD_OK) {
            (void)printf("%-12s %s\n", "damaged", md_status_text());
            damaged++;
        }
    }
    if (in_run(j->arg, "log.txt", path))
        print_age(path);
    if (in_run(j->arg, "REQUEUE", path))
        (void)printf("%-12s by a signal, or ranks were lost; starting it again goes on\n",
                     "stopped");
    if (in_run(j->arg, "RESULT", path))
        print_outcome(path);
    if (damaged)
        MD_FAIL(MD_BAD_INPUT, "%s: %d damaged store%s", j->arg, damaged, damaged == 1 ? "" : "s");
    return MD_OK;
}

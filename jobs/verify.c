/* meddiff verify RUN: every checksum and invariant of a run directory; a line per problem. Reads
   only and takes no lock, so it works beside a live run, and says what it then cannot judge. */
#include "verify.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "format/json.h"
#include "format/safetensors.h"
#include "image/image.h"
#include "job.h"
#include "rundir.h"
#include "store/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The stores of a run; those that others refer to come first. */
static const struct {
    const char *file;
    md_status (*check)(verify *v, const char *path);
} stores[] = {
    {"data.h5", verify_data},
    {"backgrounds.h5", verify_backgrounds},
    {"masks.h5", verify_masks},
    {"pairs.h5", verify_pairs},
};

enum { LOG_MOST = 1 << 28, DEPTH_MOST = 4 };

static void print(const char *before, const char *fmt, va_list ap)
{
    (void)fputs(before, stdout);
    (void)vprintf(fmt, ap);
    (void)putchar('\n');
}

void verify_problem(verify *v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print("", fmt, ap);
    va_end(ap);
    v->problems++;
}

void verify_note(verify *v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print("note: ", fmt, ap);
    va_end(ap);
    v->notes++;
}

void verify_failed(verify *v)
{
    verify_problem(v, "%s", md_status_text());
}

bool verify_path(const verify *v, const char *name, char path[VERIFY_PATH])
{
    return md_path_join(path, VERIFY_PATH, v->run, name) == MD_OK && md_file_exists(path);
}

/* The first line of a small file without its end; NULL where it is not there or not readable. */
static char *first_line(const char *path)
{
    void *text = NULL;
    size_t n = 0;
    if (md_file_read(path, VERIFY_TEXT, &text, &n) != MD_OK)
        return NULL;
    ((char *)text)[strcspn(text, "\n")] = 0;
    return text;
}

/* ---- files of known kinds, wherever they lie */

static md_status check_weights(const char *path)
{
    format_tensors *t = NULL;
    MD_TRY(format_tensors_open(path, &t));
    format_tensors_close(t);
    return MD_OK;
}

static md_status check_json(const char *path)
{
    format_json *doc = NULL;
    MD_TRY(format_json_load(path, &doc));
    format_json_free(doc);
    return MD_OK;
}

static md_status check_picture(const char *path)
{
    image im = {0};
    MD_TRY(image_read(path, &im));
    image_free(&im);
    return MD_OK;
}

static md_status check_config(const char *path)
{
    config *cfg = NULL;
    MD_TRY(config_load(path, NULL, 0, &cfg));
    config_free(cfg);
    return MD_OK;
}

static const struct {
    const char *suffix;
    md_status (*check)(const char *path);
} kinds[] = {{".safetensors", check_weights},
             {".json", check_json},
             {".png", check_picture},
             {".cfg", check_config}};

static void check_file(verify *v, const char *path)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (md_str_ends(path, kinds[i].suffix)) {
            v->files++;
            /* gone meanwhile: a live run replaces what it wrote */
            if (kinds[i].check(path) != MD_OK && !(v->live && !md_file_exists(path)))
                verify_failed(v);
        }
    if (path[md_file_plain_length(path)] && !v->live)
        verify_note(v, "%s: not finished: left by a job that was stopped", path);
}

/* Every file below, but what verify_models.c looks at, and copies that were made for other
 * programs. */
static bool is_left_out(const char *name)
{
    return !strcmp(name, "checkpoints") || !strcmp(name, "models") || !strcmp(name, "export");
}

static void check_files(verify *v, const char *folder, int depth)
{
    char path[VERIFY_PATH], **names = NULL;
    size_t n = 0;
    if (md_dir_list(folder, &names, &n) != MD_OK) {
        if (!(v->live && !md_file_exists(folder)))
            verify_failed(v);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (md_path_join(path, sizeof path, folder, names[i]) != MD_OK)
            continue;
        if (!md_dir_exists(path))
            check_file(v, path);
        else if (depth < DEPTH_MOST && (depth > 0 || !is_left_out(names[i])))
            check_files(v, path, depth + 1);
    }
    free(names);
}

void verify_files(verify *v, const char *folder)
{
    check_files(v, folder, 1);
}

/* ---- the outcome */

/* Whether the last job that the log names is one that leaves no slot unfinished when it is done. */
static bool ended_with_pairs(const verify *v)
{
    static const char mark[] = " main: meddiff "; /* version, job */
    char path[VERIFY_PATH], last[16] = "";
    void *text = NULL;
    size_t n = 0;
    if (!verify_path(v, "log.txt", path) || md_file_read(path, LOG_MOST, &text, &n) != MD_OK)
        return false;
    for (const char *at = text; (at = strstr(at, mark));) {
        at += sizeof mark - 1;
        at += strcspn(at, " \n");
        at += *at == ' ';
        (void)snprintf(last, sizeof last, "%.*s", (int)strcspn(at, " "), at);
    }
    free(text);
    return !strcmp(last, "generate") || !strcmp(last, "pipeline");
}

static void check_outcome(verify *v)
{
    char path[VERIFY_PATH], requeue[VERIFY_PATH];
    bool asks = verify_path(v, "REQUEUE", requeue);
    if (!verify_path(v, "RESULT", path)) {
        verify_note(v, "%s: no RESULT: the last job was killed; start it again", v->run);
        if (asks)
            verify_problem(v, "%s: is there without a RESULT", requeue);
        return;
    }
    char *result = first_line(path);
    if (!result)
        verify_failed(v);
    else if (strcmp(result, "ok") != 0 && strcmp(result, "stopped") != 0 &&
             strcmp(result, "failed") != 0)
        verify_problem(v, "%s: \"%.40s\" is none of ok, stopped, failed", path, result);
    else if (asks && !strcmp(result, "ok"))
        verify_problem(v, "%s: is there, but RESULT says %s", requeue, result);
    else if (!strcmp(result, "ok") && v->unfinished && ended_with_pairs(v))
        verify_problem(v, "%s: says ok, but %lld slots of pairs.h5 are unfinished", path,
                       (long long)v->unfinished);
    free(result);
}

/* ---- all of it */

static void check_stores(verify *v)
{
    char path[VERIFY_PATH];
    for (size_t i = 0; i < sizeof stores / sizeof *stores; i++) {
        if (!verify_path(v, stores[i].file, path))
            continue;
        v->files++;
        if (stores[i].check(v, path) != MD_OK)
            verify_failed(v);
    }
    if (v->unfinished)
        verify_note(v, "%s/pairs.h5: %lld slots are still to be made", v->run,
                    (long long)v->unfinished);
}

/* Local. */
md_status job_verify(job *j)
{
    verify v = {.run = j->arg};
    MD_TRY(rundir_look(j->arg));
    MD_TRY(store_directory_is_locked(j->arg, &v.live));
    if (v.live)
        verify_note(&v,
                    "%s: a job works here; unfinished slots, checkpoints and models that it is "
                    "writing, temporary files and RESULT are not judged",
                    v.run);
    check_stores(&v);
    check_files(&v, v.run, 0);
    verify_models(&v);
    verify_checkpoints(&v);
    if (!v.live)
        check_outcome(&v);
    bool began = false;
    if (!v.live && v.problems)
        MD_TRY(store_directory_is_locked(j->arg, &began));
    if (began)
        verify_note(&v, "%s: a job began to work here meanwhile; look again", v.run);
    data_close(v.backgrounds);
    data_close(v.data);
    (void)printf("%s: %lld rows and %lld files looked at, %lld problem%s\n", v.run,
                 (long long)v.rows, (long long)v.files, (long long)v.problems,
                 v.problems == 1 ? "" : "s");
    if (v.problems)
        MD_FAIL(MD_IO, "%s: %lld problem%s", v.run, (long long)v.problems,
                v.problems == 1 ? "" : "s");
    return MD_OK;
}

#include "rundir.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/str.h"
#include "cluster/signals.h"
#include "comm/comm.h"
#include "store/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH = 4096, CONFIG_MOST = 1 << 24, DEPTH_MOST = 4 };
static const double LOCK_WAIT_S = 3; /* for rank 0 of a killed run to be gone */
static const char *const outcomes[] = {"RESULT", "REQUEUE"};

/* The run directory is this process's until it ends, however it ends. */
static md_status lock(const char *run)
{
    int fd; /* never closed */
    double deadline = md_now() + LOCK_WAIT_S;
    md_status status = store_lock_directory(run, &fd);
    while (status == MD_USAGE && md_now() < deadline) {
        md_sleep(0.1);
        status = store_lock_directory(run, &fd);
    }
    return status;
}

/* Renames RUN/<name><from> to RUN/<name><to>; fine when it is not there. */
static md_status move(const char *run, const char *name, const char *from, const char *to)
{
    char a[PATH], b[PATH];
    MD_TRY(md_str_printf(a, sizeof a, "%s/%s%s", run, name, from));
    MD_TRY(md_str_printf(b, sizeof b, "%s/%s%s", run, name, to));
    if (rename(a, b) != 0 && errno != ENOENT)
        MD_FAIL(MD_IO, "%s: cannot be renamed: %s", a, strerror(errno));
    return MD_OK;
}

static md_status remove_kept(const char *run)
{
    char path[PATH];
    for (int i = 0; i < 2; i++) {
        MD_TRY(md_str_printf(path, sizeof path, "%s/%s.before", run, outcomes[i]));
        MD_TRY(md_file_remove(path));
    }
    return MD_OK;
}

static md_status put_aside(const char *run)
{
    MD_TRY(remove_kept(run)); /* of a start that was killed */
    for (int i = 0; i < 2; i++)
        MD_TRY(move(run, outcomes[i], "", ".before"));
    return MD_OK;
}

static md_status put_back(const char *run)
{
    for (int i = 0; i < 2; i++)
        MD_TRY(move(run, outcomes[i], ".before", ""));
    return MD_OK;
}

static md_status save_config(rundir *d, config *cfg)
{
    char path[PATH];
    MD_TRY(md_path_join(path, sizeof path, d->run, "config.cfg"));
    if (md_file_exists(path))
        MD_TRY(md_file_read(path, CONFIG_MOST, &d->config, &d->config_bytes));
    return config_save(cfg, path);
}

/* "x.tmp.4711", which a start that was killed was writing: no other will ever find it. A store's
 * "x.tmp" is no such file: the next start goes on with it. Nothing depends on this: what cannot be
 * removed stays. */
static bool is_of_a_dead_start(const char *name)
{
    return name[md_file_plain_length(name)] && !md_str_ends(name, ".tmp");
}

static void remove_unfinished(const char *folder, int depth)
{
    char path[PATH], **names = NULL;
    size_t n = 0;
    struct stat st;
    if (md_dir_list(folder, &names, &n) != MD_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        if (md_path_join(path, sizeof path, folder, names[i]) != MD_OK || lstat(path, &st) != 0)
            continue;
        if (S_ISDIR(st.st_mode) && depth < DEPTH_MOST)
            remove_unfinished(path, depth + 1);
        else if (S_ISREG(st.st_mode) && is_of_a_dead_start(names[i]))
            (void)unlink(path);
    }
    free(names);
}

md_status rundir_look(const char *run)
{
    char path[PATH];
    struct stat st;
    if (stat(run, &st) != 0 || !S_ISDIR(st.st_mode))
        MD_FAIL(MD_USAGE,
                "%s is no run directory: %s; name a run directory, such as runs/NAME for "
                "configs/NAME.cfg",
                run, md_file_exists(run) ? "it is a file" : strerror(errno));
    MD_TRY(md_path_join(path, sizeof path, run, "config.cfg"));
    if (!md_file_exists(path))
        MD_FAIL(MD_USAGE,
                "%s is no run directory: it holds no config.cfg, which every job leaves "
                "there; without `run`, configs/NAME.cfg works in runs/NAME",
                run);
    return MD_OK;
}

md_status rundir_begin(rundir *d, const char *run, config *cfg)
{
    MD_TRY(md_dir_make(run));
    MD_TRY(lock(run));
    d->run = run;
    remove_unfinished(run, 0);
    md_status status = put_aside(run);
    if (status == MD_OK)
        status = save_config(d, cfg);
    if (status == MD_OK)
        return MD_OK;
    char why[2048];
    (void)snprintf(why, sizeof why, "%s", md_status_text());
    (void)put_back(run);
    d->run = NULL;
    MD_FAIL(status, "%s", why);
}

static md_status write_result(const char *run, md_status status)
{
    char path[PATH], chain[4096];
    /* md_status_text may be overwritten by a failure below. */
    (void)snprintf(chain, sizeof chain, "%s", md_status_text());
    md_text t = {0};
    md_status written;
    if (status == MD_OK || status == MD_STOPPED)
        written = md_text_add(&t, "%s\n", status == MD_OK ? "ok" : "stopped");
    else
        written = md_text_add(&t, "failed\n%s\n", chain);
    if (written == MD_OK)
        written = md_path_join(path, sizeof path, run, "RESULT");
    if (written == MD_OK)
        written = md_file_write_atomic(path, t.s, t.n);
    md_text_free(&t);
    bool lost = comm_cause(status) == MD_COMM; /* another start may go well */
    if (written == MD_OK &&
        (lost || (status == MD_STOPPED && cluster_stop_requested() != CLUSTER_STOP_NOW))) {
        written = md_path_join(path, sizeof path, run, "REQUEUE");
        if (written == MD_OK)
            written = md_file_write_atomic(path, "", 0);
    }
    return written;
}

md_status rundir_end(rundir *d, md_status status, bool refused)
{
    char path[PATH];
    bool earlier =
        md_path_join(path, sizeof path, d->run, "RESULT.before") == MD_OK && md_file_exists(path);
    if (!refused || !earlier)
        MD_TRY(write_result(d->run, status));
    if (!refused)
        return remove_kept(d->run);
    MD_TRY(put_back(d->run));
    if (!d->config)
        return MD_OK;
    MD_TRY(md_path_join(path, sizeof path, d->run, "config.cfg"));
    return md_file_write_atomic(path, d->config, d->config_bytes);
}

void rundir_free(rundir *d)
{
    free(d->config);
    *d = (rundir){0};
}

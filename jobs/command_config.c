#include "base/file.h"
#include "base/str.h"
#include "command.h"
#include "installed.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* A path without its folders and ".cfg"; *n its length. */
static const char *stem(const char *path, int *n)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    *n = (int)strlen(name) - (md_str_ends(name, ".cfg") ? 4 : 0);
    return name;
}

/* The same, with the folders below the last one called "configs". */
static const char *name_in_configs(const char *path, int *n)
{
    const char *last = stem(path, n), *name = last;
    for (const char *p = path; (p = strstr(p, "configs/")) != NULL; p++)
        if (p == path || p[-1] == '/')
            name = p + strlen("configs/");
    *n += (int)(last - name);
    return name;
}

/* An empty `run` becomes runs/NAME for configs/NAME.cfg, runs/NAME-OTHER with ANY/OTHER.cfg. */
static md_status name_run(config *cfg, const command *c)
{
    if (config_string(cfg, KEY_run)[0] || !c->arg)
        return MD_OK;
    int n;
    const char *name = name_in_configs(c->arg, &n);
    md_text t = {0};
    md_status status = md_text_add(&t, "run=runs/%.*s", n, name);
    for (size_t i = 0; i < c->n_withs && status == MD_OK; i++) {
        name = stem(c->withs[i], &n);
        status = md_text_add(&t, "-%.*s", n, name);
    }
    if (status == MD_OK)
        status = config_set(cfg, t.s, "--set");
    md_text_free(&t);
    return status;
}

/* CONFIG, the files of --with over it, and --set over all. */
static md_status lay_over(const job_row *r, const command *c, config *cfg)
{
    char buf[PATH_MAX];
    for (size_t i = 0; i < c->n_withs; i++)
        MD_TRY(config_overlay(cfg, installed_path(c->withs[i], buf, sizeof buf)));
    for (size_t i = 0; i < c->n_sets; i++)
        MD_TRY(config_set(cfg, c->sets[i], "--set"));
    if (!command_takes_config(r))
        return MD_OK;
    MD_TRY(installed_models(cfg));
    return name_run(cfg, c);
}

static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A copied or moved run's config.cfg still names the run that it was written for; nobody who gives
   it means that one. */
static md_status expect_own_run(const command *c, const config *cfg)
{
    char folder[PATH_MAX], log[PATH_MAX];
    const char *run = config_string(cfg, KEY_run);
    if (!c->arg || (strcmp(c->arg, "config.cfg") != 0 && !md_str_ends(c->arg, "/config.cfg")))
        return MD_OK;
    for (size_t i = 0; i < c->n_sets; i++)
        if (md_str_starts(c->sets[i], "run="))
            return MD_OK;
    MD_TRY(md_str_copy(folder, sizeof folder, c->arg));
    char *slash = strrchr(folder, '/');
    if (!slash)
        MD_TRY(md_str_copy(folder, sizeof folder, "."));
    else
        *slash = '\0';
    MD_TRY(md_path_join(log, sizeof log, folder, "log.txt")); /* every job leaves one */
    if (!md_file_exists(log) || same_folder(folder, run))
        return MD_OK;
    MD_FAIL(MD_USAGE,
            "%s lies in one run directory and names another, run = \"%s\": was it copied or moved? "
            "To work in its folder: --set run=%s; in the other one: give %s/config.cfg",
            c->arg, run, folder, run);
}

md_status command_config(const job_row *r, const command *c, config **out)
{
    config *cfg;
    char buf[PATH_MAX];
    bool given = command_takes_config(r) && c->arg;
    if (given && md_dir_exists(c->arg))
        MD_FAIL(MD_USAGE,
                "%s is a folder, where a configuration is wanted; that of a run is %s/config.cfg",
                c->arg, c->arg);
    MD_TRY(config_load(given ? installed_path(c->arg, buf, sizeof buf) : NULL, NULL, 0, &cfg));
    md_status status = lay_over(r, c, cfg);
    if (status == MD_OK && given)
        status = expect_own_run(c, cfg);
    if (status != MD_OK) {
        config_free(cfg);
        return status;
    }
    *out = cfg;
    return MD_OK;
}

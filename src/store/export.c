/* An export from beginning to end: the target, the temporary folder, the format, the rename. */
#include "store/export.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "store/export_internal.h"

/* As export.format lists them. */
static const struct {
    const char *name;
    md_status (*write)(export_set *s, const char *folder);
} formats[] = {{"png", export__png},
               {"nnunet", export__nnunet},
               {"hdf5", export__hdf5},
               {"coco", export__coco}};

/* ---- where to ---- */

/* The folder that is to be made, and, of nnunet, the one around it which it has to suit. */
static md_status find_target(const export_set *s, const char *format, char out[EXPORT_PATH])
{
    char above[EXPORT_PATH], name[EXPORT_PATH];
    const char *to = config_string(s->cfg, KEY_export_to);
    if (*to)
        MD_TRY(md_str_copy(above, sizeof above, to));
    else
        MD_TRY(md_str_printf(above, sizeof above, "%s/export/%s", s->run, format));
    for (size_t n = strlen(above); n > 1 && above[n - 1] == '/'; n--)
        above[n - 1] = 0;
    if (strcmp(format, "nnunet") != 0)
        return md_str_copy(out, EXPORT_PATH, above);
    MD_TRY(export__nnunet_name(s, above, name, sizeof name));
    return md_path_join(out, EXPORT_PATH, above, name);
}

/* Cuts the last component off; *name points to it in path. */
static md_status split_path(const char *path, char above[EXPORT_PATH], const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!slash)
        return md_str_copy(above, EXPORT_PATH, ".");
    return slash == path ? md_str_copy(above, EXPORT_PATH, "/")
                         : md_str_printf(above, EXPORT_PATH, "%.*s", (int)(slash - path), path);
}

/* What exports to this folder left that were killed: NAME.tmp.PID of a process that is gone. */
static void remove_leftovers(const char *above, const char *name)
{
    char path[EXPORT_PATH], **list = NULL;
    size_t n = 0, length = strlen(name);
    if (md_dir_list(above, &list, &n) != MD_OK)
        return;
    for (size_t i = 0; i < n; i++) {
        const char *end = list[i] + length;
        char rest;
        long pid;
        if (strncmp(list[i], name, length) != 0 || sscanf(end, ".tmp.%ld%c", &pid, &rest) != 1 ||
            pid <= 0 || kill((pid_t)pid, 0) == 0 || errno != ESRCH)
            continue;
        if (md_path_join(path, sizeof path, above, list[i]) == MD_OK &&
            md_dir_remove(path) == MD_OK)
            md_info("export", "removed %s, which an export that was killed had left", path);
    }
    free(list);
}

static md_status make_temp(const char *target, char temp[EXPORT_PATH])
{
    char above[EXPORT_PATH];
    const char *name;
    MD_TRY(split_path(target, above, &name));
    MD_TRY(md_str_printf(temp, EXPORT_PATH, "%s.tmp.%ld", target, (long)getpid()));
    MD_TRY(md_dir_make(above));
    remove_leftovers(above, name);
    if (mkdir(temp, 0777) != 0)
        MD_FAIL(MD_IO, "%s: cannot be made: %s; --set export.to=FOLDER names another place", target,
                md_file_write_reason(errno));
    return MD_OK;
}

/* ---- all of it ---- */

static md_status publish(const char *temp, const char *target)
{
    if (rename(temp, target) != 0)
        MD_FAIL(MD_IO, "%s cannot be renamed to %s: %s", temp, target, md_file_write_reason(errno));
    return md_file_sync_dir(target);
}

static md_status write_set(export_set *s, int format)
{
    char temp[EXPORT_PATH], *target = s->report->folder;
    MD_TRY(find_target(s, formats[format].name, target));
    if (md_file_exists(target))
        MD_FAIL(MD_USAGE,
                "%s is there already: remove it, or name another folder with --set "
                "export.to=FOLDER",
                target);
    MD_TRY(export__open(s));
    MD_TRY(make_temp(target, temp));
    s->bar = md_progress_begin("export", "pictures", 0, s->n);
    md_status status = formats[format].write(s, temp);
    md_progress_end(&s->bar, status == MD_OK ? s->n : 0);
    if (status == MD_OK)
        status = publish(temp, target);
    if (status == MD_OK)
        return MD_OK;
    char why[1024];
    (void)snprintf(why, sizeof why, "%s", md_status_text()); /* the removal may fail, too */
    if (md_dir_remove(temp) != MD_OK)
        md_warn("export", "%s stays: %s", temp, md_status_text());
    return md_fail(status, __FILE__, __LINE__, "%s", why);
}

md_status export_run(const config *cfg, const char *run, export_report *report)
{
    *report = (export_report){0};
    export_set s = {
        .cfg = cfg, .run = run, .shared = config_bool(cfg, KEY_export_share), .report = report};
    md_status status = write_set(&s, config_choice(cfg, KEY_export_format));
    export__close(&s);
    return status;
}

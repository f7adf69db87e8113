#include "installed.h"
#include "base/file.h"
#include "base/str.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

/* The program's own path leads there, so that an installation can be moved. */
static md_status find_share(char *out, size_t bytes)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (!slash)
        MD_FAIL(MD_IO, "the program does not find itself");
    *slash = 0;
    return md_str_printf(out, bytes, "%s/" MEDDIFF_SHARE, exe);
}

const char *installed_path(const char *path, char *buf, size_t bytes)
{
    char share[PATH_MAX];
    if (!*path || *path == '/' || md_file_exists(path))
        return path;
    if (find_share(share, sizeof share) == MD_OK &&
        md_path_join(buf, bytes, share, path) == MD_OK && md_file_exists(buf))
        return buf;
    md_status_clear();
    return path;
}

md_status installed_models(config *cfg)
{
    static const config_key keys[] = {KEY_model_foundation, KEY_model_encoder};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char buf[PATH_MAX];
        md_text t = {0};
        const char *path = config_string(cfg, keys[i]);
        if (installed_path(path, buf, sizeof buf) == path)
            continue;
        md_status status = md_text_add(&t, "%s=%s", config_path(keys[i]), buf);
        if (status == MD_OK)
            status = config_set(cfg, t.s, "the installation");
        md_text_free(&t);
        MD_TRY(status);
    }
    return MD_OK;
}

#include "base/file.h"
#include "base/str.h"
#include "model/foundation.h"
#include <stdlib.h>
#include <string.h>

enum { LINE = 256, CARD_BYTES = 1 << 20 };

/* Of a model card: README.md begins with lines of YAML between two of "---". */
static void read_card(const char *folder, char out[LINE])
{
    char path[FOUNDATION_PATH];
    void *text = NULL;
    size_t n;
    *out = '\0';
    if (md_path_join(path, sizeof path, folder, "README.md") != MD_OK || !md_file_exists(path) ||
        md_file_read(path, CARD_BYTES, &text, &n) != MD_OK)
        return;
    char *rest = text, *line = strtok_r(rest, "\r\n", &rest);
    bool card = line && strcmp(line, "---") == 0;
    while (card && !*out && (line = strtok_r(NULL, "\r\n", &rest)) && strcmp(line, "---") != 0)
        if (md_str_starts(line, "license:") &&
            md_str_copy(out, LINE, line + 8 + strspn(line + 8, " ")) != MD_OK)
            break;
    free(text);
}

md_status foundation_licences(const foundation *f, const char *data, char **out)
{
    char folder[FOUNDATION_PATH], own[LINE];
    MD_TRY(md_str_copy(folder, sizeof folder, f->path));
    char *name = strrchr(folder, '/');
    if (name && md_str_ends(folder, ".safetensors"))
        *name = '\0';
    read_card(folder, own);
    if (!*own)
        md_dir_licence(folder, own, sizeof own);
    md_text t = {0};
    MD_TRY(
        md_text_add(&t, "%s; weights: %s", data, *own ? own : "terms not stated in their folder"));
    *out = t.s;
    return MD_OK;
}

/* Finding a foundation's files: the snapshot of a Hugging Face cache folder, a part's weights among
   its variants, a tokenizer for a single file. */
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "model/foundation_internal.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool model__is_there(const char *path)
{
    struct stat s;
    return lstat(path, &s) == 0;
}

md_status model__part_path(char *buf, const char *folder, const char *part, const char *file)
{
    return md_str_printf(buf, FOUNDATION_PATH, "%s/%s/%s", folder, part, file);
}

/* ---- The cache: refs/main holds a commit, snapshots/<commit> links into blobs/. */

static md_status read_ref(const char *path, char *commit, size_t size)
{
    enum { MOST = 256 };
    void *text = NULL;
    size_t n = 0;
    MD_TRY(md_file_read(path, MOST, &text, &n));
    char *s = text;
    while (n && isspace((unsigned char)s[n - 1]))
        s[--n] = 0;
    md_status status = MD_OK;
    if (n == 0 || strspn(s, "0123456789abcdef") != n)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: holds no commit", path);
    else
        status = md_str_copy(commit, size, s);
    free(text);
    return status;
}

/* Without refs/main (a download of a named revision): the only snapshot there is. */
static md_status only_snapshot(const char *folder, const char *snapshots, char *commit, size_t size)
{
    char **names = NULL;
    size_t n = 0;
    MD_TRY(md_dir_list(snapshots, &names, &n));
    md_status status = MD_OK;
    if (n == 1)
        status = md_str_copy(commit, size, names[0]);
    else
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s: no refs/main, and %zu snapshots: name one of them, %s/...", folder, n,
                         snapshots);
    free(names);
    return status;
}

md_status model__resolve_folder(const char *path, const char *index, char *out)
{
    char snapshots[FOUNDATION_PATH], ref[FOUNDATION_PATH], commit[256];
    MD_TRY(md_path_join(snapshots, sizeof snapshots, path, "snapshots"));
    MD_TRY(md_path_join(ref, sizeof ref, path, index));
    if (!md_dir_exists(snapshots) || model__is_there(ref))
        return md_str_copy(out, FOUNDATION_PATH, path);
    MD_TRY(md_path_join(ref, sizeof ref, path, "refs/main"));
    MD_TRY(model__is_there(ref) ? read_ref(ref, commit, sizeof commit)
                                : only_snapshot(path, snapshots, commit, sizeof commit));
    MD_TRY(md_path_join(out, FOUNDATION_PATH, snapshots, commit));
    if (!md_dir_exists(out))
        MD_FAIL(MD_BAD_INPUT, "%s: names the snapshot %s, which is not there", ref, commit);
    return MD_OK;
}

md_status model__resolve(const char *path, char *out, bool *file)
{
    struct stat s;
    if (!*path)
        MD_FAIL(MD_USAGE, "is empty; it names the foundation's folder, such as data/tiny");
    if (stat(path, &s) != 0)
        MD_FAIL(MD_BAD_INPUT,
                "%s: %s; a foundation is a folder with model_index.json, or a single .safetensors "
                "file; data/README.md says where to get one",
                path, md_file_reason(path, errno));
    *file = !S_ISDIR(s.st_mode);
    if (!*file)
        return model__resolve_folder(path, "model_index.json", out);
    MD_TRY(model__check_file_name(path));
    return md_str_copy(out, FOUNDATION_PATH, path);
}

/* ---- Weights. */

/* How `name` can serve as the weights `base`: 0 not at all, else smaller is better. A variant is
   one more word between the dots, wherever: diffusers has put it in three places over time
   (<base>.fp16.safetensors, <base>.safetensors.index.fp16.json, <base>.safetensors.fp16.index.json,
   <base>.fp16.safetensors.index.json). */
static int rank(const char *base, const char *name, char variant[64])
{
    static const char *const forms[] = {".safetensors", ".safetensors.index.json"};
    static const char *const liked[] = {"fp32", "fp16", "bf16"}; /* non_ema is for resuming */
    size_t n = strlen(base);
    *variant = 0;
    if (strncmp(name, base, n) != 0 || name[n] != '.')
        return 0;
    for (int form = 0; form < 2; form++) {
        if (!strcmp(name + n, forms[form]))
            return 1 + form;
        for (const char *dot = name + n; dot; dot = strchr(dot + 1, '.')) {
            size_t head = (size_t)(dot - name) - n, word = strcspn(dot + 1, ".");
            if (strncmp(name + n, forms[form], head) != 0 || word >= 64 ||
                strcmp(dot + 1 + word, forms[form] + head) != 0)
                continue;
            memcpy(variant, dot + 1, word);
            variant[word] = 0;
            if (strstr(variant, "-of-")) /* a shard of a variant */
                return 0;
            int like = 0;
            while (like < 3 && strcmp(variant, liked[like]) != 0)
                like++;
            return 3 + 2 * like + form;
        }
    }
    return 0;
}

/* Weights that we do not read, by ending. */
static const char *unread(const char *name)
{
    static const char *const endings[][2] = {
        {".bin", "a pickle file, which can run code when it is opened,"},
        {".bin.index.json", "the index of pickle files, which can run code when they are opened,"},
        {".ckpt", "a pickle file, which can run code when it is opened,"},
        {".pt", "a pickle file, which can run code when it is opened,"},
        {".pth", "a pickle file, which can run code when it is opened,"},
        {".msgpack", "Flax weights"},
        {".h5", "TensorFlow weights"},
        {".onnx", "an ONNX model"},
        {".gguf", "a quantised GGUF file"},
    };
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
        if (md_str_ends(name, endings[i][0]))
            return endings[i][1];
    return NULL;
}

/* The best of the names, as a path. */
static md_status choose(const char *folder, const char *base, char *const *names, size_t n,
                        char *out)
{
    int best = 0;
    size_t chosen = 0, other = n;
    char variant[64], chosen_variant[64] = "";
    const char *slash = strrchr(folder, '/'), *part = slash ? slash + 1 : folder;
    for (size_t i = 0; i < n; i++) {
        int r = rank(base, names[i], variant);
        if (r && (!best || r < best)) {
            best = r;
            chosen = i;
            memcpy(chosen_variant, variant, sizeof variant);
        }
        other = other == n && unread(names[i]) ? i : other;
    }
    if (!best && other < n)
        MD_FAIL(MD_BAD_INPUT, "%s/%s: %s is not read; get %s/%s.safetensors from the same source",
                folder, names[other], unread(names[other]), part, base);
    if (!best)
        MD_FAIL(MD_BAD_INPUT,
                "%s: no weights; wanted %s.safetensors, from where the rest of the model came from",
                folder, base);
    if (*chosen_variant)
        md_info("model", "%s: variant %s: %s", part, chosen_variant, names[chosen]);
    return md_path_join(out, FOUNDATION_PATH, folder, names[chosen]);
}

md_status model__find_weights(const char *folder, const char *base, char *out)
{
    char **names = NULL;
    size_t n = 0;
    MD_TRY(md_dir_list(folder, &names, &n));
    md_status status = choose(folder, base, names, n, out);
    free(names);
    return status;
}

/* ---- What stands beside a single file. */

md_status model__beside(char *buf, const char *file, const char *name)
{
    const char *slash = strrchr(file, '/');
    if (!slash)
        return md_str_copy(buf, FOUNDATION_PATH, *name ? name : ".");
    return md_str_printf(buf, FOUNDATION_PATH, "%.*s%s", (int)(slash - file) + 1, file, name);
}

md_status model__find_tokenizer(const char *path, char *out)
{
    static const char *const places[] = {"tokenizer", ""};
    char vocabulary[FOUNDATION_PATH];
    for (int i = 0; i < 2; i++) {
        MD_TRY(model__beside(out, path, places[i]));
        MD_TRY(md_path_join(vocabulary, sizeof vocabulary, out, "vocab.json"));
        if (model__is_there(vocabulary))
            return MD_OK;
    }
    MD_TRY(model__beside(out, path, "tokenizer"));
    MD_FAIL(MD_BAD_INPUT,
            "%s: a single file holds no tokenizer; put vocab.json and merges.txt (of any Stable "
            "Diffusion 1.x folder's tokenizer/, or of openai/clip-vit-large-patch14) into %s/",
            path, out);
}

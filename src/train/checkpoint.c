#include "train/checkpoint.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "format/safetensors.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, PATH = 4096 };

static md_status file_crc(const char *path, uint32_t *out)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        MD_FAIL(MD_IO, "%s: %s", path, strerror(errno));
    static _Thread_local char block[65536];
    uint32_t crc = 0;
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;)
        crc = md_crc32c(crc, block, n);
    bool bad = ferror(f) != 0;
    (void)fclose(f);
    if (bad)
        MD_FAIL(MD_IO, "%s: cannot be read", path);
    *out = crc;
    return MD_OK;
}

/* Elements at.. of a buffer as floats, which hold every type's values exactly. */
static md_status read_part(train *t, const md_buffer *b, int64_t at, int64_t n, float *host)
{
    if (b->dtype != MD_U8)
        return md_buffer_read(train_backend(t), b, at, host, MD_F32, n);
    uint8_t *codes = (uint8_t *)host; /* widened from the end: nothing is overwritten unread */
    MD_TRY(md_buffer_read(train_backend(t), b, at, codes, MD_U8, n));
    for (int64_t i = n - 1; i >= 0; i--) {
        float v = (float)codes[i];
        memcpy(host + i, &v, sizeof v);
    }
    return MD_OK;
}

static md_status write_part(train *t, md_buffer *b, int64_t at, int64_t n, float *host)
{
    if (b->dtype != MD_U8)
        return md_buffer_write(train_backend(t), b, at, host, MD_F32, n);
    uint8_t *codes = (uint8_t *)host;
    for (int64_t i = 0; i < n; i++) {
        float v;
        memcpy(&v, host + i, sizeof v);
        codes[i] = (uint8_t)v;
    }
    return md_buffer_write(train_backend(t), b, at, codes, MD_U8, n);
}

static format_dtype file_type(md_dtype d)
{
    return d == MD_U8 ? FORMAT_U8 : d == MD_BF16 ? FORMAT_BF16 : FORMAT_F32;
}

/* "unet.weights" */
static md_status part_name(const train *t, int store, const train_part *p, char *name, size_t size)
{
    return md_str_printf(name, size, "%s.%s", train_store_name(t, store), p->name);
}

static md_status declare_store(train *t, int store, format_writer *w)
{
    char name[256];
    train_part p[TRAIN_MAX_PARTS];
    int n = train_parts(t, store, p);
    for (int i = 0; i < n; i++) {
        MD_TRY(part_name(t, store, &p[i], name, sizeof name));
        MD_TRY(
            format_writer_declare(w, name, file_type(p[i].buffer->dtype), 1, &p[i].buffer->numel));
    }
    return MD_OK;
}

static md_status put_store(train *t, int store, format_writer *w, float *host)
{
    train_part p[TRAIN_MAX_PARTS];
    int n = train_parts(t, store, p);
    for (int i = 0; i < n; i++)
        for (int64_t at = 0, k; at < p[i].buffer->numel; at += k) {
            k = p[i].buffer->numel - at < CHUNK ? p[i].buffer->numel - at : CHUNK;
            MD_TRY(read_part(t, p[i].buffer, at, k, host));
            MD_TRY(format_writer_put(w, host, k));
        }
    return MD_OK;
}

static md_status write_state(train *t, format_writer *w, config *cfg, float *host)
{
    md_status status = MD_OK;
    char step[32];
    const char *text = config_text(cfg, &status);
    MD_TRY(status);
    MD_TRY(md_str_printf(step, sizeof step, "%lld", (long long)train_next_step(t)));
    MD_TRY(format_writer_meta(w, "step", step));
    MD_TRY(format_writer_meta(w, "config", text));
    for (int s = 0; s < train_n_stores(t); s++)
        MD_TRY(declare_store(t, s, w));
    for (int s = 0; s < train_n_stores(t); s++)
        MD_TRY(put_store(t, s, w, host));
    return format_writer_finish(w);
}

static md_status write_state_file(train *t, const char *path, config *cfg)
{
    format_writer *w = NULL;
    float *host = malloc(CHUNK * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "checkpoint: out of memory");
    md_status status = format_writer_new(path, &w);
    if (status == MD_OK)
        status = write_state(t, w, cfg, host);
    format_writer_free(w);
    free(host);
    return status;
}

md_status train_checkpoint_list(const char *dir, int64_t *steps, int max, int *n_out)
{
    *n_out = 0;
    if (!md_file_exists(dir))
        return MD_OK;
    char **names = NULL;
    size_t n = 0;
    MD_TRY(md_dir_list(dir, &names, &n));
    for (size_t i = 0; i < n; i++) {
        long long step;
        char rest;
        if (sscanf(names[i], "step-%lld%c", &step, &rest) != 1)
            continue;
        int k = *n_out < max ? (*n_out)++ : max - 1;
        for (; k > 0 && steps[k - 1] < step; k--)
            steps[k] = steps[k - 1];
        steps[k] = step;
    }
    free(names);
    return MD_OK;
}

static md_status remove_file(const char *folder, const char *name)
{
    char path[PATH];
    MD_TRY(md_path_join(path, sizeof path, folder, name));
    return md_file_remove(path);
}

/* Takes DONE away first, so that a half-removed one is never taken for whole; then whatever else a
   kill may have left, temporary files too. */
static md_status remove_step(const char *dir, int64_t step)
{
    char path[PATH], **names = NULL;
    size_t n = 0;
    MD_TRY(md_str_printf(path, sizeof path, "%s/step-%lld", dir, (long long)step));
    MD_TRY(remove_file(path, "DONE"));
    if (md_file_exists(path))
        MD_TRY(md_dir_list(path, &names, &n));
    md_status status = MD_OK;
    for (size_t i = 0; i < n && status == MD_OK; i++)
        status = remove_file(path, names[i]);
    free(names);
    MD_TRY(status);
    if (rmdir(path) != 0 && errno != ENOENT)
        MD_FAIL(MD_IO, "%s: cannot be removed: %s", path, strerror(errno));
    return MD_OK;
}

enum { MAX_LISTED = 64 };

/* Keeps so many up to step `newest`. Those behind it are damaged ones that a resume went back
   from. */
static md_status remove_all_but(const char *dir, int keep, int64_t newest)
{
    int64_t steps[MAX_LISTED];
    int n;
    MD_TRY(train_checkpoint_list(dir, steps, MAX_LISTED, &n));
    for (int i = 0; i < n; i++)
        if (steps[i] > newest || keep-- <= 0)
            MD_TRY(remove_step(dir, steps[i]));
    return MD_OK;
}

md_status train_checkpoint_save(train *t, const char *dir, config *cfg)
{
    char path[PATH], done[64];
    long long step = train_next_step(t);
    uint32_t crc = 0;
    MD_TRY(md_str_printf(path, sizeof path, "%s/step-%lld", dir, step));
    MD_TRY(md_dir_make(path));
    MD_TRY(md_str_printf(path, sizeof path, "%s/step-%lld/state.safetensors", dir, step));
    md_status status = write_state_file(t, path, cfg);
    if (status == MD_OK)
        status = file_crc(path, &crc);
    if (status != MD_OK)
        return md_context(status, "checkpoint of step %lld", step);
    MD_TRY(md_str_printf(done, sizeof done, "step %lld crc32c %08x\n", step, (unsigned)crc));
    MD_TRY(md_str_printf(path, sizeof path, "%s/step-%lld/DONE", dir, step));
    MD_TRY(md_file_write_atomic(path, done, strlen(done)));
    return remove_all_but(dir, 2, step);
}

md_status train_checkpoint_check(const char *dir, int64_t step)
{
    char path[PATH];
    void *text = NULL;
    size_t n = 0;
    long long said = -1;
    unsigned want = 0;
    uint32_t crc = 0;
    MD_TRY(md_str_printf(path, sizeof path, "%s/step-%lld/DONE", dir, (long long)step));
    MD_TRY(md_file_read(path, 4096, &text, &n));
    int fields = sscanf(text, "step %lld crc32c %8x", &said, &want);
    free(text);
    if (fields != 2 || said != step)
        MD_FAIL(MD_BAD_INPUT, "%s: not a checkpoint's DONE", path);
    MD_TRY(
        md_str_printf(path, sizeof path, "%s/step-%lld/state.safetensors", dir, (long long)step));
    MD_TRY(file_crc(path, &crc));
    if (crc != want)
        MD_FAIL(MD_BAD_INPUT, "%s: CRC32C is %08x, DONE says %08x", path, (unsigned)crc, want);
    return MD_OK;
}

static md_status check_config(const format_tensors *f, const config *cfg, const char *sections)
{
    const char *text = format_tensors_meta(f, "config");
    if (!text)
        MD_FAIL(MD_BAD_INPUT, "%s: holds no configuration", format_tensors_name(f));
    return config_same_as(cfg, text, format_tensors_name(f), sections);
}

static md_status read_state(train *t, const format_tensors *f, float *host)
{
    char name[256];
    for (int s = 0; s < train_n_stores(t); s++) {
        train_part p[TRAIN_MAX_PARTS];
        int n = train_parts(t, s, p);
        for (int i = 0; i < n; i++) {
            md_buffer *b = p[i].buffer;
            const format_tensor *e = NULL;
            MD_TRY(part_name(t, s, &p[i], name, sizeof name));
            MD_TRY(format_tensors_get(f, name, 1, &b->numel, &e));
            if (e->dtype != file_type(b->dtype))
                MD_FAIL(MD_BAD_INPUT, "%s: %s holds %s, this training %s", format_tensors_name(f),
                        name, format_dtype_name(e->dtype), md_dtype_name(b->dtype));
            for (int64_t at = 0, k; at < e->numel; at += k) {
                k = e->numel - at < CHUNK ? e->numel - at : CHUNK;
                MD_TRY(format_tensors_read_f32(f, e, at, k, host));
                MD_TRY(write_part(t, b, at, k, host));
            }
        }
    }
    return train_restored(t);
}

static md_status load_step(train *t, const char *dir, int64_t step, const config *cfg,
                           const char *sections)
{
    char path[PATH];
    format_tensors *f = NULL;
    MD_TRY(
        md_str_printf(path, sizeof path, "%s/step-%lld/state.safetensors", dir, (long long)step));
    float *host = malloc(CHUNK * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "checkpoint: out of memory");
    md_status status = format_tensors_open(path, &f);
    if (status == MD_OK)
        status = check_config(f, cfg, sections);
    if (status == MD_OK)
        status = read_state(t, f, host);
    format_tensors_close(f);
    free(host);
    if (status == MD_OK)
        train_set_next_step(t, step);
    return status;
}

md_status train_checkpoint_load(train *t, const char *dir, const config *cfg, const char *sections,
                                bool *found)
{
    int64_t steps[MAX_LISTED];
    int n;
    *found = false;
    MD_TRY(train_checkpoint_list(dir, steps, MAX_LISTED, &n));
    for (int i = 0; i < n && !*found; i++) {
        md_status whole = train_checkpoint_check(dir, steps[i]);
        if (whole != MD_OK) {
            md_warn("train", "%s; using the checkpoint before it", md_status_text());
            continue;
        }
        MD_TRY(load_step(t, dir, steps[i], cfg, sections));
        *found = true;
    }
    return MD_OK;
}

md_status train_checkpoint_clear(const char *dir)
{
    MD_TRY(remove_all_but(dir, 0, 0));
    (void)rmdir(dir); /* what is not ours stays */
    return MD_OK;
}

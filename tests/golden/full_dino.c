/* full_dino FOLDER f32|bf16 PICTURES OUT: features of the pictures "0", "1", ... ([h,w,3] bytes) of
   a safetensors file, for full_dino.py. OUT gets their "pixels" after resizing and cutting and
   their "class" tokens. Runs on the device that the environment names in MEDDIFF_TEST_DEVICE, or
   the processor. */
#include "backend/open.h"
#include "format/safetensors.h"
#include "model/features.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PICTURES = 16 };

typedef struct run {
    md_backend *be;
    features *f;
    preprocess prep;
    format_tensors *file;
    format_writer *w;
    image rgb[MAX_PICTURES];
    float *pixels, *tokens;
    int64_t n;
} run;

static md_status read_pictures(run *r)
{
    char name[8];
    const format_tensor *t;
    for (; r->n < MAX_PICTURES; r->n++) {
        (void)snprintf(name, sizeof name, "%d", (int)r->n);
        t = format_tensors_find(r->file, name);
        if (!t)
            return MD_OK;
        if (t->ndim != 3 || t->dim[2] != 3 || t->dtype != FORMAT_U8)
            MD_FAIL(MD_BAD_INPUT, "%s: wanted [h,w,3] bytes", name);
        MD_TRY(image_new(&r->rgb[r->n], t->dim[0], t->dim[1], 3));
        MD_TRY(format_tensors_read_raw(r->file, t, r->rgb[r->n].px));
    }
    return MD_OK;
}

static md_status cut_pictures(run *r)
{
    int64_t values = 3 * r->prep.crop * r->prep.crop;
    r->pixels = malloc((size_t)(r->n * values) * sizeof *r->pixels);
    r->tokens = malloc((size_t)(r->n * features_width(r->f)) * sizeof *r->tokens);
    if (!r->pixels || !r->tokens)
        MD_FAIL(MD_NOMEM, "out of memory");
    for (int64_t k = 0; k < r->n; k++) {
        image cut;
        MD_TRY(preprocess_cut(&r->prep, &r->rgb[k], &cut));
        for (int64_t i = 0; i < values; i++)
            r->pixels[k * values + i] = cut.px[i];
        image_free(&cut);
    }
    return MD_OK;
}

static md_status save(run *r, const char *path)
{
    int64_t pixels[] = {r->n, r->prep.crop, r->prep.crop, 3}, d = features_width(r->f);
    int64_t tokens[] = {r->n, d};
    MD_TRY(format_writer_new(path, &r->w));
    MD_TRY(format_writer_declare(r->w, "pixels", FORMAT_F32, 4, pixels));
    MD_TRY(format_writer_declare(r->w, "class", FORMAT_F32, 2, tokens));
    MD_TRY(format_writer_put(r->w, r->pixels, 3 * r->n * r->prep.crop * r->prep.crop));
    MD_TRY(format_writer_put(r->w, r->tokens, r->n * d));
    return format_writer_finish(r->w);
}

static md_status work(run *r, char **argv)
{
    const char *device = getenv("MEDDIFF_TEST_DEVICE");
    const backend_options o = {.device = device && *device ? device : "cpu",
                               .sharing = 1,
                               .workspace_mib = 512,
                               .deterministic = true};
    MD_TRY(backend_open(&o, &r->be));
    MD_TRY(features_open(argv[1], &r->f));
    MD_TRY(preprocess_read(argv[1], &r->prep));
    MD_TRY(features_plan(r->f, r->be, strcmp(argv[2], "f32") ? MD_BF16 : MD_F32, 2));
    MD_TRY(features_load(r->f));
    MD_TRY(format_tensors_open(argv[3], &r->file));
    MD_TRY(read_pictures(r));
    MD_TRY(cut_pictures(r));
    MD_TRY(features_encode(r->f, r->rgb, r->n, r->tokens));
    return save(r, argv[4]);
}

int main(int argc, char **argv)
{
    run r = {0};
    if (argc != 5 || (strcmp(argv[2], "f32") && strcmp(argv[2], "bf16"))) {
        fputs("usage: full_dino FOLDER f32|bf16 PICTURES OUT\n", stderr);
        return 2;
    }
    const md_status status = work(&r, argv);
    if (status != MD_OK)
        fprintf(stderr, "full_dino: %s\n", md_status_text());
    for (int64_t k = 0; k < r.n; k++)
        image_free(&r.rgb[k]);
    free(r.pixels);
    free(r.tokens);
    format_writer_free(r.w);
    format_tensors_close(r.file);
    features_free(r.f);
    if (r.be)
        r.be->ops->close(r.be);
    return status != MD_OK;
}

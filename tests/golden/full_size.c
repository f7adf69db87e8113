/* full_size FOLDER PART f32|bf16 INPUTS OUT [GRADIENTS]: one part of a foundation folder on given
   inputs, for full_size.py. PART: text, encode, decode or unet; INPUTS: a safetensors file with the
   part's inputs (images NHWC); OUT gets "out". GRADIENTS gets, for every parameter, the gradient of
   sum(out * INPUTS' "weight"), with every block recomputed. Runs on the device that the environment
   names in MEDDIFF_TEST_DEVICE, or the processor; says how long the run took. */
#include "backend/open.h"
#include "base/clock.h"
#include "format/safetensors.h"
#include "graph/plan.h"
#include "model/foundation.h"
#include "ops/grad.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INPUTS = 4 };

typedef struct run {
    const char *folder, *inputs, *out, *gradients;
    md_dtype dtype;
    const struct part_row *row;
    md_backend *be;
    foundation *f;
    nn_params *params;
    format_tensors *file;
    md_graph *g;
    int n_in;
    md_tensor *in[MAX_INPUTS];
    const format_tensor *source[MAX_INPUTS];
    md_buffer grad; /* laid out as the parameters */
    md_plan *plan;
} run;

/* An input of the graph, shaped as the file's tensor. */
static md_tensor *feed(run *r, const char *name, md_dtype dtype)
{
    const format_tensor *t = format_tensors_find(r->file, name);
    if (!t || t->ndim > MD_MAX_DIMS)
        return md_graph_poison(r->g, MD_BAD_INPUT, "%s: no tensor %s of at most %d dims", r->inputs,
                               name, MD_MAX_DIMS);
    r->source[r->n_in] = t;
    return r->in[r->n_in++] = md_input(r->g, name, dtype, t->ndim, t->dim);
}

static md_tensor *floats(run *r, const char *name)
{
    return md_cast(feed(r, name, MD_F32), r->dtype);
}

static md_tensor *build_text(run *r, nn m)
{
    return clip_text(m, r->f->text, feed(r, "ids", MD_I32));
}

static md_tensor *build_encode(run *r, nn m)
{
    return vae_encode(m, r->f->vae, floats(r, "image"));
}

static md_tensor *build_decode(run *r, nn m)
{
    return vae_decode(m, r->f->vae, floats(r, "z"));
}

static md_tensor *build_unet(run *r, nn m)
{
    md_tensor *sample = floats(r, "sample"), *context = floats(r, "context");
    return unet(m, r->f->unet, sample, feed(r, "timesteps", MD_F32), context);
}

static const struct part_row {
    const char *name;
    model_part part;
    md_tensor *(*build)(run *r, nn m);
} rows[] = {
    {"text", MODEL_TEXT_ENCODER, build_text},
    {"encode", MODEL_VAE, build_encode},
    {"decode", MODEL_VAE, build_decode},
    {"unet", MODEL_UNET, build_unet},
};

/* Appends the gradients; each is written into its place in r->grad. */
static md_status add_gradients(run *r, md_tensor *out, md_tensor **wanted)
{
    const int n = nn_params_count(r->params);
    md_tensor **leaf = calloc((size_t)n, sizeof *leaf), **grad = calloc((size_t)n, sizeof *grad);
    md_status status = MD_OK;
    if (!leaf || !grad) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "out of memory");
        goto done;
    }
    md_tensor *loss = md_sum(md_mul(out, feed(r, "weight", MD_F32)));
    nn_params_tensors(r->params, r->g, leaf);
    for (int i = 0; i < n; i++)
        if (!leaf[i])
            md_graph_poison(r->g, MD_INTERNAL, "unused: %s", nn_params_info(r->params, i)->name);
    MD_TRY_GOTO(md_graph_check(r->g), done);
    MD_TRY_GOTO(md_grad(loss, leaf, n, md_graph_n_blocks(r->g), grad), done);
    for (int i = 0; i < n; i++) {
        const nn_param_info *info = nn_params_info(r->params, i);
        wanted[i] = md_write(md_extern(r->g, &r->grad, info->offset, info->ndim, info->dim),
                             md_cast(grad[i], r->grad.dtype));
    }
done:
    free(leaf);
    free(grad);
    return status;
}

static md_status build(run *r, md_tensor **out)
{
    MD_TRY(md_graph_new(&r->g));
    const size_t n = (size_t)nn_params_count(r->params) + 1;
    md_tensor **wanted = calloc(n, sizeof *wanted);
    if (!wanted)
        MD_FAIL(MD_NOMEM, "out of memory");
    int n_wanted = 1;
    md_status status = MD_OK;
    *out = wanted[0] = md_cast(r->row->build(r, nn_root(r->g, r->params, r->dtype)), MD_F32);
    MD_TRY_GOTO(md_graph_check(r->g), done);
    if (r->gradients) {
        MD_TRY_GOTO(add_gradients(r, *out, wanted + 1), done);
        n_wanted = (int)n;
    }
    MD_TRY_GOTO(md_plan_build(r->g, r->be, wanted, n_wanted, &r->plan), done);
    MD_TRY_GOTO(md_plan_load(r->plan), done);
done:
    free(wanted);
    return status;
}

static md_status write_input(run *r, int i)
{
    const format_tensor *t = r->source[i];
    const bool ids = r->in[i]->dtype == MD_I32;
    float *host = malloc((size_t)t->numel * sizeof *host);
    int32_t *whole = malloc((size_t)t->numel * sizeof *whole);
    md_status status = MD_OK;
    if (!host || !whole)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "out of memory");
    if (status == MD_OK)
        status = format_tensors_read_f32(r->file, t, 0, t->numel, host);
    for (int64_t k = 0; status == MD_OK && ids && k < t->numel; k++)
        whole[k] = (int32_t)host[k];
    if (status == MD_OK)
        status = md_plan_write(r->plan, r->in[i], ids ? (void *)whole : (void *)host,
                               ids ? MD_I32 : MD_F32, t->numel);
    free(host);
    free(whole);
    return status;
}

static md_status save_out(run *r, const md_tensor *out)
{
    const int64_t n = md_numel(out);
    format_writer *w = NULL;
    md_status status = MD_OK;
    float *host = malloc((size_t)n * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "out of memory");
    MD_TRY_GOTO(md_plan_read(r->plan, out, host, MD_F32, n), done);
    MD_TRY_GOTO(format_writer_new(r->out, &w), done);
    MD_TRY_GOTO(format_writer_declare(w, "out", FORMAT_F32, out->ndim, out->dim), done);
    MD_TRY_GOTO(format_writer_put(w, host, n), done);
    MD_TRY_GOTO(format_writer_finish(w), done);
done:
    format_writer_free(w);
    free(host);
    return status;
}

static md_status work(run *r)
{
    const char *device = getenv("MEDDIFF_TEST_DEVICE");
    const backend_options o = {.device = device && *device ? device : "cpu",
                               .sharing = 1,
                               .workspace_mib = 512,
                               .deterministic = true};
    const model_part part = r->row->part;
    MD_TRY(backend_open(&o, &r->be));
    MD_TRY(foundation_open(r->folder, &r->f));
    foundation_hold(r->f, r->dtype, r->gradients ? 1u << part : 0);
    MD_TRY(foundation_load(r->f, part, r->be));
    r->params = r->f->params[part];
    MD_TRY(format_tensors_open(r->inputs, &r->file));
    if (r->gradients) { /* in the type that a training keeps them in */
        md_buffer_init(&r->grad, "gradients", r->dtype, nn_params_buffer(r->params)->numel);
        MD_TRY(md_buffer_alloc(r->be, &r->grad));
    }
    md_tensor *out = NULL;
    MD_TRY(build(r, &out));
    for (int i = 0; i < r->n_in; i++)
        MD_TRY(write_input(r, i));
    const double begin = md_now();
    MD_TRY(md_plan_run(r->plan));
    MD_TRY(r->be->ops->sync(r->be));
    printf("%.2f\n", md_now() - begin);
    MD_TRY(save_out(r, out));
    return r->gradients ? nn_params_save_from(r->params, &r->grad, r->be, r->gradients, false)
                        : MD_OK;
}

int main(int argc, char **argv)
{
    run r = {0};
    for (size_t i = 0; argc >= 6 && i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(argv[2], rows[i].name))
            r.row = &rows[i];
    if (!r.row || argc > 7 || (strcmp(argv[3], "f32") && strcmp(argv[3], "bf16"))) {
        fputs("usage: full_size FOLDER text|encode|decode|unet f32|bf16 INPUTS OUT [GRADIENTS]\n",
              stderr);
        return 2;
    }
    r.folder = argv[1];
    r.dtype = strcmp(argv[3], "f32") ? MD_BF16 : MD_F32;
    r.inputs = argv[4];
    r.out = argv[5];
    r.gradients = argc == 7 ? argv[6] : NULL;
    const md_status status = work(&r);
    if (status != MD_OK)
        fprintf(stderr, "full_size: %s\n", md_status_text());
    md_plan_free(r.plan);
    md_graph_free(r.g);
    format_tensors_close(r.file);
    if (r.be)
        md_buffer_release(r.be, &r.grad);
    foundation_free(r.f, r.be);
    if (r.be)
        r.be->ops->close(r.be);
    return status != MD_OK;
}

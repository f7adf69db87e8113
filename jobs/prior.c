#include "prior.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "generate/pairs.h"
#include "train/finetune.h"
#include "train/prior.h"

#include <stdlib.h>
#include <string.h>

/* No pair is drawn as often: their noise and that of these pictures differ. */
enum { ATTEMPT = 1 << 23 };

md_status job_prior_folder(const session *s, char out[SESSION_PATH])
{
    const config *c = s->j->cfg;
    const char *given = config_string(c, KEY_finetune_prior_folder);
    if (!finetune_prior(c) || !*given)
        return session_path(s, out, "prior");
    prior_pictures any = {0};
    md_status status = prior_list(given, 1, &any);
    prior_free(&any);
    return status == MD_OK ? md_str_copy(out, SESSION_PATH, given)
                           : md_context(status, "finetune.prior_folder");
}

/* What the pictures come from, as it is kept beside them. */
static md_status describe(const session *s, md_text *t)
{
    const config *c = s->j->cfg;
    return md_text_add(
        t,
        "prompt %s\nfoundation %s\nseed %llu\nsize %lld\nsampler %s, %lld steps, eta %g, "
        "guidance %g\ntype %s\n",
        config_string(c, KEY_finetune_prior_prompt), s->f->path, (unsigned long long)s->seed,
        (long long)config_int(c, KEY_data_size), config_string(c, KEY_generate_sampler),
        (long long)config_int(c, KEY_generate_steps), config_float(c, KEY_generate_eta),
        config_float(c, KEY_generate_guidance), md_dtype_name(s->dtype));
}

/* The folder with its description; one that says otherwise is refused. */
static md_status claim(const session *s, const char *folder)
{
    enum { MOST = 1 << 16 };
    char path[SESSION_PATH];
    md_text now = {0};
    void *then = NULL;
    size_t n;
    md_status status;
    MD_TRY(md_dir_make(folder));
    MD_TRY(md_path_join(path, sizeof path, folder, "made_from.txt"));
    MD_TRY_GOTO(describe(s, &now), done);
    if (!md_file_exists(path)) {
        status = md_file_write_atomic(path, now.s, now.n);
        goto done;
    }
    MD_TRY_GOTO(md_file_read(path, MOST, &then, &n), done);
    if (strcmp(then, now.s))
        status =
            md_fail(MD_USAGE, __FILE__, __LINE__,
                    "%s: the pictures here come from other settings than these; remove the "
                    "folder, or set finetune.prior_folder to it to use them\nthere:\n%snow:\n%s",
                    path, (char *)then, now.s);
done:
    md_text_free(&now);
    free(then);
    return status;
}

static md_status beat(void *user)
{
    (void)user;
    if (session_wants_stop())
        MD_FAIL(MD_STOPPED, "stopped while pictures of the class were drawn");
    return MD_OK;
}

static md_status picture_path(const char *folder, int64_t i, char out[SESSION_PATH])
{
    return md_str_printf(out, SESSION_PATH, "%s/%05lld.png", folder, (long long)i);
}

/* Nothing but the prompt: the guide is the whole picture, so that no blend brings anything in. */
typedef struct drawing {
    painter *p;
    painter_options o;
    image guide;
    painter_item *items;
    uint8_t *rgb, *background;
    float *moments;
    bool *finite;
} drawing;

md_status job_prior_options(const config *c, const foundation *f, painter_options *out)
{
    bool sees_mask = f->unet->in_channels > f->vae->latent_channels;
    MD_TRY(pairs_painter_options(c, config_int(c, KEY_data_size), out));
    out->prompt = config_string(c, KEY_finetune_prior_prompt);
    out->blend = blend_find(sees_mask ? "none" : "renoise");
    out->feather = 0;
    out->motion = BLEND_STATIC;
    out->same_noise = false; /* or all pictures of the class would be one */
    out->sample_posterior = false;
    return MD_OK;
}

static md_status drawing_open(drawing *w, const session *s)
{
    const config *c = s->j->cfg;
    int64_t size = config_int(c, KEY_data_size), pixels = size * size;
    size_t budget;
    MD_TRY(job_prior_options(c, s->f, &w->o));
    MD_TRY(painter_new(s->f, s->be, &w->o, &w->p));
    MD_TRY(session_budget(c, s->be, comm_node_workers(), &budget));
    MD_TRY(painter_fits(w->p, budget));
    MD_TRY(painter_load(w->p));
    MD_TRY(image_new(&w->guide, size, size, 1));
    memset(w->guide.px, 1, (size_t)pixels);
    w->items = calloc((size_t)w->o.batch, sizeof *w->items);
    w->finite = calloc((size_t)w->o.batch, sizeof *w->finite);
    w->rgb = malloc((size_t)(w->o.batch * 3 * pixels));
    w->background = calloc((size_t)(3 * pixels), 1);
    w->moments = calloc((size_t)painter_moments(w->p), sizeof *w->moments);
    if (!w->items || !w->finite || !w->rgb || !w->background || !w->moments)
        MD_FAIL(MD_NOMEM, "pictures of the class: out of memory");
    return MD_OK;
}

static void drawing_close(drawing *w)
{
    painter_free(w->p);
    image_free(&w->guide);
    free(w->items);
    free(w->finite);
    free(w->rgb);
    free(w->background);
    free(w->moments);
}

/* Pictures first.. of a batch that are not there yet. */
static md_status draw_batch(drawing *w, const char *folder, int64_t first, int64_t end)
{
    char path[SESSION_PATH];
    int n = 0;
    for (int64_t i = first; i < end; i++) {
        MD_TRY(picture_path(folder, i, path));
        if (!md_file_exists(path))
            w->items[n++] = (painter_item){.slot = i,
                                           .attempt = ATTEMPT,
                                           .guide = &w->guide,
                                           .background = w->background,
                                           .moments = w->moments};
    }
    if (n)
        MD_TRY(painter_paint(w->p, w->items, n, beat, NULL, w->rgb, w->finite));
    for (int k = 0; k < n; k++) {
        MD_TRY(picture_path(folder, w->items[k].slot, path));
        if (!w->finite[k])
            MD_FAIL(MD_NONFINITE, "%s: the foundation's latent is not finite", path);
        image one = {w->guide.h, w->guide.w, 3, w->rgb + k * 3 * w->guide.h * w->guide.w};
        MD_TRY(image_write_png(path, &one, NULL, 0));
    }
    return MD_OK;
}

static md_status draw(const session *s, const char *folder)
{
    drawing w = {0};
    int64_t n = config_int(s->j->cfg, KEY_finetune_prior_images), missing = 0;
    char path[SESSION_PATH];
    for (int64_t i = 0; i < n; i++) {
        MD_TRY(picture_path(folder, i, path));
        missing += !md_file_exists(path);
    }
    if (!missing)
        return MD_OK;
    if (session_first_worker())
        md_info("finetune", "the foundation draws %lld pictures of the class into %s",
                (long long)missing, folder);
    md_status status = drawing_open(&w, s);
    int64_t batch = w.o.batch, all = comm_size(comm_workers());
    for (int64_t at = comm_rank(comm_workers()) * batch; at < n && status == MD_OK;
         at += all * batch)
        status = draw_batch(&w, folder, at, at + batch < n ? at + batch : n);
    drawing_close(&w);
    return status;
}

md_status job_prior_draw(const session *s, const char *folder)
{
    if (!finetune_prior_drawn(s->j->cfg))
        return MD_OK;
    MD_TRY(comm_agree(comm_world(), session_first_worker() ? claim(s, folder) : MD_OK));
    return comm_agree(comm_world(), session_works() ? draw(s, folder) : MD_OK);
}

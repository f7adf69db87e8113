#include "generate/mask_sampler.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct mask_sampler {
    const mask_model *m;
    md_backend *be;
    mask_sampler_options o;
    const diffusion_sampler *row;
    sampler_place *course; /* [evaluations] */
    int evaluations;
    int64_t edge, px;           /* px = edge^2 */
    md_rng *rng;                /* [batch]: each picture's stream of step noise */
    float *host;                /* [batch,px] */
    float *planes;              /* [batch,px,IMAGE_SKETCH_PLANES] */
    image_sketch_spread spread; /* that sketches are told against */

    md_buffer x; /* [batch,e,e,1]: the pictures on their way */
    md_graph *g;
    md_plan *plan;
    md_tensor *t, *noise, *coef, *sketch; /* sketch: NULL where the model takes none */
};

mask_sampler_options mask_sampler_options_for(const config *c, const mask_hints *hints)
{
    return (mask_sampler_options){
        .batch = (int)config_int(c, KEY_masks_sample_batch),
        .steps = (int)config_int(c, KEY_masks_sample_steps),
        .eta = config_float(c, KEY_masks_eta),
        .hints = hints,
        .seed = (uint64_t)config_int(c, KEY_seed),
        .dtype = config_choice(c, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32,
    };
}

/* One sampling step, x updated in place. */
static md_status build_step(mask_sampler *s)
{
    int64_t n = s->o.batch, e = s->edge;
    MD_TRY(md_graph_new(&s->g));
    s->t = md_input(s->g, "t", MD_F32, 1, MD_DIMS(n));
    s->coef = md_input(s->g, "sampler", MD_F32, 1, MD_DIMS(SAMPLER_N_COEF));
    if (sampler_wants_noise(s->row, s->o.eta))
        s->noise = md_input(s->g, "noise", MD_F32, 4, MD_DIMS(n, e, e, 1));
    const unet_config *u = &s->m->net->config.unet;
    if (mask_unet_sketches(u))
        s->sketch = md_input(s->g, "sketch", MD_F32, 4, MD_DIMS(n, e, e, IMAGE_SKETCH_PLANES));
    md_tensor *x = md_extern(s->g, &s->x, 0, 4, MD_DIMS(n, e, e, 1));
    md_tensor *said =
        mask_unet(nn_root(s->g, s->m->net->params, s->o.dtype), u, x, s->sketch, s->t);
    sampler_estimate est =
        sampler_predict(s->row, x, md_cast(said, MD_F32), s->coef, s->m->schedule.clip);
    est.e = sampler_noise_of(x, est.x0, s->coef); /* what a clamped x_0 leaves of it */
    md_tensor *next = md_write(x, sampler_step(s->row, x, est, s->noise, NULL, s->coef));
    return md_plan_build(s->g, s->be, &next, 1, &s->plan);
}

static md_status setup(mask_sampler *s)
{
    const diffusion_schedule *d = &s->m->schedule;
    if (s->o.hints)
        s->spread = s->o.hints->spread;
    s->row = sampler_find("ddim");
    s->evaluations = sampler_evaluations(s->row, s->o.steps);
    s->edge = s->m->net->config.unet.sample_size;
    s->px = s->edge * s->edge;
    s->course = malloc((size_t)s->evaluations * sizeof *s->course);
    s->rng = malloc((size_t)s->o.batch * sizeof *s->rng);
    s->host = calloc((size_t)(s->o.batch * s->px), sizeof *s->host);
    s->planes = calloc((size_t)(s->o.batch * s->px * IMAGE_SKETCH_PLANES), sizeof *s->planes);
    if (!s->course || !s->rng || !s->host || !s->planes)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    MD_TRY(sampler_course(s->row, d, s->o.steps, s->o.eta, s->course));
    md_buffer_init(&s->x, "mask pictures", MD_F32, s->o.batch * s->px);
    return build_step(s);
}

md_status mask_sampler_new(const mask_model *m, md_backend *be, const mask_sampler_options *o,
                           mask_sampler **out)
{
    mask_sampler *s = calloc(1, sizeof *s);
    if (!s)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    s->m = m;
    s->be = be;
    s->o = *o;
    md_status status = setup(s);
    if (status != MD_OK) {
        mask_sampler_free(s);
        return status;
    }
    *out = s;
    return MD_OK;
}

void mask_sampler_free(mask_sampler *s)
{
    if (!s)
        return;
    md_plan_free(s->plan);
    md_graph_free(s->g);
    md_buffer_release(s->be, &s->x);
    free(s->course);
    free(s->rng);
    free(s->host);
    free(s->planes);
    free(s);
}

md_status mask_sampler_load(mask_sampler *s)
{
    MD_TRY(md_buffer_alloc(s->be, &s->x));
    return md_plan_load(s->plan);
}

const image_sketch_spread *mask_sampler_spread(const mask_sampler *s)
{
    return &s->spread;
}

int64_t mask_sampler_edge(const mask_sampler *s)
{
    return s->edge;
}

const md_plan *mask_sampler_plan(const mask_sampler *s)
{
    return s->plan;
}

size_t mask_sampler_bytes(const mask_sampler *s)
{
    return nn_params_bytes(s->m->net->params, s->be) + md_plan_memory(s->plan).total +
           (size_t)s->x.numel * s->be->ops->elem_bytes(MD_F32);
}

static md_status write_start(mask_sampler *s, const mask_place *places, int n)
{
    double a = s->course[0].a_t, start = sampler_start(s->row, &s->m->schedule, s->course);
    memset(s->host, 0, (size_t)(s->o.batch * s->px) * sizeof *s->host);
    for (int i = 0; i < n; i++) {
        const mask_place *p = &places[i];
        float *x = s->host + i * s->px;
        md_rng r = s->o.same_start
                       ? md_rng_at(s->o.seed, MD_RNG_MASK_NOISE, 0, 0)
                       : md_rng_at(s->o.seed, MD_RNG_MASK_NOISE, (uint64_t)p->slot, p->attempt);
        md_rng_normal_fill(&r, x, s->px);
        for (int64_t k = 0; k < s->px; k++)
            x[k] = (float)(start * sqrt(1 - a) * (double)x[k] + sqrt(a) * s->o.hints->mean);
        s->rng[i] = md_rng_at(s->o.seed, MD_RNG_MASK_STEP_NOISE, (uint64_t)p->slot, p->attempt);
    }
    return md_buffer_write(s->be, &s->x, 0, s->host, MD_F32, s->o.batch * s->px);
}

static md_status write_sketches(mask_sampler *s, const mask_place *places, int n)
{
    int64_t all = s->px * IMAGE_SKETCH_PLANES;
    for (int i = 0; i < n; i++)
        MD_TRY(mask_hints_sketch(s->o.hints, s->o.same_sketch ? (mask_place){0} : places[i],
                                 &s->spread, s->planes + i * all));
    return md_plan_write(s->plan, s->sketch, s->planes, MD_F32, s->o.batch * all);
}

static md_status write_step(mask_sampler *s, int index, int n)
{
    const sampler_place *at = &s->course[index];
    double coef[SAMPLER_N_COEF];
    sampler_coefficients(s->row, &s->m->schedule, at, coef);
    MD_TRY(md_plan_write(s->plan, s->coef, coef, MD_F64, SAMPLER_N_COEF));
    for (int i = 0; i < s->o.batch; i++)
        s->host[i] = (float)at->t; /* a picture has more pixels: it fits */
    MD_TRY(md_plan_write(s->plan, s->t, s->host, MD_F32, s->o.batch));
    if (!s->noise)
        return MD_OK;
    for (int i = 0; i < n; i++)
        md_rng_normal_fill(&s->rng[i], s->host + i * s->px, s->px);
    return md_plan_write(s->plan, s->noise, s->host, MD_F32, s->o.batch * s->px);
}

md_status mask_sampler_draw(mask_sampler *s, const mask_place *places, int n,
                            md_status (*beat)(void *user), void *user, float *pictures,
                            bool *finite)
{
    MD_TRY(write_start(s, places, n));
    if (s->sketch)
        MD_TRY(write_sketches(s, places, n));
    for (int i = 0; i < s->evaluations; i++) {
        MD_TRY(write_step(s, i, n));
        MD_TRY(md_plan_run(s->plan));
        if (beat)
            MD_TRY(beat(user));
    }
    MD_TRY(md_buffer_read(s->be, &s->x, 0, pictures, MD_F32, n * s->px));
    for (int i = 0; i < n; i++) {
        finite[i] = true;
        for (int64_t k = 0; k < s->px; k++)
            finite[i] = finite[i] && isfinite(pictures[i * s->px + k]);
    }
    return MD_OK;
}

/* ---- telling it right */

enum { ROUNDS = 3, ROUND_LEAST = 16, ROUND_MOST = 64 }; /* draws in each */
typedef struct answers {
    image_sketch told[ROUND_MOST], drawn[ROUND_MOST];
    int n;
} answers;

/* The sketch of the mask that a picture becomes, seen as the training masks are: its small bumps
   are gone there. */
static md_status sketch_of_drawn(const image_field_view *v, const float *picture, image_sketch *out)
{
    const image_affine still = image_affine_make(0, 0, 1, 0, 0);
    image mask = {0};
    float *field = malloc((size_t)(v->size * v->size) * sizeof *field),
          *seen = malloc((size_t)(v->edge * v->edge) * sizeof *seen);
    md_status status = field && seen
                           ? image_picture_mask(v, picture, &still, 0, &mask)
                           : md_fail(MD_NOMEM, __FILE__, __LINE__, "masks: out of memory");
    if (status == MD_OK)
        status = image_mask_field(&mask, field);
    if (status == MD_OK) {
        image_field_picture(v, field, &still, seen);
        status = image_sketch_measure(v, seen, out);
    }
    image_free(&mask);
    free(field);
    free(seen);
    return status;
}

/* What was told: the first pixels of a draw's planes. */
static md_status add_answers(mask_sampler *s, int n, const float *pictures, const bool *finite,
                             answers *a)
{
    for (int i = 0; i < n; i++) {
        const float *planes = s->planes + i * s->px * IMAGE_SKETCH_PLANES + 1;
        image_sketch *told = &a->told[a->n], *drawn = &a->drawn[a->n];
        if (!finite[i])
            continue;
        MD_TRY(sketch_of_drawn(&s->o.hints->view, pictures + i * s->px, drawn));
        for (int k = IMAGE_SKETCH_SOLIDITY; k < IMAGE_SKETCH_N; k++)
            told->value[k] = s->spread.mean[k] +
                             s->spread.deviation[k] * (double)planes[k - IMAGE_SKETCH_SOLIDITY];
        a->n += drawn->area > 0;
    }
    return MD_OK;
}

/* Draws a round's slots, of each training mask one unless there are many. */
static md_status draw_round(mask_sampler *s, int round, md_status (*beat)(void *user), void *user,
                            float *pictures, bool *finite, answers *a)
{
    int64_t draws = s->o.hints->n < ROUND_LEAST  ? ROUND_LEAST
                    : s->o.hints->n < ROUND_MOST ? s->o.hints->n
                                                 : ROUND_MOST;
    for (int64_t first = 0; first < draws; first += s->o.batch) {
        mask_place places[ROUND_MOST];
        int n = 0;
        for (; n < s->o.batch && first + n < draws; n++)
            places[n] = (mask_place){.slot = round * draws + first + n};
        MD_TRY(mask_sampler_draw(s, places, n, beat, user, pictures, finite));
        MD_TRY(add_answers(s, n, pictures, finite, a));
    }
    return MD_OK;
}

/* A network draws outlines a little smoother than it is told, the ragged ones most, the less the
   longer it was trained. It follows a correction by half to two thirds, hence several rounds
   (masks.md in tests/quality). */
static md_status calibrate(mask_sampler *s, md_status (*beat)(void *user), void *user,
                           float *pictures, bool *finite)
{
    for (int round = 0; round < ROUNDS; round++) {
        answers a = {.n = 0};
        MD_TRY(draw_round(s, round, beat, user, pictures, finite, &a));
        image_sketch_spread_adjust(&s->o.hints->spread, a.told, a.drawn, a.n, &s->spread);
    }
    return MD_OK;
}

md_status mask_sampler_calibrate(mask_sampler *s, md_status (*beat)(void *user), void *user)
{
    if (!s->sketch)
        return MD_OK;
    float *pictures = malloc((size_t)(s->o.batch * s->px) * sizeof *pictures);
    bool *finite = malloc((size_t)s->o.batch * sizeof *finite);
    md_status status = pictures && finite
                           ? calibrate(s, beat, user, pictures, finite)
                           : md_fail(MD_NOMEM, __FILE__, __LINE__, "masks: out of memory");
    free(pictures);
    free(finite);
    return status;
}

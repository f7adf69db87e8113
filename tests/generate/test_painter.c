/* Painting takes the bytes that the plan promised, and a picture depends on nothing but its slot.
 */
#include "backend/cpu/cpu.h"
#include "base/rng.h"
#include "generate/guide.h"
#include "generate/painter.h"
#include "support/peak.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

enum { SIZE = 32, PIXELS = SIZE * SIZE, N = 3 };

static struct {
    md_backend *be;
    foundation *f;
    image guide[N];
    uint8_t background[N][3 * PIXELS];
} world;

static int open_world(void **state)
{
    (void)state;
    if (cpu_backend_open(&world.be, 2) != MD_OK ||
        foundation_open("tests/golden/sd", &world.f) != MD_OK)
        return 1;
    for (int i = 0; i < MODEL_N_PARTS; i++)
        if (foundation_load(world.f, (model_part)i, world.be) != MD_OK)
            return 1;
    for (int i = 0; i < N; i++) {
        if (image_new(&world.guide[i], SIZE, SIZE, 1) != MD_OK)
            return 1;
        for (int k = 0; k < PIXELS; k++) {
            int x = k % SIZE, y = k / SIZE;
            world.guide[i].px[k] = x > 6 + i && x < 20 && y > 8 && y < 22 - i;
            for (int c = 0; c < 3; c++)
                world.background[i][3 * k + c] = (uint8_t)(40 * i + 3 * x + 2 * y + 20 * c);
        }
    }
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    for (int i = 0; i < N; i++)
        image_free(&world.guide[i]);
    foundation_free(world.f, world.be);
    bool all = world.be->allocated_bytes == 0;
    world.be->ops->close(world.be);
    return !all;
}

static painter_options options(int batch, const char *sampler, const char *blend)
{
    return (painter_options){.size = SIZE,
                             .batch = batch,
                             .prompt = "an image of hta",
                             .guidance = 7.5,
                             .sampler = sampler_find(sampler),
                             .steps = 4,
                             .eta = 0.5,
                             .blend = blend_find(blend),
                             .grow = 1,
                             .seed = 5,
                             .dtype = MD_F32};
}

static painter *open_painter(const painter_options *o)
{
    painter *p;
    OK(painter_new(world.f, world.be, o, &p));
    OK(painter_load(p));
    return p;
}

/* Slot 10 + i is picture i; latents as painter_encode made them. */
static void paint(painter *p, const int *which, int n, float *moments, uint8_t *rgb)
{
    painter_item items[N];
    bool finite[N];
    for (int i = 0; i < n; i++) {
        int w = which[i];
        float *z = moments + i * painter_moments(p);
        OK(painter_encode(p, world.background[w], z));
        items[i] = (painter_item){10 + w, 2, &world.guide[w], world.background[w], z};
    }
    OK(painter_paint(p, items, n, NULL, NULL, rgb, finite));
    for (int i = 0; i < n; i++)
        assert_true(finite[i]);
}

/* The same bytes alone, in company, in another place, and a second time. */
static void test_any_company(void **state)
{
    (void)state;
    static const char *const ways[][2] = {
        {"ddim", "paper"}, {"ddpm", "x0"}, {"ddim", "renoise"},  {"pndm", "paper"},
        {"dpm++", "x0"},   {"pndm", "x0"}, {"dpm++", "renoise"}, {"euler", "paper"}};
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        static uint8_t whole[N * 3 * PIXELS], turned[N * 3 * PIXELS], single[3 * PIXELS];
        painter_options three = options(N, ways[way][0], ways[way][1]), one;
        three.sample_posterior = way == 2;
        three.strength = way == 1 || way == 4 ? 0.6 : 0; /* starts in the middle */
        one = three;
        one.batch = 1;
        painter *p = open_painter(&three), *q = open_painter(&one);
        float *moments = malloc((size_t)(N * painter_moments(p)) * sizeof *moments);
        assert_non_null(moments);
        paint(p, (int[]){0, 1, 2}, 3, moments, whole);
        paint(p, (int[]){2, 0}, 2, moments, turned); /* and a padded place */
        assert_memory_equal(turned, whole + 2 * 3 * PIXELS, 3 * PIXELS);
        assert_memory_equal(turned + 3 * PIXELS, whole, 3 * PIXELS);
        for (int i = 0; i < N; i++) {
            paint(q, &i, 1, moments, single);
            assert_memory_equal(single, whole + i * 3 * PIXELS, 3 * PIXELS);
        }
        assert_true(memcmp(whole, whole + 3 * PIXELS, 3 * PIXELS) != 0);
        free(moments);
        painter_free(p);
        painter_free(q);
    }
}

/* Root mean square of what painting changes inside the guide. */
static double change_at(double strength, uint8_t *rgb)
{
    painter_options o = options(1, "ddim", "renoise");
    int which = 0, n = 0;
    double sum = 0;
    o.steps = 20;
    o.eta = 0;
    o.guidance = 1;
    o.grow = 0;
    o.strength = strength;
    painter *p = open_painter(&o);
    float *moments = malloc((size_t)painter_moments(p) * sizeof *moments);
    uint8_t back[3 * PIXELS];
    assert_non_null(moments);
    paint(p, &which, 1, moments, rgb);
    OK(painter_decode(p, moments, back));
    assert_int_equal(painter_evaluations(p), strength > 0 ? lrint(strength * 20) : 20);
    for (int k = 0; k < 3 * PIXELS; k++)
        if (world.guide[0].px[k / 3]) {
            sum += (rgb[k] - back[k]) * (rgb[k] - back[k]);
            n++;
        }
    free(moments);
    painter_free(p);
    return sqrt(sum / n);
}

/* The later a painting starts, the less it changes; from noise alone is what it was. */
static void test_strength(void **state)
{
    (void)state;
    static uint8_t all[3 * PIXELS], same[3 * PIXELS], rgb[3 * PIXELS];
    double last = change_at(0, all), least;
    assert_true(change_at(1, same) == last);
    assert_memory_equal(all, same, sizeof all);
    least = change_at(0.05, rgb);
    (void)printf("changed from noise alone %.1f, half of the way %.1f, at the last step %.1f\n",
                 last, change_at(0.5, rgb), least);
    assert_true(least < 0.25 * last && change_at(0.5, rgb) < last);
    painter_options o = options(1, "pndm", "paper");
    o.strength = 0.5;
    assert_int_equal(painter_check(world.f, &o), MD_USAGE);
    assert_non_null(strstr(md_status_text(), "pndm cannot start in the middle"));
}

/* One picture in two slots; whether they came out equal. */
static bool paint_twice(const painter_options *o, const image *guide, uint8_t *rgb)
{
    painter *p = open_painter(o);
    float *moments = malloc((size_t)painter_moments(p) * sizeof *moments);
    bool finite[2];
    assert_non_null(moments);
    OK(painter_encode(p, world.background[0], moments));
    const painter_item items[2] = {{10, 0, guide, world.background[0], moments},
                                   {11, 1, guide, world.background[0], moments}};
    OK(painter_paint(p, items, 2, NULL, NULL, rgb, finite));
    assert_true(finite[0] && finite[1]);
    free(moments);
    painter_free(p);
    return memcmp(rgb, rgb + 3 * PIXELS, 3 * PIXELS) == 0;
}

/* The decoded draw mean + deviation e of the first background's posterior, e of the stream for all.
 */
static void decode_draw(uint8_t *rgb)
{
    codec *k;
    OK(codec_new(world.be, world.f->vae, world.f->params[MODEL_VAE], MD_F32, SIZE, 1, 1, &k));
    OK(codec_load(k));
    int64_t px = codec_edge(k) * codec_edge(k), c = world.f->vae->latent_channels;
    float *moments = malloc((size_t)(3 * px * c) * sizeof *moments), *z = moments + 2 * px * c;
    assert_non_null(moments);
    OK(codec_encode(k, world.background[0], 1, moments));
    md_rng r = md_rng_at(5, MD_RNG_SAMPLE_POSTERIOR, 0, 0);
    md_rng_normal_fill(&r, z, px * c);
    for (int64_t i = 0; i < px * c; i++) {
        const float *m = moments + i / c * 2 * c + i % c;
        z[i] = (float)((double)m[0] + sqrt(exp((double)m[c])) * (double)z[i]);
    }
    OK(codec_decode(k, z, 1, rgb));
    free(moments);
    codec_free(k);
}

/* A slot's own noise, or the same for all; under an empty guide what is left is the background's
   latent, of which the mean is the same everywhere and a draw is not. */
static void test_draws(void **state)
{
    (void)state;
    static uint8_t rgb[2 * 3 * PIXELS], drawn[sizeof rgb];
    image nothing;
    OK(image_new(&nothing, SIZE, SIZE, 1));
    painter_options o = options(2, "ddpm", "renoise");
    assert_false(paint_twice(&o, &world.guide[0], rgb));
    assert_true(paint_twice(&o, &nothing, rgb));
    o.sample_posterior = true;
    assert_false(paint_twice(&o, &nothing, drawn));
    o.same_noise = true;
    assert_true(paint_twice(&o, &nothing, drawn));
    assert_true(memcmp(rgb, drawn, sizeof rgb) != 0);
    decode_draw(rgb);
    for (int k = 0; k < 3 * PIXELS; k++)
        assert_in_range(abs(rgb[k] - drawn[k]), 0, 1);
    o.sample_posterior = false;
    assert_true(paint_twice(&o, &world.guide[0], rgb));
    image_free(&nothing);
}

/* As many evaluations as promised, and as many beats; the folder's own sampler is PNDM. */
static md_status count_beats(void *user)
{
    ++*(int *)user;
    return MD_OK;
}

static void test_own_sampler(void **state)
{
    (void)state;
    painter_options o = options(1, "nothing", "renoise");
    static uint8_t own[3 * PIXELS], named[3 * PIXELS];
    bool finite;
    assert_null(o.sampler);
    painter *p = open_painter(&o);
    assert_ptr_equal(painter_sampler(p), sampler_find("pndm"));
    assert_int_equal(painter_evaluations(p), o.steps + 1);
    float *moments = malloc((size_t)painter_moments(p) * sizeof *moments);
    assert_non_null(moments);
    OK(painter_encode(p, world.background[0], moments));
    painter_item item = {10, 2, &world.guide[0], world.background[0], moments};
    int beats = 0;
    OK(painter_paint(p, &item, 1, count_beats, &beats, own, &finite));
    assert_int_equal(beats, painter_evaluations(p));
    painter_free(p);
    o.sampler = sampler_find("pndm");
    p = open_painter(&o);
    OK(painter_paint(p, &item, 1, NULL, NULL, named, &finite));
    assert_memory_equal(own, named, sizeof own);
    painter_free(p);
    free(moments);

    /* a class that is not here: every sampler of ours can still be chosen */
    diffusion_schedule kept = world.f->schedule;
    world.f->schedule.sampler[0] = '\0';
    (void)strcpy(world.f->schedule.refused, "_class_name UniPCMultistepScheduler");
    assert_int_equal(painter_new(world.f, world.be, &o, &p), MD_OK);
    painter_free(p);
    o.sampler = NULL;
    assert_int_equal(painter_new(world.f, world.be, &o, &p), MD_USAGE);
    assert_non_null(strstr(md_status_text(), "scheduler_config.json"));
    assert_non_null(strstr(md_status_text(), "UniPCMultistepScheduler"));
    assert_non_null(strstr(md_status_text(), "generate.sampler"));
    world.f->schedule = kept;
}

/* What a multistep sampler remembers of a painting that went wrong does not reach the next one. */
static void test_after_a_bad_one(void **state)
{
    (void)state;
    static uint8_t before[3 * PIXELS], after[3 * PIXELS];
    static const char *const names[] = {"pndm", "dpm++"};
    for (int i = 0; i < 2; i++) {
        painter_options o = options(1, names[i], "renoise");
        painter *p = open_painter(&o);
        float *moments = malloc((size_t)painter_moments(p) * sizeof *moments);
        bool finite;
        assert_non_null(moments);
        OK(painter_encode(p, world.background[0], moments));
        painter_item item = {10, 2, &world.guide[0], world.background[0], moments};
        OK(painter_paint(p, &item, 1, NULL, NULL, before, &finite));
        assert_true(finite);
        float kept = moments[0];
        moments[0] = NAN; /* under the first step's blend it reaches every number that is kept */
        OK(painter_paint(p, &item, 1, NULL, NULL, after, &finite));
        assert_false(finite);
        moments[0] = kept;
        OK(painter_paint(p, &item, 1, NULL, NULL, after, &finite));
        assert_true(finite);
        assert_memory_equal(after, before, sizeof after);
        painter_free(p);
        free(moments);
    }
}

/* Latents after each step, as the painter leaves them. */
typedef struct latents {
    painter *p;
    float *x[16];
    int n, numbers, edge;
} latents;

static md_status keep_latents(void *user)
{
    latents *l = user;
    l->x[l->n] = malloc((size_t)l->numbers * sizeof(float));
    assert_non_null(l->x[l->n]);
    return painter_latents(l->p, l->x[l->n++]);
}

/* One picture's way under o. */
static void follow(const painter_options *o, const image *guide, latents *l)
{
    static uint8_t rgb[3 * PIXELS];
    bool finite;
    *l = (latents){.p = open_painter(o)};
    l->edge = (int)codec_edge(painter_codec(l->p));
    l->numbers = (int)painter_moments(l->p) / 2;
    float *moments = malloc((size_t)painter_moments(l->p) * sizeof *moments);
    assert_non_null(moments);
    OK(painter_encode(l->p, world.background[0], moments));
    painter_item item = {10, 2, guide, world.background[0], moments};
    OK(painter_paint(l->p, &item, 1, keep_latents, l, rgb, &finite));
    assert_int_equal(l->n, painter_evaluations(l->p));
    painter_free(l->p);
    free(moments);
}

static void forget(latents *l)
{
    for (int i = 0; i < l->n; i++)
        free(l->x[i]);
}

/* Under each sampler a latent pixel keeps the background until the threshold passes it. With
   `renoise` what is outside M depends on no other step, so a painting under an empty guide shows
   which pixels those are: with core first, after step k, those whose feather is less than
   t_{k+1} / 1000. The guide: rows 9 to 21, columns 7 to 19 of 32 pixels, 4 to a latent one. */
static void test_moving_guide(void **state)
{
    (void)state;
    image nothing;
    OK(image_new(&nothing, SIZE, SIZE, 1));
    for (int r = 0; sampler_row(r); r++)
        for (int motion = BLEND_STATIC; motion <= BLEND_CORE_FIRST; motion++) {
            painter_options o = options(1, sampler_row(r)->name, "renoise");
            sampler_place at[16];
            float mask[PIXELS], feather[PIXELS];
            latents with, without;
            o.feather = 3;
            o.motion = (blend_motion)motion;
            o.steps = 7;
            follow(&o, &world.guide[0], &with);
            follow(&o, &nothing, &without);
            OK(sampler_course(o.sampler, &world.f->schedule, o.steps, o.eta, at));
            int edge = with.edge, c = with.numbers / (edge * edge), late = 0;
            OK(guide_pool(&world.guide[0], edge, o.pool, o.grow, mask));
            OK(guide_feather(mask, edge, o.feather, feather));
            for (int k = 0; k < with.n; k++)
                for (int i = 0; i < edge * edge; i++) {
                    double level = k + 1 < with.n ? at[k + 1].t / 1000 : 0;
                    double f = (double)feather[i];
                    bool open = mask[i] > 0 && (motion == BLEND_STATIC       ? true
                                                : motion == BLEND_EDGE_FIRST ? f <= 1 - level
                                                                             : f >= level);
                    bool painted = memcmp(with.x[k] + i * c, without.x[k] + i * c,
                                          (size_t)c * sizeof(float)) != 0;
                    if (open != painted)
                        fail_msg("%s, motion %d, step %d, latent pixel %d: %s", o.sampler->name,
                                 motion, k, i, painted ? "painted" : "not painted");
                    late += mask[i] > 0 && !open;
                }
            assert_int_equal(late > 0, motion != BLEND_STATIC);
            forget(&with);
            forget(&without);
        }
    image_free(&nothing);
}

/* A motion without a feather, and a feather where nothing is blended, are refused by name. */
static void test_motions_refused(void **state)
{
    (void)state;
    painter_options o = options(1, "ddim", "paper");
    o.motion = BLEND_CORE_FIRST;
    assert_int_equal(painter_check(world.f, &o), MD_USAGE);
    assert_non_null(strstr(md_status_text(), "guide.feather"));
    o.feather = 2;
    OK(painter_check(world.f, &o));
    unet_config unet = *world.f->unet;
    foundation nine = *world.f;
    unet.in_channels = 2 * nine.vae->latent_channels + 1;
    nine.unet = &unet;
    OK(painter_check(&nine, &o));
    o.blend = blend_find("none");
    assert_int_equal(painter_check(&nine, &o), MD_USAGE);
    assert_non_null(strstr(md_status_text(), "guide.feather = 0"));
    o.feather = 0;
    o.motion = BLEND_STATIC;
    OK(painter_check(&nine, &o));
}

static void test_memory(void **state)
{
    (void)state;
    size_t weights = world.be->allocated_bytes;
    painter_options o = options(2, "pndm", "paper");
    painter *p;
    uint8_t rgb[2 * 3 * PIXELS];
    peak_watch(world.be);
    OK(painter_new(world.f, world.be, &o, &p));
    assert_int_equal(peak_bytes, weights);
    OK(painter_load(p));
    assert_int_equal(world.be->allocated_bytes, painter_bytes(p));
    float *moments = malloc((size_t)(2 * painter_moments(p)) * sizeof *moments);
    assert_non_null(moments);
    paint(p, (int[]){0, 1}, 2, moments, rgb);
    assert_int_equal(peak_bytes, painter_bytes(p));
    OK(painter_fits(p, 0));
    OK(painter_fits(p, peak_bytes));
    assert_int_equal(painter_fits(p, peak_bytes - 1), MD_NOMEM);
    assert_non_null(strstr(md_status_text(), "generate.batch"));
    free(moments);
    painter_free(p);
    assert_int_equal(world.be->allocated_bytes, weights);
}

static void test_refusals(void **state)
{
    (void)state;
    painter *p;
    painter_options o = options(1, "ddim", "none");
    assert_int_equal(painter_new(world.f, world.be, &o, &p), MD_USAGE);
    assert_non_null(strstr(md_status_text(), "inpainting UNet"));
    o = options(1, "ddim", "paper");
    o.size = 36; /* latents of 9 */
    assert_int_equal(painter_new(world.f, world.be, &o, &p), MD_USAGE);
    o.size = 30;
    assert_int_equal(painter_new(world.f, world.be, &o, &p), MD_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strength),        cmocka_unit_test(test_any_company),
        cmocka_unit_test(test_draws),           cmocka_unit_test(test_own_sampler),
        cmocka_unit_test(test_after_a_bad_one), cmocka_unit_test(test_moving_guide),
        cmocka_unit_test(test_motions_refused), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, open_world, close_world);
}

/* configs/reference/readme.cfg at 64 pixels against what the released code's rules make of the same
   files (tests/golden/make_reference.py): imported pixels and masks bit for bit, what training
   starts from, and pictures of the pinned inpainting pipeline. */
#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "generate/guide.h"
#include "generate/pairs.h"
#include "harness.h"
#include "store/import.h"
#include "support/tmp_dir.h"
#include "train/finetune.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)

enum { SIZE = 64, PIXELS = SIZE * SIZE, EDGE = 16, PX = EDGE * EDGE, MOMENTS = PX * 8, N = 2 };

static struct {
    char dir[256], data[300], backgrounds[300];
    golden g;
    config *cfg;
    md_backend *be;
    foundation *f;
} world;

/* tests/golden/sd with the UNet of tests/golden/unet9, in world.dir/nine. */
static int make_foundation(void)
{
    char command[1024];
    (void)snprintf(command, sizeof command,
                   "cp -r tests/golden/sd %s/nine && rm -r %s/nine/unet && "
                   "cp -r tests/golden/unet9/unet %s/nine",
                   world.dir, world.dir, world.dir);
    return system(command);
}

static int open_world(void **state)
{
    (void)state;
    char foundation_at[300], path[300];
    const char *sets[] = {"data.root=tests/golden/reference/set", "data.size=64"};
    import_report report;
    if (!tmp_dir_make(world.dir) || make_foundation() != 0)
        return 1;
    (void)snprintf(foundation_at, sizeof foundation_at, "%s/nine", world.dir);
    (void)snprintf(world.data, sizeof world.data, "%s/data.h5", world.dir);
    (void)snprintf(world.backgrounds, sizeof world.backgrounds, "%s/backgrounds.h5", world.dir);
    (void)snprintf(path, sizeof path, "reference/expected.safetensors");
    world.g = golden_open(path);
    bool ok = config_load("configs/reference/readme.cfg", sets, 2, &world.cfg) == MD_OK &&
              import_run(world.cfg, world.dir, &report) == MD_OK &&
              cpu_backend_open(&world.be, 1) == MD_OK &&
              foundation_open(foundation_at, &world.f) == MD_OK;
    for (int i = 0; i < MODEL_N_PARTS && ok; i++)
        ok = foundation_load(world.f, (model_part)i, world.be) == MD_OK;
    if (!ok)
        (void)fprintf(stderr, "%s\n", md_status_text());
    return !ok;
}

static int close_world(void **state)
{
    (void)state;
    foundation_free(world.f, world.be);
    world.be->ops->close(world.be);
    config_free(world.cfg);
    golden_close(&world.g);
    tmp_dir_remove(world.dir);
    return 0;
}

/* Bytes that the script packed. */
static const uint8_t *bytes_of(const char *kind, const char *name, const char *what, int64_t n)
{
    const golden_tensor *t = golden_get(&world.g, "%s.%s.%s", kind, name, what);
    assert_true(t->i32 && 4 * t->numel == n);
    return t->data;
}

static const float *floats_of(const char *kind, const char *name, const char *what, int64_t n)
{
    const golden_tensor *t = golden_get(&world.g, "%s.%s.%s", kind, name, what);
    assert_true(!t->i32 && t->numel == n);
    return t->data;
}

/* Within `part` of the largest value. */
static void close_to(const float *got, const float *want, int64_t n, double part, const char *what)
{
    double most = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    if (!(worst <= part * most))
        fail_msg("%s: %g off, the largest is %g", what, worst, most);
}

static const char *const trained[N] = {"a", "b"}, *const scenes[N] = {"x", "y"};

static void test_import(void **state)
{
    (void)state;
    uint8_t rgb[3 * PIXELS], mask[PIXELS];
    data_store *d;
    OK(data_open(world.data, DATA_IMAGES, &d));
    for (int i = 0; i < N; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "%s.0", trained[i]);
        OK(data_read_pixels(d, i, rgb, mask));
        assert_memory_equal(rgb, bytes_of("train", name, "pixels", sizeof rgb), sizeof rgb);
        assert_memory_equal(mask, bytes_of("train", name, "mask", sizeof mask), sizeof mask);
    }
    data_close(d);
    OK(data_open(world.backgrounds, DATA_BACKGROUNDS, &d));
    assert_int_equal(data_rows(d), N);
    for (int i = 0; i < N; i++) {
        OK(data_read_pixels(d, i, rgb, NULL));
        assert_memory_equal(rgb, bytes_of("sample", scenes[i], "pixels", sizeof rgb), sizeof rgb);
    }
    data_close(d);
}

/* The code flips before it resizes, the import has resized already. */
static void test_training(void **state)
{
    (void)state;
    lesions l;
    lesions_options o = finetune_lesions(world.cfg, world.data, NULL);
    OK(lesions_load(world.f, world.be, &o, &l));
    assert_int_equal(l.source.n, N);
    assert_non_null(l.masked);
    for (int i = 0; i < 2 * N; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "%s.%d", trained[i / 2], i % 2);
        const float *mask = floats_of("train", name, "latent_mask", PX);
        assert_memory_equal(l.mask + i * PX, mask, PX * sizeof *mask);
        close_to(l.moments + i * MOMENTS, floats_of("train", name, "moments", MOMENTS), MOMENTS,
                 1e-5, name);
        close_to(l.masked + i * MOMENTS, floats_of("train", name, "masked_moments", MOMENTS),
                 MOMENTS, 1e-5, name);
    }
    /* the prompt without padding */
    const golden_tensor *ids = golden_get(&world.g, "prompt.ids");
    const golden_tensor *context = golden_get(&world.g, "prompt.context");
    assert_int_equal(l.source.tokens, ids->numel);
    for (int i = 0; i < N; i++)
        assert_memory_equal(l.ids + i * ids->numel, ids->data, (size_t)ids->numel * sizeof *l.ids);
    close_to(l.context, context->data, context->numel, 1e-5, "context");
    denoise_source shape;
    OK(finetune_source_shape(world.cfg, world.f, SIZE, &shape));
    assert_int_equal(shape.tokens, l.source.tokens);
    lesions_free(&l);
}

/* Every pixel of the latent counts alike: the loss is the plain mean of squares. */
static void test_loss(void **state)
{
    (void)state;
    static double alphas[1000], map[2 * PX], numbers[2 * DENOISE_N_NUMBERS];
    lesions l;
    lesions_options o = finetune_lesions(world.cfg, world.data, NULL);
    OK(lesions_load(world.f, world.be, &o, &l));
    OK(schedule_alphas_cumprod(&world.f->schedule, alphas));
    denoise d = finetune_task(world.cfg, world.f, &l.source, alphas);
    train_task task = denoise_task(&d);
    md_graph *g;
    md_plan *p;
    OK(md_graph_new(&g));
    md_tensor *loss = task.build(task.user, g, 2);
    OK(md_plan_build(g, world.be, (md_tensor *[]){loss, d.map}, 2, &p));
    OK(task.load(task.user, world.be));
    OK(md_plan_load(p));
    for (int64_t step = 0; step < 4; step++) {
        OK(task.fill(task.user, p, step, 0, 2));
        OK(md_plan_run(p));
        OK(md_plan_read(p, d.map, map, MD_F64, 2 * PX));
        OK(md_plan_read(p, d.numbers, numbers, MD_F64, 2 * DENOISE_N_NUMBERS));
        for (int i = 0; i < 2 * PX; i++)
            assert_true(map[i] == 1);
        for (int i = 0; i < 2; i++)
            assert_true(numbers[2 * DENOISE_SHARE + i] == (double)(1.0F / (2 * 4 * PX)));
    }
    md_plan_free(p);
    md_graph_free(g);
    task.release(task.user);
    lesions_free(&l);
}

/* What a painter gets for the two pictures: their guides, backgrounds, posteriors. */
typedef struct scene_set {
    image guide[N];
    uint8_t background[N][3 * PIXELS];
    float *moments;
    painter_item items[N];
} scene_set;

static void scenes_open(painter *p, const painter_options *o, scene_set *s)
{
    uint8_t other[3 * PIXELS];
    float latent_mask[PX];
    data_store *data, *backgrounds;
    s->moments = malloc((size_t)(N * painter_moments(p)) * sizeof *s->moments);
    assert_non_null(s->moments);
    OK(data_open(world.data, DATA_IMAGES, &data));
    OK(data_open(world.backgrounds, DATA_BACKGROUNDS, &backgrounds));
    for (int i = 0; i < N; i++) {
        float *at = s->moments + i * painter_moments(p);
        OK(image_new(&s->guide[i], SIZE, SIZE, 1));
        OK(data_read_pixels(data, i, other, s->guide[i].px));
        OK(data_read_pixels(backgrounds, i, s->background[i], NULL));
        /* to a pipeline, Lanczos of what has the size already is nothing */
        assert_memory_equal(s->guide[i].px, bytes_of("sample", scenes[i], "mask", PIXELS), PIXELS);
        OK(guide_pool(&s->guide[i], EDGE, o->pool, o->grow, latent_mask));
        assert_memory_equal(latent_mask, floats_of("sample", scenes[i], "latent_mask", PX),
                            sizeof latent_mask);
        OK(painter_encode(p, s->background[i], at));
        close_to(at, floats_of("sample", scenes[i], "moments", MOMENTS), MOMENTS, 1e-5, scenes[i]);
        s->items[i] = (painter_item){i, 0, &s->guide[i], s->background[i], at};
    }
    data_close(data);
    data_close(backgrounds);
}

/* Pictures of the painter as the preset sets it, but with posteriors' means: drawing from them is
   tested where the draws can be compared. */
static void check_painting(const foundation *f, const char *blend, const char *painted)
{
    static uint8_t rgb[N * 3 * PIXELS];
    painter_options o;
    painter *p;
    scene_set s;
    bool finite[N];
    OK(pairs_painter_options(world.cfg, SIZE, &o));
    assert_true(o.same_noise && o.sample_posterior);
    o.sample_posterior = false;
    o.batch = N;
    o.blend = blend_find(blend);
    OK(painter_new(f, world.be, &o, &p));
    OK(painter_load(p));
    scenes_open(p, &o, &s);
    OK(painter_paint(p, s.items, N, NULL, NULL, rgb, finite));
    for (int i = 0; i < N; i++) {
        const uint8_t *want = bytes_of("sample", scenes[i], painted, 3 * PIXELS);
        int off = 0;
        for (int k = 0; k < 3 * PIXELS; k++) {
            int by = abs(rgb[i * 3 * PIXELS + k] - want[k]);
            assert_in_range(by, 0, 1);
            off += by;
        }
        assert_in_range(off, 0, 3 * PIXELS / 500); /* what lies at a half may round either way */
        image_free(&s.guide[i]);
    }
    assert_true(memcmp(rgb, rgb + 3 * PIXELS, 3 * PIXELS) != 0);
    free(s.moments);
    painter_free(p);
}

static void test_nine_channels(void **state)
{
    (void)state;
    check_painting(world.f, "none", "painted9");
}

/* The same pipeline with a UNet of 4 channels puts the background, noised anew, around the guide.
 */
static void test_four_channels(void **state)
{
    (void)state;
    foundation *f;
    OK(foundation_open("tests/golden/sd", &f));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        OK(foundation_load(f, (model_part)i, world.be));
    check_painting(f, "renoise", "painted4");
    foundation_free(f, world.be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_import), cmocka_unit_test(test_training), cmocka_unit_test(test_loss),
        cmocka_unit_test(test_nine_channels), cmocka_unit_test(test_four_channels)};
    return cmocka_run_group_tests(tests, open_world, close_world);
}

/* The mask generator's task: pictures that depend on nothing but their place in the global batch,
   and a loss that adds up however the batch is split and is the mean squared error of the noise. */
#include "base/rng.h"
#include "rig.h"
#include "train/masks.h"

enum { SIZE = 16, EDGE = 8, MASKS = 3, BATCH = 5, PX = EDGE * EDGE };

static struct {
    md_backend *be;
    model_config config;
    nn_params *params, *sketch_params;
    unet_config sketching; /* the same with a sketch beside the noise */
    float fields[MASKS * SIZE * SIZE];
    double alphas[1000];
} world;

static int open_world(void **state)
{
    (void)state;
    const model_row *row = model_registry(MODEL_MASK_UNET);
    diffusion_schedule s = {
        .train_steps = 1000, .beta_start = 1e-4, .beta_end = 0.02, .betas = SCHEDULE_LINEAR};
    OK(ref_backend_open(&world.be));
    OK(row->read("tests/golden/masks/config.json", &world.config));
    OK(nn_params_new("masks", &world.params));
    OK(row->declare(world.params, &world.config));
    OK(nn_params_alloc(world.params, world.be));
    OK(nn_params_load(world.params, world.be,
                      "tests/golden/masks/diffusion_pytorch_model.safetensors", &row->rules));
    world.sketching = world.config.unet;
    world.sketching.in_channels = 1 + IMAGE_SKETCH_PLANES;
    OK(nn_params_new("masks", &world.sketch_params));
    OK(mask_unet_declare(world.sketch_params, &world.sketching));
    OK(nn_params_alloc(world.sketch_params, world.be));
    OK(nn_params_randomize(world.sketch_params, world.be, 3));
    OK(schedule_alphas_cumprod(&s, world.alphas));
    for (int i = 0; i < MASKS * SIZE * SIZE; i++) {
        int k = i / (SIZE * SIZE), y = i / SIZE % SIZE - 8, x = i % SIZE - 8;
        world.fields[i] = (float)(3 + k - sqrt(y * y + (k + 1) * x * x));
    }
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    nn_params_free(world.params, world.be);
    nn_params_free(world.sketch_params, world.be);
    bool all = world.be->allocated_bytes == 0;
    world.be->ops->close(world.be);
    return !all;
}

static mask_train task_of(double augment, schedule_prediction prediction)
{
    return (mask_train){.unet = &world.config.unet,
                        .params = world.params,
                        .dtype = MD_F32,
                        .view = {SIZE, EDGE, 4},
                        .n = MASKS,
                        .fields = world.fields,
                        .alphas_cumprod = world.alphas,
                        .train_steps = 1000,
                        .prediction = prediction,
                        .seed = 9,
                        .batch = BATCH,
                        .augment = augment};
}

static mask_train sketching_task(void)
{
    mask_train d = task_of(1, SCHEDULE_V);
    d.unet = &world.sketching;
    d.params = world.sketch_params;
    OK(image_sketch_spread_of(&d.view, world.fields, MASKS, &d.spread));
    return d;
}

/* Loss of n samples from `first` on of step 3. */
static double loss_of(int64_t first, int64_t n, mask_train d)
{
    train_task task = mask_train_task(&d);
    md_graph *g;
    md_plan *p;
    double loss;
    OK(md_graph_new(&g));
    md_tensor *l = task.build(task.user, g, n);
    OK(md_plan_build(g, world.be, &l, 1, &p));
    OK(md_plan_load(p));
    OK(task.fill(task.user, p, 3, first, n));
    OK(md_plan_run(p));
    OK(md_plan_read(p, l, &loss, MD_F64, 1));
    task.release(task.user);
    md_plan_free(p);
    md_graph_free(g);
    return loss;
}

static void splits(void **state)
{
    (void)state;
    mask_train each[] = {task_of(1, SCHEDULE_EPSILON), task_of(1, SCHEDULE_V), sketching_task()};
    double whole[3];
    for (int i = 0; i < 3; i++) {
        whole[i] = loss_of(0, BATCH, each[i]);
        double parts = loss_of(0, 2, each[i]) + loss_of(2, 2, each[i]) + loss_of(4, 2, each[i]);
        assert_true(isfinite(whole[i]) && whole[i] > 0);
        assert_true(fabs(whole[i] - parts) < 1e-6 * whole[i]);
        assert_true(loss_of(BATCH, 3, each[i]) == 0); /* behind the batch */
        /* a random network knows nothing: the error of a guess of variance v is about 1 + v */
        assert_true(whole[i] > 0.2 && whole[i] < 20);
    }
    assert_true(fabs(whole[0] - whole[1]) > 1e-3 * whole[0]);
}

/* A sketch is that of its picture, blurred by draws of its own, and reaches the network. */
static void sketches(void **state)
{
    (void)state;
    enum { ALL = PX * IMAGE_SKETCH_PLANES };
    float picture[PX], a[ALL], b[ALL], exact[ALL];
    image_sketch s;
    mask_train d = sketching_task();
    mask_train_picture(&d, 3, 1, picture);
    OK(mask_train_sketch(&d, 3, 1, picture, a));
    OK(mask_train_sketch(&d, 1, 1 + 2 * BATCH, picture, b)); /* the same place in the run */
    assert_memory_equal(a, b, sizeof a);
    OK(mask_train_sketch(&d, 3, 2, picture, b));
    assert_memory_not_equal(a, b, sizeof a);
    OK(image_sketch_measure(&d.view, picture, &s));
    image_sketch_draw(&s, &d.spread, &d.view, exact);
    double apart = 0;
    for (int i = 0; i < ALL; i++)
        apart = fmax(apart, fabs((double)a[i] - (double)exact[i]));
    assert_true(apart > 0 && apart < 0.6); /* a tenth of a deviation, seldom five times that */
    double as_it_is = loss_of(0, BATCH, d);
    d.spread.mean[IMAGE_SKETCH_SOLIDITY] += 1;
    assert_true(fabs(loss_of(0, BATCH, d) - as_it_is) > 1e-6 * as_it_is);
}

static void pictures(void **state)
{
    (void)state;
    float a[PX], b[PX];
    mask_train d = task_of(1, SCHEDULE_V), still = task_of(0, SCHEDULE_V);
    mask_train_picture(&d, 3, 1, a);
    mask_train_picture(&d, 0, 0, b); /* a call in between */
    mask_train_picture(&d, 3, 1, b);
    assert_memory_equal(a, b, sizeof a);
    mask_train_picture(&d, 1, 1 + 2 * BATCH, b); /* the same place in the run */
    assert_memory_equal(a, b, sizeof a);
    /* without augmentation one of the masks as it is, and each of them in time */
    bool seen[MASKS] = {0};
    for (int64_t step = 0; step < 12; step++) {
        mask_train_picture(&still, step, 0, a);
        int which = -1;
        for (int k = 0; k < MASKS; k++) {
            const image_affine same = image_affine_make(0, 0, 1, 0, 0);
            image_field_picture(&still.view, world.fields + k * SIZE * SIZE, &same, b);
            if (!memcmp(a, b, sizeof a))
                which = k;
        }
        assert_true(which >= 0);
        seen[which] = true;
    }
    for (int k = 0; k < MASKS; k++)
        assert_true(seen[k]);
    /* and bent they are others */
    mask_train bending = still;
    bending.warp = 0.2;
    mask_train_picture(&still, 0, 0, a);
    mask_train_picture(&bending, 0, 0, b);
    assert_memory_not_equal(a, b, sizeof a);
    /* as the configuration says */
    const char *sets[] = {"masks.augment=0.7", "masks.warp=0.2"};
    config *c;
    OK(config_load(NULL, sets, 2, &c));
    mask_train_fill(c, SIZE, &bending);
    assert_true(bending.augment == 0.7 && bending.warp == 0.2);
    config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(splits), cmocka_unit_test(sketches),
                                       cmocka_unit_test(pictures)};
    return cmocka_run_group_tests(tests, open_world, close_world);
}

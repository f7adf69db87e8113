/* Twenty steps of the small foundation, from pictures to weights, as a configuration asks for them,
   against a PyTorch loop: losses, gradient norms, and what changed in every parameter. Golden
   files: tests/golden/make_training.py. */
#include "base/file.h"
#include "base/log.h"
#include "format/safetensors.h"
#include "image/image.h"
#include "model/foundation.h"
#include "nn/lora.h"
#include "rig.h"
#include "store/data.h"
#include "support/tmp_dir.h"
#include "train/finetune.h"
#include "train/lesions.h"
#include <limits.h>
#include <unistd.h>

#define GOLDEN "tests/golden/training/"
enum { STEPS = 20, SIZE = 32, PICTURES = 4, CLASS_PICTURES = 3 };
static const double LR = 1e-3;
static char made[256]; /* data.h5, and the pictures of the class */

/* The same in make_training.py. */
static void draw_picture(int i, uint8_t *rgb, uint8_t *mask)
{
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            for (int c = 0; c < 3; c++)
                rgb[3 * (y * SIZE + x) + c] =
                    (uint8_t)((5 * x * (c + 1) + 3 * y * (i + 2) + x * y * (i + c) / 16 + 40 * c) %
                              256);
            int u = x - 9 - 4 * (i % 4), v = y - 20 + 3 * (i % 4), r = 5 + i % 4;
            mask[y * SIZE + x] = i % 4 != 3 && u * u + v * v < r * r;
        }
}

static void write_data(const char *path)
{
    data_store *d;
    uint8_t rgb[3 * SIZE * SIZE], mask[SIZE * SIZE];
    OK(data_create(path, DATA_IMAGES, PICTURES, SIZE, &(data_info){0}, &d));
    for (int i = 0; i < PICTURES; i++) {
        data_row row = {.kind = DATA_LESION,
                        .split = DATA_TRAIN,
                        .used = true,
                        .data_id = i,
                        .size = {SIZE, SIZE},
                        .valid = {0, 0, SIZE, SIZE},
                        .source = {0, 0, SIZE, SIZE}};
        draw_picture(i, rgb, mask);
        OK(data_write_pixels(d, i, rgb, mask));
        OK(data_write_row(d, i, &row));
    }
    OK(data_finish(d));
}

static void write_class(const char *folder)
{
    uint8_t rgb[3 * SIZE * SIZE], mask[SIZE * SIZE];
    char path[1024];
    OK(md_dir_make(folder));
    for (int i = 0; i < CLASS_PICTURES; i++) {
        draw_picture(10 + i, rgb, mask);
        (void)snprintf(path, sizeof path, "%s/%d.png", folder, i);
        OK(image_write_png(path, &(image){SIZE, SIZE, 3, rgb}, NULL, 0));
    }
}

static void near(const char *of, const char *what, int step, double got, double want, double most)
{
    if (!(fabs(got - want) <= most * fabs(want)))
        fail_msg("%s: %s of step %d: %.9g, wanted %.9g", of, what, step, got, want);
}

/* One row of losses.safetensors. */
static void read_course(const char *of, const char *what, double out[STEPS])
{
    format_tensors *f;
    const format_tensor *t;
    float host[STEPS];
    char name[64];
    (void)snprintf(name, sizeof name, "%s.%s", of, what);
    OK(format_tensors_open(GOLDEN "losses.safetensors", &f));
    OK(format_tensors_get(f, name, 1, (int64_t[]){STEPS}, &t));
    OK(format_tensors_read_f32(f, t, 0, STEPS, host));
    for (int i = 0; i < STEPS; i++)
        out[i] = (double)host[i];
    format_tensors_close(f);
}

static float *copy_of(md_backend *be, const md_buffer *b)
{
    float *out = malloc((size_t)b->numel * sizeof *out);
    assert_non_null(out);
    OK(md_buffer_read(be, b, 0, out, MD_F32, b->numel));
    return out;
}

typedef struct course {
    const char *name;
    const char *sets[12];
    schedule_prediction prediction; /* of the network: as if the foundation's scheduler said so */
    bool nine;                      /* an inpainting UNet of 9 channels; losses only */
    const char *adapters;           /* file to start them from, with finetune.lora_rank */
} course;

/* A fine-tune as jobs/finetune.c starts it. */
typedef struct tuning {
    config *cfg;
    foundation *f;
    md_backend *be;
    bool ref;
    lesions in;
    denoise d;
    double alphas[1000];
    nn_params *stores[MODEL_N_PARTS];
    int n_stores;
    train *t;
} tuning;

static void tune(const course *c, bool ref, tuning *u)
{
    /* eps: gradients of f32 are rounded by some 1e-8 here, which AdamW divides by itself where it
       is all there is; ten times that says nothing of such elements, in PyTorch neither */
    const char *sets[32] = {"seed=5", "finetune.steps=20", "finetune.lr=1e-3", "finetune.batch=3",
                            "finetune.eps=1e-7"};
    char data[512], class[512], nine[512];
    size_t n_sets = 5;
    u->ref = ref;
    for (int i = 0; c->sets[i]; i++)
        sets[n_sets++] = c->sets[i];
    OK(config_load(NULL, sets, n_sets, &u->cfg));
    OK(md_path_join(nine, sizeof nine, made, "nine"));
    OK(foundation_open(c->nine ? nine : "tests/golden/sd", &u->f));
    u->f->schedule.prediction = c->prediction;
    finetune_hold(u->cfg, u->f);
    if (ref)
        OK(ref_backend_open(&u->be));
    else
        OK(cpu_backend_open(&u->be, 1));
    for (int i = 0; i < MODEL_N_PARTS; i++)
        OK(foundation_load(u->f, (model_part)i, u->be));
    OK(finetune_adapt(u->cfg, u->f));
    OK(foundation_draw_lora(u->f, u->be, 1));
    if (c->adapters)
        OK(nn_params_load(nn_lora_adapters(u->f->params[MODEL_UNET]), u->be, c->adapters, NULL));
    OK(md_path_join(data, sizeof data, made, "data.h5"));
    OK(md_path_join(class, sizeof class, made, "class"));
    lesions_options o = finetune_lesions(u->cfg, data, class);
    OK(lesions_load(u->f, u->be, &o, &u->in));
    OK(schedule_alphas_cumprod(&u->f->schedule, u->alphas));
    u->d = finetune_task(u->cfg, u->f, &u->in.source, u->alphas);
    u->n_stores = finetune_stores(u->cfg, u->f, u->stores);
    train_task task = denoise_task(&u->d);
    train_options to = finetune_options(u->cfg, 0);
    OK(train_new(u->be, u->stores, u->n_stores, &task, &to, &u->t));
    OK(train_load(u->t));
}

static void end(tuning *u)
{
    train_free(u->t);
    lesions_free(&u->in);
    foundation_free(u->f, u->be);
    assert_int_equal(u->be->allocated_bytes, 0);
    u->be->ops->close(u->be);
    config_free(u->cfg);
}

/* Relative L2 distance of each tensor's change from the golden one. A key's bias has no gradient,
   as a softmax does not see it: in f32 AdamW divides rounding by eps there, in PyTorch as here;
   then the yardstick is the learning rate. */
static void compare_change(const char *of, const char *part, const tuning *u, int store,
                           const float *start, double most)
{
    char path[128];
    foundation *twin;
    const model_part which = store ? MODEL_TEXT_ENCODER : MODEL_UNET;
    md_backend *be = u->be;
    OK(foundation_open(u->f->path, &twin));
    OK(finetune_adapt(u->cfg, twin));
    nn_params *stores[MODEL_N_PARTS];
    (void)finetune_stores(u->cfg, twin, stores);
    nn_params *p = stores[store];
    OK(nn_params_alloc(p, be));
    (void)snprintf(path, sizeof path, GOLDEN "%s.%s.safetensors", of, part);
    OK(nn_params_load(p, be, path, &model_registry(which)->rules));
    float *want = copy_of(be, nn_params_buffer(p));
    float *end = copy_of(be, nn_params_buffer(u->stores[store]));
    double worst = 0;
    for (int i = 0; i < nn_params_count(p); i++) {
        const nn_param_info *q = nn_params_info(p, i);
        double d = 0, s = 0;
        for (int64_t k = q->offset; k < q->offset + q->numel; k++) {
            double change = ((double)end[k] - (double)start[k]) / LR;
            d += (change - (double)want[k]) * (change - (double)want[k]);
            s += (double)want[k] * (double)want[k];
        }
        double far = sqrt(d / s);
        if (!u->ref && strstr(q->name, "k_proj.bias"))
            far = 0.1 * sqrt(d / (double)q->numel);
        if (!(far <= most))
            print_error("%s: %s changed otherwise by %.2g\n", of, q->name, far);
        worst = fmax(worst, far);
    }
    foundation_free(twin, be);
    free(want);
    free(end);
    assert_true(worst <= most);
}

static void compare(const course *c, bool ref, double loss, double change)
{
    static const char *const parts[] = {"unet", "text_encoder"};
    double losses[STEPS], norms[STEPS];
    float *start[2];
    static tuning u;
    tune(c, ref, &u);
    for (int s = 0; s < u.n_stores; s++)
        start[s] = copy_of(u.be, nn_params_buffer(u.stores[s]));
    read_course(c->name, "loss", losses);
    read_course(c->name, "norm", norms);
    for (int i = 0; i < STEPS; i++) {
        train_stats stats;
        OK(train_step(u.t, false, &stats));
        near(c->name, "loss", i, stats.loss, losses[i], loss);
        near(c->name, "gradient norm", i, stats.grad_norm, norms[i], 10 * loss);
    }
    for (int s = 0; s < u.n_stores && !c->nine; s++)
        compare_change(c->name, parts[s], &u, s, start[s], change);
    if (config_float(u.cfg, KEY_finetune_ema) > 0) {
        OK(train_swap_ema(u.t));
        compare_change(c->name, "average", &u, 0, start[0], change);
    }
    for (int s = 0; s < u.n_stores; s++)
        free(start[s]);
    end(&u);
}

/* make_training.py's cases, as a user asks for them. */
static const course cases[] = {
    {.name = "masked",
     .sets = {"finetune.drop_prompt=0.3", "finetune.schedule=cosine", "finetune.warmup=3"}},
    {.name = "x0", .sets = {"loss.target=x0"}},
    {.name = "min_snr", .sets = {"loss.weight=min-snr"}},
    {.name = "mask_out", .sets = {"finetune.mask_out=true"}},
    {.name = "released",
     .sets = {"loss.outside=1", "loss.area_norm=false", "finetune.noise_offset=0.1",
              "finetune.region=background", "loss.weight=snr"}},
    {.name = "velocity",
     .sets = {"loss.weight=min-snr", "finetune.schedule=linear"},
     .prediction = SCHEDULE_V},
    {.name = "text",
     .sets = {"finetune.text_encoder=true", "finetune.drop_prompt=0.2", "finetune.batch=4",
              "finetune.accumulate=2", "finetune.ema=0.9"}},
    {.name = "prior",
     .sets = {"finetune.prior_weight=0.7", "finetune.prior_prompt=an image", "finetune.batch=2",
              "loss.target=x0"}},
    {.name = "lora",
     .sets = {"finetune.lora_rank=2", "finetune.lora_alpha=3", "finetune.lora_layers=all",
              "finetune.drop_prompt=0.3"},
     .adapters = GOLDEN "lora.start.safetensors"},
    {.name = "nine",
     .sets = {"finetune.prior_weight=0.5", "finetune.prior_prompt=an image", "finetune.batch=2"},
     .nine = true},
};

static void test_cpu(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        compare(&cases[i], false, 1e-5, 1e-3);
}

/* In double: only the golden values' own rounding is left, and f32 inputs. */
static void test_ref(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        compare(&cases[i], true, 1e-6, 4e-4);
}

/* The small foundation with an inpainting UNet. */
static void link_nine(const char *to)
{
    static const char *const parts[][2] = {{"tests/golden/sd/model_index.json", "model_index.json"},
                                           {"tests/golden/sd/scheduler", "scheduler"},
                                           {"tests/golden/sd/tokenizer", "tokenizer"},
                                           {"tests/golden/sd/text_encoder", "text_encoder"},
                                           {"tests/golden/sd/vae", "vae"},
                                           {"tests/golden/unet9/unet", "unet"}};
    char from[PATH_MAX + 256], at[512], root[PATH_MAX];
    OK(md_dir_make(to));
    assert_non_null(getcwd(root, sizeof root));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        OK(md_path_join(from, sizeof from, root, parts[i][0]));
        OK(md_path_join(at, sizeof at, to, parts[i][1]));
        assert_int_equal(symlink(from, at), 0);
    }
}

static int make(void **state)
{
    (void)state;
    char path[512];
    assert_non_null(tmp_dir_make(made));
    OK(md_path_join(path, sizeof path, made, "data.h5"));
    write_data(path);
    OK(md_path_join(path, sizeof path, made, "class"));
    write_class(path);
    OK(md_path_join(path, sizeof path, made, "nine"));
    link_nine(path);
    md_log_quiet(true);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    tmp_dir_remove(made);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref), cmocka_unit_test(test_cpu)};
    return cmocka_run_group_tests(tests, make, clear);
}

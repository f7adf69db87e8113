/* The encoder's task: views that depend on nothing but their place, the NT-Xent loss against naive
   loops over class tokens, and a loss that adds up however the batch is split. */
#include "rig.h"
#include "train/encode.h"

enum { GROUP = 8, BATCH = 3, EDGE = 12, PIXELS = EDGE * EDGE * 3, WIDTH = 8, VIEWS = 2 * GROUP };

static struct {
    md_backend *be;
    model_config config;
    nn_params *params;
    preprocess input;
} dino_model;

static int open_dino(void **state)
{
    (void)state;
    const model_row *row = model_registry(MODEL_DINO);
    dino_model.input = preprocess_default();
    OK(ref_backend_open(&dino_model.be));
    OK(row->read("tests/golden/dino/config.json", &dino_model.config));
    assert_int_equal(dino_model.config.dino.image_size, EDGE);
    OK(nn_params_new("encoder", &dino_model.params));
    OK(row->declare(dino_model.params, &dino_model.config));
    OK(md_buffer_alloc(dino_model.be, nn_params_buffer(dino_model.params)));
    OK(nn_params_load(dino_model.params, dino_model.be, "tests/golden/dino/model.safetensors",
                      &row->rules));
    return 0;
}

static int close_dino(void **state)
{
    (void)state;
    nn_params_free(dino_model.params, dino_model.be);
    bool all = dino_model.be->allocated_bytes == 0;
    dino_model.be->ops->close(dino_model.be);
    return !all;
}

static encode new_task(void)
{
    return (encode){.config = &dino_model.config.dino,
                    .input = &dino_model.input,
                    .params = dino_model.params,
                    .seed = 9,
                    .batch = BATCH,
                    .group = GROUP,
                    .temperature = 0.2};
}

typedef struct planned {
    encode e;
    md_graph *g;
    md_plan *p;
    md_tensor *out[2]; /* loss; class tokens of the same images [n 2 K,D] */
} planned;

static void plan(int64_t n, planned *out)
{
    out->e = new_task();
    train_task task = encode_task(&out->e);
    OK(md_graph_new(&out->g));
    out->out[0] = task.build(task.user, out->g, n);
    nn m = nn_root(out->g, dino_model.params, MD_F32);
    out->out[1] = dino_class(dino(m, out->e.config, out->e.image, NULL));
    OK(md_plan_build(out->g, dino_model.be, out->out, 2, &out->p));
    OK(md_plan_load(out->p));
}

static void unplan(planned *p)
{
    md_plan_free(p->p);
    md_graph_free(p->g);
}

/* Fills, runs, returns the loss; images, class tokens and weights. */
static double run(planned *p, int64_t step, int64_t first, int64_t n, double *images,
                  double *tokens, double *weights)
{
    double loss;
    train_task task = encode_task(&p->e);
    OK(task.fill(task.user, p->p, step, first, n));
    OK(md_plan_run(p->p));
    OK(md_plan_read(p->p, p->out[0], &loss, MD_F64, 1));
    OK(md_plan_read(p->p, p->out[1], tokens, MD_F64, n * VIEWS * WIDTH));
    OK(md_plan_read(p->p, p->e.image, images, MD_F64, n * VIEWS * PIXELS));
    OK(md_plan_read(p->p, p->e.weight, weights, MD_F64, n));
    return loss;
}

static double cosine(const double *a, const double *b)
{
    double ab = 0, aa = 0, bb = 0;
    for (int k = 0; k < WIDTH; k++) {
        ab += a[k] * b[k];
        aa += a[k] * a[k];
        bb += b[k] * b[k];
    }
    return ab / sqrt(aa * bb);
}

/* SimCLR's loss over the two directions, as its paper writes it. */
static double naive(const double *tokens, double temperature)
{
    double sum = 0;
    for (int i = 0; i < GROUP; i++)
        for (int direction = 0; direction < 2; direction++) {
            const double *me = tokens + (direction * GROUP + i) * WIDTH;
            double all = 0, same = 0;
            for (int j = 0; j < GROUP; j++) {
                const double *other = tokens + ((1 - direction) * GROUP + j) * WIDTH;
                double s = exp(cosine(me, other) / temperature);
                all += s;
                same = i == j ? s : same;
            }
            sum -= log(same / all);
        }
    return sum / (2 * GROUP);
}

static void test_loss_and_split(void **state)
{
    (void)state;
    static double whole[4 * VIEWS * PIXELS], part[2 * VIEWS * PIXELS];
    static double tokens[4 * VIEWS * WIDTH], part_tokens[2 * VIEWS * WIDTH];
    double w[4], v[2], last = 0;
    planned four, two;
    plan(4, &four); /* one position beyond the batch */
    plan(2, &two);
    for (int64_t step = 0; step < 3; step += 2) {
        double loss = run(&four, step, 0, 4, whole, tokens, w), want = 0, sum = 0;
        for (int g = 0; g < 4; g++) {
            assert_true(fabs(w[g] - (g < BATCH ? 1.0 / BATCH : 0)) < 1e-7);
            want += g < BATCH ? naive(tokens + g * VIEWS * WIDTH, 0.2) / BATCH : 0;
        }
        if (!(fabs(loss - want) < 1e-6))
            fail_msg("loss %.9g; wanted %.9g", loss, want);
        assert_true(loss > 0.1 && fabs(loss - last) > 1e-6); /* other pictures every step */
        for (int first = 2; first >= 0; first -= 2) {
            sum += run(&two, step, first, 2, part, part_tokens, v);
            assert_memory_equal(part, whole + first * VIEWS * PIXELS, sizeof part);
        }
        assert_true(fabs(sum - loss) < 1e-7);
        last = loss;
    }
    unplan(&four);
    unplan(&two);
}

/* Two views of a motif resemble each other more than views of others, but are not the same. */
static void test_views(void **state)
{
    (void)state;
    static float a[GROUP][PIXELS], b[GROUP][PIXELS], again[PIXELS], scratch[PIXELS];
    encode e = new_task();
    double own = 0, other = 0;
    for (uint64_t item = 0; item < 20; item++) {
        uint8_t *pictures;
        OK(encode_pictures(&e, item, &pictures));
        for (int i = 0; i < GROUP; i++) {
            encode_view(&e, pictures, item, i, 0, a[i], scratch);
            encode_view(&e, pictures, item, i, 1, b[i], scratch);
            encode_view(&e, pictures, item, i, 0, again, scratch);
            assert_memory_equal(a[i], again, sizeof again);
            assert_memory_not_equal(a[i], b[i], sizeof again);
        }
        for (int i = 0; i < GROUP; i++)
            for (int k = 0; k < PIXELS; k++) {
                assert_true(a[i][k] >= 0 && a[i][k] <= 1);
                double d = (double)a[i][k] - (double)b[i][k];
                double o = (double)a[i][k] - (double)b[(i + GROUP / 2) % GROUP][k];
                own += d * d;
                other += o * o;
            }
        free(pictures);
    }
    assert_true(own < other / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_and_split),
        cmocka_unit_test(test_views),
    };
    return cmocka_run_group_tests(tests, open_dino, close_dino);
}

#include "train/encode.h"
#include "base/rng.h"
#include "image/procedural.h"
#include <math.h>
#include <stdlib.h>

enum { SIZE = PROCEDURAL_MAX_SIZE, WAVES = 4 };

/* Pictures and draws from here on are the encoder's alone. */
static const uint64_t FIRST = (uint64_t)1 << 41;

/* x [rows,D] -> rows of length one. */
static md_tensor *unit(md_tensor *x)
{
    md_tensor *square = md_sum_to(md_mul(x, x), 2, MD_DIMS(x->dim[0], 1)); /* [rows,1] */
    md_tensor *log_square = md_activation(md_affine(square, 1, 1e-12), MD_ACT_LOG);
    return md_mul(x, md_activation(md_scale(log_square, -0.5), MD_ACT_EXP));
}

/* a, b [K,D] -> L [1]. Cosines are at most 1, so that 1/temperature is what a stable log-sum-exp
   would subtract. */
static md_tensor *nt_xent(md_tensor *a, md_tensor *b, double temperature)
{
    int64_t k = a->dim[0];
    md_tensor *s = md_affine(md_matmul(a, b, false, true), 1 / temperature, -1 / temperature);
    md_tensor *e = md_activation(s, MD_ACT_EXP); /* [K,K] */
    md_tensor *over_b = md_activation(md_sum_to(e, 2, MD_DIMS(k, 1)), MD_ACT_LOG);
    md_tensor *over_a = md_activation(md_sum_to(e, 2, MD_DIMS(1, k)), MD_ACT_LOG);
    md_tensor *same = md_affine(md_sum(md_mul(a, b)), 1 / temperature, -(double)k / temperature);
    md_tensor *logs = md_add(md_sum(over_b), md_sum(over_a));
    return md_scale(md_sub(logs, md_scale(same, 2)), 0.5 / (double)k);
}

static md_tensor *build(void *user, md_graph *g, int64_t n)
{
    encode *e = user;
    int64_t s = e->config->image_size, k = e->group;
    e->image = md_input(g, "image", MD_F32, 4, MD_DIMS(n * 2 * k, s, s, 3));
    e->weight = md_input(g, "weight", MD_F32, 1, MD_DIMS(n));
    md_tensor *tokens =
        dino(nn_root(g, e->params, e->dtype), e->config, md_cast(e->image, e->dtype), NULL);
    md_tensor *z = unit(md_cast(dino_class(tokens), MD_F32)); /* [n 2 K,D] */
    md_tensor *loss = NULL;
    for (int64_t i = 0; i < n; i++) {
        md_tensor *a = md_slice(z, 0, 2 * k * i, k), *b = md_slice(z, 0, 2 * k * i + k, k);
        md_tensor *one = md_mul(nt_xent(a, b, e->temperature), md_slice(e->weight, 0, i, 1));
        loss = loss ? md_add(loss, one) : one;
    }
    return loss;
}

/* ---- views */

/* A motif: one of the group's pictures; or a quarter of it, cut out along a line of its own, so
   that it is known by texture and outline whatever lies around it. Centre and half edge in pixels.
 */
typedef struct motif {
    const uint8_t *rgb; /* [SIZE,SIZE,3] */
    double y, x, half;
    bool cut;
    double ry, rx, wave[WAVES], phase[WAVES]; /* the outline about the centre, in halves */
} motif;

static int64_t n_pictures(const encode *e)
{
    return e->group / 2 / ENCODE_QUARTERS + e->group / 2;
}

/* Stream 0 and 1: of the two views; 2: of both. */
static md_rng draws(const encode *e, uint64_t item, int64_t index, uint32_t stream)
{
    return md_rng_at(e->seed, MD_RNG_TRAIN_AUGMENT,
                     FIRST + item * (uint64_t)e->group + (uint64_t)index, stream);
}

static motif motif_at(const encode *e, const uint8_t *pictures, uint64_t item, int64_t index)
{
    int64_t quarters = e->group / 2, picture = SIZE * SIZE * 3;
    if (index >= quarters)
        return (motif){.rgb = pictures + (index - quarters + quarters / ENCODE_QUARTERS) * picture,
                       .y = SIZE / 2.0,
                       .x = SIZE / 2.0,
                       .half = SIZE / 2.0};
    motif m = {.rgb = pictures + index / ENCODE_QUARTERS * picture,
               .y = SIZE / 4.0 * (double)(1 + index / 2 % 2 * 2),
               .x = SIZE / 4.0 * (double)(1 + index % 2 * 2),
               .half = SIZE / 4.0,
               .cut = true};
    md_rng r = draws(e, item, index, 2);
    m.ry = md_rng_range(&r, 0.6, 0.95);
    m.rx = md_rng_range(&r, 0.6, 0.95);
    for (int k = 0; k < WAVES; k++) { /* two to five bulges, the more the flatter */
        m.wave[k] = md_rng_range(&r, -0.4, 0.4) / (k + 2);
        m.phase[k] = md_rng_range(&r, 0, 6.283185307179586);
    }
    return m;
}

/* How far (y, x), in halves from the centre, lies inside the outline: 0 to 1, soft at its edge. */
static float inside_outline(const motif *m, double y, double x)
{
    y /= m->ry;
    x /= m->rx;
    double radius = 1, angle = atan2(y, x);
    for (int k = 0; k < WAVES; k++)
        radius += m->wave[k] * cos((k + 2) * angle + m->phase[k]);
    return (float)(1 / (1 + exp(20 * (sqrt(y * y + x * x) - radius))));
}

/* Reflects at the picture's edges. */
static int64_t inside(int64_t i)
{
    i = i < 0 ? -1 - i : i;
    return i < SIZE ? i : i < 2 * SIZE ? 2 * SIZE - 1 - i : 0;
}

/* A square of the motif, turned by up to 8 degrees, up to 15 % smaller, every second one mirrored,
   every fourth one upside down: bilinear, out [edge,edge,3] in 0..1. Outside the outline of a cut
   motif, out keeps what it holds. */
static void look(const motif *m, int64_t edge, md_rng *r, float *out)
{
    double angle = md_rng_range(r, -1, 1) * 8 * 0.017453292519943295;
    double half = m->half * md_rng_range(r, 0.85, 1);
    double cy = m->y + md_rng_range(r, -1, 1) * (m->half - half);
    double cx = m->x + md_rng_range(r, -1, 1) * (m->half - half);
    double mirror = md_rng_below(r, 2) ? -1 : 1, flip = md_rng_below(r, 4) ? 1 : -1;
    double c = cos(angle), s = sin(angle);
    for (int64_t i = 0; i < edge; i++)
        for (int64_t j = 0; j < edge; j++) {
            double v = half * ((2.0 * (double)i + 1) / (double)edge - 1) * flip;
            double u = half * ((2.0 * (double)j + 1) / (double)edge - 1) * mirror;
            double y = cy + s * u + c * v - 0.5, x = cx + c * u - s * v - 0.5;
            double fy = floor(y), fx = floor(x);
            float ty = (float)(y - fy), tx = (float)(x - fx);
            const uint8_t *top = m->rgb + inside((int64_t)fy) * SIZE * 3;
            const uint8_t *low = m->rgb + inside((int64_t)fy + 1) * SIZE * 3;
            int64_t left = inside((int64_t)fx) * 3, right = inside((int64_t)fx + 1) * 3;
            float keep =
                m->cut ? inside_outline(m, (y + 0.5 - m->y) / m->half, (x + 0.5 - m->x) / m->half)
                       : 1;
            for (int k = 0; k < 3; k++, out++) {
                float a = (1 - tx) * top[left + k] + tx * top[right + k];
                float b = (1 - tx) * low[left + k] + tx * low[right + k];
                float seen = ((1 - ty) * a + ty * b) / 255;
                *out = keep < 1 ? *out + keep * (seen - *out) : seen;
            }
        }
}

/* Every second view: x + share (mean of its 3 x 3 neighbours - x). scratch: as large as x. */
static void blur(int64_t edge, md_rng *r, float *x, float *scratch)
{
    float share = md_rng_below(r, 2) ? (float)md_rng_uniform(r) : 0;
    for (int64_t i = 0; i < 3 * edge * edge && share > 0; i++)
        scratch[i] = x[i];
    for (int64_t i = 0; i < edge && share > 0; i++)
        for (int64_t j = 0; j < edge; j++)
            for (int k = 0; k < 3; k++) {
                float sum = 0;
                for (int64_t at = 0; at < 9; at++) {
                    int64_t y = i + at / 3 - 1, z = j + at % 3 - 1;
                    y = y < 0 ? 0 : y < edge ? y : edge - 1;
                    z = z < 0 ? 0 : z < edge ? z : edge - 1;
                    sum += scratch[3 * (y * edge + z) + k];
                }
                float *p = x + 3 * (i * edge + j) + k;
                *p += share * (sum / 9 - *p);
            }
}

/* Contrast, brightness, a tint, blur, noise. */
static void disturb(int64_t edge, md_rng *r, float *x, float *scratch)
{
    int64_t n = 3 * edge * edge;
    double mean = 0, contrast = md_rng_range(r, 0.92, 1.08), light = md_rng_range(r, -0.04, 0.04);
    float add[3], noise;
    for (int64_t i = 0; i < n; i++)
        mean += (double)x[i] / (double)n;
    for (int k = 0; k < 3; k++)
        add[k] = (float)(mean * (1 - contrast) + light + md_rng_range(r, -0.015, 0.015));
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)contrast * x[i] + add[i % 3];
    blur(edge, r, x, scratch);
    noise = (float)md_rng_range(r, 0, 0.05);
    md_rng_normal_fill(r, scratch, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = fminf(fmaxf(x[i] + noise * scratch[i], 0), 1);
}

md_status encode_pictures(const encode *e, uint64_t item, uint8_t **out)
{
    char caption[PROCEDURAL_CAPTION];
    int64_t n = n_pictures(e);
    uint8_t *rgb = malloc((size_t)(n * SIZE * SIZE * 3));
    if (!rgb)
        MD_FAIL(MD_NOMEM, "encoder training: out of memory");
    for (int64_t i = 0; i < n; i++)
        procedural_draw(e->seed, FIRST + item * (uint64_t)n + (uint64_t)i, SIZE,
                        rgb + i * SIZE * SIZE * 3, caption);
    *out = rgb;
    return MD_OK;
}

void encode_view(const encode *e, const uint8_t *pictures, uint64_t item, int64_t index, int view,
                 float *out, float *scratch)
{
    int64_t edge = e->config->image_size;
    md_rng r = draws(e, item, index, (uint32_t)view);
    motif m = motif_at(e, pictures, item, index);
    if (m.cut) { /* one of the whole pictures around it */
        motif around = motif_at(e, pictures, item, e->group / 2 + md_rng_below(&r, e->group / 2));
        look(&around, edge, &r, out);
    }
    look(&m, edge, &r, out);
    disturb(edge, &r, out, scratch);
}

/* The 2 K views of a group into out [2 K,edge,edge,3]: all first ones, then all second ones. */
static md_status fill_group(const encode *e, uint64_t item, float *out)
{
    int64_t pixels = 3 * (int64_t)e->config->image_size * e->config->image_size;
    float *scratch = malloc((size_t)pixels * sizeof *scratch);
    uint8_t *pictures = NULL;
    if (!scratch)
        MD_FAIL(MD_NOMEM, "encoder training: out of memory");
    md_status status = encode_pictures(e, item, &pictures);
    for (int64_t j = 0; j < 2 * e->group && status == MD_OK; j++, out += pixels) {
        encode_view(e, pictures, item, j % e->group, (int)(j / e->group), out, scratch);
        for (int64_t i = 0; i < pixels; i++)
            out[i] = (float)(((double)out[i] - e->input->mean[i % 3]) / e->input->deviation[i % 3]);
    }
    free(pictures);
    free(scratch);
    return status;
}

static md_status fill(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n)
{
    encode *e = user;
    int64_t pixels = 3 * (int64_t)e->config->image_size * e->config->image_size;
    int64_t all = n * 2 * e->group * pixels;
    float *pixel = malloc((size_t)all * sizeof *pixel),
          *weight = malloc((size_t)n * sizeof *weight);
    md_status status = MD_OK;
    if (!pixel || !weight) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "encoder training: out of memory");
        goto done;
    }
    for (int64_t i = 0; i < n; i++) {
        uint64_t item = (uint64_t)(step * e->batch + first + i);
        weight[i] = first + i < e->batch ? 1.0F / (float)e->batch : 0.0F;
        MD_TRY_GOTO(fill_group(e, item, pixel + i * 2 * e->group * pixels), done);
    }
    MD_TRY_GOTO(md_plan_write(plan, e->image, pixel, MD_F32, all), done);
    MD_TRY_GOTO(md_plan_write(plan, e->weight, weight, MD_F32, n), done);
done:
    free(pixel);
    free(weight);
    return status;
}

train_task encode_task(encode *e)
{
    return (train_task){.user = e, .build = build, .fill = fill};
}

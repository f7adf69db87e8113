/* Phantoms. Ultrasound: layers of echogenicity, streaks, shadows, attenuation and Rayleigh speckle;
   skin: a tone, mottling, creases, vessels, hairs. A lesion scales what is below its mask. */
#include "image/phantom.h"

#include "base/rng.h"
#include "image/field.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PLANES = 7 };

/* Buffers of one picture, [n*n] each. */
struct drawing {
    const phantom *p;
    /* apart, so that a lesion does not move its background */
    struct field_rng rng, lesion_rng, distractor_rng;
    int n, count;
    float scale;         /* n / 128 */
    float *a, *b, *work; /* echogenicity, or melanin; helpers */
    float *inside;       /* 0 at the mask's edge and outside, rising to 1 */
    float *rgb[3];
    uint8_t *mask; /* [n*n] */
    int *queue;    /* [n*n] */
};

/* ---- the lesion's outline ---- */

/* Keeps the part of mask (values 1) that is connected to the pixel `start`. */
static void keep_connected(struct drawing *d, int start)
{
    int n = d->n, head = 0, tail = 0;
    if (d->mask[start] != 1) {
        memset(d->mask, 0, (size_t)d->count);
        return;
    }
    d->queue[tail++] = start;
    d->mask[start] = 2;
    while (head < tail) {
        int at = d->queue[head++], x = at % n, y = at / n;
        const int next[4] = {x > 0 ? at - 1 : -1, x < n - 1 ? at + 1 : -1, y > 0 ? at - n : -1,
                             y < n - 1 ? at + n : -1};
        for (int k = 0; k < 4; k++) {
            if (next[k] >= 0 && d->mask[next[k]] == 1) {
                d->mask[next[k]] = 2;
                d->queue[tail++] = next[k];
            }
        }
    }
    for (int i = 0; i < d->count; i++)
        d->mask[i] = d->mask[i] == 2;
}

struct outline {
    float x, y, radius, aspect, turn;
    float wave[9], phase[9];
    float rough;
};

static struct outline choose_outline(struct drawing *d)
{
    struct field_rng *r = &d->lesion_rng;
    bool ultrasound = d->p->kind == PHANTOM_ULTRASOUND;
    float n = (float)d->n, share = field_log_range(r, 0.06f, 0.19f);
    struct outline o = {
        .aspect = ultrasound ? field_range(r, 0.6f, 0.95f) : field_range(r, 0.7f, 1.0f),
        .turn = ultrasound ? field_range(r, -0.4f, 0.4f) : field_range(r, 0.0f, 3.14f),
        .rough = d->p->spiky ? field_range(r, 0.10f, 0.2f) : field_range(r, 0.02f, 0.07f)};
    o.radius = n * sqrtf(share / (3.1416f * o.aspect));
    float reach = 1.15f * o.radius + 0.03f * n;
    o.x = field_range(r, reach, n - reach);
    float top = ultrasound ? fmaxf(0.14f * n + o.radius * o.aspect, reach * o.aspect) : reach;
    float bottom = ultrasound ? fmaxf(top + 1.0f, 0.66f * n) : n - reach;
    o.y = field_range(r, top, bottom);
    for (int k = 2; k < 9; k++) { /* low waves make the lobes, high ones the spikes */
        float size = (d->p->spiky ? 0.30f : 0.14f) / (float)k;
        o.wave[k] = size * field_normal(r);
        o.phase[k] = field_range(r, 0.0f, 6.2832f);
    }
    return o;
}

/* mask = where radius(angle) + noise reaches; inside = a soft profile that is 0 outside the mask.
 */
static void draw_outline(struct drawing *d)
{
    struct outline o = choose_outline(d);
    struct field_rng *r = &d->lesion_rng;
    int n = d->n;
    float c = cosf(o.turn), s = sinf(o.turn);
    memset(d->work, 0, sizeof *d->work * (size_t)d->count);
    field_add_noise(d->work, n, r, 12.0f * d->scale, 12.0f * d->scale, o.rough);
    field_add_noise(d->work, n, r, 5.0f * d->scale, 5.0f * d->scale, 0.6f * o.rough);
    for (int y = 0; y < n; y++) {
        for (int x = 0; x < n; x++) {
            float dx = (float)x - o.x, dy = (float)y - o.y;
            float u = c * dx + s * dy, v = (c * dy - s * dx) / o.aspect;
            float angle = atan2f(v, u), reach = 1.0f;
            for (int k = 2; k < 9; k++)
                reach += o.wave[k] * cosf((float)k * angle + o.phase[k]);
            float at = sqrtf(u * u + v * v) / o.radius;
            d->mask[y * n + x] = at < fmaxf(reach, 0.45f) + d->work[y * n + x];
        }
    }
    keep_connected(d, (int)o.y * n + (int)o.x);
    float soft = d->scale * (d->p->spiky ? field_range(r, 1.0f, 1.8f) : field_range(r, 0.6f, 1.2f));
    for (int i = 0; i < d->count; i++)
        d->inside[i] = d->mask[i];
    field_blur(d->inside, n, soft, soft);
    for (int i = 0; i < d->count; i++)
        d->inside[i] = d->mask[i] ? field_clamp(2.0f * d->inside[i] - 0.8f) : 0.0f;
}

static float mean_inside(const struct drawing *d, const float *f)
{
    double sum = 0.0, weight = 1e-9;
    for (int i = 0; i < d->count; i++) {
        sum += (double)(d->inside[i] * f[i]);
        weight += (double)d->inside[i];
    }
    return (float)(sum / weight);
}

/* ---- what is no lesion ---- */

/* Soft blobs of a lesion's size into d->work, each of its own strength; whether there are any. */
static bool draw_blobs(struct drawing *d)
{
    struct field_rng *r = &d->distractor_rng;
    int n = d->n, count = field_int(r, d->p->distractors + 1);
    memset(d->work, 0, sizeof *d->work * (size_t)d->count);
    for (int left = count; left > 0; left--) {
        float x = field_uniform(r) * (float)n, y = field_uniform(r) * (float)n;
        float radius = field_range(r, 0.09f, 0.2f) * (float)n, aspect = field_range(r, 0.5f, 1.0f);
        float turn = field_range(r, 0.0f, 3.14f), strength = field_range(r, 0.5f, 1.0f);
        float soft = field_range(r, 0.25f, 0.5f), c = cosf(turn), s = sinf(turn);
        memset(d->b, 0, sizeof *d->b * (size_t)d->count);
        field_add_noise(d->b, n, r, 16.0f * d->scale, 16.0f * d->scale, 0.12f);
        for (int i = 0; i < d->count; i++) {
            float dx = (float)(i % n) - x, dy = (float)(i / n) - y;
            float at = hypotf(c * dx + s * dy, (c * dy - s * dx) / aspect) / radius + d->b[i];
            float here = strength * (1.0f - field_step(1.0f - soft, 1.0f + soft, at));
            d->work[i] = fmaxf(d->work[i], here);
        }
    }
    return count > 0;
}

/* ---- ultrasound ---- */

enum { LAYERS = 4 };

/* Skin, fat, gland, muscle: level, and how strong and how flat their streaks are. */
static const struct layer {
    float level[2], streaks[2], cell, stretch;
} layers[LAYERS] = {{{0.60f, 0.75f}, {0.05f, 0.15f}, 8.0f, 9.0f},
                    {{0.36f, 0.46f}, {0.15f, 0.30f}, 9.0f, 4.0f},
                    {{0.46f, 0.60f}, {0.18f, 0.32f}, 9.0f, 3.0f},
                    {{0.36f, 0.46f}, {0.22f, 0.38f}, 8.0f, 7.0f}};

/* Echogenicity into d->a: wavy layers that pass softly into each other, each with its streaks. */
static void draw_layers(struct drawing *d)
{
    struct field_rng *r = &d->rng;
    int n = d->n;
    float edge[LAYERS]; /* top of the layer */
    float ends[LAYERS] = {0.0f, field_range(r, 0.04f, 0.08f), field_range(r, 0.24f, 0.38f),
                          field_range(r, 0.62f, 0.8f)};
    memset(d->a, 0, sizeof *d->a * (size_t)d->count);
    for (int k = 0; k < LAYERS; k++) {
        const struct layer *l = &layers[k];
        edge[k] = ends[k] * (float)n;
        float level = field_range(r, l->level[0], l->level[1]);
        float strength = field_range(r, l->streaks[0], l->streaks[1]);
        field_fractal(d->b, n, r, l->cell * d->scale, 2.0f, 0.55f, l->stretch,
                      field_range(r, -0.06f, 0.06f));
        /* The boundary: one noise row, read along x. */
        memset(d->work, 0, sizeof *d->work * (size_t)d->count);
        field_add_noise(d->work, n, r, 34.0f * d->scale, 400.0f, k == 1 ? 1.2f : 4.5f * d->scale);
        float soft = (k == 1 ? 1.0f : field_range(r, 1.5f, 4.0f)) * d->scale;
        for (int y = 0; y < n; y++) {
            for (int x = 0; x < n; x++) {
                int i = y * n + x;
                float here =
                    k == 0 ? 1.0f : field_step(-soft, soft, (float)y - edge[k] - d->work[x]);
                float value = level * expf(strength * d->b[i] - 0.5f * strength * strength);
                d->a[i] += here * (value - d->a[i]);
            }
        }
    }
}

/* Bright fascia: thin wavy lines along the boundaries of layers. */
static void draw_fascia(struct drawing *d)
{
    struct field_rng *r = &d->rng;
    int n = d->n;
    for (int count = 2 + field_int(r, 5); count > 0; count--) {
        memset(d->b, 0, sizeof *d->b * (size_t)d->count);
        float y = field_range(r, 0.1f, 0.85f) * (float)n, slope = field_range(r, -0.12f, 0.12f);
        float x0 = field_range(r, -0.5f, 0.6f) * (float)n,
              x1 = x0 + field_range(r, 0.3f, 1.0f) * (float)n;
        float bend = field_range(r, 0.5f, 3.5f) * d->scale,
              rate = field_range(r, 0.05f, 0.14f) / d->scale;
        float phase = field_range(r, 0.0f, 6.28f), step = 4.0f * d->scale, py = y;
        for (float x = x0; x < x1; x += step) {
            float qy = y + slope * (x - x0) + bend * sinf(rate * x + phase);
            if (x > x0)
                field_stroke(d->b, n, x - step, py, x, qy, field_range(r, 0.7f, 1.8f) * d->scale);
            py = qy;
        }
        field_blur(d->b, n, 0.8f * d->scale, 0.5f * d->scale);
        float gain = field_range(r, 0.4f, 1.1f);
        for (int i = 0; i < d->count; i++)
            d->a[i] *= 1.0f + gain * d->b[i];
    }
}

/* Attenuation with depth, and soft vertical shadows. */
static void draw_shadows(struct drawing *d)
{
    struct field_rng *r = &d->rng;
    int n = d->n;
    float loss = field_range(r, 0.0f, 0.2f), from = field_range(r, 0.6f, 0.85f);
    float deep = field_range(r, 0.0f, 0.2f);
    memset(d->work, 0, sizeof *d->work * (size_t)d->count);
    field_add_noise(d->work, n, r, field_range(r, 14.0f, 30.0f) * d->scale, 500.0f, 1.0f);
    float depth = field_range(r, 0.0f, 0.12f);
    for (int y = 0; y < n; y++) {
        float t = (float)y / (float)n;
        float gain = (1.0f - loss * t) * (1.0f - deep * field_step(from, 1.1f, t));
        for (int x = 0; x < n; x++)
            d->a[y * n + x] *=
                gain * (1.0f - depth * field_clamp(0.8f * d->work[x]) * field_step(0.1f, 0.5f, t));
    }
}

/* The lesion: its level is a share of what was there, in three kinds of inner structure. */
static void draw_hypoechoic(struct drawing *d)
{
    struct field_rng *r = &d->lesion_rng;
    int n = d->n;
    draw_outline(d);
    float was = mean_inside(d, d->a);
    float share = fminf(fmaxf(0.34f + 0.09f * field_normal(r), 0.12f), 0.58f);
    float texture = field_range(r, 0.08f, 0.25f), gradient = field_range(r, -0.25f, 0.25f);
    field_fractal(d->b, n, r, 10.0f * d->scale, 2.5f, 0.5f, 1.6f, 0.0f);
    float y0 = 0.0f, weight = 1e-6f;
    for (int i = 0; i < d->count; i++) {
        y0 += d->inside[i] * (float)(i / n);
        weight += d->inside[i];
    }
    y0 /= weight;
    float height = sqrtf(weight);
    for (int i = 0; i < d->count; i++) {
        float along = field_clamp(0.5f + ((float)(i / n) - y0) / height) - 0.5f;
        float level = was * share * (1.0f + texture * d->b[i]) * (1.0f + gradient * along);
        d->a[i] += d->inside[i] * (fmaxf(level, 0.02f) - d->a[i]);
    }
}

static void draw_ultrasound(struct drawing *d)
{
    struct field_rng *r = &d->rng;
    int n = d->n;
    draw_layers(d);
    draw_fascia(d);
    draw_shadows(d);
    float gain = field_range(r, 0.85f, 1.15f), offset = field_range(r, 0.0f, 0.03f);
    float sx = field_range(r, 0.85f, 1.25f) * d->scale, sy = field_range(r, 0.5f, 0.75f) * d->scale;
    float power = field_range(r, 0.26f, 0.38f);
    if (draw_blobs(d)) /* lobules of fat */
        for (int i = 0; i < d->count; i++)
            d->a[i] *= 1.0f - 0.66f * d->work[i];
    if (d->p->lesion)
        draw_hypoechoic(d);
    /* Speckle: the magnitude of a complex Gaussian is Rayleigh distributed (Wagner et al. 1983); a
       power below one stands for the scanner's compression. */
    field_grain(d->b, n, r, sx, sy);
    field_grain(d->work, n, r, sx, sy);
    for (int i = 0; i < d->count; i++) {
        float magnitude = sqrtf(0.5f * (d->b[i] * d->b[i] + d->work[i] * d->work[i]) + 0.07f);
        float v = gain * d->a[i] * 1.06f * powf(magnitude, power) + offset;
        v = v < 0.7f ? v : 0.7f + 0.3f * tanhf((v - 0.7f) / 0.3f);
        d->rgb[0][i] = d->rgb[1][i] = d->rgb[2][i] = v;
    }
}

/* ---- skin ---- */

static void draw_skin_ground(struct drawing *d)
{
    struct field_rng *r = &d->rng;
    int n = d->n;
    float pale = field_uniform(r), value = field_range(r, 0.72f, 0.97f);
    const float tone[3] = {value, value * (0.66f + 0.21f * pale), value * (0.54f + 0.28f * pale)};
    const float blood[3] = {-0.02f, -0.09f, -0.06f}; /* how redness changes the three channels */
    float red = field_range(r, 0.1f, 0.45f), coarse = field_range(r, 12.0f, 30.0f) * d->scale;
    field_fractal(d->a, n, r, coarse, 3.0f, 0.8f, 1.0f, 0.0f); /* blood */
    field_fractal(d->b, n, r, 5.0f * d->scale, 1.7f, 0.3f, 1.5f,
                  field_range(r, 0.0f, 3.1f)); /* relief */
    memset(d->work, 0, sizeof *d->work * (size_t)d->count);
    field_add_noise(d->work, n, r, 80.0f * d->scale, 80.0f * d->scale, 1.0f); /* light */
    float relief = field_range(r, 0.006f, 0.02f), light = field_range(r, 0.01f, 0.06f);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < d->count; i++)
            d->rgb[c][i] = (tone[c] + red * blood[c] * d->a[i]) *
                           (1.0f + relief * d->b[i] + light * d->work[i]);
}

/* Faint brown freckles and thin red vessels. */
static void draw_skin_marks(struct drawing *d)
{
    struct field_rng *r = &d->rng;
    int n = d->n;
    memset(d->a, 0, sizeof *d->a * (size_t)d->count);
    for (int count = field_int(r, 7); count > 0; count--) {
        float x = field_uniform(r) * (float)n, y = field_uniform(r) * (float)n,
              w = field_range(r, 1.0f, 3.5f) * d->scale;
        field_stroke(d->a, n, x, y, x + w, y + w * field_range(r, -1.0f, 1.0f), w);
    }
    field_blur(d->a, n, 1.3f * d->scale, 1.3f * d->scale);
    float strength = field_range(r, 0.08f, 0.22f);
    memset(d->b, 0, sizeof *d->b * (size_t)d->count);
    for (int count = field_int(r, 5); count > 0; count--) {
        float x = field_uniform(r) * (float)n, y = field_uniform(r) * (float)n,
              turn = field_range(r, 0.0f, 6.28f);
        for (int k = 4 + field_int(r, 10); k > 0; k--) {
            float qx = x + 3.0f * d->scale * cosf(turn), qy = y + 3.0f * d->scale * sinf(turn);
            field_stroke(d->b, n, x, y, qx, qy, 0.8f * d->scale);
            x = qx;
            y = qy;
            turn += field_range(r, -0.6f, 0.6f);
        }
    }
    field_blur(d->b, n, 0.6f * d->scale, 0.6f * d->scale);
    for (int i = 0; i < d->count; i++) {
        d->rgb[0][i] *= 1.0f - strength * 0.5f * d->a[i] - 0.03f * d->b[i];
        d->rgb[1][i] *= 1.0f - strength * 0.9f * d->a[i] - 0.16f * d->b[i];
        d->rgb[2][i] *= 1.0f - strength * 1.2f * d->a[i] - 0.12f * d->b[i];
    }
}

/* Melanin over the skin, by Beer and Lambert: each channel falls as exp(-absorption x density). */
static void draw_pigment(struct drawing *d)
{
    struct field_rng *r = &d->lesion_rng;
    int n = d->n;
    draw_outline(d);
    float density = fminf(fmaxf(0.85f + 0.22f * field_normal(r), 0.4f), 1.6f);
    float patch = field_range(r, 0.08f, 0.28f), net = field_range(r, 0.0f, 0.3f),
          rim = field_range(r, -0.25f, 0.2f);
    const float absorb[3] = {field_range(r, 0.55f, 0.8f), 1.0f, field_range(r, 1.1f, 1.4f)};
    field_fractal(d->a, n, r, 16.0f * d->scale, 3.0f, 0.7f, 1.0f, 0.0f);
    memset(d->b, 0, sizeof *d->b * (size_t)d->count); /* the network: ridges of noise */
    field_add_noise(d->b, n, r, 4.5f * d->scale, 4.5f * d->scale, 1.0f);
    memcpy(d->work, d->inside,
           sizeof *d->work * (size_t)d->count); /* 1 in the core, less at the rim */
    field_blur(d->work, n, 5.0f * d->scale, 5.0f * d->scale);
    for (int i = 0; i < d->count; i++) {
        if (d->inside[i] <= 0.0f)
            continue;
        float ridge = expf(-2.5f * fabsf(d->b[i])) - 0.4f;
        float m = density * (1.0f + patch * d->a[i] + net * ridge + rim * (1.0f - d->work[i]));
        m = fmaxf(m, 0.3f * density) * d->inside[i];
        for (int c = 0; c < 3; c++)
            d->rgb[c][i] *= expf(-absorb[c] * m);
    }
}

/* Hairs lie over everything: some pictures have none, a few have many. */
static void draw_hairs(struct drawing *d)
{
    struct field_rng *r = &d->rng;
    int n = d->n, count = field_uniform(r) < 0.5f ? 0 : 1 + (int)field_log_range(r, 1.0f, 12.0f);
    float lean = field_range(r, 0.0f, 6.28f), dark = field_range(r, 0.5f, 0.85f);
    memset(d->b, 0, sizeof *d->b * (size_t)d->count);
    for (; count > 0; count--) {
        float x = field_uniform(r) * (float)n, y = field_uniform(r) * (float)n;
        float turn = lean + field_range(r, -0.7f, 0.7f), bend = field_range(r, -0.12f, 0.12f);
        float width = field_range(r, 0.5f, 1.0f) * d->scale, step = 4.0f * d->scale;
        for (int k = 5 + field_int(r, 14); k > 0; k--, turn += bend) {
            float qx = x + step * cosf(turn), qy = y + step * sinf(turn);
            field_stroke(d->b, n, x, y, qx, qy, width);
            x = qx;
            y = qy;
        }
    }
    const float hair[3] = {0.16f, 0.11f, 0.09f};
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < d->count; i++)
            d->rgb[c][i] += dark * d->b[i] * (hair[c] - d->rgb[c][i]);
}

/* Inflamed patches: blood, where a lesion has melanin. */
static void draw_patches(struct drawing *d)
{
    const float absorb[3] = {0.4f, 0.8f, 0.85f};
    if (draw_blobs(d))
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < d->count; i++)
                d->rgb[c][i] *= expf(-absorb[c] * d->work[i]);
}

static void draw_skin(struct drawing *d)
{
    draw_skin_ground(d);
    draw_skin_marks(d);
    draw_patches(d);
    if (d->p->lesion)
        draw_pigment(d);
    draw_hairs(d);
    float grain = field_range(&d->rng, 0.002f, 0.009f),
          blur = field_range(&d->rng, 0.3f, 0.7f) * d->scale;
    field_grain(d->a, d->n, &d->rng, blur, blur);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < d->count; i++)
            d->rgb[c][i] += grain * d->a[i];
}

/* ---- both ---- */

static md_status draw(struct drawing *d, image *rgb, image *mask)
{
    image pixels = {0}, truth = {0};
    MD_TRY(image_new(&pixels, d->n, d->n, 3));
    if (mask) {
        md_status status = image_new(&truth, d->n, d->n, 1);
        if (status != MD_OK) {
            image_free(&pixels);
            return status;
        }
    }
    if (d->p->kind == PHANTOM_SKIN)
        draw_skin(d);
    else
        draw_ultrasound(d);
    for (int i = 0; i < d->count; i++)
        for (int c = 0; c < 3; c++)
            pixels.px[3 * i + c] = (uint8_t)(field_clamp(d->rgb[c][i]) * 255.0f + 0.5f);
    if (mask) {
        memcpy(truth.px, d->mask, (size_t)d->count);
        *mask = truth;
    }
    *rgb = pixels;
    return MD_OK;
}

md_status phantom_draw(const phantom *p, image *rgb, image *mask)
{
    if (p->size < 64 || p->size > PHANTOM_SIDE_MAX)
        MD_FAIL(MD_USAGE, "phantom of %d pixels: the side must be 64 to %d", p->size,
                PHANTOM_SIDE_MAX);
    if (p->distractors < 0)
        MD_FAIL(MD_USAGE, "phantom with %d distractors", p->distractors);
    uint64_t item = 2 * (p->item * 2 + (uint64_t)p->kind);
    struct drawing d = {.p = p,
                        .rng = field_rng_at(p->seed, MD_RNG_PHANTOM, item),
                        .lesion_rng = field_rng_at(p->seed, MD_RNG_PHANTOM, item + 1),
                        .distractor_rng = field_rng_at(~p->seed, MD_RNG_PHANTOM, item),
                        .n = p->size,
                        .count = p->size * p->size,
                        .scale = (float)p->size / 128.0f};
    float *planes = calloc((size_t)d.count * PLANES, sizeof *planes);
    d.mask = calloc((size_t)d.count, 1);
    d.queue = calloc((size_t)d.count, sizeof *d.queue);
    md_status status;
    if (planes && d.mask && d.queue) {
        float **const at[PLANES] = {&d.a,      &d.b,      &d.work,  &d.inside,
                                    &d.rgb[0], &d.rgb[1], &d.rgb[2]};
        for (int k = 0; k < PLANES; k++)
            *at[k] = planes + (size_t)k * (size_t)d.count;
        status = draw(&d, rgb, mask);
    } else {
        status =
            md_fail(MD_NOMEM, __FILE__, __LINE__, "phantom of %d pixels: out of memory", p->size);
    }
    free(planes);
    free(d.mask);
    free(d.queue);
    return status;
}

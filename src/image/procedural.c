/* Procedural pictures: a family paints colours, then light, strokes, grain and contrast are laid
   over it. The caption is put together from the choices as they are made. */
#include "image/procedural.h"

#include "base/rng.h"
#include "image/field.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { AREA = PROCEDURAL_MAX_SIZE * PROCEDURAL_MAX_SIZE };

struct rgb {
    float r, g, b;
};

struct colour {
    const char *name;
    float hue[2], saturation[2], value[2]; /* hue in degrees */
};

static const struct colour colours[] = {
    {"red", {-10, 10}, {0.6f, 1.0f}, {0.5f, 1.0f}},
    {"orange", {20, 36}, {0.6f, 1.0f}, {0.75f, 1.0f}},
    {"yellow", {48, 62}, {0.5f, 1.0f}, {0.75f, 1.0f}},
    {"green", {85, 150}, {0.35f, 1.0f}, {0.3f, 0.9f}},
    {"cyan", {172, 192}, {0.4f, 1.0f}, {0.6f, 1.0f}},
    {"blue", {210, 242}, {0.45f, 1.0f}, {0.35f, 1.0f}},
    {"purple", {262, 290}, {0.35f, 0.9f}, {0.35f, 0.9f}},
    {"pink", {-32, 14}, {0.15f, 0.45f}, {0.75f, 1.0f}},
    {"brown", {10, 32}, {0.4f, 0.85f}, {0.2f, 0.5f}},
    {"beige", {18, 45}, {0.1f, 0.4f}, {0.65f, 1.0f}},
    {"white", {0, 360}, {0.0f, 0.06f}, {0.88f, 1.0f}},
    {"black", {0, 360}, {0.0f, 0.3f}, {0.0f, 0.13f}},
    {"gray", {0, 360}, {0.0f, 0.07f}, {0.3f, 0.7f}},
};
enum { COLOURS = sizeof colours / sizeof *colours };

static const char *const words[] = {
    "red",      "orange",   "yellow",   "green",    "cyan",   "blue",   "purple",     "pink",
    "brown",    "beige",    "white",    "black",    "gray",   "and",    "light",      "dark",
    "bright",   "uneven",   "tiny",     "small",    "medium", "large",  "huge",       "low",
    "high",     "contrast", "grainy",   "blurred",  "smooth", "rough",  "horizontal", "vertical",
    "diagonal", "discs",    "ellipses", "polygons", "boxes",  "clouds", "fibres",     "veins",
    "stripes",  "checker",  "rings",    "cells",    "weave",  "dots",   "gradient",   "grain",
    "thin",     "thick",    "lines",    "letters",  "specks", "ruler"};

const char *const *procedural_words(int *count)
{
    *count = (int)(sizeof words / sizeof *words);
    return words;
}

/* One picture in the making. */
struct scene {
    struct field_rng rng;
    int n;
    float scale;   /* n / 128 */
    int gray;      /* all channels equal */
    float *rgb[3]; /* [n*n] each, 0..1 */
    float *v, *w;  /* fields for the families */
    struct rgb a, b;
    const char *name_a, *name_b, *size, *direction;
    char what[64]; /* the family's phrase */
};

static struct rgb from_hsv(float h, float s, float v)
{
    h = fmodf(h + 360.0f, 360.0f) / 60.0f;
    int i = (int)h;
    float f = h - (float)i, p = v * (1 - s), q = v * (1 - s * f), t = v * (1 - s * (1 - f));
    switch (i) {
    case 0:
        return (struct rgb){v, t, p};
    case 1:
        return (struct rgb){q, v, p};
    case 2:
        return (struct rgb){p, v, t};
    case 3:
        return (struct rgb){p, q, v};
    case 4:
        return (struct rgb){t, p, v};
    default:
        return (struct rgb){v, p, q};
    }
}

static struct rgb shade(struct field_rng *r, int which)
{
    const struct colour *c = &colours[which];
    return from_hsv(field_range(r, c->hue[0], c->hue[1]),
                    field_range(r, c->saturation[0], c->saturation[1]),
                    field_range(r, c->value[0], c->value[1]));
}

static struct rgb mix(struct rgb a, struct rgb b, float t)
{
    return (struct rgb){a.r + t * (b.r - a.r), a.g + t * (b.g - a.g), a.b + t * (b.b - a.b)};
}

static void choose_colours(struct scene *s)
{
    struct field_rng *r = &s->rng;
    s->gray = field_uniform(r) < 0.36f;
    if (s->gray) {
        float lo = field_range(r, 0.0f, 0.35f), hi = field_range(r, 0.45f, 1.0f);
        if (field_uniform(r) < 0.35f) { /* dark pictures, much of them near black */
            lo *= 0.3f;
            hi *= 0.7f;
        }
        int flip = field_int(r, 2);
        s->a = (struct rgb){lo, lo, lo};
        s->b = (struct rgb){hi, hi, hi};
        if (flip) {
            struct rgb t = s->a;
            s->a = s->b;
            s->b = t;
        }
        s->name_a = s->name_b = "gray";
        return;
    }
    int a = field_int(r, COLOURS), b = field_int(r, COLOURS - 1);
    if (field_uniform(r) < 0.3f) /* pale and brown pairs more often: hardest to code, eyes see it */
        a = 7 + field_int(r, 3);
    b += b >= a;
    s->a = shade(r, a);
    s->b = shade(r, b);
    s->name_a = colours[a].name;
    s->name_b = colours[b].name;
}

static const char *const size_names[] = {"tiny", "small", "medium", "large", "huge"};

/* A length in pixels, log-uniform over the five named sizes. */
static float choose_size(struct scene *s, float lo, float hi)
{
    float t = field_uniform(&s->rng);
    s->size = size_names[(int)(t * 4.999f)];
    return lo * powf(hi / lo, t) * s->scale;
}

static float choose_angle(struct scene *s, float horizontal_share)
{
    float u = field_uniform(&s->rng), jitter = field_range(&s->rng, -0.15f, 0.15f);
    if (u < horizontal_share) {
        s->direction = "horizontal";
        return field_int(&s->rng, 2) ? 0.0f : jitter;
    }
    if (u < horizontal_share + 0.25f) {
        s->direction = "vertical";
        return 1.5707963f + (field_int(&s->rng, 2) ? 0.0f : jitter);
    }
    s->direction = "diagonal";
    return (field_int(&s->rng, 2) ? 0.7854f : -0.7854f) + 2.0f * jitter;
}

/* Paints lerp(a, b, v), with a slow drift of the two colours so that hue varies within a picture.
 */
static void paint(struct scene *s)
{
    int count = s->n * s->n;
    const float *a = &s->a.r, *b = &s->b.r;
    for (int c = 0; c < 3; c++) {
        float *out = s->rgb[c];
        for (int i = 0; i < count; i++)
            out[i] = a[c] + (b[c] - a[c]) * s->v[i];
        if (s->gray || field_uniform(&s->rng) < 0.4f)
            continue;
        field_add_noise(out, s->n, &s->rng, field_range(&s->rng, 12, 60) * s->scale,
                        field_range(&s->rng, 12, 60) * s->scale, field_range(&s->rng, 0.0f, 0.05f));
    }
}

/* Tone curves that turn standard noise into [0, 1]: how much is bright, how sharp the edges are. */
static void tone(struct scene *s, float *f)
{
    int count = s->n * s->n;
    float u = field_uniform(&s->rng), k = field_range(&s->rng, 0.0f, 1.0f);
    if (u < 0.35f) { /* linear */
        for (int i = 0; i < count; i++)
            f[i] = field_clamp(0.5f + 0.22f * f[i]);
    } else if (u < 0.6f) { /* few bright peaks */
        float rate = 0.6f + 0.7f * k, top = expf(2.2f * rate);
        for (int i = 0; i < count; i++)
            f[i] = field_clamp(expf(rate * f[i]) / top);
    } else if (u < 0.8f) { /* two levels, sharp to soft edges */
        float width = 0.05f + 0.9f * k * k, at = field_range(&s->rng, -0.8f, 0.8f);
        for (int i = 0; i < count; i++)
            f[i] = field_step(at - width, at + width, f[i]);
    } else { /* folded once */
        for (int i = 0; i < count; i++)
            f[i] = field_clamp(0.5f * fabsf(f[i]));
    }
}

static void draw_clouds(struct scene *s, int option)
{
    (void)option;
    float cell = choose_size(s, 8.0f, 70.0f), slope = field_range(&s->rng, 0.15f, 1.4f);
    field_fractal(s->v, s->n, &s->rng, cell, 1.8f, slope,
                  field_range(&s->rng, 1.0f, s->gray ? 2.5f : 1.4f), 0.0f);
    tone(s, s->v);
    paint(s);
    snprintf(s->what, sizeof s->what, "%s clouds", slope < 0.7f ? "rough" : "smooth");
}

static void draw_fibres(struct scene *s, int option)
{
    (void)option;
    float angle = choose_angle(s, s->gray ? 0.7f : 0.4f);
    float cell = choose_size(s, 5.0f, 36.0f);
    field_fractal(s->v, s->n, &s->rng, cell, 2.0f, field_range(&s->rng, 0.2f, 1.2f),
                  field_log_range(&s->rng, 2.0f, 8.0f), angle);
    if (field_int(&s->rng, 2)) { /* bend them */
        memcpy(s->w, s->v, sizeof *s->v * (size_t)(s->n * s->n));
        float shift[FIELD_MAX] = {0};
        float period = field_range(&s->rng, 20, 90) * s->scale,
              phase = field_range(&s->rng, 0, 6.3f);
        for (int x = 0; x < s->n; x++)
            shift[x] = field_range(&s->rng, 0.0f, 0.01f) +
                       0.12f * period * sinf((float)x * 6.2832f / period + phase);
        for (int y = 0; y < s->n; y++) {
            for (int x = 0; x < s->n; x++) {
                float at = (float)y + shift[x];
                int k = (int)floorf(at);
                float t = at - (float)k;
                int k0 = k < 0 ? -k : k >= s->n ? 2 * s->n - 1 - k : k, k1 = k + 1;
                k1 = k1 < 0 ? -k1 : k1 >= s->n ? 2 * s->n - 1 - k1 : k1;
                s->v[y * s->n + x] = (1 - t) * s->w[k0 * s->n + x] + t * s->w[k1 * s->n + x];
            }
        }
    }
    tone(s, s->v);
    paint(s);
    snprintf(s->what, sizeof s->what, "%s fibres", s->direction);
}

static void draw_veins(struct scene *s, int option)
{
    (void)option;
    float cell = choose_size(s, 8.0f, 50.0f), width = field_range(&s->rng, 0.06f, 0.3f);
    field_fractal(s->v, s->n, &s->rng, cell, field_range(&s->rng, 2.0f, 8.0f),
                  field_range(&s->rng, 0.8f, 1.6f), 1.0f, 0.0f);
    for (int i = 0; i < s->n * s->n; i++)
        s->v[i] = expf(-fabsf(s->v[i]) / width);
    paint(s);
    snprintf(s->what, sizeof s->what, "veins");
}

/* The phase field of a turned plane wave or of rings, bent by noise; in cycles. */
static void phase(struct scene *s, float period, int rings, float angle)
{
    int n = s->n;
    float bend = field_uniform(&s->rng) < 0.4f ? 0.0f : field_range(&s->rng, 0.0f, 0.7f);
    memset(s->w, 0, sizeof *s->w * (size_t)(n * n));
    if (bend > 0.0f)
        field_add_noise(s->w, n, &s->rng, field_range(&s->rng, 20, 60) * s->scale,
                        field_range(&s->rng, 20, 60) * s->scale, bend);
    float cx = field_range(&s->rng, -0.2f, 1.2f) * (float)n, c = cosf(angle), q = sinf(angle);
    float cy = field_range(&s->rng, -0.2f, 1.2f) * (float)n,
          oval = field_range(&s->rng, 0.4f, 1.0f);
    for (int y = 0; y < n; y++) {
        for (int x = 0; x < n; x++) {
            float dx = (float)x - cx, dy = (float)y - cy, d;
            if (rings)
                d = sqrtf(dx * dx * oval + dy * dy);
            else /* stripes run along the named direction */
                d = c * dy - q * dx;
            s->w[y * n + x] += d / period;
        }
    }
}

static float wave(float x, float sharp)
{
    float t = fabsf(2.0f * (x - floorf(x)) - 1.0f); /* triangle, 0..1 */
    return field_step(0.5f - sharp, 0.5f + sharp, t);
}

static void draw_stripes(struct scene *s, int rings)
{
    float angle = rings ? 0.0f : choose_angle(s, 0.35f), period = choose_size(s, 4.0f, 50.0f);
    float sharp = field_range(&s->rng, 1.5f / period, 0.5f);
    phase(s, period, rings, angle);
    for (int i = 0; i < s->n * s->n; i++)
        s->v[i] = wave(s->w[i], sharp);
    paint(s);
    snprintf(s->what, sizeof s->what, "%s%s", rings ? "" : s->direction,
             rings ? "rings" : " stripes");
}

static void draw_checker(struct scene *s, int weave)
{
    int n = s->n;
    float period = choose_size(s, 6.0f, 50.0f), sharp = field_range(&s->rng, 1.2f / period, 0.35f);
    float angle = field_int(&s->rng, 2) ? 0.0f : field_range(&s->rng, -0.8f, 0.8f);
    float c = cosf(angle) / period, q = sinf(angle) / period,
          thread = field_range(&s->rng, 0.2f, 0.6f);
    for (int y = 0; y < n; y++) {
        for (int x = 0; x < n; x++) {
            float u = c * (float)x + q * (float)y, v = c * (float)y - q * (float)x;
            float a = wave(u, sharp), b = wave(v, sharp);
            float out = a + b - 2.0f * a * b;
            if (weave) { /* over and under, each strand rounded */
                float over = wave(0.5f * u + 0.25f, 0.02f) == wave(0.5f * v + 0.25f, 0.02f) ? u : v;
                out = 0.25f + (1 - thread) * 0.5f * out +
                      thread * fabsf(2.0f * (over - floorf(over)) - 1.0f);
            }
            s->v[y * n + x] = field_clamp(out);
        }
    }
    paint(s);
    snprintf(s->what, sizeof s->what, weave ? "weave" : "checker");
}

static void draw_cells(struct scene *s, int dots)
{
    int n = s->n;
    float cell = choose_size(s, 7.0f, 45.0f),
          jitter = dots ? field_range(&s->rng, 0.0f, 0.6f) : 0.95f;
    float border = field_range(&s->rng, 0.0f, 0.3f), radius = field_range(&s->rng, 0.18f, 0.42f);
    float soft = dots ? field_range(&s->rng, 1.0f / cell, 0.25f) : 1.5f / cell;
    float spread = field_uniform(&s->rng);
    uint64_t key = field_bits(&s->rng);
    enum { SIDE = 24 };
    float px[SIDE][SIDE], py[SIDE][SIDE], level[SIDE][SIDE];
    int side = (int)((float)n / cell) + 4;
    side = side < SIDE ? side : SIDE;
    struct field_rng r = {key};
    for (int j = 0; j < side; j++) {
        for (int i = 0; i < side; i++) {
            px[j][i] = (float)i + 0.5f + jitter * (field_uniform(&r) - 0.5f);
            py[j][i] = (float)j + 0.5f + jitter * (field_uniform(&r) - 0.5f);
            level[j][i] = field_uniform(&r);
        }
    }
    for (int y = 0; y < n; y++) {
        for (int x = 0; x < n; x++) {
            float u = (float)x / cell + 1.3f, v = (float)y / cell + 1.3f, first = 9.0f,
                  second = 9.0f;
            int iu = (int)u, iv = (int)v, near_i = 0, near_j = 0;
            for (int j = iv - 1; j <= iv + 1; j++) {
                for (int i = iu - 1; i <= iu + 1; i++) {
                    float dx = px[j][i] - u, dy = py[j][i] - v, d = dx * dx + dy * dy;
                    if (d < first) {
                        second = first;
                        first = d;
                        near_i = i;
                        near_j = j;
                    } else if (d < second) {
                        second = d;
                    }
                }
            }
            float own = 1.0f - spread * level[near_j][near_i], f1 = sqrtf(first);
            s->v[y * n + x] =
                dots ? own * (1.0f - field_step(radius - soft, radius + soft, f1))
                     : own * field_step(border - soft, border + soft, sqrtf(second) - f1);
        }
    }
    paint(s);
    snprintf(s->what, sizeof s->what, dots ? "dots" : "cells");
}

static void draw_gradient(struct scene *s, int option)
{
    (void)option;
    int n = s->n;
    float angle = choose_angle(s, 0.35f), c = cosf(angle), q = sinf(angle),
          power = field_log_range(&s->rng, 0.5f, 2.0f);
    int flip = field_int(&s->rng, 2);
    for (int y = 0; y < n; y++) {
        for (int x = 0; x < n; x++) {
            float d = (c * ((float)x / (float)n - 0.5f) + q * ((float)y / (float)n - 0.5f)) /
                          (fabsf(c) + fabsf(q)) +
                      0.5f;
            s->v[y * n + x] = powf(field_clamp(flip ? 1.0f - d : d), power);
        }
    }
    paint(s);
    s->size = NULL;
    snprintf(s->what, sizeof s->what, "%s gradient", s->direction);
}

static void draw_grain(struct scene *s, int option)
{
    (void)option;
    float size = choose_size(s, 0.45f, 2.4f), stretch = field_log_range(&s->rng, 0.6f, 1.7f);
    field_grain(s->v, s->n, &s->rng, size * stretch, size / stretch);
    tone(s, s->v);
    paint(s);
    snprintf(s->what, sizeof s->what, "grain");
}

enum shape { DISC, ELLIPSE, POLYGON, BOX };

struct leaf {
    float x, y, radius, cos, sin, squeeze, soft;
    int sides;
    float nx[7], ny[7], reach[7];
    struct rgb fill, ramp;
    float texture;
};

/* Signed distance in pixels, negative inside; exact for discs, near enough for the others. */
static float leaf_distance(const struct leaf *l, float x, float y)
{
    float dx = x - l->x, dy = y - l->y;
    if (l->sides == 0) {
        float u = l->cos * dx + l->sin * dy, v = (l->cos * dy - l->sin * dx) * l->squeeze;
        return (sqrtf(u * u + v * v) - l->radius) / (0.5f + 0.5f * l->squeeze);
    }
    float d = -1e9f;
    for (int i = 0; i < l->sides; i++)
        d = fmaxf(d, l->nx[i] * dx + l->ny[i] * dy - l->reach[i]);
    return d;
}

static void paint_leaf(struct scene *s, const struct leaf *l)
{
    int n = s->n;
    float reach = l->radius * (l->sides ? 1.6f : 1.0f) + l->soft + 1.0f;
    int left = (int)fmaxf(0.0f, l->x - reach), right = (int)fminf((float)n - 1.0f, l->x + reach);
    int top = (int)fmaxf(0.0f, l->y - reach), bottom = (int)fminf((float)n - 1.0f, l->y + reach);
    const float *fill = &l->fill.r, *ramp = &l->ramp.r;
    float hardness = 1.0f / l->soft, steep = 0.5f / l->radius;
    for (int y = top; y <= bottom; y++) {
        for (int x = left; x <= right; x++) {
            float cover = field_clamp(0.5f - leaf_distance(l, (float)x, (float)y) * hardness);
            if (cover <= 0.0f)
                continue;
            float along = (l->cos * ((float)x - l->x) + l->sin * ((float)y - l->y)) * steep;
            float shadeof = l->texture * s->v[y * n + x];
            for (int c = 0; c < 3; c++) {
                float *p = s->rgb[c] + y * n + x;
                *p += cover * (fill[c] + ramp[c] * along + shadeof - *p);
            }
        }
    }
}

static struct leaf grow_leaf(struct scene *s, enum shape shape, float radius)
{
    struct field_rng *r = &s->rng;
    float angle = field_range(r, 0.0f, 6.2832f);
    struct leaf l = {.x = field_range(r, -0.1f, 1.1f) * (float)s->n,
                     .y = field_range(r, -0.1f, 1.1f) * (float)s->n,
                     .radius = radius,
                     .cos = cosf(angle),
                     .sin = sinf(angle),
                     .squeeze = 1.0f};
    if (shape == ELLIPSE)
        l.squeeze = field_range(r, 1.5f, 4.0f);
    if (shape == BOX || shape == POLYGON) {
        l.sides = shape == BOX ? 4 : 3 + field_int(r, 4);
        float aspect = field_range(r, 0.3f, 1.0f);
        for (int i = 0; i < l.sides; i++) {
            float turn =
                angle + 6.2832f * ((float)i + (shape == BOX ? 0.0f : field_range(r, -0.3f, 0.3f))) /
                            (float)l.sides;
            l.nx[i] = cosf(turn);
            l.ny[i] = sinf(turn);
            l.reach[i] =
                radius * (shape == BOX ? (i & 1 ? aspect : 1.0f) : field_range(r, 0.5f, 0.9f));
        }
    }
    return l;
}

static void draw_leaves(struct scene *s, int shape)
{
    static const char *const names[] = {"discs", "ellipses", "polygons", "boxes"};
    struct field_rng *r = &s->rng;
    int n = s->n;
    float largest = choose_size(s, 4.0f, 60.0f),
          smallest = fmaxf(1.2f, largest * field_range(r, 0.08f, 0.6f));
    float cover = field_range(r, 0.3f, 3.5f),
          soft = field_uniform(r) < 0.6f ? 1.0f : field_log_range(r, 1.0f, 6.0f);
    float texture = field_uniform(r) < 0.5f ? 0.0f : field_range(r, 0.01f, 0.12f);
    float vary = field_range(r, 0.02f, 0.2f),
          ramp = field_uniform(r) < 0.5f ? 0.0f : field_range(r, 0.05f, 0.4f);
    field_fractal(s->v, n, r, field_log_range(r, 3.0f, 20.0f) * s->scale, 1.6f,
                  field_range(r, 0.0f, 1.0f), 1.0f, 0.0f);
    for (int i = 0; i < n * n; i++) {
        s->rgb[0][i] = s->a.r + texture * s->v[i];
        s->rgb[1][i] = s->a.g + texture * s->v[i];
        s->rgb[2][i] = s->a.b + texture * s->v[i];
    }
    /* Sizes by a power law of exponent 3, the one whose pictures look alike at any scale (Lee,
       Mumford and Huang 2001), until the leaves' area is `cover` pictures. */
    float budget = cover * (float)(n * n), inverse = 1.0f / (smallest * smallest),
          span = inverse - 1.0f / (largest * largest);
    for (int count = 0; budget > 0.0f && count < 1500; count++) {
        float radius = 1.0f / sqrtf(inverse - span * field_uniform(r));
        struct leaf l = grow_leaf(s, (enum shape)shape, radius);
        float share = field_uniform(r);
        float t = share < 0.25f ? 0.0f : share < 0.9f ? 1.0f : field_uniform(r);
        struct rgb base = mix(s->a, s->b, t);
        float level = vary * field_normal(r), level_r = 0, level_b = 0;
        if (!s->gray) {
            level_r = 0.3f * vary * field_normal(r);
            level_b = 0.3f * vary * field_normal(r);
        }
        l.fill = (struct rgb){base.r + level + level_r, base.g + level, base.b + level + level_b};
        float tilt = ramp * field_normal(r);
        l.ramp = (struct rgb){tilt, tilt, tilt};
        l.soft = soft;
        l.texture = texture * field_range(r, -1.0f, 1.0f);
        paint_leaf(s, &l);
        budget -= 2.0f * radius * radius;
    }
    snprintf(s->what, sizeof s->what, "%s%s", soft > 2.5f ? "blurred " : "", names[shape]);
}

/* Which family, in percent of the gray and of the coloured pictures. Gray ones have more fine
   structure: streaks, grain, rough clouds. */
static const struct family {
    void (*draw)(struct scene *s, int option);
    int option, gray, coloured;
} families[] = {
    {draw_fibres, 0, 36, 7},      {draw_clouds, 0, 22, 24},     {draw_leaves, DISC, 4, 9},
    {draw_leaves, ELLIPSE, 6, 8}, {draw_leaves, POLYGON, 4, 8}, {draw_leaves, BOX, 3, 7},
    {draw_veins, 0, 6, 6},        {draw_grain, 0, 5, 3},        {draw_stripes, 0, 2, 4},
    {draw_stripes, 1, 2, 4},      {draw_checker, 0, 2, 4},      {draw_checker, 1, 2, 4},
    {draw_cells, 0, 2, 4},        {draw_cells, 1, 2, 4},        {draw_gradient, 0, 2, 4},
};

static void draw_family(struct scene *s)
{
    int u = field_int(&s->rng, 100);
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        u -= s->gray ? families[i].gray : families[i].coloured;
        if (u < 0) {
            families[i].draw(s, families[i].option);
            return;
        }
    }
}

/* Slow changes of brightness, as of a lamp from one side, down to black corners. */
static int cast_light(struct scene *s)
{
    if (field_uniform(&s->rng) > (s->gray ? 0.5f : 0.3f))
        return 0;
    int n = s->n;
    float depth = field_range(&s->rng, 0.25f, 1.0f);
    memset(s->v, 0, sizeof *s->v * (size_t)(n * n));
    field_add_noise(s->v, n, &s->rng, field_range(&s->rng, 25, 110) * s->scale,
                    field_range(&s->rng, 25, 110) * s->scale, 1.0f);
    field_unit(s->v, n);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < n * n; i++)
            s->rgb[c][i] *= 1.0f - depth * s->v[i];
    return depth > 0.5f;
}

/* Blends a colour in under the coverage in s->v. */
static void ink(struct scene *s, struct rgb colour)
{
    const float *k = &colour.r;
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < s->n * s->n; i++)
            s->rgb[c][i] += s->v[i] * (k[c] - s->rgb[c][i]);
}

static void add_lines(struct scene *s, float width, int count)
{
    struct field_rng *r = &s->rng;
    float n = (float)s->n;
    for (int k = 0; k < count; k++) { /* a quadratic curve in ten pieces */
        float x[3], y[3], px, py;
        for (int i = 0; i < 3; i++) {
            x[i] = field_range(r, -0.1f, 1.1f) * n;
            y[i] = field_range(r, -0.1f, 1.1f) * n;
        }
        px = x[0];
        py = y[0];
        for (int i = 1; i <= 10; i++) {
            float t = 0.1f * (float)i, u = 1.0f - t;
            float qx = u * u * x[0] + 2 * u * t * x[1] + t * t * x[2];
            float qy = u * u * y[0] + 2 * u * t * y[1] + t * t * y[2];
            field_stroke(s->v, s->n, px, py, qx, qy, width);
            px = qx;
            py = qy;
        }
    }
}

/* Rows of made-up glyphs: two to four strokes between the corners of a small box each. */
static void add_letters(struct scene *s)
{
    struct field_rng *r = &s->rng;
    float height = field_range(r, 4.0f, 12.0f) * s->scale,
          pitch = height * field_range(r, 0.6f, 0.9f);
    float width = fmaxf(0.7f, height * 0.13f);
    for (int rows = 1 + field_int(r, 3); rows > 0; rows--) {
        float x = field_range(r, 0.02f, 0.7f) * (float)s->n,
              y = field_range(r, 0.02f, 0.9f) * (float)s->n;
        for (int glyphs = 2 + field_int(r, 7); glyphs > 0; glyphs--, x += pitch) {
            for (int strokes = 2 + field_int(r, 3); strokes > 0; strokes--) {
                float w = 0.35f * pitch;
                field_stroke(s->v, s->n, x + w * (float)field_int(r, 3),
                             y + 0.5f * height * (float)field_int(r, 3),
                             x + w * (float)field_int(r, 3),
                             y + 0.5f * height * (float)field_int(r, 3), width);
            }
        }
    }
}

static void add_ruler(struct scene *s)
{
    struct field_rng *r = &s->rng;
    float angle = field_range(r, 0.0f, 3.1416f), c = cosf(angle), q = sinf(angle);
    float x = field_range(r, 0.1f, 0.9f) * (float)s->n,
          y = field_range(r, 0.1f, 0.9f) * (float)s->n;
    float length = field_range(r, 0.3f, 0.8f) * (float)s->n,
          step = field_range(r, 2.5f, 8.0f) * s->scale;
    float width = field_range(r, 0.6f, 1.2f), tick = step * field_range(r, 0.5f, 1.2f);
    field_stroke(s->v, s->n, x, y, x + c * length, y + q * length, width);
    for (int i = 0; step * (float)i <= length; i++) {
        float t = step * (float)i, long_tick = i % 5 ? tick : 1.8f * tick;
        field_stroke(s->v, s->n, x + c * t, y + q * t, x + c * t - q * long_tick,
                     y + q * t + c * long_tick, width);
    }
}

static void add_specks(struct scene *s)
{
    struct field_rng *r = &s->rng;
    float size = field_log_range(r, 0.7f, 3.0f);
    for (int count = 3 + (int)field_log_range(r, 1.0f, 60.0f); count > 0; count--) {
        float x = field_uniform(r) * (float)s->n, y = field_uniform(r) * (float)s->n;
        float reach = size * field_range(r, 0.3f, 1.5f), angle = field_range(r, 0, 6.28f);
        field_stroke(s->v, s->n, x, y, x + reach * cosf(angle), y + reach * sinf(angle), size);
    }
}

/* Strokes over the picture; their words, or NULL. */
static const char *overlay(struct scene *s)
{
    struct field_rng *r = &s->rng;
    float u = field_uniform(r);
    if (u > 0.34f)
        return NULL;
    memset(s->v, 0, sizeof *s->v * (size_t)(s->n * s->n));
    const char *what;
    if (u < 0.08f) {
        add_lines(s, field_range(r, 0.4f, 1.4f), 1 + (int)field_log_range(r, 1.0f, 25.0f));
        what = "thin lines";
    } else if (u < 0.12f) {
        add_lines(s, field_range(r, 2.0f, 6.0f), 1 + field_int(r, 6));
        what = "thick lines";
    } else if (u < 0.20f) {
        add_letters(s);
        what = "letters";
    } else if (u < 0.25f) {
        add_ruler(s);
        what = "ruler";
    } else {
        add_specks(s);
        what = "specks";
    }
    int bright = field_int(r, 2);
    float level = bright ? field_range(r, 0.75f, 1.0f) : field_range(r, 0.0f, 0.2f);
    struct rgb c = {level, level, level};
    ink(s, c);
    static const char *const named[2][5] = {
        {"dark thin lines", "dark thick lines", "dark letters", "dark ruler", "dark specks"},
        {"bright thin lines", "bright thick lines", "bright letters", "bright ruler",
         "bright specks"}};
    for (int i = 0; i < 5; i++)
        if (strstr(named[bright][i], what))
            return named[bright][i];
    return NULL;
}

/* Noise of the sensor: most of it stronger where the picture is brighter. Returns its strength. */
static float add_grain(struct scene *s)
{
    struct field_rng *r = &s->rng;
    float u = field_uniform(r);
    float strength = s->gray ? (u < 0.3f ? 0.0f : field_log_range(r, 0.04f, 0.4f))
                             : (u < 0.55f ? 0.0f : field_log_range(r, 0.01f, 0.15f));
    if (strength == 0.0f)
        return 0.0f;
    int n = s->n, common = s->gray || field_uniform(r) < 0.7f;
    float sx = field_range(r, 0.3f, 1.4f) * s->scale,
          sy = s->gray ? sx * field_range(r, 0.4f, 1.0f) : sx;
    float offset = field_uniform(r) < 0.6f ? 0.03f : 0.3f; /* proportional, or nearly constant */
    for (int c = 0; c < 3; c++) {
        if (c == 0 || !common)
            field_grain(s->v, n, r, sx, sy);
        for (int i = 0; i < n * n; i++)
            s->rgb[c][i] += strength * (s->rgb[c][i] + offset) * s->v[i];
    }
    return strength;
}

/* Squeezes or keeps the range; the words go into the caption. */
static const char *set_contrast(struct scene *s)
{
    float u = field_uniform(&s->rng);
    if (u < 0.4f)
        return NULL;
    int low = u < (s->gray ? 0.65f : 0.78f), count = s->n * s->n;
    float factor = low ? field_range(&s->rng, 0.15f, 0.5f) : field_range(&s->rng, 1.2f, 1.8f);
    for (int c = 0; c < 3; c++) {
        double sum = 0.0;
        for (int i = 0; i < count; i++)
            sum += (double)s->rgb[c][i];
        float mean = (float)(sum / count);
        for (int i = 0; i < count; i++)
            s->rgb[c][i] = mean + factor * (s->rgb[c][i] - mean);
    }
    return low ? "low contrast" : "high contrast";
}

static void add_text(char caption[PROCEDURAL_CAPTION], const char *glue, const char *text)
{
    size_t used = strlen(caption);
    if (text && *text)
        snprintf(caption + used, PROCEDURAL_CAPTION - used, "%s%s", used ? glue : "", text);
}

void procedural_draw(uint64_t seed, uint64_t item, int size, uint8_t *rgb,
                     char caption[PROCEDURAL_CAPTION])
{
    static _Thread_local float plane[5][AREA];
    int n = size > PROCEDURAL_MAX_SIZE ? PROCEDURAL_MAX_SIZE : size;
    struct scene s = {.rng = field_rng_at(seed, MD_RNG_PROCEDURAL, item),
                      .n = n,
                      .scale = (float)n / 128.0f,
                      .rgb = {plane[0], plane[1], plane[2]},
                      .v = plane[3],
                      .w = plane[4]};
    caption[0] = '\0';
    choose_colours(&s);
    draw_family(&s);
    int uneven = cast_light(&s);
    const char *contrast = set_contrast(&s), *over = overlay(&s);
    float grain = add_grain(&s);
    float blur = field_uniform(&s.rng) < 0.6f ? 0.0f : field_range(&s.rng, 0.3f, 1.6f);
    for (int c = 0; c < 3 && blur > 0.0f; c++)
        field_blur(s.rgb[c], n, blur, blur);
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < n * n; i++)
            rgb[3 * i + c] =
                (uint8_t)(field_clamp(s.gray ? s.rgb[0][i] : s.rgb[c][i]) * 255.0f + 0.5f);

    add_text(caption, " ", s.size);
    add_text(caption, " ", s.name_a);
    if (strcmp(s.name_a, s.name_b) != 0) {
        add_text(caption, " and ", s.name_b);
    }
    add_text(caption, " ", s.what);
    add_text(caption, ", ", contrast);
    add_text(caption, ", ", over);
    add_text(caption, ", ", grain > 0.12f ? "grainy" : NULL);
    add_text(caption, ", ", uneven ? "uneven light" : NULL);
    add_text(caption, ", ", blur > 1.0f ? "blurred" : NULL);
}

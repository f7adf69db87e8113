/* The encoder of data/tiny on phantoms, which it never saw: near copies of thirty references
   (compressed, turned by 2 degrees, mirrored, their lesion moved into another background) lie
   nearer to them than references do to each other, noise lies farther; whole image, and the lesion
   alone in its box grown by 20 %. Its control is the same encoder with random weights. */
#include "backend/cpu/cpu.h"
#include "base/rng.h"
#include "generate/band.h"
#include "image/mask.h"
#include "image/phantom.h"
#include "model/features.h"
#include "support/expect.h"

#include <math.h>

enum {
    SIDE = 128,
    REFERENCES = 30,
    COPIES = 100,
    NOISE = 20,
    WIDTH_MAX = 128,
    FIVE = 5,
    FEATHER = 3
};
enum { JPEG, TURNED, MIRRORED, MOVED, KINDS };
enum { TURNED_LEAST = 24 }; /* of COPIES / KINDS */

static const char tiny[] = "data/tiny/encoder";
static md_backend *be;

typedef struct pair {
    image rgb, mask;
} pair;

static void pair_free(pair *p)
{
    image_free(&p->rgb);
    image_free(&p->mask);
}

static pair phantom_pair(phantom_kind kind, uint64_t item, bool lesion)
{
    pair p;
    phantom at = {
        .kind = kind, .seed = 5, .item = item, .size = SIDE, .lesion = lesion, .spiky = item % 2};
    OK(phantom_draw(&at, &p.rgb, &p.mask));
    return p;
}

/* Blocks of 8 x 8 by their cosine transform, coefficients rounded to steps that grow with the
   frequency, as JPEG of low quality does. */
static void compress(image *rgb)
{
    double basis[8][8], block[8][8], half[8][8];
    for (int u = 0; u < 8; u++)
        for (int x = 0; x < 8; x++)
            basis[u][x] = cos((2 * x + 1) * u * 0.19634954084936207) * (u ? 0.5 : sqrt(0.125));
    for (int64_t at = 0; at < SIDE * SIDE / 64 * 3; at++) {
        uint8_t *px =
            rgb->px + at % 3 + 3 * (at / 3 % (SIDE / 8) * 8 + at / 3 / (SIDE / 8) * 8 * SIDE);
        memset(block, 0, sizeof block);
        memset(half, 0, sizeof half);
        for (int i = 0; i < 512; i++) /* rows, then columns */
            half[i / 64][i / 8 % 8] += px[3 * (i / 64 * SIDE + i % 8)] * basis[i / 8 % 8][i % 8];
        for (int i = 0; i < 512; i++)
            block[i / 64][i / 8 % 8] += half[i % 8][i / 8 % 8] * basis[i / 64][i % 8];
        for (int u = 0; u < 64; u++) {
            double step = 12 + 5 * (u / 8 + u % 8);
            block[u / 8][u % 8] = step * round(block[u / 8][u % 8] / step);
        }
        memset(half, 0, sizeof half);
        for (int i = 0; i < 512; i++)
            half[i / 64][i / 8 % 8] += block[i % 8][i / 8 % 8] * basis[i % 8][i / 64];
        for (int i = 0; i < 64; i++) {
            double sum = 0;
            for (int u = 0; u < 8; u++)
                sum += half[i / 8][u] * basis[u][i % 8];
            px[3 * (i / 8 * SIDE + i % 8)] = (uint8_t)fmin(fmax(sum + 0.5, 0), 255);
        }
    }
}

static int64_t reflected(int64_t i)
{
    return i < 0 ? -1 - i : i < SIDE ? i : 2 * SIDE - 1 - i;
}

/* Turned about the centre, bilinear, the edge mirrored; the mask by nearest. */
static void turn(pair *p, double degrees)
{
    double c = cos(degrees * 0.017453292519943295), s = sin(degrees * 0.017453292519943295);
    image rgb, mask;
    OK(image_new(&rgb, SIDE, SIDE, 3));
    OK(image_new(&mask, SIDE, SIDE, 1));
    for (int64_t i = 0; i < SIDE * SIDE; i++) {
        double v = (double)(i / SIDE) - 63.5, u = (double)(i % SIDE) - 63.5;
        double y = 63.5 + c * v + s * u, x = 63.5 + c * u - s * v, sum[3] = {0.5, 0.5, 0.5};
        for (int at = 0; at < 4; at++) {
            int64_t iy = (int64_t)floor(y) + at / 2, ix = (int64_t)floor(x) + at % 2;
            double w = (1 - fabs(y - (double)iy)) * (1 - fabs(x - (double)ix));
            int64_t from = reflected(iy) * SIDE + reflected(ix);
            for (int k = 0; k < 3; k++)
                sum[k] += w * p->rgb.px[3 * from + k];
        }
        for (int k = 0; k < 3; k++)
            rgb.px[3 * i + k] = (uint8_t)sum[k];
        mask.px[i] =
            p->mask
                .px[reflected((int64_t)floor(y + 0.5)) * SIDE + reflected((int64_t)floor(x + 0.5))];
    }
    pair_free(p);
    *p = (pair){rgb, mask};
}

static void mirror(image *im)
{
    for (int64_t y = 0; y < im->h; y++)
        for (int64_t x = 0; x < im->w / 2; x++)
            for (int k = 0; k < im->c; k++) {
                uint8_t *a = im->px + (y * im->w + x) * im->c + k;
                uint8_t *b = im->px + (y * im->w + im->w - 1 - x) * im->c + k, t = *a;
                *a = *b;
                *b = t;
            }
}

/* The lesion, with a soft edge, in another phantom's lesion-free picture. */
static void move(pair *p, phantom_kind kind, uint64_t item)
{
    static float alpha[SIDE * SIDE];
    pair other = phantom_pair(kind, item, false);
    OK(image_mask_feather(&p->mask, FEATHER, alpha));
    for (int64_t i = 0; i < 3 * SIDE * SIDE; i++) {
        float a = alpha[i / 3], b = other.rgb.px[i];
        p->rgb.px[i] = (uint8_t)(b + a * (p->rgb.px[i] - b) + 0.5F);
    }
    pair_free(&other);
}

static pair near_copy(phantom_kind kind, int k)
{
    pair p = phantom_pair(kind, (uint64_t)(k / KINDS % REFERENCES), true);
    if (k % KINDS == JPEG)
        compress(&p.rgb);
    if (k % KINDS == TURNED)
        turn(&p, k / KINDS % 2 ? 2 : -2);
    if (k % KINDS == MIRRORED) {
        mirror(&p.rgb);
        mirror(&p.mask);
    }
    if (k % KINDS == MOVED)
        move(&p, kind, 5000 + (uint64_t)k);
    return p;
}

/* Noise of the full range, coloured and gray by turns, with a reference's mask. */
static pair noise(phantom_kind kind, int k)
{
    pair p = phantom_pair(kind, (uint64_t)k % REFERENCES, true);
    md_rng r = md_rng_at(1, MD_RNG_TEST, (uint64_t)k, 0);
    for (int64_t i = 0; i < 3 * SIDE * SIDE; i++)
        p.rgb.px[i] = k % 2 && i % 3 ? p.rgb.px[i - 1] : (uint8_t)md_rng_below(&r, 256);
    return p;
}

/* z [2,WIDTH_MAX]: whole, and the lesion alone as assessment looks at it. */
static void encode_pair(features *f, const pair *p, float *z)
{
    image cut[2] = {p->rgb};
    float both[2 * WIDTH_MAX];
    int64_t d = features_width(f);
    assert_true(d <= WIDTH_MAX);
    OK(references_lesion(&p->rgb, &p->mask, &cut[1]));
    OK(features_encode(f, cut, 2, both));
    for (int v = 0; v < 2; v++)
        memcpy(z + v * WIDTH_MAX, both + v * d, (size_t)d * sizeof *z);
    image_free(&cut[1]);
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* The similarity to the nearest reference and the mean of the five nearest, `skip` left out. */
static void compare(const float *z, float (*reference)[2][2][WIDTH_MAX], int v, int skip,
                    double out[2])
{
    double s[REFERENCES], sum = 0;
    int n = 0;
    for (int i = 0; i < REFERENCES; i++) {
        double best = -1;
        if (i == skip)
            continue;
        for (int m = 0; m < 2; m++) { /* as it is and mirrored */
            double dot = 0;
            for (int k = 0; k < WIDTH_MAX; k++)
                dot += (double)z[v * WIDTH_MAX + k] * (double)reference[i][m][v][k];
            best = fmax(best, dot);
        }
        s[n++] = best;
    }
    qsort(s, (size_t)n, sizeof *s, descending);
    for (int i = 0; i < FIVE; i++)
        sum += s[i] / FIVE;
    out[0] = s[0];
    out[1] = sum;
}

typedef struct outcome {
    int caught, of_kind[KINDS], noise;
} outcome;

static outcome judge(features *f, phantom_kind kind)
{
    static float reference[REFERENCES][2][2]
                          [WIDTH_MAX]; /* of which one: as it is, mirrored; view */
    static float z[2 * WIDTH_MAX];
    double nearest[2][REFERENCES], five[2][REFERENCES], s[2], high[2], low[2];
    outcome o = {0};
    memset(reference, 0, sizeof reference);
    memset(z, 0, sizeof z);
    for (int i = 0; i < REFERENCES; i++) {
        pair p = phantom_pair(kind, (uint64_t)i, true);
        encode_pair(f, &p, reference[i][0][0]);
        mirror(&p.rgb);
        mirror(&p.mask);
        encode_pair(f, &p, reference[i][1][0]);
        pair_free(&p);
    }
    for (int v = 0; v < 2; v++) {
        for (int i = 0; i < REFERENCES; i++) {
            compare(reference[i][0][0], reference, v, i, s);
            nearest[v][i] = s[0];
            five[v][i] = s[1];
        }
        /* the extremes: no reference is rejected */
        high[v] = band_quantile(nearest[v], REFERENCES, 1);
        low[v] = band_quantile(five[v], REFERENCES, 0);
    }
    for (int k = 0; k < COPIES + NOISE; k++) {
        pair p = k < COPIES ? near_copy(kind, k) : noise(kind, k - COPIES);
        bool too_similar = false, too_dissimilar = false;
        encode_pair(f, &p, z);
        for (int v = 0; v < 2; v++) {
            compare(z, reference, v, -1, s);
            too_similar |= s[0] > high[v];
            too_dissimilar |= s[1] < low[v];
        }
        if (k < COPIES) {
            o.caught += too_similar;
            o.of_kind[k % KINDS] += too_similar;
        } else {
            o.noise += too_dissimilar;
        }
        pair_free(&p);
    }
    printf("%s: %d of %d copies caught (compressed %d, turned %d, mirrored %d, moved %d), %d of %d "
           "noise images\n",
           kind == PHANTOM_SKIN ? "skin" : "ultrasound", o.caught, COPIES, o.of_kind[JPEG],
           o.of_kind[TURNED], o.of_kind[MIRRORED], o.of_kind[MOVED], o.noise, NOISE);
    return o;
}

static void test_copies_and_noise(void **state)
{
    (void)state;
    features *f;
    OK(features_open(tiny, &f));
    OK(features_plan(f, be, MD_F32, 2));
    OK(features_load(f));
    for (int kind = 0; kind < 2; kind++) {
        outcome o = judge(f, kind ? PHANTOM_ULTRASOUND : PHANTOM_SKIN);
        assert_true(o.caught >= 95 && o.of_kind[TURNED] >= TURNED_LEAST);
        assert_int_equal(o.noise, NOISE);
    }
    features_free(f);
}

static void test_control(void **state)
{
    (void)state;
    features *f;
    standalone *s;
    preprocess p;
    OK(standalone_open(MODEL_DINO, tiny, &s));
    OK(preprocess_read(tiny, &p));
    OK(standalone_randomize(s, be, 1));
    OK(features_wrap(s, &p, &f));
    OK(features_plan(f, be, MD_F32, 2));
    OK(features_load(f));
    (void)judge(f, PHANTOM_SKIN);
    /* the other kinds differ so little from what they copy that any weights know them */
    assert_true(judge(f, PHANTOM_ULTRASOUND).of_kind[TURNED] < TURNED_LEAST);
    features_free(f);
    standalone_free(s, be);
}

static int open_backend(void **state)
{
    (void)state;
    return cpu_backend_open(&be, 1) != MD_OK;
}

static int close_backend(void **state)
{
    (void)state;
    be->ops->close(be);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies_and_noise),
        cmocka_unit_test(test_control),
    };
    return cmocka_run_group_tests(tests, open_backend, close_backend);
}

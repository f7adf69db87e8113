/* The autoencoder of data/tiny on pictures it never saw: BUSI at 27 dB or better, ISIC 2018 within
   1 dB of what bicubic resampling keeps at the latent's size, as means over each data set. Its
   control is the same autoencoder with random weights. Borders of the letterbox do not count. */
#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "image/fit.h"
#include "image/image.h"
#include "image/procedural.h"
#include "model/codec.h"
#include "model/foundation.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SIDE = 128, SKIP = 77, MAX_DEPTH = 4 };

static const char tiny[] = "data/tiny", real[] = "../shared/data/real";

static struct {
    md_backend *be;
    foundation *f;
    codec *vae;
} machine;

static void must(md_status status)
{
    if (status != MD_OK)
        fail_msg("%s", md_status_text());
}

typedef struct score {
    int n;
    double vae, bicubic; /* sums of dB */
} score;

/* dB between the parts of two [SIDE,SIDE,3] pictures that show the source. */
static double psnr(const image *a, const image *b, const image_fit_map *m)
{
    double sum = 0;
    for (int64_t y = m->y0; y < m->y1; y++)
        for (int64_t i = 3 * (y * SIDE + m->x0); i < 3 * (y * SIDE + m->x1); i++) {
            double d = (double)a->px[i] - (double)b->px[i];
            sum += d * d;
        }
    double mse = sum / (double)(3 * (m->y1 - m->y0) * (m->x1 - m->x0));
    return 10 * log10(255.0 * 255.0 / fmax(mse, 0.01));
}

static void through_vae(const image *in, image *out)
{
    int64_t edge = codec_edge(machine.vae), c = machine.f->vae->latent_channels;
    float *moments = malloc((size_t)(edge * edge * 2 * c) * sizeof *moments);
    float *z = malloc((size_t)(edge * edge * c) * sizeof *z);
    assert_non_null(moments);
    assert_non_null(z);
    must(image_new(out, SIDE, SIDE, 3));
    must(codec_encode(machine.vae, in->px, 1, moments));
    for (int64_t i = 0; i < edge * edge; i++)
        memcpy(z + i * c, moments + i * 2 * c, (size_t)c * sizeof *z);
    must(codec_decode(machine.vae, z, 1, out->px));
    free(moments);
    free(z);
}

static void add_picture(const image *rgb, score *s)
{
    int64_t edge = codec_edge(machine.vae);
    image square = {0}, seen = {0}, small = {0}, large = {0};
    image_fit_map map;
    must(image_fit(rgb, SIDE, IMAGE_LETTERBOX, IMAGE_BICUBIC, &square, &map));
    must(image_resize(&square, edge, edge, IMAGE_BICUBIC, &small));
    must(image_resize(&small, SIDE, SIDE, IMAGE_BICUBIC, &large));
    through_vae(&square, &seen);
    s->n++;
    s->vae += psnr(&square, &seen, &map);
    s->bicubic += psnr(&square, &large, &map);
    image_free(&square);
    image_free(&seen);
    image_free(&small);
    image_free(&large);
}

static bool is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcmp(dot, ".png") || !strcmp(dot, ".jpg")) && !strstr(name, "_mask") &&
           !strstr(name, "_segmentation");
}

/* All pictures below a folder, without masks. */
static void add_folder(const char *folder, int depth, score *s)
{
    char **names = NULL;
    size_t n = 0;
    must(md_dir_list(folder, &names, &n));
    for (size_t i = 0; i < n; i++) {
        char path[1024];
        must(md_path_join(path, sizeof path, folder, names[i]));
        if (is_picture(names[i])) {
            image im = {0}, rgb = {0};
            must(image_read(path, &im));
            must(image_to_rgb(&im, &rgb));
            add_picture(&rgb, s);
            image_free(&im);
            image_free(&rgb);
        } else if (!strchr(names[i], '.') && depth < MAX_DEPTH) {
            add_folder(path, depth + 1, s);
        }
    }
    free(names);
}

static score measure(const char *set)
{
    char path[1024];
    score s = {0};
    must(md_path_join(path, sizeof path, real, set));
    add_folder(path, 0, &s);
    assert_true(s.n >= 30);
    s.vae /= s.n;
    s.bicubic /= s.n;
    print_message("%s: %d pictures, %.2f dB; bicubic %.2f dB\n", set, s.n, s.vae, s.bicubic);
    return s;
}

static void test_busi(void **state)
{
    (void)state;
    if (!md_file_exists(real))
        skip();
    assert_true(measure("busi").vae >= 27.0);
}

static void test_isic(void **state)
{
    (void)state;
    if (!md_file_exists(real))
        skip();
    score s = measure("isic2018");
    assert_true(s.vae >= s.bicubic - 1.0);
}

/* Procedural pictures of a seed that no training used; every machine can run this one. */
static void test_held_back_procedural(void **state)
{
    (void)state;
    score s = {0};
    for (uint64_t item = 0; item < 100; item++) {
        char caption[PROCEDURAL_CAPTION];
        image rgb = {0};
        must(image_new(&rgb, SIDE, SIDE, 3));
        procedural_draw(UINT64_C(987654321), item, SIDE, rgb.px, caption);
        add_picture(&rgb, &s);
        image_free(&rgb);
    }
    print_message("procedural: %.2f dB; bicubic %.2f dB\n", s.vae / s.n, s.bicubic / s.n);
    assert_true(s.vae / s.n >= 26.0);
}

static void open_vae(bool random)
{
    must(cpu_backend_open(&machine.be, 0));
    must(foundation_open(tiny, &machine.f));
    must(random ? foundation_randomize(machine.f, MODEL_VAE, machine.be, 1)
                : foundation_load(machine.f, MODEL_VAE, machine.be));
    must(codec_new(machine.be, machine.f->vae, machine.f->params[MODEL_VAE], MD_F32, SIDE, 1, 1,
                   &machine.vae));
    must(codec_load(machine.vae));
}

static void close_vae(void)
{
    codec_free(machine.vae);
    foundation_free(machine.f, machine.be);
    machine.be->ops->close(machine.be);
}

static void test_random_weights_fail(void **state)
{
    (void)state;
    close_vae();
    open_vae(true);
    score s = {0};
    for (uint64_t item = 0; item < 10; item++) {
        char caption[PROCEDURAL_CAPTION];
        image rgb = {0};
        must(image_new(&rgb, SIDE, SIDE, 3));
        procedural_draw(UINT64_C(987654321), item, SIDE, rgb.px, caption);
        add_picture(&rgb, &s);
        image_free(&rgb);
    }
    assert_true(s.vae / s.n < 18.0);
}

static int open_once(void **state)
{
    (void)state;
    open_vae(false);
    return 0;
}

static int close_once(void **state)
{
    (void)state;
    close_vae();
    return 0;
}

int main(void)
{
    if (!md_file_exists(tiny)) {
        print_message("skipped: there is no %s\n", tiny);
        return SKIP;
    }
    if (!md_file_exists(real))
        print_message("%s is missing: real pictures are not measured\n", real);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busi),
        cmocka_unit_test(test_isic),
        cmocka_unit_test(test_held_back_procedural),
        cmocka_unit_test(test_random_weights_fail),
    };
    return cmocka_run_group_tests(tests, open_once, close_once);
}

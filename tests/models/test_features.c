/* An encoder's preprocessing and features against transformers (tests/golden/make_features.py), and
   what a preprocessor_config.json may say. */
#include "backend/cpu/cpu.h"
#include "format/safetensors.h"
#include "model/features.h"
#include "scratch.h"

#define FOLDER "tests/golden/features"

enum { PICTURES = 6 };

static format_tensors *golden;

/* Values of the golden tensor "<name>.<k>"; *t its description. */
static float *values(const char *name, int k, const format_tensor **t)
{
    char full[32];
    (void)snprintf(full, sizeof full, "%s.%d", name, k);
    *t = format_tensors_find(golden, full);
    assert_non_null(*t);
    float *v = malloc((size_t)(*t)->numel * sizeof *v);
    OK(format_tensors_read_f32(golden, *t, 0, (*t)->numel, v));
    return v;
}

static image picture(const char *name, int k)
{
    const format_tensor *t;
    image im;
    float *v = values(name, k, &t);
    OK(image_new(&im, t->dim[0], t->dim[1], 3));
    for (int64_t i = 0; i < t->numel; i++)
        im.px[i] = (uint8_t)v[i];
    free(v);
    return im;
}

static void test_preprocessing(void **state)
{
    (void)state;
    preprocess p;
    OK(preprocess_read(FOLDER, &p));
    assert_int_equal(p.edge, 24);
    assert_int_equal(p.crop, 20);
    for (int k = 0; k < PICTURES; k++) {
        image rgb = picture("rgb", k), want = picture("cut", k), got;
        OK(preprocess_cut(&p, &rgb, &got));
        assert_int_equal(got.h, want.h);
        assert_memory_equal(got.px, want.px, (size_t)(3 * want.h * want.w));
        image_free(&rgb);
        image_free(&want);
        image_free(&got);
    }
    const format_tensor *t;
    float *want = values("pixels", 1, &t), *got = malloc((size_t)t->numel * sizeof *got);
    image rgb = picture("rgb", 1);
    OK(preprocess_apply(&p, &rgb, got));
    for (int64_t i = 0; i < t->numel; i++)
        assert_float_equal(got[i], want[i], 1e-6);
    free(want);
    free(got);
    image_free(&rgb);
}

/* All pictures in batches of `batch`, against transformers; relative to the length, which is one.
 */
static double worst(md_backend *on, md_dtype dtype, int batch, float *got)
{
    features *f;
    image rgb[PICTURES];
    double most = 0;
    OK(features_open(FOLDER, &f));
    OK(features_plan(f, on, dtype, batch));
    OK(features_load(f));
    assert_int_equal(features_width(f), 8);
    for (int k = 0; k < PICTURES; k++)
        rgb[k] = picture("rgb", k);
    OK(features_encode(f, rgb, PICTURES, got));
    for (int k = 0; k < PICTURES; k++) {
        const format_tensor *t;
        float *want = values("class", k, &t);
        double sum = 0;
        for (int i = 0; i < 8; i++)
            sum += pow(got[8 * k + i] - want[i], 2);
        most = fmax(most, sqrt(sum));
        free(want);
        image_free(&rgb[k]);
    }
    features_free(f);
    return most;
}

static void test_features(void **state)
{
    (void)state;
    md_backend *cpu;
    float one[8 * PICTURES], four[8 * PICTURES];
    OK(cpu_backend_open(&cpu, 1));
    assert_true(worst(be, MD_F32, 4, one) < 3e-7);
    assert_true(worst(cpu, MD_F32, 1, one) < 1e-5);
    assert_true(worst(cpu, MD_F32, 4, four) < 1e-5);
    assert_memory_equal(one, four, sizeof one);
    assert_true(worst(cpu, MD_BF16, 4, four) < 0.02);
    cpu->ops->close(cpu);
}

/* The text of `keys` as a whole file. */
static md_status parse(const char *keys, preprocess *p)
{
    char text[512];
    format_json *doc;
    (void)snprintf(text, sizeof text, "{%s}", keys);
    MD_TRY(format_json_parse("p.json", text, strlen(text), &doc));
    md_status status = preprocess_parse(doc, p);
    format_json_free(doc);
    return status;
}

static void test_parse(void **state)
{
    (void)state;
    preprocess p, q;
    OK(parse("", &p));
    assert_int_equal(p.edge, 256);
    assert_int_equal(p.crop, 224);
    OK(parse("\"size\": 64, \"crop_size\": 48, \"resample\": 2, \"rescale_factor\": 0.5, "
             "\"image_mean\": [1, 2, 3], \"image_std\": [4, 5, 6], \"do_flip\": false",
             &p));
    assert_true(p.edge == 64 && p.crop == 48 && p.filter == IMAGE_BILINEAR && p.scale == 0.5);
    assert_true(p.mean[2] == 3 && p.deviation[0] == 4);
    OK(preprocess_write(root, &p));
    OK(preprocess_read(root, &q));
    assert_true(p.edge == q.edge && p.crop == q.crop && p.filter == q.filter && p.scale == q.scale);
    assert_memory_equal(p.mean, q.mean, sizeof p.mean);
    assert_memory_equal(p.deviation, q.deviation, sizeof p.deviation);
    static const struct {
        const char *keys, *text;
    } refused[] = {
        {"\"do_resize\": false", "do_resize is false"},
        {"\"do_center_crop\": false", "do_center_crop is false"},
        {"\"do_normalize\": false", "do_normalize is false"},
        {"\"do_rescale\": 1", "do_rescale"},
        {"\"do_pad\": true", "the step do_pad"},
        {"\"image_processor_type\": \"CLIPImageProcessor\"", "CLIPImageProcessor"},
        {"\"size\": {\"height\": 224, \"width\": 224}", "shortest_edge"},
        {"\"size\": 128", "crop_size 224 is larger"},
        {"\"crop_size\": {\"height\": 224, \"width\": 112}", "224 x 112"},
        {"\"crop_size\": 0", "crop_size"},
        {"\"resample\": 5", "Hamming"},
        {"\"resample\": 9", "resample"},
        {"\"rescale_factor\": 0", "rescale_factor"},
        {"\"image_std\": [1, 1, 0]", "image_std[2]"},
        {"\"image_mean\": [1, 1]", "image_mean has 2"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        FAILS(parse(refused[i].keys, &p), MD_BAD_INPUT, refused[i].text);
}

static void test_hash(void **state)
{
    (void)state;
    features *f;
    char plain[MD_SHA256_HEX], other[MD_SHA256_HEX];
    OK(features_open(FOLDER, &f));
    OK(features_hash(f, plain));
    features_free(f);
    shell("cp \"$OLDPWD\"/" FOLDER "/*.json \"$OLDPWD\"/" FOLDER "/model.safetensors . && "
          "sed -i 's/\"shortest_edge\": 24/\"shortest_edge\": 25/' preprocessor_config.json");
    OK(features_open(root, &f));
    OK(features_hash(f, other));
    features_free(f);
    assert_string_not_equal(plain, other);
    shell("sed -i 's/: 20/: 18/' preprocessor_config.json");
    FAILS(features_open(root, &f), MD_BAD_INPUT, "no multiple of patch_size 4");
}

static int open_golden(void **state)
{
    return scratch_open(state) ||
           format_tensors_open(FOLDER "/expected.safetensors", &golden) != MD_OK;
}

static int close_golden(void **state)
{
    format_tensors_close(golden);
    return scratch_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preprocessing),
        cmocka_unit_test(test_features),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}

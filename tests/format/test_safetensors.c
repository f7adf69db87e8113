/* safetensors: every dtype as the original writes it, shards, round trips, every kind of lie. */
#include "support/expect.h"
#include "support/tmp_dir.h"

#include "base/bf16.h"
#include "base/file.h"
#include "format/json.h"
#include "format/safetensors.h"

#include <math.h>
#include <unistd.h>

#define FOLDER "tests/format/safetensors"

static void every_dtype(void **state)
{
    (void)state;
    static const char *const names[] = {"f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8"};
    static const float v[6] = {0.0f, -1.0f, 1.5f, 2.0f, 3.0f, 100.0f};
    format_tensors *f = NULL;
    const format_tensor *t = NULL;
    const int64_t dim[2] = {2, 3}, wrong[2] = {3, 2};
    float x[6];
    OK(format_tensors_open(FOLDER "/all.safetensors", &f));
    assert_int_equal(format_tensors_count(f), 13);
    for (int64_t i = 1; i < 13; i++)
        assert_true(strcmp(format_tensors_at(f, i - 1)->name, format_tensors_at(f, i)->name) < 0);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char name[32];
        snprintf(name, sizeof name, "all.%s", names[k]);
        OK(format_tensors_get(f, name, 2, dim, &t));
        OK(format_tensors_read_f32(f, t, 0, 6, x));
        for (int i = 0; i < 6; i++)
            assert_true(x[i] == (k >= 4 ? truncf(v[i]) : v[i]));
        OK(format_tensors_read_f32(f, t, 4, 2, x));
        assert_true(x[0] == 3 && x[1] == 100);
    }
    OK(format_tensors_get(f, "all.bool", 2, dim, &t));
    OK(format_tensors_read_f32(f, t, 0, 6, x));
    assert_true(x[0] == 0 && x[1] == 1 && x[5] == 1);
    OK(format_tensors_get(f, "scalar", 0, NULL, &t));
    assert_int_equal(t->ndim, 0);
    OK(format_tensors_read_f32(f, t, 0, 1, x));
    assert_true(x[0] == 0.25f);
    OK(format_tensors_get(f, "tiny.f16", 0, NULL, &t));
    OK(format_tensors_read_f32(f, t, 0, 4, x));
    assert_true(x[0] == 0x1p-24f && x[1] == 0x1p-23f && x[3] == -65504);
    assert_string_equal(format_tensors_meta(f, "note"), "a \"b\" \xc3\xa9");
    assert_null(format_tensors_meta(f, "none"));
    assert_int_equal(format_tensors_n_meta(f), 2);
    assert_null(format_tensors_find(f, "all"));
    FAILS(format_tensors_get(f, "all.f32", 2, wrong, &t), MD_BAD_INPUT, "[2,3], wanted: [3,2]");
    FAILS(format_tensors_get(f, "nope", 2, wrong, &t), MD_BAD_INPUT, "no tensor nope");
    FAILS(format_tensors_read_f32(f, t, 3, 4, x), MD_INTERNAL, "tiny.f16");
    format_tensors_close(f);
}

static void shards(void **state)
{
    (void)state;
    format_tensors *f = NULL;
    float x[6];
    OK(format_tensors_open(FOLDER "/model.safetensors.index.json", &f));
    assert_int_equal(format_tensors_count(f), 2);
    OK(format_tensors_read_f32(f, format_tensors_find(f, "b.weight"), 0, 4, x));
    assert_true(x[0] == 10 && x[3] == 13);
    OK(format_tensors_read_f32(f, format_tensors_find(f, "a.weight"), 0, 6, x));
    assert_true(x[5] == 5);
    assert_string_equal(format_tensors_meta(f, "format"), "pt");
    format_tensors_close(f);
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"{\"weight_map\": {\"c\": \"../x\"}}", "tensor c"},
        {"{\"weight_map\": {\"c\": 1}}", "tensor c"},
        {"{\"weight_map\": [1]}", "weight_map is array"},
        {"{}", "weight_map is nothing"},
        {"{\"weight_map\": {\"c\": \"none.safetensors\"}}", "none.safetensors"},
    };
    char path[64];
    snprintf(path, sizeof path, "/tmp/meddiff-shards-%ld.json", (long)getpid());
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OK(md_file_write_atomic(path, rows[i].text, strlen(rows[i].text)));
        FAILS(format_tensors_open(path, &f), MD_BAD_INPUT, rows[i].message);
    }
    unlink(path);
}

/* Two files of one tensor each and an index; then what an index can claim about them. */
static void shard_lies(void **state)
{
    (void)state;
    char dir[256], path[512];
    assert_non_null(tmp_dir_make(dir));
    const int64_t one[1] = {1};
    for (int i = 0; i < 2; i++) {
        format_writer *w = NULL;
        snprintf(path, sizeof path, "%s/%c.safetensors", dir, 'x' + i);
        OK(format_writer_new(path, &w));
        OK(format_writer_declare(w, i ? "b" : "a", FORMAT_F32, 1, one));
        OK(format_writer_put(w, &(float){1}, 1));
        OK(format_writer_finish(w));
        format_writer_free(w);
    }
    snprintf(path, sizeof path, "%s/loop.safetensors", dir);
    assert_int_equal(symlink("loop.safetensors", path), 0);
    static const struct {
        const char *map, *message;
    } rows[] = {
        {"\"a\": \"x.safetensors\", \"b\": \"y.safetensors\"", NULL},
        {"\"a\": \"y.safetensors\", \"b\": \"x.safetensors\"", "tensor a is not in"},
        {"\"a\": \"x.safetensors\", \"b\": \"x.safetensors\"", "tensor b is not in"},
        {"\"a\": \"x.safetensors\", \"a\": \"y.safetensors\"", "\"a\""},
        {"\"a\": \"x.safetensors\", \"c\": \"z.safetensors\"", "z.safetensors: No such file"},
        {"\"a\": \"loop.safetensors\"", "loop.safetensors: its symbolic links lead in a circle"},
        {"\"a\": \"../a/x.safetensors\"", "tensor a: its file is no plain name"},
        {"\"a\": \"/x.safetensors\"", "tensor a: its file is no plain name"},
        {"\"a\": \"..\"", "tensor a: its file is no plain name"},
        {"\"a\": \"\"", "tensor a: its file is no plain name"},
        {"\"a\": \"i.safetensors.index.json\"", "i.safetensors.index.json"},
    };
    snprintf(path, sizeof path, "%s/i.safetensors.index.json", dir);
    format_tensors *f = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        const int n = snprintf(text, sizeof text, "{\"weight_map\": {%s}}", rows[i].map);
        OK(md_file_write_atomic(path, text, (size_t)n));
        if (rows[i].message) {
            FAILS(format_tensors_open(path, &f), MD_BAD_INPUT, rows[i].message);
            continue;
        }
        OK(format_tensors_open(path, &f));
        assert_int_equal(format_tensors_count(f), 2);
        format_tensors_close(f);
    }
    /* a tensor that the index does not name */
    format_writer *w = NULL;
    snprintf(path, sizeof path, "%s/y.safetensors", dir);
    OK(format_writer_new(path, &w));
    OK(format_writer_declare(w, "b", FORMAT_F32, 1, one));
    OK(format_writer_declare(w, "more", FORMAT_F32, 1, one));
    OK(format_writer_put(w, (const float[]){1, 2}, 1));
    OK(format_writer_put(w, (const float[]){1, 2}, 1));
    OK(format_writer_finish(w));
    format_writer_free(w);
    snprintf(path, sizeof path, "%s/i.safetensors.index.json", dir);
    static const char both[] =
        "{\"weight_map\": {\"a\": \"x.safetensors\", \"b\": \"y.safetensors\"}}";
    OK(md_file_write_atomic(path, both, strlen(both)));
    FAILS(format_tensors_open(path, &f), MD_BAD_INPUT, "y.safetensors, which holds 2");
    tmp_dir_remove(dir);
}

/* 100 MB of header, of index and of config, all made of holes. */
static void huge_headers(void **state)
{
    (void)state;
    char path[64];
    format_tensors *f = NULL;
    format_json *doc = NULL;
    const uint64_t length = 100000000;
    snprintf(path, sizeof path, "/tmp/meddiff-huge-%ld.safetensors", (long)getpid());
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(&length, 1, 8, file), 8); /* little-endian */
    assert_int_equal(fwrite("{\"a\":", 1, 5, file), 5);
    assert_int_equal(ftruncate(fileno(file), (off_t)length + 8), 0);
    fclose(file);
    FAILS(format_tensors_open(path, &f), MD_BAD_INPUT, "its header claims 100000000 bytes");
    assert_non_null(strstr(md_status_text(), path));
    FAILS(format_json_load(path, &doc), MD_BAD_INPUT, "100000008 bytes is more than the limit");
    char index[80];
    snprintf(index, sizeof index, "%s.index.json", path);
    assert_int_equal(rename(path, index), 0);
    FAILS(format_tensors_open(index, &f), MD_BAD_INPUT, "100000008 bytes is more than the limit");
    unlink(index);
}

static md_status open_text(const char *header, size_t data, format_tensors **out)
{
    static uint8_t buf[4096];
    const size_t n = strlen(header);
    memset(buf, 0, sizeof buf);
    buf[0] = (uint8_t)n, buf[1] = (uint8_t)(n >> 8);
    memcpy(buf + 8, header, n);
    return format_tensors_open_memory("x.st", buf, 8 + n + data, out);
}

static void lies(void **state)
{
    (void)state;
    format_tensors *f = NULL;
#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
    static const struct {
        const char *header;
        size_t data;
        const char *message;
    } rows[] = {
        {"{" T("a", "F32", "[2]", "[0,8]") "}", 4, "tensor a: bytes 0 to 8"},
        {"{" T("a", "F32", "[2]", "[0,8]") "}", 12, "4 bytes behind"},
        {"{" T("a", "F32", "[3]", "[0,8]") "}", 8, "tensor a: shape and dtype need 12"},
        {"{" T("a", "Q4", "[2]", "[0,8]") "}", 8, "tensor a: unknown dtype \"Q4\""},
        {"{" T("a", "F32", "[-2]", "[0,8]") "}", 8, "tensor a: dimension 0"},
        {"{" T("a", "F32", "[2.0]", "[0,8]") "}", 8, "tensor a: dimension 0"},
        {"{" T("a", "F32", "[4294967296,4294967296]", "[0,8]") "}", 8,
         "tensor a: its shape overflows"},
        {"{" T("a", "F64", "[2305843009213693952]", "[0,0]") "}", 0,
         "tensor a: its shape overflows"},
        {"{" T("a", "F32", "[2]", "[8,0]") "}", 8, "tensor a: bytes 8 to 0"},
        {"{" T("a", "F32", "[2]", "[-8,0]") "}", 8, "tensor a: bytes -8"},
        {"{" T("a", "F32", "[2]", "[0]") "}", 8, "tensor a: data_offsets"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12,
         "tensor b: overlaps"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[1]", "[12,16]") "}", 16,
         "tensor b: a hole"},
        {"{" T("a", "F32", "[2]", "[0,8]") "," T("a", "F32", "[2]", "[8,16]") "}", 16, "\"a\""},
        {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", 8, "tensor a: 9 dimensions"},
        {"{" T("a", "F32", "{}", "[0,8]") "}", 8, "tensor a: shape is object"},
        {"{\"a\":3}", 0, "tensor a is integer"},
        {"{\"__metadata__\":{\"a\":3}}", 0, "__metadata__.a"},
        {"{\"__metadata__\":3}", 0, "__metadata__ is integer"},
        {"{\"a\\n\\u001b[2J\":3}", 0, "tensor a??[2J is integer"}, /* no terminal's command */
        {"{" T("a", "F8_E4M3", "[8]", "[0,8]") "}", 8, "tensor a: unknown dtype \"F8_E4M3\""},
        {"{" T("a", "F32", "[99999999999999999999]", "[0,8]") "}", 8, "line 1"},
        {"{" T("a", "F32", "[9223372036854775807]", "[0,8]") "}", 8,
         "tensor a: its shape overflows"},
        {"{" T("a", "F32", "[0,9223372036854775807,9]", "[0,8]") "}", 8,
         "tensor a: shape and dtype need 0"},
        {"{" T("a", "F32", "[2]", "[9223372036854775800,9223372036854775807]") "}", 8,
         "tensor a: bytes 9223372036854775800"},
        {"[]", 0, "header is array"},
        {"{", 0, "line 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        FAILS(open_text(rows[i].header, rows[i].data, &f), MD_BAD_INPUT, rows[i].message);
    OK(open_text("{" T("b", "F32", "[2]", "[4,12]") "," T("a", "F32", "[1]", "[0,4]") "}  ", 12,
                 &f));
    format_tensors_close(f);
    static const uint8_t big[9] = {0, 0, 0, 0, 0, 0, 0, 1, '{'};
    FAILS(format_tensors_open_memory("x.st", big, 9, &f), MD_BAD_INPUT, "header claims");
    static const uint8_t longer[9] = {9, 0, 0, 0, 0, 0, 0, 0, '{'};
    FAILS(format_tensors_open_memory("x.st", longer, 9, &f), MD_BAD_INPUT, "truncated");
    FAILS(format_tensors_open_memory("x.st", big, 3, &f), MD_BAD_INPUT, "too few");
    static const char *const strangers[][2] = {{"PK\3\4aaaaaa", "pickle"},
                                               {"\x80\2]qaaaaaa", "pickle"},
                                               {"\x80\4\x95qaaaaaa", "pickle"},
                                               {"GGUF\3   aaaaaaaa", "GGUF"},
                                               {"version https://git-lfs", "git lfs pull"},
                                               {"<!DOCTYPE html>", "a web page"},
                                               {"<html lang=en>", "a web page"},
                                               {"nothing known", "header claims"}};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++)
        FAILS(format_tensors_open_memory("x.st", strangers[i][0], strlen(strangers[i][0]), &f),
              MD_BAD_INPUT, strangers[i][1]);
    FAILS(format_tensors_open("no/such.safetensors", &f), MD_BAD_INPUT, "no/such.safetensors");
    FAILS(format_tensors_open("tests", &f), MD_BAD_INPUT, "tests: not a file");
}

/* The real file cut at every length: always an error. */
static void truncated(void **state)
{
    (void)state;
    void *bytes = NULL;
    size_t n = 0;
    format_tensors *f = NULL;
    OK(md_file_read(FOLDER "/all.safetensors", 1 << 20, &bytes, &n));
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *part =
            malloc(cut + 1); /* its own allocation, so that a sanitizer sees overreads */
        memcpy(part, bytes, cut);
        if (format_tensors_open_memory("cut", part, cut, &f) == MD_OK)
            fail_msg("cut at %zu of %zu is accepted", cut, n);
        free(part);
    }
    free(bytes);
}

static void writing(void **state)
{
    (void)state;
    char path[64], head[9] = {0};
    snprintf(path, sizeof path, "/tmp/meddiff-write-%ld.safetensors", (long)getpid());
    enum { N = 300007 };
    const int64_t big[1] = {N}, matrix[2] = {2, 2}, empty[2] = {0, 5};
    const float m[4] = {1.0f, -2.0f, 3.00390625f, 65504.0f}, ids[4] = {0, 1, 2, 76};
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    for (int64_t i = 0; i < N; i++)
        x[i] = (float)sin((double)i) * 3;
    format_writer *w = NULL;
    OK(format_writer_new(path, &w));
    OK(format_writer_meta(w, "format", "pt"));
    OK(format_writer_meta(w, "q\"", "\n"));
    OK(format_writer_declare(w, "z.f32", FORMAT_F32, 1, big));
    OK(format_writer_declare(w, "e", FORMAT_F16, 2, empty));
    OK(format_writer_declare(w, "m.f16", FORMAT_F16, 2, matrix));
    OK(format_writer_declare(w, "m.bf16", FORMAT_BF16, 2, matrix));
    OK(format_writer_declare(w, "ids", FORMAT_I64, 2, matrix));
    FAILS(format_writer_declare(w, "e", FORMAT_F16, 2, empty), MD_INTERNAL, "twice");
    OK(format_writer_put(w, x, 1000));
    OK(format_writer_put(w, x + 1000, N - 1000));
    OK(format_writer_put(w, m, 4));
    FAILS(format_writer_finish(w), MD_INTERNAL, "m.bf16");
    OK(format_writer_put(w, m, 4));
    OK(format_writer_put(w, ids, 4));
    FAILS(format_writer_put(w, m, 1), MD_INTERNAL, "more elements");
    assert_false(md_file_exists(path));
    OK(format_writer_finish(w));
    format_writer_free(w);
    format_tensors *f = NULL;
    OK(format_tensors_open(path, &f));
    OK(format_tensors_read_f32(f, format_tensors_find(f, "z.f32"), 0, N, y));
    assert_memory_equal(x, y, N * sizeof *x);
    OK(format_tensors_read_f32(f, format_tensors_find(f, "m.f16"), 0, 4, y));
    assert_true(y[2] == 3.00390625f && y[3] == 65504);
    OK(format_tensors_read_f32(f, format_tensors_find(f, "m.bf16"), 0, 4, y));
    assert_true(y[1] == -2 && y[2] == 3.0f && y[3] == 65536);
    OK(format_tensors_read_f32(f, format_tensors_find(f, "ids"), 0, 4, y));
    assert_true(y[3] == 76);
    assert_string_equal(format_tensors_meta(f, "q\""), "\n");
    format_tensors_close(f);
    FILE *file = fopen(path, "rb");
    assert_int_equal(fread(head, 1, 8, file), 8);
    fclose(file);
    assert_int_equal(head[0] % 8, 0); /* data aligned, as the original does */
    unlink(path);
    /* f16 overflow is refused, and nothing is left behind */
    const float large[4] = {1, 2, 70000, 1};
    OK(format_writer_new(path, &w));
    OK(format_writer_declare(w, "w", FORMAT_F16, 2, matrix));
    FAILS(format_writer_put(w, large, 4), MD_BAD_INPUT, "tensor w: element 2");
    format_writer_free(w);
    assert_false(md_file_exists(path));
    FAILS(format_writer_new("/no/such/folder/x", &w), MD_IO, "/no/such/folder/x");
    free(x);
    free(y);
}

static void halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = format_f16_to_f32((uint16_t)h), b = md_bf16_to_f32((uint16_t)h);
        if (isnan(f))
            assert_true(isnan(format_f16_to_f32(format_f32_to_f16(f))));
        else
            assert_int_equal(format_f32_to_f16(f), h);
        if (isnan(b))
            assert_true(isnan(md_bf16_to_f32(md_f32_to_bf16(b))));
        else
            assert_int_equal(md_f32_to_bf16(b), h);
        /* halfway between two neighbours goes to the even one, a hair more goes up */
        if (h < 0x7BFF) {
            const float next = format_f16_to_f32((uint16_t)(h + 1)), mid = (f + next) / 2;
            assert_int_equal(format_f32_to_f16(mid), h + (h & 1));
            assert_int_equal(format_f32_to_f16(nextafterf(mid, next)), h + 1);
            assert_int_equal(format_f32_to_f16(nextafterf(mid, f)), h);
        }
        if (h < 0x7F7F) {
            const float next = md_bf16_to_f32((uint16_t)(h + 1));
            const float mid = b + (next - b) / 2;
            assert_int_equal(md_f32_to_bf16(mid), h + (h & 1));
        }
    }
    assert_int_equal(format_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(format_f32_to_f16(65519.9f), 0x7BFF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_dtype),  cmocka_unit_test(shards), cmocka_unit_test(shard_lies),
        cmocka_unit_test(huge_headers), cmocka_unit_test(lies),   cmocka_unit_test(truncated),
        cmocka_unit_test(writing),      cmocka_unit_test(halves)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Fuzz target: what stands in a store. A whole store of two rows, whose root attributes and
   datasets the input replaces by others of any type, size and content; then everything that reads
   one. (The bytes of the file itself are HDF5's to read.) Input: the store's kind, then changes:
   what, which, how much, bytes. */
#include "config/config.h"
#include "fuzz.h"
#include "store/data.h"
#include "store/masks.h"
#include "store/pairs.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 2, EDGE = 8, KINDS = 4, NAMES = 64, NAME = 64, CHANGES = 16 };

static const char *const schemas[KINDS] = {"pairs", "data", "backgrounds", "masks"};
static char folder[] = "/tmp/fuzz_store-XXXXXX";
static uint8_t *whole[KINDS];
static size_t whole_bytes[KINDS];
static char attributes[KINDS][NAMES][NAME], datasets[KINDS][NAMES][NAME];
static int n_attributes[KINDS], n_datasets[KINDS];
static config *settings;

static void must(int good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "fuzz_store: %s: %s\n", what, md_status_text());
    abort();
}

static void path_of(int kind, char path[256])
{
    (void)snprintf(path, 256, "%s/%s.h5", folder, schemas[kind]);
}

static void make_data(const char *path, data_schema schema, const char *text)
{
    const data_info info = {.config = text, .format = "folder", .seed = 7};
    const uint8_t image[EDGE * EDGE * 3] = {1}, map[EDGE * EDGE] = {1};
    const data_row row = {.used = true, .name = "a.png", .licence = "CC0", .size = {EDGE, EDGE}};
    data_store *d;
    must(data_create(path, schema, ROWS, EDGE, &info, &d) == MD_OK, path);
    for (int r = 0; r < ROWS; r++)
        must(data_write_pixels(d, r, image, map) == MD_OK && data_write_row(d, r, &row) == MD_OK,
             path);
    must(data_finish(d) == MD_OK, path);
}

static herr_t note_attribute(hid_t file, const char *name, const H5A_info_t *info, void *user)
{
    const int k = *(int *)user;
    (void)file, (void)info;
    must(n_attributes[k] < NAMES && strlen(name) < NAME, name);
    (void)snprintf(attributes[k][n_attributes[k]++], NAME, "%s", name);
    return 0;
}

static herr_t note_dataset(hid_t file, const char *name, const H5L_info_t *info, void *user)
{
    const int k = *(int *)user;
    (void)file, (void)info;
    must(n_datasets[k] < NAMES && strlen(name) < NAME, name);
    (void)snprintf(datasets[k][n_datasets[k]++], NAME, "%s", name);
    return 0;
}

static void keep(int k)
{
    char path[256];
    path_of(k, path);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    must(file >= 0, path);
    must(H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, NULL, note_attribute, &k) >= 0, path);
    must(H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, NULL, note_dataset, &k) >= 0, path);
    (void)H5Fclose(file);
    FILE *f = fopen(path, "rb");
    must(f && fseek(f, 0, SEEK_END) == 0, path);
    whole_bytes[k] = (size_t)ftell(f);
    whole[k] = malloc(whole_bytes[k]);
    rewind(f);
    must(whole[k] && fread(whole[k], 1, whole_bytes[k], f) == whole_bytes[k], path);
    (void)fclose(f);
}

static void remove_folder(void)
{
    char path[256];
    for (int k = 0; k < KINDS; k++) {
        path_of(k, path);
        (void)unlink(path);
        free(whole[k]);
    }
    (void)rmdir(folder);
    config_free(settings);
}

static void begin(void)
{
    char path[4][256];
    md_status status = MD_OK;
    must(mkdtemp(folder) != NULL, folder);
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    must(config_load(NULL, NULL, 0, &settings) == MD_OK, "settings");
    const char *text = config_text(settings, &status);
    must(status == MD_OK, "settings");
    for (int k = 0; k < KINDS; k++)
        path_of(k, path[k]);
    const pairs_spec pairs = {.rows = ROWS,
                              .height = EDGE,
                              .width = EDGE,
                              .prompt = "p",
                              .config = text,
                              .input = {{"data", "00"}},
                              .n_inputs = 1};
    const masks_spec masks = {.rows = ROWS,
                              .size = EDGE,
                              .attempts = 3,
                              .config = text,
                              .sha256_data = "00",
                              .sha256_model = "11",
                              .limits = {.area = {0, 1}}};
    must(pairs_create(path[0], &pairs) == MD_OK, path[0]);
    make_data(path[1], DATA_IMAGES, text);
    make_data(path[2], DATA_BACKGROUNDS, text);
    must(masks_create(path[3], &masks) == MD_OK, path[3]);
    for (int k = 0; k < KINDS; k++)
        keep(k);
    must(atexit(remove_folder) == 0, "atexit");
}

/* ---- the input */

typedef struct input {
    const uint8_t *at;
    size_t left;
} input;

static uint8_t byte(input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->at++;
}

/* n bytes with zeros behind them, for the caller to free. */
static uint8_t *take(input *in, size_t n, size_t room)
{
    uint8_t *out = calloc(1, room + 1);
    must(out != NULL, "memory");
    n = n < in->left ? n : in->left;
    memcpy(out, in->at, n < room ? n : room);
    in->at += n;
    in->left -= n;
    return out;
}

static hid_t number_type(int which)
{
    const hid_t types[] = {H5T_NATIVE_INT64, H5T_NATIVE_UINT64, H5T_NATIVE_DOUBLE, H5T_NATIVE_UINT8,
                           H5T_NATIVE_FLOAT};
    return types[which % 5];
}

static void write_attribute(hid_t file, const char *name, hid_t type, hsize_t n, const void *value)
{
    hid_t space = n == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL);
    hid_t attr = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attr >= 0) {
        (void)H5Awrite(attr, type, value);
        (void)H5Aclose(attr);
    }
    (void)H5Sclose(space);
}

/* An attribute in place of another: text, numbers, text of a fixed size, or none. */
static void change_attribute(hid_t file, const char *name, input *in)
{
    const int how = byte(in) % 4, which = byte(in);
    const size_t n = byte(in) | (size_t)byte(in) << 8;
    (void)H5Adelete(file, name);
    if (how == 0) {
        char *text = (char *)take(in, n, n);
        hid_t type = H5Tcopy(H5T_C_S1);
        (void)H5Tset_size(type, H5T_VARIABLE);
        write_attribute(file, name, type, 1, &text);
        (void)H5Tclose(type);
        free(text);
    } else if (how == 1) {
        const size_t count = n % 9 + 1;
        uint8_t *value = take(in, 8 * count, 8 * count);
        write_attribute(file, name, number_type(which), count, value);
        free(value);
    } else if (how == 2) {
        const size_t size = n % 300 + 1;
        uint8_t *text = take(in, size, size);
        hid_t type = H5Tcopy(H5T_C_S1);
        (void)H5Tset_size(type, size);
        write_attribute(file, name, type, 1, text);
        (void)H5Tclose(type);
        free(text);
    }
}

/* A dataset's bytes, in its own type, or another dataset in its place. */
static void change_dataset(hid_t file, const char *name, input *in)
{
    const int how = byte(in) % 4, which = byte(in);
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0)
        return;
    hid_t space = H5Dget_space(set), type = H5Dget_type(set);
    if (how < 3) {
        const size_t size = (size_t)H5Sget_simple_extent_npoints(space) * H5Tget_size(type);
        uint8_t *value = take(in, size, size);
        (void)H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, value);
        free(value);
    }
    (void)H5Tclose(type);
    (void)H5Sclose(space);
    (void)H5Dclose(set);
    if (how < 3)
        return;
    const int rank = which % 4;
    hsize_t dim[4];
    for (int d = 0; d < rank; d++)
        dim[d] = byte(in) % 12;
    (void)H5Ldelete(file, name, H5P_DEFAULT);
    space = H5Screate_simple(rank, dim, NULL);
    set = H5Dcreate2(file, name, number_type(which / 4), space, H5P_DEFAULT, H5P_DEFAULT,
                     H5P_DEFAULT);
    if (set >= 0)
        (void)H5Dclose(set);
    (void)H5Sclose(space);
}

/* ---- the readers */

static volatile unsigned sum;

static void note(const char *text)
{
    sum += (unsigned)strlen(text);
}

static void read_pairs(const char *path)
{
    static const char *const names[] = {"prompt", "config", "foundation", "code_version",
                                        "licences"};
    pairs_store *p;
    if (pairs_open_reader(path, &p) != MD_OK)
        return;
    const int64_t rows = pairs_rows(p), h = pairs_height(p), w = pairs_width(p);
    uint8_t *state = malloc((size_t)rows + 1), *image = malloc((size_t)(5 * h * w) + 1);
    int32_t *attempt = malloc(((size_t)rows + 1) * sizeof *attempt);
    must(state && image && attempt, "memory");
    int64_t count[PAIRS_N_STATES];
    (void)!pairs_read_states(p, state);
    (void)!pairs_read_attempts(p, attempt);
    (void)!pairs_count_states(p, count);
    (void)!pairs_count_remarked(p, count);
    for (int64_t r = 0; r < rows; r++) {
        pairs_row row;
        bool good;
        if (pairs_read_row(p, r, &row) == MD_OK)
            note(row.reason);
        (void)!pairs_read_pixels(p, r, image, image + 3 * h * w, image + 4 * h * w);
        (void)!pairs_verify_slot(p, r, &good);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *text;
        if (pairs_text(p, names[i], &text) == MD_OK) {
            note(text);
            free(text);
        }
    }
    config *made;
    if (pairs_config(p, &made) == MD_OK)
        config_free(made);
    uint64_t seed;
    double band[PAIRS_BAND];
    bool real;
    const pairs_input data = {"data", "00"};
    (void)!pairs_seed(p, &seed);
    (void)!pairs_band(p, band);
    (void)!pairs_contains_real_pixels(p, &real);
    (void)!pairs_check_config(p, settings, NULL, &data, 1);
    free(state);
    free(image);
    free(attempt);
    pairs_close(p);
    int64_t torn;
    if (pairs_open_writer(path, &p) == MD_OK) {
        (void)!pairs_repair(p, &torn);
        pairs_close(p);
    }
}

static void read_data(const char *path, data_schema schema)
{
    static const char *const names[] = {"config", "format", "licences", "made_from",
                                        "code_version"};
    data_store *d;
    if (data_open(path, schema, &d) != MD_OK)
        return;
    const int64_t rows = data_rows(d), size = data_size(d);
    uint8_t *px = malloc((size_t)(4 * size * size) + 1);
    must(px != NULL, "memory");
    for (int64_t r = 0; r < rows; r++) {
        data_row row;
        bool good;
        if (data_read_row(d, r, &row) == MD_OK) {
            note(row.name);
            note(row.sha256);
            note(row.licence);
        }
        (void)!data_read_pixels(d, r, px, px + 3 * size * size);
        (void)!data_verify_row(d, r, &good);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *text;
        if (data_text(d, names[i], &text) == MD_OK) {
            note(text);
            free(text);
        }
    }
    uint64_t seed;
    int64_t *ids, n;
    (void)!data_seed(d, &seed);
    if (data_select(d, -1, DATA_TRAIN, false, &ids, &n) == MD_OK)
        free(ids);
    free(px);
    data_close(d);
}

static void read_masks(const char *path)
{
    masks_store *m;
    if (masks_open_reader(path, &m) != MD_OK)
        return;
    const int64_t rows = masks_rows(m), size = masks_size(m);
    uint8_t *px = malloc((size_t)(size * size) + 1), *state = malloc((size_t)rows + 1);
    int32_t *attempt = malloc(((size_t)rows + 1) * sizeof *attempt);
    must(px && state && attempt, "memory");
    (void)!masks_read_states(m, state, attempt);
    for (int64_t r = 0; r < rows; r++) {
        masks_row row;
        if (masks_read_row(m, r, &row) == MD_OK)
            note(row.reason);
        (void)!masks_read_pixels(m, r, px);
    }
    char *text;
    if (masks_text(m, "config", &text) == MD_OK) {
        note(text);
        free(text);
    }
    (void)!masks_check(m, settings, NULL, "00", "11");
    free(px);
    free(state);
    free(attempt);
    masks_close(m);
    int64_t torn;
    if (masks_open_writer(path, &m) == MD_OK) {
        (void)!masks_repair(m, &torn);
        masks_close(m);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, size};
    char path[256];
    if (!whole[0])
        begin();
    const int kind = byte(&in) % KINDS;
    path_of(kind, path);
    FILE *f = fopen(path, "wb");
    must(f && fwrite(whole[kind], 1, whole_bytes[kind], f) == whole_bytes[kind] && fclose(f) == 0,
         path);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    must(file >= 0, path);
    for (int i = 0; i < CHANGES && in.left; i++) {
        const int what = byte(&in);
        if (what & 1)
            change_attribute(file, attributes[kind][what / 2 % n_attributes[kind]], &in);
        else
            change_dataset(file, datasets[kind][what / 2 % n_datasets[kind]], &in);
    }
    must(H5Fclose(file) >= 0, path);
    if (kind == 0)
        read_pairs(path);
    else if (kind == 3)
        read_masks(path);
    else
        read_data(path, kind == 1 ? DATA_IMAGES : DATA_BACKGROUNDS);
    return 0;
}

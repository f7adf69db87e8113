#include "generate/mask_report.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "image/sheet.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NEAREST = IMAGE_SHAPE_N, N_VALUES }; /* of a mask: its shape and its nearest's likeness */
enum { PROBES = 16 };                       /* masks by which randomness is measured */

/* Numbers of a set of masks, by column: value[k][n]. */
typedef struct numbers {
    int64_t n;
    double *value[N_VALUES];
} numbers;

typedef struct report {
    const masks_job *j;
    mask_judge judge;
    mask_hints hints;
    masks_store *store;
    int64_t *slot, *nearest_id; /* [generated.n] */
    numbers real, generated;
    md_text json;
} report;

static const char *value_name(int k)
{
    return k == NEAREST ? "nearest_iou" : image_shape_name(k);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double mask_ks(double *a, int64_t n, double *b, int64_t m)
{
    double most = 0;
    qsort(a, (size_t)n, sizeof *a, ascending);
    qsort(b, (size_t)m, sizeof *b, ascending);
    for (int64_t i = 0, k = 0; i < n && k < m;) {
        double at = a[i] < b[k] ? a[i] : b[k];
        while (i < n && a[i] <= at)
            i++;
        while (k < m && b[k] <= at)
            k++;
        most = fmax(most, fabs((double)i / (double)n - (double)k / (double)m));
    }
    return most;
}

/* ---- the numbers */

static md_status make_numbers(numbers *x, int64_t n)
{
    double *all = malloc((size_t)(n * N_VALUES) * sizeof *all);
    if (!all)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    x->n = n;
    for (int k = 0; k < N_VALUES; k++)
        x->value[k] = all + k * n;
    return MD_OK;
}

static md_status read_real(report *r)
{
    MD_TRY(make_numbers(&r->real, r->judge.real.n));
    for (int64_t i = 0; i < r->real.n; i++) {
        for (int k = 0; k < IMAGE_SHAPE_N; k++)
            r->real.value[k][i] = r->judge.shape[i].value[k];
        r->real.value[NEAREST][i] = r->judge.nearest[i];
    }
    return MD_OK;
}

static md_status read_generated(report *r)
{
    int64_t rows = masks_rows(r->store), n = 0;
    masks_row row;
    MD_TRY(make_numbers(&r->generated, rows));
    r->slot = malloc((size_t)(2 * rows) * sizeof *r->slot);
    if (!r->slot)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    r->nearest_id = r->slot + rows;
    for (int64_t i = 0; i < rows; i++) {
        MD_TRY(masks_read_row(r->store, i, &row));
        if (row.state != MASKS_ACCEPTED)
            continue;
        for (int k = 0; k < IMAGE_SHAPE_N; k++)
            r->generated.value[k][n] = (double)row.shape[k];
        r->generated.value[NEAREST][n] = (double)row.nearest_iou;
        r->nearest_id[n] = row.nearest_id;
        r->slot[n++] = i;
    }
    r->generated.n = n;
    return MD_OK;
}

static void mean_of(const double *x, int64_t n, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    *mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++)
        squares += (x[i] - *mean) * (x[i] - *mean);
    *deviation = sqrt(squares / (double)n);
}

static md_status add_value(report *r, int k, double *real, double *generated)
{
    int64_t n = r->real.n, m = r->generated.n;
    double mean[2], deviation[2];
    memcpy(real, r->real.value[k], (size_t)n * sizeof *real);
    memcpy(generated, r->generated.value[k], (size_t)m * sizeof *generated);
    mean_of(real, n, &mean[0], &deviation[0]);
    mean_of(generated, m, &mean[1], &deviation[1]);
    double ks = mask_ks(real, n, generated, m);
    /* 5 % of pairs of samples from one distribution are farther apart */
    double chance = 1.358 * sqrt(1 / (double)n + 1 / (double)m);
    md_info("masks", "%-12s real %.4f +- %.4f, generated %.4f +- %.4f; KS distance %.3f (%.3f)",
            value_name(k), mean[0], deviation[0], mean[1], deviation[1], ks, chance);
    return md_text_add(&r->json,
                       "  \"%s\": {\"real_mean\": %.6g, \"real_sd\": %.6g, \"real_median\": %.6g, "
                       "\"generated_mean\": %.6g, \"generated_sd\": %.6g, \"generated_median\": "
                       "%.6g, \"ks\": %.6g, \"ks_5_percent\": %.6g},\n",
                       value_name(k), mean[0], deviation[0], real[n / 2], mean[1], deviation[1],
                       generated[m / 2], ks, chance);
}

static md_status add_values(report *r)
{
    double *real = malloc((size_t)(r->real.n + r->generated.n) * sizeof *real);
    md_status status = MD_OK;
    if (!real)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    for (int k = 0; k < N_VALUES && status == MD_OK; k++)
        status = add_value(r, k, real, real + r->real.n);
    free(real);
    return status;
}

static md_status write_csv(const report *r, const char *path)
{
    md_text t = {0};
    md_status status = md_text_add(&t, "kind,row");
    for (int k = 0; k < N_VALUES && status == MD_OK; k++)
        status = md_text_add(&t, ",%s", value_name(k));
    if (status == MD_OK)
        status = md_text_add(&t, ",nearest_row\n");
    for (int64_t i = 0; i < r->real.n + r->generated.n && status == MD_OK; i++) {
        bool real = i < r->real.n;
        const numbers *x = real ? &r->real : &r->generated;
        int64_t at = real ? i : i - r->real.n;
        status = md_text_add(&t, "%s,%lld", real ? "real" : "generated",
                             real ? (long long)r->judge.real.id[at] : (long long)r->slot[at]);
        for (int k = 0; k < N_VALUES && status == MD_OK; k++)
            status = md_text_add(&t, ",%.6g", x->value[k][at]);
        if (status == MD_OK)
            status = real ? md_text_add(&t, ",\n")
                          : md_text_add(&t, ",%lld\n", (long long)r->nearest_id[at]);
    }
    if (status == MD_OK)
        status = md_file_write_atomic(path, t.s, t.n);
    md_text_free(&t);
    return status;
}

/* ---- what randomness adds */

static double iou_as_they_lie(const image *a, const image *b)
{
    int64_t both = 0, either = 0;
    for (int64_t i = 0; i < a->h * a->w; i++) {
        both += a->px[i] && b->px[i];
        either += a->px[i] || b->px[i];
    }
    return either ? (double)both / (double)either : 1;
}

/* Mean over pairs of 1 - IoU: as they lie, and after alignment. */
static md_status diversity(const image mask[PROBES], double out[2])
{
    image_form *turned = malloc((2 * IMAGE_FORM_TURNS + PROBES) * sizeof *turned);
    image_form *form = turned + (size_t)2 * IMAGE_FORM_TURNS;
    md_status status = MD_OK;
    if (!turned)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    out[0] = out[1] = 0;
    for (int i = 0; i < PROBES && status == MD_OK; i++) {
        status = image_form_turned(&mask[i], turned);
        form[i] = turned[0];
        for (int k = 0; k < i && status == MD_OK; k++) {
            out[0] += 1 - iou_as_they_lie(&mask[i], &mask[k]);
            out[1] += 1 - image_form_iou(&form[k], turned);
        }
    }
    free(turned);
    out[0] /= PROBES * (PROBES - 1) / 2;
    out[1] /= PROBES * (PROBES - 1) / 2;
    return status;
}

/* Levels of randomness that are switched on; sketch: nothing to a model that takes none. */
typedef struct levels {
    bool sketch, start, steps, form;
    const char *name;
} levels;

static md_status draw_probes(const report *r, mask_sampler *s, const levels *l, image mask[PROBES])
{
    const masks_job *j = r->j;
    int64_t px = j->view.edge * j->view.edge;
    int batch = (int)config_int(j->cfg, KEY_masks_sample_batch);
    float *pictures = malloc((size_t)(batch * px) * sizeof *pictures);
    bool *finite = malloc((size_t)batch * sizeof *finite);
    md_status status = MD_OK;
    if (!pictures || !finite)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "masks: out of memory");
    for (int first = 0; first < PROBES && status == MD_OK; first += batch) {
        mask_place place[PROBES];
        int n = PROBES - first < batch ? PROBES - first : batch;
        for (int i = 0; i < n; i++)
            place[i] = (mask_place){first + i, 0};
        status = mask_sampler_draw(s, place, n, NULL, NULL, pictures, finite);
        for (int i = 0; i < n && status == MD_OK; i++)
            status = masks_cut(j, place[i], pictures + i * px,
                               l->form ? config_float(j->cfg, KEY_masks_affine) : 0,
                               l->form ? config_float(j->cfg, KEY_masks_threshold) : 0,
                               &mask[first + i]);
    }
    free(pictures);
    free(finite);
    return status;
}

static md_status measure_levels(const report *r, const levels *l, double out[2])
{
    image mask[PROBES] = {0};
    mask_sampler *s = NULL;
    mask_sampler_options o = mask_sampler_options_for(r->j->cfg, &r->hints);
    o.same_start = !l->start;
    o.same_sketch = !l->sketch;
    o.eta = l->steps ? o.eta : 0;
    MD_TRY(mask_sampler_new(r->j->model, r->j->be, &o, &s));
    md_status status = mask_sampler_load(s);
    if (status == MD_OK)
        status = draw_probes(r, s, l, mask);
    if (status == MD_OK)
        status = diversity(mask, out);
    for (int i = 0; i < PROBES; i++)
        image_free(&mask[i]);
    mask_sampler_free(s);
    return status;
}

static md_status add_levels(report *r)
{
    static const levels all[] = {
        {false, false, false, false, "none"},
        {false, true, false, false, "initial noise"},
        {false, true, true, false, "initial noise, step noise"},
        {true, true, true, false, "initial noise, step noise, sketch"},
        {true, true, true, true, "initial noise, step noise, sketch, affine and threshold"},
        {false, false, true, false, "step noise alone"},
        {true, false, false, false, "sketch alone"},
        {false, false, false, true, "affine and threshold alone"},
    };
    double d[2] = {0};
    enum { N = sizeof all / sizeof *all };
    MD_TRY(md_text_add(&r->json, "  \"diversity\": {\n"));
    for (int i = 0; i < N; i++) {
        MD_TRY(measure_levels(r, &all[i], d));
        md_info("masks", "randomness: %s: mean 1 - IoU of two masks %.3f, after alignment %.3f",
                all[i].name, d[0], d[1]);
        MD_TRY(md_text_add(&r->json, "    \"%s\": {\"as_they_lie\": %.6g, \"aligned\": %.6g}%s\n",
                           all[i].name, d[0], d[1], i + 1 < N ? "," : ""));
    }
    return md_text_add(&r->json, "  }\n}\n");
}

/* ---- the sheet */

/* The training mask of a row of data.h5. */
static const image *real_of(const mask_judge *j, int64_t id)
{
    for (int64_t i = 0; i < j->real.n; i++)
        if (j->real.id[i] == id)
            return &j->real.mask[i];
    return &j->real.mask[0];
}

static md_status put(image_sheet *s, int64_t row, int64_t col, const image *mask,
                     const char *caption)
{
    image shown = {0};
    MD_TRY(image_copy(mask, &shown));
    for (int64_t i = 0; i < shown.h * shown.w; i++)
        shown.px[i] = shown.px[i] ? 255 : 0;
    md_status status = image_sheet_put(s, row, col, &shown, caption);
    image_free(&shown);
    return status;
}

/* Columns of a generated mask above its nearest training mask. */
static md_status write_sheet(const report *r, const char *path)
{
    enum { COLS = 10, ROWS = 4, CELL = 96 };
    image_sheet sheet = {0};
    image mask = {0};
    char caption[64];
    int64_t size = masks_size(r->store),
            n = r->generated.n < COLS * ROWS ? r->generated.n : COLS * ROWS;
    MD_TRY(image_new(&mask, size, size, 1));
    md_status status =
        image_sheet_new(&sheet, 2 * ((n + COLS - 1) / COLS), COLS, CELL, CELL, 3, true);
    for (int64_t i = 0; i < n && status == MD_OK; i++) {
        int64_t row = 2 * (i / COLS), col = i % COLS;
        status = masks_read_pixels(r->store, r->slot[i], mask.px);
        if (status == MD_OK)
            status = md_str_printf(caption, sizeof caption, "mask %lld", (long long)r->slot[i]);
        if (status == MD_OK)
            status = put(&sheet, row, col, &mask, caption);
        if (status == MD_OK)
            status = md_str_printf(caption, sizeof caption, "real %lld: %.2f",
                                   (long long)r->nearest_id[i], r->generated.value[NEAREST][i]);
        if (status == MD_OK)
            status = put(&sheet, row + 1, col, real_of(&r->judge, r->nearest_id[i]), caption);
    }
    if (status == MD_OK)
        status = image_write_png(path, &sheet.im, NULL, 0);
    image_sheet_free(&sheet);
    image_free(&mask);
    return status;
}

/* Draws that were not taken, of every start. */
static md_status add_redrawn(report *r)
{
    int64_t count[MASK_N_FAULTS];
    bool known;
    MD_TRY(masks_count_faults(r->store, count, MASK_N_FAULTS, &known));
    if (!known)
        return md_text_add(&r->json, "  \"not_taken\": null,\n");
    for (int f = MASK_EMPTY; f < MASK_N_FAULTS; f++)
        MD_TRY(md_text_add(&r->json, "%s\"%s\": %lld", f > MASK_EMPTY ? ", " : "  \"not_taken\": {",
                           mask_fault_text((mask_fault)f), (long long)count[f]));
    return md_text_add(&r->json, "},\n");
}

static md_status write_all(report *r, const char *json, const char *csv, const char *png)
{
    const masks_job *j = r->j;
    MD_TRY(mask_judge_open(j->data, config_float(j->cfg, KEY_masks_copy), &r->judge));
    MD_TRY(mask_hints_open(j->cfg, &r->judge.real, &j->view, &r->hints));
    MD_TRY(masks_open_reader(j->store, &r->store));
    MD_TRY(read_real(r));
    MD_TRY(read_generated(r));
    MD_TRY(md_text_add(&r->json, "{\n  \"real\": %lld,\n  \"generated\": %lld,\n",
                       (long long)r->real.n, (long long)r->generated.n));
    MD_TRY(add_redrawn(r));
    MD_TRY(write_csv(r, csv));
    MD_TRY(add_values(r));
    MD_TRY(write_sheet(r, png));
    MD_TRY(add_levels(r));
    return md_file_write_atomic(json, r->json.s, r->json.n);
}

md_status mask_report_write(const masks_job *j, const char *json, const char *csv, const char *png)
{
    report r = {.j = j};
    md_status status = write_all(&r, json, csv, png);
    mask_hints_close(&r.hints);
    mask_judge_close(&r.judge);
    masks_close(r.store);
    free(r.slot);
    free(r.real.value[0]);
    free(r.generated.value[0]);
    md_text_free(&r.json);
    return status;
}

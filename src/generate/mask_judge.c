#include "generate/mask_judge.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double COPY_QUANTILE = 0.95;

/* Extremes of so few masks are no range: of further masks 2 in n + 1 would lie outside. Then areas
   may be what guides make of the masks' anyway (0.7 to 1.3 times the size, guide.c), and a copy
   differs by less than a twentieth of its radius. */
enum { FEW = 5 };
static const double FEW_SMALLER = 0.49, FEW_LARGER = 1.69, FEW_COPY = 0.9;

const char *mask_fault_text(mask_fault f)
{
    static const char *const text[] = {
#define X(name, words) words,
        MASK_FAULTS(X)
#undef X
    };
    return text[f];
}

int64_t mask_nearest(const image_form *forms, int64_t n, int64_t but, const image_form *turned,
                     double *iou)
{
    int64_t best = -1;
    *iou = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = i == but ? -1 : image_form_iou(&forms[i], turned);
        if (v > *iou || (best < 0 && v >= 0)) {
            best = i;
            *iou = v;
        }
    }
    return best;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The smallest value that a share q of the n does not exceed. */
static md_status quantile(const double *x, int64_t n, double q, double *out)
{
    double *sorted = malloc((size_t)n * sizeof *sorted);
    if (!sorted)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    memcpy(sorted, x, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    *out = sorted[(int64_t)ceil(q * (double)n) - 1];
    free(sorted);
    return MD_OK;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static md_status learn_ranges(mask_judge *j)
{
    masks_limits *l = &j->limits;
    l->area[0] = INFINITY;
    for (int64_t i = 0; i < j->real.n; i++) {
        image_shape *s = &j->shape[i];
        MD_TRY(image_shape_measure(&j->real.mask[i], s));
        MD_TRY(image_form_make(&j->real.mask[i], &j->form[i]));
        l->area[0] = fmin(l->area[0], s->value[IMAGE_SHAPE_AREA]);
        l->area[1] = fmax(l->area[1], s->value[IMAGE_SHAPE_AREA]);
        l->components = larger(l->components, s->components);
        l->holes = larger(l->holes, s->holes);
        l->border = larger(l->border, s->border);
    }
    if (j->real.n <= FEW) {
        l->area[0] *= FEW_SMALLER;
        l->area[1] = fmin(1, l->area[1] * FEW_LARGER);
    }
    return MD_OK;
}

static md_status learn_copies(mask_judge *j, double copy)
{
    image_form *turned = malloc(2 * IMAGE_FORM_TURNS * sizeof *turned);
    md_status status = MD_OK;
    if (!turned)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    for (int64_t i = 0; i < j->real.n && status == MD_OK; i++) {
        status = image_form_turned(&j->real.mask[i], turned);
        if (status == MD_OK)
            (void)mask_nearest(j->form, j->real.n, i, turned, &j->nearest[i]);
    }
    free(turned);
    MD_TRY(status);
    j->limits.copy = copy;
    if (copy > 0)
        return MD_OK;
    MD_TRY(quantile(j->nearest, j->real.n, COPY_QUANTILE, &j->limits.copy));
    if (j->real.n <= FEW)
        j->limits.copy = fmax(j->limits.copy, FEW_COPY);
    return MD_OK;
}

md_status mask_judge_masks(const char *data_h5, guide_bank *out)
{
    guide_bank b;
    MD_TRY(guide_bank_open(data_h5, &b));
    int64_t n = b.n;
    if (n < 2) {
        guide_bank_free(&b);
        MD_FAIL(MD_BAD_INPUT,
                "%s: %lld training mask: new ones can only be told from copies where there are two "
                "or more; set guide.from = \"data\" for guides from the training masks, or raise "
                "data.pairs",
                data_h5, (long long)n);
    }
    *out = b;
    return MD_OK;
}

md_status mask_judge_open(const char *data_h5, double copy, mask_judge *out)
{
    mask_judge j = {0};
    MD_TRY(mask_judge_masks(data_h5, &j.real));
    size_t n = (size_t)j.real.n;
    j.form = malloc(n * sizeof *j.form);
    j.shape = malloc(n * sizeof *j.shape);
    j.nearest = malloc(n * sizeof *j.nearest);
    md_status status = MD_OK;
    if (!j.form || !j.shape || !j.nearest)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "masks: out of memory");
    if (status == MD_OK)
        status = learn_ranges(&j);
    if (status == MD_OK)
        status = learn_copies(&j, copy);
    if (status != MD_OK)
        mask_judge_close(&j);
    else
        *out = j;
    return status;
}

void mask_judge_close(mask_judge *j)
{
    guide_bank_free(&j->real);
    free(j->form);
    free(j->shape);
    free(j->nearest);
    *j = (mask_judge){0};
}

static mask_fault fault_of(const masks_limits *l, const mask_seen *s)
{
    double area = s->shape.value[IMAGE_SHAPE_AREA];
    return area <= 0                             ? MASK_EMPTY
           : area < l->area[0]                   ? MASK_SMALL
           : area > l->area[1]                   ? MASK_LARGE
           : s->shape.components > l->components ? MASK_COMPONENTS
           : s->shape.holes > l->holes           ? MASK_HOLES
           : s->shape.border > l->border         ? MASK_BORDER
           : s->nearest_iou > l->copy            ? MASK_COPY
                                                 : MASK_FINE;
}

md_status mask_judge_see(const mask_judge *j, const image *mask, mask_seen *out)
{
    mask_seen s = {.nearest_id = -1};
    MD_TRY(image_shape_measure(mask, &s.shape));
    image_form *turned = malloc(2 * IMAGE_FORM_TURNS * sizeof *turned);
    if (!turned)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    md_status status = image_form_turned(mask, turned);
    if (status == MD_OK && s.shape.value[IMAGE_SHAPE_AREA] > 0)
        s.nearest_id = j->real.id[mask_nearest(j->form, j->real.n, -1, turned, &s.nearest_iou)];
    free(turned);
    MD_TRY(status);
    s.fault = fault_of(&j->limits, &s);
    *out = s;
    return MD_OK;
}

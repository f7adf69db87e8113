/* What the training masks say about sampled ones: the ranges they keep to, and how alike two masks
   of the data set are, so that a sampled one that is more alike to one of them is a copy. */
#ifndef MD_GENERATE_MASK_JUDGE_H
#define MD_GENERATE_MASK_JUDGE_H

#include "generate/guide.h"
#include "image/shape.h"
#include "store/masks.h"

/* Why a mask is drawn again. Appended to only: numbers travel between ranks. */
#define MASK_FAULTS(X)                                                                             \
    X(FINE, "fine")                                                                                \
    X(EMPTY, "empty")                                                                              \
    X(SMALL, "too small")                                                                          \
    X(LARGE, "too large")                                                                          \
    X(COMPONENTS, "too many parts")                                                                \
    X(HOLES, "too many holes")                                                                     \
    X(BORDER, "too much at the border")                                                            \
    X(COPY, "copy of a training mask")                                                             \
    X(TWIN, "twin of another")
typedef enum mask_fault {
#define X(name, text) MASK_##name,
    MASK_FAULTS(X)
#undef X
        MASK_N_FAULTS
} mask_fault;
const char *mask_fault_text(mask_fault f);

/* Of two sampled masks, after alignment: outlines that differ by a hundredth of their radius. */
#define MASK_TWIN_IOU 0.98

typedef struct mask_judge {
    guide_bank real;     /* the training masks */
    image_form *form;    /* [n] */
    image_shape *shape;  /* [n] */
    double *nearest;     /* [n]: leave one out, the most alike other one */
    masks_limits limits; /* area, components, holes, border: their extremes */
} mask_judge;

/* The training masks that masks are learnt from. MD_BAD_INPUT where they are fewer than two, and
   where guide_bank_open says so. Local. */
MD_MUST md_status mask_judge_masks(const char *data_h5, guide_bank *out);
/* copy: limits.copy; 0: the quantile 0.95 of `nearest`. Of five masks and fewer the extremes say
   little: areas from 0.49 of the smallest to 1.69 of the largest, copy at least 0.9. MD_BAD_INPUT
   as above. Local. */
MD_MUST md_status mask_judge_open(const char *data_h5, double copy, mask_judge *out);
void mask_judge_close(mask_judge *j);

typedef struct mask_seen {
    mask_fault fault; /* the first one found; never MASK_TWIN */
    image_shape shape;
    int32_t nearest_id; /* row of data.h5 */
    double nearest_iou;
} mask_seen;
MD_MUST md_status mask_judge_see(const mask_judge *j, const image *mask, mask_seen *out);

/* The most alike of n forms but `but` (-1: none is left out): its index, -1 where n = 0, and the
   intersection over union with it. */
int64_t mask_nearest(const image_form *forms, int64_t n, int64_t but, const image_form *turned,
                     double *iou);

#endif

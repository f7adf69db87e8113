/* The mask generator's task: denoise pictures of masks (Ho et al. 2020, arXiv:2006.11239), on the
   masks of the training pairs alone. Pictures are signed distances (image/mask_field.h), moved a
   little each time. */
#ifndef MD_TRAIN_MASKS_H
#define MD_TRAIN_MASKS_H

#include "config/config.h"
#include "diffusion/schedule.h"
#include "image/mask_sketch.h"
#include "model/unet.h"
#include "train/step.h"

typedef struct mask_train {
    const unet_config *unet;
    nn_params *params;
    md_dtype dtype;
    image_field_view view;
    int64_t n;                    /* masks */
    const float *fields;          /* [n,size,size] of image_mask_field */
    image_sketch_spread spread;   /* of the fields; where unet takes sketches */
    const double *alphas_cumprod; /* [train_steps] */
    int train_steps;
    schedule_prediction prediction; /* epsilon or v */
    uint64_t seed;
    int64_t batch;        /* of a step, over all workers */
    double augment, warp; /* see image_field_augment */

    /* inputs of the last graph built, of n samples: [n,e,e,1] twice, [n,e,e,IMAGE_SKETCH_PLANES] or
       NULL, [MASK_N_NUMBERS,n] */
    md_tensor *picture, *noise, *sketch, *numbers;
    float *host; /* all of a micro-batch; NULL at first */
} mask_train;

/* The loss of a sample is the mean squared error of the prediction. `d` must outlive the task. */
train_task mask_train_task(mask_train *d);

/* The picture that `position` of `step` is made of, before noise [edge,edge]; a pure function. */
void mask_train_picture(const mask_train *d, int64_t step, int64_t position, float *picture);

/* The planes of its sketch [edge,edge,IMAGE_SKETCH_PLANES], blurred; as pure a function. */
MD_MUST md_status mask_train_sketch(const mask_train *d, int64_t step, int64_t position,
                                    const float *picture, float *planes);

/* As a configuration describes it; shared by the job that trains and the one that plans. */
unet_config mask_unet_for(const config *cfg);
diffusion_schedule mask_schedule_for(const config *cfg);
/* size: of the masks in pixels. */
image_field_view mask_view_for(const config *cfg, int64_t size);
/* What of a task the configuration gives: all but model, masks and schedule's values. */
void mask_train_fill(const config *cfg, int64_t size, mask_train *out);
train_options mask_train_options(const config *cfg, size_t budget_bytes);
/* What single keys cannot tell: MD_USAGE. */
MD_MUST md_status mask_check(const config *cfg);

#endif

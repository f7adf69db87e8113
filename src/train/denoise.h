/* The UNet's task: predict the noise in a latent (Ho et al. 2020, arXiv:2006.11239), inside a mask
   when fine-tuning (MedDiff-FT equation 1). Pretraining and both fine-tunes are this task on
   different sources. */
#ifndef MD_TRAIN_DENOISE_H
#define MD_TRAIN_DENOISE_H

#include "model/clip_text.h"
#include "model/unet.h"
#include "train/step.h"

/* Latents of all training images, on the host. "variant": plain and mirrored. */
typedef struct denoise_source {
    int64_t n, variants;    /* images; 1 or 2 variants of each */
    int64_t edge, channels; /* latent edge h = w and channels C */
    const float *moments;   /* [n,variants,h,w,2C] mean and log variance, unscaled */
    const float *mask;      /* [n,variants,h,w] in [0,1], where to learn; NULL: everywhere */
    const float *masked; /* [n,variants,h,w,2C] moments of the image without lesion: 9 channels */
    const int32_t *ids;  /* [n,T] tokens; used when the text encoder runs in the graph */
    const int32_t *empty_ids; /* [T] tokens of "", for dropped captions */
    const float *context;     /* [T,D] one text embedding for all, when it does not */
    int64_t tokens, width;    /* T, D */
    double scaling;           /* vae scaling_factor */
} denoise_source;

typedef enum denoise_target { DENOISE_EPSILON, DENOISE_X0 } denoise_target;
typedef enum denoise_weight { DENOISE_ONE, DENOISE_SNR, DENOISE_MIN_SNR } denoise_weight;

typedef struct denoise {
    const unet_config *unet;
    nn_params *unet_params;
    const clip_text_config *text; /* NULL: source->context is given */
    nn_params *text_params;
    md_dtype dtype;
    const denoise_source *source;
    const double *alphas_cumprod; /* [train_steps] */
    int train_steps;
    uint64_t seed;
    int64_t batch; /* global */
    double drop_caption;
    denoise_target target;
    denoise_weight weight;
    double gamma;    /* min-SNR (Hang et al. 2023, arXiv:2303.09556) */
    bool area_norm;  /* divide by the mask's area, else by the number of elements */
    double min_area; /* in latent pixels */
    double outside;  /* weight outside the mask; 0 in the paper */

    md_tensor *noisy, *t, *noise, *map, *coef, *ids, *context; /* inputs of the last graph built */
    struct denoise_staging *staged; /* their values, prepared on the host; NULL at first */
} denoise;

/* What sample `position` of `step` is: a pure function of the seed. */
typedef struct denoise_draw {
    int64_t image, variant;
    int t;
    bool drop_caption, empty; /* empty: its mask has no area; weight 0 */
} denoise_draw;
denoise_draw denoise_draw_at(const denoise *d, int64_t step, int64_t position);
/* Samples of `step` with an empty mask. */
int64_t denoise_count_empty(const denoise *d, int64_t step);

/* w_t as it multiplies the epsilon loss: L_x0 = L_epsilon / SNR. */
double denoise_time_weight(const denoise *d, int t);

/* Per sample: w_t sum(map (eps_pred - eps)^2) / (C max(sum M^2, min_area)), map = M^2 + outside
   (1 - M); mean over the samples with a mask. `d` must outlive the task. */
train_task denoise_task(denoise *d);

#endif

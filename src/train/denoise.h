/* The UNet's task: predict the noise in a latent (Ho et al. 2020, arXiv:2006.11239), inside a mask
   when fine-tuning (MedDiff-FT equation 1). Pretraining and both fine-tunes are this task on
   different sources. */
#ifndef MD_TRAIN_DENOISE_H
#define MD_TRAIN_DENOISE_H

#include "diffusion/schedule.h"
#include "model/clip_text.h"
#include "model/unet.h"
#include "train/step.h"

/* Latents of all training images, on the host; denoise_task's load brings them to the device, where
   they stay. "variant": plain and mirrored. */
typedef struct denoise_source {
    int64_t n, n_prior;     /* images of lesions; behind them images of their class (prior) */
    int64_t variants;       /* 1 or 2 of each */
    int64_t edge, channels; /* latent edge h = w and channels C */
    const float *moments;   /* [n+n_prior,variants,h,w,2C] mean and log variance, unscaled */
    const float *mask;      /* [n,variants,h,w] in [0,1], where to learn; NULL: everywhere */
    const float *masked;    /* [n+n_prior,variants,h,w,2C] moments without the lesion: 9 channels */
    const int32_t *ids;     /* [n+n_prior,T] tokens; used when the text encoder runs in the graph */
    const int32_t *empty_ids; /* [T] tokens of "", for dropped captions */
    const float *context;     /* [DENOISE_N_TEXTS,T,D] text embeddings, when it does not */
    int64_t tokens, width;    /* T, D */
    double scaling;           /* vae scaling_factor */
} denoise_source;

/* Rows of context; the last is read only where there is a prior. */
enum { DENOISE_PROMPT, DENOISE_EMPTY, DENOISE_CLASS, DENOISE_N_TEXTS };

/* What the squared error compares. AUTO: what the network predicts. */
typedef enum denoise_target { DENOISE_AUTO, DENOISE_EPSILON, DENOISE_X0, DENOISE_V } denoise_target;
typedef enum denoise_weight { DENOISE_ONE, DENOISE_SNR, DENOISE_MIN_SNR } denoise_weight;

/* What stays on the device: rows of scaled means and deviations, masks, text embeddings. */
enum {
    DENOISE_MEAN,        /* [rows,h w C], rows = (n + n_prior) variants */
    DENOISE_STD,         /* likewise */
    DENOISE_MASK,        /* [rows,h w] */
    DENOISE_MASKED_MEAN, /* 9 channels: as the first two */
    DENOISE_MASKED_STD,
    DENOISE_CONTEXT, /* [DENOISE_N_TEXTS,T D]; when the text encoder is not trained */
    DENOISE_N_TABLES
};

/* Rows of the inputs of a graph, one entry a sample. */
enum { DENOISE_A, DENOISE_B, DENOISE_SHARE, DENOISE_T, DENOISE_N_NUMBERS }; /* share of the loss */
enum { DENOISE_PICTURE, DENOISE_TEXT, DENOISE_N_INDICES };

typedef struct denoise {
    const unet_config *unet;
    nn_params *unet_params;
    const clip_text_config *text; /* NULL: source->context is given */
    nn_params *text_params;
    md_dtype dtype;
    const denoise_source *source;
    const double *alphas_cumprod; /* [train_steps] */
    int train_steps;
    schedule_prediction prediction; /* of the network */
    uint64_t seed;
    int64_t batch;       /* lesion samples of a step, over all workers; see denoise_positions */
    double drop_caption; /* share of lesion samples with the empty caption */
    double noise_offset; /* deviation of what a sample's channel is moved by */
    double prior_weight;
    denoise_target target;
    denoise_weight weight;
    double gamma;    /* min-SNR (Hang et al. 2023, arXiv:2303.09556) */
    bool area_norm;  /* divide by the mask's area, else by the number of elements */
    double min_area; /* in latent pixels */
    double outside;  /* weight outside the mask; 0 in the paper */

    /* inputs of the last graph built, of n samples: noises [2 n or 3 n,h,w,C], the posterior's,
       what is predicted, and the masked posterior's; numbers and index by the rows above; ids [n,T]
     */
    md_tensor *noises, *numbers, *index, *ids;
    md_tensor *noisy, *wanted, *map, *pred; /* what it makes of them, for tests */
    md_buffer table[DENOISE_N_TABLES];      /* shapes from the first build on, bytes from load */
    md_backend *be;                         /* that holds them; NULL before load */
    double *area;                           /* [n,variants] sum M^2; NULL before load */
    struct denoise_staging *staged; /* the inputs' values, prepared on the host; NULL at first */
} denoise;

/* Positions in the global batch: with a prior as many class samples follow the lesion samples
   (diffusers' train_dreambooth.py with_prior_preservation). train_options.batch must be this. */
int64_t denoise_positions(const denoise *d);

/* What sample `position` of `step` is: a pure function of the seed. */
typedef struct denoise_draw {
    int64_t image, variant;
    int t;
    bool prior;        /* a class image, under its own caption and weight, learned everywhere */
    bool drop_caption; /* not for a class image */
    bool empty;        /* its mask has no area; weight 0 */
    uint64_t index;    /* what its noise is keyed by */
    uint32_t stream;   /* and the first of its attempts (base/rng.h) */
} denoise_draw;
/* sum M^2 of a variant's mask; h w where it has none. */
double denoise_area(const denoise *d, int64_t image, int64_t variant);
denoise_draw denoise_draw_at(const denoise *d, int64_t step, int64_t position);
/* Samples of `step` with an empty mask. */
int64_t denoise_count_empty(const denoise *d, int64_t step);

/* w_t as it multiplies the squared error of what the network predicts. With SNR = a^2 / b^2 the
   errors of noise, clean latent and v = a e - b z (Salimans & Ho 2022, arXiv:2202.00512) are
   a^2 : b^2 : 1 times that of v; min-SNR is min(SNR, gamma) times the error of the clean latent,
   whatever the target. */
double denoise_time_weight(const denoise *d, int t);

/* z = s (mean + std e1); e = e2 + offset e3 (one e3 a channel); z_t = a z + b e. Per sample
   w_t sum(map (pred - target)^2) / (C max(sum M^2, min_area)), map = M^2 + outside (1 - M); mean
   over the samples with a mask. Beside it prior_weight times the mean over the class samples, map 1
   and w_t 1. `d` must outlive the task. */
train_task denoise_task(denoise *d);

#endif

/* A small training to try things on: the golden random UNet on drawn latents and masks. */
#ifndef MD_TESTS_TRAIN_RIG_H
#define MD_TESTS_TRAIN_RIG_H

#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "diffusion/schedule.h"
#include "model/registry.h"
#include "nn/lora.h"
#include "train/checkpoint.h"
#include "train/denoise.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != MD_OK)                                                                       \
            fail_msg("%s", md_status_text());                                                      \
    } while (0)
#define FAILS(code, text, call)                                                                    \
    do {                                                                                           \
        assert_int_equal(call, code);                                                              \
        if (!strstr(md_status_text(), text))                                                       \
            fail_msg("no \"%s\" in: %s", text, md_status_text());                                  \
    } while (0)

/* The last picture's masks are empty. */
enum { RIG_N = 5, RIG_VARIANTS = 2, RIG_EDGE = 8, RIG_CHANNELS = 4, RIG_TOKENS = 5, RIG_WIDTH = 8 };
enum { RIG_PX = RIG_EDGE * RIG_EDGE, RIG_LATENT = RIG_PX * RIG_CHANNELS };

typedef struct rig {
    md_backend *be;
    model_config config;
    nn_params *params;
    nn_params *trained; /* params, or after rig_adapt its adapters */
    nn_lora lora;
    float moments[RIG_N * RIG_VARIANTS * RIG_LATENT * 2], mask[RIG_N * RIG_VARIANTS * RIG_PX];
    float context[DENOISE_N_TEXTS * RIG_TOKENS * RIG_WIDTH];
    double alphas[1000];
    denoise_source source;
    denoise d;
    train_task task;
    train_options o;
    train *t;
} rig;

/* Everything up to the training itself, so that a test can change d and o; `ref` or cpu with one
   thread. The loss is the paper's: epsilon, inside the mask, by its area. */
void rig_open(rig *r, bool ref);
/* The same on a backend, which rig_close closes, computing in dtype. */
void rig_open_on(rig *r, md_backend *be, md_dtype dtype);
/* Adapters are trained in the UNet's place. */
void rig_adapt(rig *r, const nn_lora *o);
/* The same UNet's parameters once more, declared only: with r's adapters if it has some. Frees with
   nn_params_free(*base); returns what is trained of them. */
nn_params *rig_twin(const rig *r, nn_params **base);
/* d and o become a training. */
void rig_start(rig *r);
void rig_stop(rig *r); /* frees the training and puts the golden weights (and new adapters) back */
void rig_close(rig *r);
/* A copy of one of the buffers of the training's state: 0 weights, 1 m, 2 v, 3 average. free(). */
float *rig_state(rig *r, int which, int64_t *n);
/* Everything that a training changes, as one array. free(). */
float *rig_all(rig *r, int64_t *n);
/* Relative L2 distance of two arrays. */
double rig_distance(const float *a, const float *b, int64_t n);

#endif

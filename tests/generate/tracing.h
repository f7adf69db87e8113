/* One painting, and the latents after each of its evaluations: what the golden trajectories of
   diffusers' inpainting pipeline are compared with. */
#ifndef MD_TESTS_GENERATE_TRACING_H
#define MD_TESTS_GENERATE_TRACING_H

#include "generate/painter.h"

typedef struct trace {
    int size, evaluations;
    int64_t edge, channels, latent; /* latent = edge^2 channels */
    image guide;                    /* [S,S,1]; its edges lie on the latent's pixels */
    uint8_t *background, *rgb;      /* [S,S,3]; rgb: the finished picture */
    float *noise;                   /* [latent]: the start, before any scaling */
    float *steps;                   /* [evaluations, latent]: what the steps were given */
    float *latents;                 /* [evaluations, latent], after each */
} trace;

/* Paints slot 3, attempt 1 of seed 5 by `steps` steps of a sampler (NULL: the folder's own) on the
   cpu backend, f32, guidance 7.5; blend: renoise for 4 channels, none for 9. */
MD_MUST md_status trace_paint(const char *folder, const char *sampler, int steps, int size,
                              trace *out);
/* As safetensors: all arrays in f32. */
MD_MUST md_status trace_save(const trace *t, const char *path);
void trace_free(trace *t);

#endif

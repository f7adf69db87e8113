/* Draws pictures of masks from noise: unguided sampling of the mask generator on one worker. */
#ifndef MD_GENERATE_MASK_SAMPLER_H
#define MD_GENERATE_MASK_SAMPLER_H

#include "config/config.h"
#include "diffusion/sampler.h"
#include "generate/mask_hints.h"
#include "generate/mask_model.h"
#include "graph/plan.h"

typedef struct mask_sampler_options {
    int batch, steps;
    double eta;                   /* of DDIM: 0, or noise in every step */
    bool same_start, same_sketch; /* one for all, to see what it adds */
    const mask_hints *hints;      /* lives as long; NULL: nothing is going to be drawn */
    uint64_t seed;
    md_dtype dtype;
} mask_sampler_options;

typedef struct mask_sampler mask_sampler;

mask_sampler_options mask_sampler_options_for(const config *cfg, const mask_hints *hints);

/* Plans and takes no device memory; m and be must outlive it. */
MD_MUST md_status mask_sampler_new(const mask_model *m, md_backend *be,
                                   const mask_sampler_options *o, mask_sampler **out);
void mask_sampler_free(mask_sampler *s);
/* The model must be loaded on be. */
MD_MUST md_status mask_sampler_load(mask_sampler *s);
/* Draws a few pictures to learn how far it follows its sketches, and tells them accordingly from
   then on. `beat` as below. */
MD_MUST md_status mask_sampler_calibrate(mask_sampler *s, md_status (*beat)(void *user),
                                         void *user);
/* What sketches are told against: the training masks' spread; once calibrated as
   image_sketch_spread_adjust leaves it. */
const image_sketch_spread *mask_sampler_spread(const mask_sampler *s);
int64_t mask_sampler_edge(const mask_sampler *s);
const md_plan *mask_sampler_plan(const mask_sampler *s);
/* With the model's weights. */
size_t mask_sampler_bytes(const mask_sampler *s);
/* n <= batch pictures [n,edge,edge]; each a pure function of its place, where the picture is not
   finite says finite[i]. Starts from unit noise that has the mean which pictures keep at the last
   timestep: the schedule leaves 4e-5 of their energy, and of a large picture's mean that is no
   longer small against the noise's. `beat` is called between steps. */
MD_MUST md_status mask_sampler_draw(mask_sampler *s, const mask_place *places, int n,
                                    md_status (*beat)(void *user), void *user, float *pictures,
                                    bool *finite);

#endif

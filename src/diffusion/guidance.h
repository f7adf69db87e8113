/* Guidance: how the network is asked and how its answers become one prediction. A row of the table
   asks with `copies` times the batch along N; `combine` folds the answers. */
#ifndef MD_DIFFUSION_GUIDANCE_H
#define MD_DIFFUSION_GUIDANCE_H

#include "graph/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct diffusion_guidance {
    const char *name;
    int copies; /* 1, or 2: [without the prompt; with it] */
    /* pred [copies N,h,w,C], scale [1], a device input -> [N,h,w,C] */
    md_tensor *(*combine)(md_tensor *pred, md_tensor *scale);
} diffusion_guidance;

/* "none", "cfg"; NULL if there is none of that name. */
const diffusion_guidance *guidance_find(const char *name);
/* What a scale needs: 1 means the conditional answer alone. */
const diffusion_guidance *guidance_for(double scale);

/* x [N,...] -> [copies N,...], the same sample in every copy. */
md_tensor *guidance_repeat(const diffusion_guidance *g, md_tensor *x);

#ifdef __cplusplus
}
#endif
#endif

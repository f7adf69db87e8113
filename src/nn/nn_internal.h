/* Shared inside nn/. */
#ifndef MD_NN_NN_INTERNAL_H
#define MD_NN_NN_INTERNAL_H

#include "format/safetensors.h"
#include "nn/lora.h"

#ifdef __cplusplus
extern "C" {
#endif

/* nn_param with the layout that files use for it. */
md_tensor *nn__param(nn m, const char *name, nn_init init, int64_t fan_in, int ndim,
                     const int64_t *dim, bool conv, bool linear_as_conv);

/* ---- params_io.c: the layout of files */

/* The dims that a file holds for a parameter, as diffusers writes them. Returns how many. */
int nn__file_dims(const nn_param_info *q, int64_t dim[MD_MAX_DIMS]);
/* Whether dim is what a file may hold for q: [O,I] and [O,I,1,1] are the same bytes. */
bool nn__shape_fits(const nn_param_info *q, int ndim, const int64_t *dim);
const char *nn__dims_text(int ndim, const int64_t *dim, char *text, size_t size);
/* Parameter q's values from memory's layout, in `values`, to the file's, into host[0]; host: two
   arrays as long as q. */
MD_MUST md_status nn__to_file(const nn_param_info *q, const md_buffer *values, md_backend *be,
                              float *host[2]);
/* Two host arrays, each as long as the store's largest parameter. */
MD_MUST md_status nn__staging(const nn_params *p, float *host[2]);

/* ---- lora.c, lora_io.c */

typedef struct nn__merge nn__merge;

/* What LoRA hangs on a store. */
typedef struct nn__lora {
    nn_lora options;
    nn_params *adapters; /* trained beside the layers; NULL: none */
    nn__merge *merge;    /* added to weights as they are read from a file; NULL: none */
} nn__lora;

nn__lora *nn__lora_of(const nn_params *p);
nn_hold nn__hold_of(const nn_params *p);
/* Holds p's adapters as the way in which p is held asks for. */
void nn__lora_hold(nn_params *p);
/* y + scale B (A x) where the layer m.path has an adapter, else y. x [...,I], y [...,O] */
md_tensor *nn__lora_linear(nn m, md_tensor *x, md_tensor *y, bool as_conv);
/* The same beside the convolution whose output is y and whose weight, before the cast, is w. */
md_tensor *nn__lora_conv(nn m, md_tensor *x, md_tensor *y, const md_tensor *w);

/* Adds the merged adapter of parameter i, if there is one, to its weights w, in file layout. */
MD_MUST md_status nn__merge_add(const nn_params *p, int i, float *w);
/* nn_lora_merge on an open file, which it takes over, whatever happens. */
MD_MUST md_status nn__merge_open(nn_params *const *p, int n, format_tensors *f);
void nn__merge_free(nn__merge *m); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif

/* Shared inside nn/. */
#ifndef MD_NN_NN_INTERNAL_H
#define MD_NN_NN_INTERNAL_H

#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* nn_param with the layout that files use for it. */
md_tensor *nn__param(nn m, const char *name, nn_init init, int64_t fan_in, int ndim,
                     const int64_t *dim, bool conv, bool linear_as_conv);

#ifdef __cplusplus
}
#endif
#endif

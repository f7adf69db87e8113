/* A file of adapters for a model of one linear layer and one convolution: found, checked, added. */
#include "fuzz.h"

#include "nn/nn_internal.h"

#include <stdlib.h>

static nn_params *store(void)
{
    static nn_params *p;
    md_graph *g;
    if (p)
        return p;
    if (nn_params_new("unet", &p) != MD_OK || md_graph_new(&g) != MD_OK)
        abort();
    nn m = nn_root(g, p, MD_F32);
    md_tensor *x = md_input(g, "x", MD_F32, 4, MD_DIMS(1, 4, 4, 2));
    nn_linear(m, "to_q", nn_conv2d(m, "conv", x, 3, 3, 1, 1), 2, true);
    if (md_graph_check(g) != MD_OK || nn_params_close(p) != MD_OK)
        abort();
    md_graph_free(g);
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    nn_params *p = store();
    format_tensors *f = NULL;
    float w[64];
    if (format_tensors_open_memory("fuzz", data, n, &f) != MD_OK)
        return 0;
    if (nn__merge_open(&p, 1, f) != MD_OK) {
        if (nn_lora_merged(p))
            abort();
        return 0;
    }
    for (int i = 0; i < nn_params_count(p); i++) {
        const nn_param_info *q = nn_params_info(p, i);
        for (int64_t k = 0; k < q->numel; k++)
            w[k] = 1;
        md_status status = nn__merge_add(p, i, w);
        if (status != MD_OK && status != MD_BAD_INPUT) /* values that are not finite */
            abort();
    }
    nn__merge_free(nn__lora_of(p)->merge);
    nn__lora_of(p)->merge = NULL;
    return 0;
}

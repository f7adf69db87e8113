/* Starting values of parameters: PyTorch's defaults, from Philox, so that the same seed gives the
   same model on every machine and for every number of workers. */
#include "base/rng.h"
#include "nn/nn.h"
#include <math.h>
#include <stdlib.h>

static void fill(float *w, const nn_param_info *q, md_rng *rng)
{
    double bound = q->fan_in > 0 ? 1 / sqrt((double)q->fan_in) : 0;
    switch (q->init) {
    case NN_ZERO:
    case NN_ONE:
        for (int64_t i = 0; i < q->numel; i++)
            w[i] = q->init == NN_ONE ? 1 : 0;
        break;
    case NN_KAIMING:
        for (int64_t i = 0; i < q->numel; i++)
            w[i] = (float)md_rng_range(rng, -bound, bound);
        break;
    case NN_NORMAL02:
    case NN_LORA_A:
        md_rng_normal_fill(rng, w, q->numel);
        for (int64_t i = 0; i < q->numel; i++)
            w[i] *= q->init == NN_LORA_A ? 1 / (float)q->fan_in : 0.02f;
        break;
    }
}

md_status nn_params_randomize(nn_params *p, md_backend *be, uint64_t seed)
{
    int64_t largest = 0;
    for (int i = 0; i < nn_params_count(p); i++)
        if (nn_params_info(p, i)->numel > largest)
            largest = nn_params_info(p, i)->numel;
    float *host = malloc((size_t)(largest + 1) * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "%s: out of memory for %lld starting values", nn_params_model(p),
                (long long)largest);
    md_status status = MD_OK;
    for (int i = 0; i < nn_params_count(p) && status == MD_OK; i++) {
        md_rng rng = md_rng_at(seed, MD_RNG_INIT, (uint64_t)i, 0);
        fill(host, nn_params_info(p, i), &rng);
        status = nn_params_write(p, be, i, host);
    }
    free(host);
    return status;
}

/* A single-file checkpoint: what kind it is, the configs that it carries or its tensors show, and
   the names of the parameters that follow, which are distinct and begin with the part's prefix. */
#include "fuzz.h"

#include "model/foundation_internal.h"
#include "model/ldm.h"

#include <stdlib.h>
#include <string.h>

/* Models beyond this are only measured: declaring them takes longer than a fuzzer waits. */
static int small(model_part part, const model_config *c)
{
    int layers = 0;
    if (part == MODEL_TEXT_ENCODER)
        return c->text.num_hidden_layers <= 4;
    if (part == MODEL_VAE)
        return c->vae.n_blocks * c->vae.layers_per_block <= 8;
    for (int i = 0; i < c->unet.n_blocks; i++)
        layers += c->unet.layers_per_block[i] * c->unet.transformer_layers[i];
    return layers <= 8;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const nn_file_name *)a)->name, ((const nn_file_name *)b)->name);
}

static void check(const format_tensors *f, model_part part, const model_config *c)
{
    nn_params *p = NULL;
    nn_file_name *names = NULL;
    if (nn_params_new("fuzz", &p) != MD_OK)
        abort();
    /* sizes that are each in range can still make a parameter too large */
    if (model_registry(part)->declare(p, c) == MD_OK) {
        if (ldm_names(part, c, p, f, &names) != MD_OK)
            abort();
        const size_t n = (size_t)nn_params_count(p);
        for (size_t i = 0; i < n; i++)
            if (strncmp(names[i].name, ldm_prefix(part), strlen(ldm_prefix(part))) != 0)
                abort();
        qsort(names, n, sizeof *names, by_name);
        for (size_t i = 1; i < n; i++)
            if (!strcmp(names[i - 1].name, names[i].name))
                abort();
    }
    free(names);
    nn_params_free(p, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    format_tensors *f = NULL;
    if (format_tensors_open_memory("fuzz", data, n, &f) != MD_OK)
        return 0;
    const md_status kind = model__check_tensors(f);
    if (kind != MD_OK && kind != MD_BAD_INPUT)
        abort();
    for (int part = 0; part < MODEL_N_PARTS; part++) {
        model_config c;
        const md_status status = model__file_config(f, (model_part)part, &c);
        if (status == MD_OK && small((model_part)part, &c))
            check(f, (model_part)part, &c);
        else if (status != MD_OK && status != MD_BAD_INPUT)
            abort();
    }
    format_tensors_close(f);
    return 0;
}

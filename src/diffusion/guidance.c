/* Classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598): u + s (c - u). */
#include "diffusion/guidance.h"
#include "ops/ops.h"
#include <string.h>

static md_tensor *keep(md_tensor *pred, md_tensor *scale)
{
    (void)scale;
    return pred;
}

static md_tensor *classifier_free(md_tensor *pred, md_tensor *scale)
{
    int64_t n = pred->dim[0] / 2;
    if (md_is_poison(pred))
        return pred;
    if (pred->dim[0] % 2 != 0)
        return md_graph_poison(pred->g, MD_SHAPE, "guidance of %s: an odd batch",
                               md_shape_text(pred));
    md_tensor *u = md_slice(pred, 0, 0, n); /* [N,h,w,C] */
    md_tensor *c = md_slice(pred, 0, n, n);
    return md_add(u, md_mul(md_sub(c, u), scale));
}

static const diffusion_guidance table[] = {{"none", 1, keep}, {"cfg", 2, classifier_free}};

const diffusion_guidance *guidance_find(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

const diffusion_guidance *guidance_for(double scale)
{
    return guidance_find(scale == 1 ? "none" : "cfg");
}

md_tensor *guidance_repeat(const diffusion_guidance *g, md_tensor *x)
{
    md_tensor *copies[2] = {x, x};
    return g->copies == 1 ? x : md_concat(copies, g->copies, 0);
}

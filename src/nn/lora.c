/* Adapters while a model is built and trained; their files: lora_io.c. */
#include "base/str.h"
#include "nn/nn_internal.h"
#include <string.h>

md_status nn_lora_add(nn_params *p, const nn_lora *o)
{
    nn__lora *l = nn__lora_of(p);
    char name[64];
    if (l->adapters || o->rank < 1)
        MD_FAIL(MD_INTERNAL, "%s: adapters of rank %d%s", nn_params_model(p), o->rank,
                l->adapters ? " beside others" : "");
    MD_TRY(md_str_printf(name, sizeof name, "%s_lora", nn_params_model(p)));
    MD_TRY(nn_params_new(name, &l->adapters));
    l->options = *o;
    nn__lora_hold(p);
    return MD_OK;
}

nn_params *nn_lora_adapters(const nn_params *p)
{
    return nn__lora_of(p)->adapters;
}

void nn_lora_remove(nn_params *p, md_backend *be)
{
    nn__lora *l = nn__lora_of(p);
    nn_params_free(l->adapters, be);
    l->adapters = NULL;
}

void nn__lora_hold(nn_params *p)
{
    nn_params *adapters = nn_lora_adapters(p);
    if (adapters)
        nn_params_hold(adapters, nn__hold_of(p) == NN_HOLD_F32 ? NN_HOLD_F32 : NN_HOLD_BOTH);
}

/* Whether `path` is `name` or ends with ".name". */
static bool is_called(const char *path, const char *name)
{
    size_t n = strlen(path), k = strlen(name);
    return n >= k && !strcmp(path + n - k, name) && (n == k || path[n - k - 1] == '.');
}

/* Whether layer m.path has an adapter; m becomes the place of its parameters. */
static bool enter_adapter(nn *m)
{
    const nn__lora *l = nn__lora_of(m->params);
    bool has = l->adapters && !l->options.layers;
    for (const char *const *name = l->options.layers; l->adapters && name && *name; name++)
        has = has || is_called(m->path, *name);
    if (has)
        m->params = l->adapters;
    return has;
}

/* y + scale B h, h = A x [...,rank] */
static md_tensor *add_b(nn m, md_tensor *h, md_tensor *y, double scale, bool as_conv)
{
    if (md_is_poison(h) || md_is_poison(y))
        return md_is_poison(h) ? h : y;
    int64_t rank = h->dim[h->ndim - 1], out = y->dim[y->ndim - 1];
    md_tensor *b =
        nn__param(m, "lora_B.weight", NN_ZERO, rank, 2, MD_DIMS(out, rank), false, as_conv);
    if (scale != 1)
        h = md_scale(h, scale);
    return md_add(y, md_linear(h, md_cast(b, m.dtype), NULL)); /* [...,O] */
}

md_tensor *nn__lora_linear(nn m, md_tensor *x, md_tensor *y, bool as_conv)
{
    const nn_lora o = nn__lora_of(m.params)->options;
    if (!enter_adapter(&m))
        return y;
    int64_t in = x->dim[x->ndim - 1];
    md_tensor *a =
        nn__param(m, "lora_A.weight", NN_LORA_A, o.rank, 2, MD_DIMS(o.rank, in), false, as_conv);
    return add_b(m, md_linear(x, md_cast(a, m.dtype), NULL), y, o.scale, as_conv);
}

md_tensor *nn__lora_conv(nn m, md_tensor *x, md_tensor *y, const md_tensor *w)
{
    const nn_lora o = nn__lora_of(m.params)->options;
    if (md_is_poison(y) || !enter_adapter(&m))
        return y;
    md_tensor *a = nn__param(m, "lora_A.weight", NN_LORA_A, o.rank, 4,
                             MD_DIMS(o.rank, w->dim[1], w->dim[2], w->dim[3]), true, false);
    md_attr k = y->node->attr;
    md_tensor *h = md_conv2d(x, md_cast(a, m.dtype), NULL, k.conv.stride, k.conv.pad_t,
                             k.conv.pad_l, k.conv.pad_b, k.conv.pad_r); /* [N,H',W',rank] */
    return add_b(m, h, y, o.scale, true);
}

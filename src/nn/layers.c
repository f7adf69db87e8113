/* Layers: a parameter or two and an op, under the name that the checkpoint uses. Each restores the
   graph's path, so that an error names the layer it arose in. */
#include "nn/nn_internal.h"
#include <stdarg.h>
#include <stdio.h>

nn nn_root(md_graph *g, nn_params *p, md_dtype dtype)
{
    return (nn){.g = g, .params = p, .path = "", .dtype = dtype};
}

nn nn_in(nn m, const char *fmt, ...)
{
    char name[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof name)
        md_graph_poison(m.g, MD_INTERNAL, "%s: layer name too long", m.path);
    m.path =
        *m.path ? md_graph_printf(m.g, "%s.%s", m.path, name) : md_graph_printf(m.g, "%s", name);
    return m;
}

md_tensor *nn_tap(nn m, md_tensor *x)
{
    if (m.taps && m.taps->n < NN_MAX_TAPS) {
        m.taps->tap[m.taps->n].path = m.path;
        m.taps->tap[m.taps->n++].t = x;
    }
    return x;
}

/* Enters layer `name`; `*old` is the path to restore. */
static nn enter(nn m, const char *name, const char **old)
{
    m = nn_in(m, "%s", name);
    *old = md_graph_set_path(m.g, m.path);
    return m;
}

static md_tensor *leave(nn m, const char *old, md_tensor *y)
{
    md_graph_set_path(m.g, old);
    return y;
}

/* The size of x's last dimension, or 0 with the graph poisoned. */
static int64_t last_dim(md_tensor *x)
{
    return md_is_poison(x) ? 0 : x->dim[x->ndim - 1];
}

static md_tensor *linear(nn m, const char *name, md_tensor *x, int64_t out, bool bias, bool as_conv)
{
    if (md_is_poison(x))
        return x;
    const char *old;
    m = enter(m, name, &old);
    int64_t in = last_dim(x);
    md_tensor *w = nn__param(m, "weight", NN_KAIMING, in, 2, MD_DIMS(out, in), false, as_conv);
    md_tensor *b = bias ? nn_param(m, "bias", NN_KAIMING, in, 1, MD_DIMS(out)) : NULL;
    md_tensor *y =
        md_linear(x, md_cast(w, m.dtype), b ? md_cast(b, m.dtype) : NULL); /* [...,out] */
    return leave(m, old, nn__lora_linear(m, x, y, as_conv));
}

md_tensor *nn_linear(nn m, const char *name, md_tensor *x, int64_t out, bool bias)
{
    return linear(m, name, x, out, bias, false);
}

md_tensor *nn_linear_conv(nn m, const char *name, md_tensor *x, int64_t out, bool bias)
{
    return linear(m, name, x, out, bias, true);
}

md_tensor *nn_conv2d(nn m, const char *name, md_tensor *x, int64_t out, int kernel, int stride,
                     int pad)
{
    return nn_conv2d_pad(m, name, x, out, kernel, stride, pad, pad, pad, pad);
}

md_tensor *nn_conv2d_pad(nn m, const char *name, md_tensor *x, int64_t out, int kernel, int stride,
                         int pad_t, int pad_l, int pad_b, int pad_r)
{
    if (md_is_poison(x))
        return x;
    const char *old;
    m = enter(m, name, &old);
    int64_t in = last_dim(x), fan_in = in * kernel * kernel;
    md_tensor *w = nn__param(m, "weight", NN_KAIMING, fan_in, 4, MD_DIMS(out, kernel, kernel, in),
                             true, false);
    md_tensor *b = nn_param(m, "bias", NN_KAIMING, fan_in, 1, MD_DIMS(out));
    md_tensor *y = md_conv2d(x, md_cast(w, m.dtype), md_cast(b, m.dtype), stride, pad_t, pad_l,
                             pad_b, pad_r); /* [N,H',W',out] */
    return leave(m, old, nn__lora_conv(m, x, y, w));
}

md_tensor *nn_group_norm(nn m, const char *name, md_tensor *x, int groups, double eps, md_act act)
{
    if (md_is_poison(x))
        return x;
    const char *old;
    m = enter(m, name, &old);
    int64_t c = last_dim(x);
    md_tensor *gamma = nn_param(m, "weight", NN_ONE, 0, 1, MD_DIMS(c));
    md_tensor *beta = nn_param(m, "bias", NN_ZERO, 0, 1, MD_DIMS(c));
    return leave(
        m, old,
        md_group_norm(x, md_cast(gamma, m.dtype), md_cast(beta, m.dtype), groups, eps, act));
}

md_tensor *nn_layer_norm(nn m, const char *name, md_tensor *x, double eps)
{
    if (md_is_poison(x))
        return x;
    const char *old;
    m = enter(m, name, &old);
    int64_t d = last_dim(x);
    md_tensor *gamma = nn_param(m, "weight", NN_ONE, 0, 1, MD_DIMS(d));
    md_tensor *beta = nn_param(m, "bias", NN_ZERO, 0, 1, MD_DIMS(d));
    return leave(m, old, md_layer_norm(x, md_cast(gamma, m.dtype), md_cast(beta, m.dtype), eps));
}

md_tensor *nn_embedding(nn m, const char *name, md_tensor *ids, int64_t vocab, int64_t width)
{
    if (md_is_poison(ids))
        return ids;
    const char *old;
    m = enter(m, name, &old);
    md_tensor *table = nn_param(m, "weight", NN_NORMAL02, 0, 2, MD_DIMS(vocab, width));
    /* Looked up in f32, then cast: the rows in use are far fewer than the table's. */
    return leave(m, old, md_cast(md_embedding(ids, table), m.dtype)); /* [...,width] */
}

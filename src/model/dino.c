/* Dinov2Model as a graph. Reference: transformers 4.39.3, models/dinov2/modeling_dinov2.py. */
#include "model/dino.h"
#include <math.h>

static int64_t grid(const dino_config *c)
{
    return c->image_size / c->patch_size;
}

int64_t dino_positions(const dino_config *c)
{
    return grid(c) * grid(c);
}

bool dino_interpolates(const dino_config *c, int64_t h, int64_t w)
{
    return h / c->patch_size != grid(c) || w / c->patch_size != grid(c);
}

/* Keys' cubic (1981) with a = -0.75: the weights of the four neighbours, t in [0,1) past the
 * second.
 */
static void cubic(double t, double weight[4])
{
    const double a = -0.75;
    for (int i = 0; i < 4; i++) {
        double d = fabs(t + 1 - i);
        weight[i] = d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : a * (((d - 5) * d + 8) * d - 4);
    }
}

/* Row `at` of the matrix for one axis: n positions to `to`; out[n]. */
static void axis_row(int64_t n, int64_t to, int64_t at, double *out)
{
    double weight[4], x = ((double)at + 0.5) * (double)n / ((double)to + 0.1) - 0.5,
                      whole = floor(x);
    cubic(x - whole, weight);
    for (int64_t i = 0; i < n; i++)
        out[i] = 0;
    for (int i = 0; i < 4; i++) {
        int64_t from = (int64_t)whole - 1 + i;
        out[from < 0 ? 0 : from >= n ? n - 1 : from] += weight[i];
    }
}

void dino_position_matrix(const dino_config *c, int64_t h, int64_t w, float *out)
{
    double row[DINO_MAX_GRID], column[DINO_MAX_GRID];
    int64_t n = grid(c), rows = h / c->patch_size, columns = w / c->patch_size;
    for (int64_t y = 0; y < rows; y++) {
        axis_row(n, rows, y, row);
        for (int64_t x = 0; x < columns; x++) {
            axis_row(n, columns, x, column);
            for (int64_t i = 0; i < n; i++)
                for (int64_t j = 0; j < n; j++)
                    *out++ = (float)(row[i] * column[j]);
        }
    }
}

/* image [N,H,W,C] -> [N,1+P,D]. Keys: patch_embeddings.projection cls_token position_embeddings */
static md_tensor *embeddings(nn root, const dino_config *c, md_tensor *image, md_tensor *positions)
{
    nn m = nn_in(root, "embeddings"), p = nn_in(m, "patch_embeddings");
    int64_t d = c->hidden_size, n = image->dim[0];
    md_tensor *x = nn_conv2d(p, "projection", image, d, c->patch_size, c->patch_size, 0);
    x = md_reshape(x, 3, MD_DIMS(n, -1, d)); /* [N,P,D] */
    md_tensor *cls = nn_param(m, "cls_token", NN_NORMAL02, 0, 3, MD_DIMS(1, 1, d));
    md_tensor *table =
        nn_param(m, "position_embeddings", NN_NORMAL02, 0, 3, MD_DIMS(1, 1 + dino_positions(c), d));
    md_tensor *first = md_view(table, 0, 3, MD_DIMS(1, 1, d));
    md_tensor *others = md_view(table, d, 2, MD_DIMS(dino_positions(c), d));
    if (positions) /* in f32, whatever the type of the rest */
        others = md_matmul(positions, md_cast(others, MD_F32), false, false); /* [P,D] */
    x = md_add(x, md_cast(others, m.dtype));
    cls = md_add(md_cast(cls, m.dtype), md_cast(first, m.dtype));
    cls = md_broadcast_to(cls, 3, MD_DIMS(n, 1, d));
    return nn_tap(m, md_concat((md_tensor *[]){cls, x}, 2, 1));
}

/* x times the learned scale of each channel. Key: lambda1 */
static md_tensor *layer_scale(nn m, md_tensor *x)
{
    int64_t d = x->dim[x->ndim - 1];
    return md_mul(x, md_cast(nn_param(m, "lambda1", NN_ONE, 0, 1, MD_DIMS(d)), m.dtype));
}

/* x [N,T,D] -> same. Keys: norm1 attention.attention.{query,key,value} attention.output.dense
   layer_scale1 norm2 mlp.fc1 mlp.fc2 layer_scale2 */
static md_tensor *layer(nn m, const dino_config *c, md_tensor *x)
{
    nn a = nn_in(m, "attention.attention"), f = nn_in(m, "mlp");
    int64_t d = c->hidden_size;
    md_block_begin(m.g);
    md_tensor *h = nn_layer_norm(m, "norm1", x, c->layer_norm_eps);
    md_tensor *q = nn_linear(a, "query", h, d, c->qkv_bias);
    md_tensor *k = nn_linear(a, "key", h, d, c->qkv_bias);
    md_tensor *v = nn_linear(a, "value", h, d, c->qkv_bias);
    h = md_attention(q, k, v, c->num_attention_heads, 0, false); /* [N,T,D] */
    h = nn_tap(nn_in(m, "attention"), nn_linear(nn_in(m, "attention.output"), "dense", h, d, true));
    x = md_add(x, layer_scale(nn_in(m, "layer_scale1"), h));
    h = nn_layer_norm(m, "norm2", x, c->layer_norm_eps);
    h = md_activation(nn_linear(f, "fc1", h, c->mlp_ratio * d, true), MD_ACT_GELU);
    h = nn_tap(f, nn_linear(f, "fc2", h, d, true));
    x = md_add(x, layer_scale(nn_in(m, "layer_scale2"), h)); /* [N,T,D] */
    md_block_end(m.g);
    return nn_tap(m, x);
}

md_tensor *dino(nn m, const dino_config *c, md_tensor *image, md_tensor *positions)
{
    if (md_is_poison(image) || (positions && md_is_poison(positions)))
        return md_is_poison(image) ? image : positions;
    if (image->ndim != 4 || image->dim[3] != c->num_channels || image->dim[1] % c->patch_size ||
        image->dim[2] % c->patch_size)
        return md_graph_poison(m.g, MD_SHAPE,
                               "dino: image %s; wanted [N,H,W,%d], H and W multiples of %d",
                               md_shape_text(image), c->num_channels, c->patch_size);
    if (!positions != !dino_interpolates(c, image->dim[1], image->dim[2]))
        return md_graph_poison(
            m.g, MD_SHAPE, "dino: image %s: a position matrix is wanted for other sizes than %d",
            md_shape_text(image), c->image_size);
    md_tensor *x = embeddings(m, c, image, positions);
    for (int i = 0; i < c->num_hidden_layers; i++)
        x = layer(nn_in(m, "encoder.layer.%d", i), c, x);
    return nn_tap(nn_in(m, "layernorm"), nn_layer_norm(m, "layernorm", x, c->layer_norm_eps));
}

md_tensor *dino_class(md_tensor *tokens)
{
    if (md_is_poison(tokens))
        return tokens;
    return md_reshape(md_slice(tokens, 1, 0, 1), 2, MD_DIMS(tokens->dim[0], tokens->dim[2]));
}

md_status dino_declare(nn_params *p, const dino_config *c)
{
    md_graph *g;
    MD_TRY(md_graph_new(&g));
    int64_t edge = grid(c) * c->patch_size;
    md_tensor *image = md_input(g, "image", MD_F32, 4, MD_DIMS(1, edge, edge, c->num_channels));
    dino(nn_root(g, p, MD_F32), c, image, NULL);
    md_status status = md_graph_check(g);
    md_graph_free(g);
    MD_TRY(status);
    return nn_params_close(p);
}

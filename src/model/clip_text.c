/* CLIPTextModel as a graph. Reference: transformers 4.39.3, models/clip/modeling_clip.py. */
#include "model/clip_text.h"

/* x [N,T,D] -> [N,T,D]. Keys: layer_norm1 self_attn.{q,k,v,out}_proj layer_norm2 mlp.fc1 mlp.fc2 */
static md_tensor *encoder_layer(nn m, const clip_text_config *c, md_tensor *x)
{
    int64_t d = c->hidden_size;
    nn a = nn_in(m, "self_attn"), f = nn_in(m, "mlp");
    md_block_begin(m.g);
    md_tensor *h = nn_layer_norm(m, "layer_norm1", x, c->layer_norm_eps);
    md_tensor *q = nn_linear(a, "q_proj", h, d, true);
    md_tensor *k = nn_linear(a, "k_proj", h, d, true);
    md_tensor *v = nn_linear(a, "v_proj", h, d, true);
    h = md_attention(q, k, v, c->num_attention_heads, 0, true); /* causal: [N,T,D] */
    x = md_add(x, nn_tap(a, nn_linear(a, "out_proj", h, d, true)));
    h = nn_layer_norm(m, "layer_norm2", x, c->layer_norm_eps);
    h = md_activation(nn_linear(f, "fc1", h, c->intermediate_size, true), c->hidden_act);
    x = md_add(x, nn_tap(f, nn_linear(f, "fc2", h, d, true))); /* [N,T,D] */
    md_block_end(m.g);
    return nn_tap(m, x);
}

md_tensor *clip_text(nn root, const clip_text_config *c, md_tensor *ids)
{
    if (md_is_poison(ids))
        return ids;
    if (ids->ndim != 2 || ids->dim[1] > c->max_position_embeddings)
        return md_graph_poison(root.g, MD_SHAPE, "text encoder: ids %s; wanted [N,T], T at most %d",
                               md_shape_text(ids), c->max_position_embeddings);
    nn m = nn_in(root, "text_model"), e = nn_in(m, "embeddings");
    int64_t d = c->hidden_size, n_pos = c->max_position_embeddings, t = ids->dim[1];
    md_tensor *x = nn_embedding(e, "token_embedding", ids, c->vocab_size, d); /* [N,T,D] */
    md_tensor *table =
        nn_param(nn_in(e, "position_embedding"), "weight", NN_NORMAL02, 0, 2, MD_DIMS(n_pos, d));
    md_tensor *position = md_view(table, 0, 3, MD_DIMS(1, t, d)); /* the first T rows */
    x = nn_tap(e, md_add(x, md_cast(position, m.dtype)));         /* [N,T,D] */
    for (int i = 0; i < c->num_hidden_layers; i++)
        x = encoder_layer(nn_in(m, "encoder.layers.%d", i), c, x);
    x = nn_layer_norm(m, "final_layer_norm", x, c->layer_norm_eps);
    return nn_tap(nn_in(m, "final_layer_norm"), x); /* [N,T,D] */
}

md_status clip_text_declare(nn_params *p, const clip_text_config *c)
{
    md_graph *g;
    MD_TRY(md_graph_new(&g));
    md_tensor *ids = md_input(g, "ids", MD_I32, 2, MD_DIMS(1, c->max_position_embeddings));
    clip_text(nn_root(g, p, MD_F32), c, ids);
    md_status status = md_graph_check(g);
    md_graph_free(g);
    MD_TRY(status);
    return nn_params_close(p);
}

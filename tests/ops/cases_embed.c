/* Token tables and timestep embeddings. */
#include "ops_test.h"

#define IDS(v) .i32 = 1, .len = v /* input 0: ids below v */
#define FULL   GRAD | BF16 | EXACT | ANY_THREADS

/* Timesteps as the samplers give them, the first and last of training among them. */
static void timesteps(const op_case *c, int input, double *x, int64_t n)
{
    (void)c;
    (void)input;
    static const double t[] = {0, 999, 1, 500, 37, 981, 20.5};
    for (int64_t i = 0; i < n; i++)
        x[i] = t[i % 7];
}
#define T .fill = timesteps, .f32 = 1

static const op_case rows[] = {
    {OP(embedding), IN(2, 7), IN(5, 3), IDS(5), .flags = FULL, .golden = "embedding"},
    {OP(embedding), IN(1), IN(1, 1), IDS(1), .flags = FULL},
    {OP(embedding), IN(1, 2, 3), IN(11, 4), IDS(11), .flags = FULL},
    {OP(embedding), IN(2, 7), IN(5, 16), IDS(5), .flags = FULL},
    {OP(embedding), IN(2, 9), IN(7, 520), IDS(7), .flags = FULL | BIG},
    {OP(embedding), IN(2, 77), IN(1000, 65), IDS(1000), .flags = FULL | BIG},
    {OP(embedding), IN(2, 77), IN(49408, 4), IDS(49408), .flags = FULL | BIG},
    {OP(timestep_embedding), IN(3), T, .attr.temb = {1e4, 0, true}, .len = 8, .flags = ANY_THREADS,
     .golden = "temb_flip"},
    {OP(timestep_embedding), IN(7), T, .attr.temb = {1e4, 1, false}, .len = 6, .flags = ANY_THREADS,
     .golden = "temb_shift"},
    {OP(timestep_embedding), IN(1), T, .attr.temb = {1e4, 0, true}, .len = 2, .flags = ANY_THREADS},
    {OP(timestep_embedding), IN(7), T, .attr.temb = {1e4, 0, true}, .len = 320,
     .flags = ANY_THREADS | BIG},
};

static md_tensor *build(const op_case *c, md_tensor *const *in)
{
    return c->op == MD_OP_embedding
               ? md_embedding(in[0], in[1])
               : md_timestep_embedding(in[0], c->len, c->attr.temb.flip, c->attr.temb.shift,
                                       c->attr.temb.max_period);
}

OPS_FAMILY(embed);

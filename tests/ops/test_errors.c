/* Every builder's refusals: md_graph_check names the op, what it got and the layer; the embedding's
   at run time; and that poison passes through everything that follows. */
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include "graph/plan.h"
#include "ops/grad.h"
#include "ops_cmocka.h"
#include <stdio.h>
#include <string.h>

/* Inputs of the current graph. */
static md_graph *g;
static md_tensor *f32(int ndim, const int64_t *dim)
{
    return md_input(g, "x", MD_F32, ndim, dim);
}
static md_tensor *bf16(int ndim, const int64_t *dim)
{
    return md_input(g, "x", MD_BF16, ndim, dim);
}
static md_tensor *i32(int ndim, const int64_t *dim)
{
    return md_input(g, "x", MD_I32, ndim, dim);
}
#define F(...) f32((int)(sizeof(MD_DIMS(__VA_ARGS__)) / sizeof(int64_t)), MD_DIMS(__VA_ARGS__))
#define H(...) bf16((int)(sizeof(MD_DIMS(__VA_ARGS__)) / sizeof(int64_t)), MD_DIMS(__VA_ARGS__))
#define I(...) i32((int)(sizeof(MD_DIMS(__VA_ARGS__)) / sizeof(int64_t)), MD_DIMS(__VA_ARGS__))

static md_buffer buffer = {.name = "persistent", .dtype = MD_F32, .numel = 6};
#define E6 md_extern(g, &buffer, 0, 1, MD_DIMS(6))
#define ADAMW(a, b, c, d, norm, hyper)                                                             \
    md_adamw(&(md_adamw_tensors){.p = (a), .g = (b), .m = (c), .v = (d)}, norm, hyper, 0.9, 0.999, \
             1e-8, 0)
#define CONV(x, w, b) md_conv2d(x, w, b, 1, 1, 1, 1, 1)

static const md_attr s1p1 = {.conv = {1, 1, 1, 1, 1}};

/* What: builds the wrong call. op, a, b: what the message must name. */
#define CASES(X)                                                                                   \
    X(add_shape, md_add(F(3, 7), F(2, 7)), "add", "[3,7]", "[2,7]")                                \
    X(add_larger_b, md_add(F(7), F(2, 7)), "add", "[7]", "[2,7]")                                  \
    X(add_middle, md_add(F(2, 3, 7), F(2, 1)), "add", "[2,3,7]", "[2,1]")                          \
    X(add_types, md_add(F(2, 7), H(2, 7)), "add", "[2,7] f32", "[2,7] bf16")                       \
    X(add_ints, md_add(I(2), I(2)), "add", "[2] i32", "i32")                                       \
    X(sub_shape, md_sub(F(3, 7), F(3)), "sub", "[3,7]", "[3]")                                     \
    X(mul_shape, md_mul(F(2, 4, 4, 3), F(2, 4, 4)), "mul", "[2,4,4,3]", "[2,4,4]")                 \
    X(affine_int, md_affine(I(3), 2, 1), "affine", "[3] i32", "")                                  \
    X(act_int, md_silu(I(3)), "act", "[3] i32", "")                                                \
    X(clamp_int, md_clamp(I(3), 0, 1), "act", "[3] i32", "")                                       \
    X(act_grad_shape, md_act_grad(F(3), F(4), (md_attr){0}), "act_grad", "[3]", "[4]")             \
    X(geglu_odd, md_geglu(F(2, 7)), "geglu", "[2,7]", "")                                          \
    X(geglu_int, md_geglu(I(2, 8)), "geglu", "[2,8] i32", "")                                      \
    X(geglu_grad_shape, md_geglu_grad(F(2, 4), F(2, 4)), "geglu_grad", "[2,4]", "[2,4]")           \
    X(cast_int, md_cast(I(3), MD_F32), "cast", "[3] i32", "f32")                                   \
    X(cast_f64, md_cast(F(3), MD_F64), "cast", "[3] f32", "f64")                                   \
    X(sum_to_shape, md_sum_to(F(2, 3), 1, MD_DIMS(2)), "sum_to", "[2,3]", "")                      \
    X(sum_to_longer, md_sum_to(F(3), 2, MD_DIMS(1, 3)), "sum_to", "[3]", "")                       \
    X(broadcast_shape, md_broadcast_to(F(2, 3), 2, MD_DIMS(4, 3)), "broadcast_to", "[2,3]", "")    \
    X(broadcast_shorter, md_broadcast_to(F(1, 3), 1, MD_DIMS(3)), "broadcast_to", "[1,3]", "")     \
    X(sum_int, md_sum(I(3)), "sum_to", "[3] i32", "")                                              \
    X(sumsq_int, md_sumsq(I(3)), "sumsq", "[3] i32", "")                                           \
    X(linear_width, md_linear(F(2, 5), F(3, 4), NULL), "linear", "[2,5]", "[3,4]")                 \
    X(linear_bias, md_linear(F(2, 5), F(3, 5), F(5)), "linear", "[3,5]", "[5]")                    \
    X(linear_types, md_linear(F(2, 5), H(3, 5), NULL), "linear", "[2,5] f32", "[3,5] bf16")        \
    X(matmul_inner, md_matmul(F(2, 5), F(4, 3), 0, 0), "matmul", "[2,5]", "[4,3]")                 \
    X(matmul_ta, md_matmul(F(2, 5), F(5, 3), 1, 0), "matmul", "[2,5]", "[5,3]")                    \
    X(matmul_types, md_matmul(F(2, 5), H(5, 3), 0, 0), "matmul", "[2,5] f32", "[5,3] bf16")        \
    X(conv_channels, CONV(F(1, 4, 4, 3), F(2, 3, 3, 4), NULL), "conv2d", "[1,4,4,3]", "[2,3,3,4]") \
    X(conv_dims, CONV(F(4, 4, 3), F(2, 3, 3, 3), NULL), "conv2d", "[4,4,3]", "[2,3,3,3]")          \
    X(conv_bias, CONV(F(1, 4, 4, 3), F(2, 3, 3, 3), F(3)), "conv2d", "[2,3,3,3]", "[3]")           \
    X(conv_types, CONV(F(1, 4, 4, 3), H(2, 3, 3, 3), NULL), "conv2d", "f32", "bf16")               \
    X(conv_small, md_conv2d(F(1, 2, 4, 3), F(2, 3, 3, 3), NULL, 1, 0, 0, 0, 0), "conv2d",          \
      "[1,2,4,3]", "[2,3,3,3]")                                                                    \
    X(conv_stride, md_conv2d(F(1, 4, 4, 3), F(2, 3, 3, 3), NULL, 0, 1, 1, 1, 1), "conv2d",         \
      "[1,4,4,3]", "[2,3,3,3]")                                                                    \
    X(conv_dx, md_conv2d_dx(F(1, 5, 4, 2), F(2, 3, 3, 3), MD_DIMS(1, 4, 4, 3), s1p1), "conv2d_dx", \
      "[1,5,4,2]", "[2,3,3,3]")                                                                    \
    X(conv_dw, md_conv2d_dw(F(1, 5, 4, 2), F(1, 4, 4, 3), MD_DIMS(2, 3, 3, 3), s1p1), "conv2d_dw", \
      "[1,5,4,2]", "[1,4,4,3]")                                                                    \
    X(group_norm_groups, md_group_norm(F(2, 6), F(6), F(6), 4, 1e-5, MD_ACT_NONE), "group_norm",   \
      "[2,6]", "4")                                                                                \
    X(group_norm_gamma, md_group_norm(F(2, 6), F(5), F(6), 3, 1e-5, MD_ACT_NONE), "group_norm",    \
      "[2,6]", "[5]")                                                                              \
    X(group_norm_beta, md_group_norm(F(2, 6), F(6), F(5), 3, 1e-5, MD_ACT_NONE), "group_norm",     \
      "[2,6]", "[5]")                                                                              \
    X(layer_norm_gamma, md_layer_norm(F(2, 6), F(5), F(6), 1e-5), "layer_norm", "[2,6]", "[5]")    \
    X(layer_norm_beta, md_layer_norm(F(2, 6), F(6), F(7), 1e-5), "layer_norm", "[2,6]", "[7]")     \
    X(attention_width, md_attention(F(2, 3, 8), F(2, 4, 6), F(2, 4, 6), 2, 0, 0), "attention",     \
      "[2,3,8]", "[2,4,6]")                                                                        \
    X(attention_batch, md_attention(F(2, 3, 8), F(1, 4, 8), F(1, 4, 8), 2, 0, 0), "attention",     \
      "[2,3,8]", "[1,4,8]")                                                                        \
    X(attention_kv, md_attention(F(2, 3, 8), F(2, 4, 8), F(2, 5, 8), 2, 0, 0), "attention",        \
      "[2,4,8]", "[2,5,8]")                                                                        \
    X(attention_heads, md_attention(F(2, 3, 8), F(2, 4, 8), F(2, 4, 8), 3, 0, 0), "attention",     \
      "[2,3,8]", "[2,4,8]")                                                                        \
    X(attention_causal, md_attention(F(2, 3, 8), F(2, 4, 8), F(2, 4, 8), 2, 0, 1), "attention",    \
      "[2,3,8]", "[2,4,8]")                                                                        \
    X(concat_shape, md_concat((md_tensor *[]){F(2, 3), F(3, 3)}, 2, 1), "concat", "[2,3]",         \
      "[3,3]")                                                                                     \
    X(concat_types, md_concat((md_tensor *[]){F(2, 3), H(2, 3)}, 2, 1), "concat", "f32", "bf16")   \
    X(concat_axis, md_concat((md_tensor *[]){F(2, 3)}, 1, 2), "concat", "axis 2", "")              \
    X(concat_ints, md_concat((md_tensor *[]){I(2, 3)}, 1, 1), "concat", "i32", "")                 \
    X(slice_range, md_slice(F(2, 3), 1, 2, 2), "slice", "[2,3]", "2 from 2")                       \
    X(slice_axis, md_slice(F(2, 3), 2, 0, 1), "slice", "[2,3]", "axis 2")                          \
    X(slice_int, md_slice(I(2, 3), 1, 0, 1), "slice", "[2,3] i32", "")                             \
    X(pad_range, md_pad_axis(F(2, 3), 1, 2, 4), "pad_axis", "[2,3]", "to 4 at 2")                  \
    X(pad_int, md_pad_axis(I(2, 3), 1, 0, 4), "pad_axis", "[2,3] i32", "")                         \
    X(upsample_dims, md_upsample2x(F(2, 3, 4)), "upsample2x", "[2,3,4]", "")                       \
    X(downsum_odd, md_downsum2x(F(1, 3, 4, 2)), "downsum2x", "[1,3,4,2]", "")                      \
    X(embedding_ids, md_embedding(F(2), F(5, 3)), "embedding", "[2] f32", "[5,3]")                 \
    X(embedding_table, md_embedding(I(2), F(5)), "embedding", "[2] i32", "[5]")                    \
    X(embedding_grad_rows, md_embedding_grad(F(3, 4), I(2), 5), "embedding_grad", "[3,4]", "[2]")  \
    X(temb_odd, md_timestep_embedding(F(2), 5, 1, 0, 1e4), "timestep_embedding", "[2]", "5")       \
    X(temb_type, md_timestep_embedding(I(2), 4, 1, 0, 1e4), "timestep_embedding", "[2] i32", "4")  \
    X(write_temp, md_write(F(6), F(6)), "write", "[6]", "persistent")                              \
    X(write_size, md_write(E6, F(5)), "write", "[6]", "[5]")                                       \
    X(write_type, md_write(E6, H(6)), "write", "[6] f32", "[6] bf16")                              \
    X(accumulate_temp, md_accumulate(F(6), F(6)), "accumulate", "[6]", "persistent")               \
    X(accumulate_size, md_accumulate(E6, F(7)), "accumulate", "[6]", "[7]")                        \
    X(adamw_size, ADAMW(E6, F(5), E6, E6, F(1), F(6)), "adamw", "[6]", "[5]")                      \
    X(adamw_hyper, ADAMW(E6, F(6), E6, E6, F(1), F(5)), "adamw", "[1]", "[5]")                     \
    X(adamw_norm, ADAMW(E6, F(6), E6, E6, F(2), F(6)), "adamw", "[2]", "[6]")                      \
    X(adamw_temp, ADAMW(E6, F(6), F(6), E6, F(1), F(6)), "adamw", "[6]", "persistent")             \
    X(adamw_type, ADAMW(E6, I(6), E6, E6, F(1), F(6)), "adamw", "[6] f32", "[6] i32")              \
    X(ema_size, md_ema(E6, F(5), F(1)), "ema", "[6]", "[5]")                                       \
    X(ema_temp, md_ema(F(6), F(6), F(1)), "ema", "[6]", "persistent")                              \
    X(view_range, md_view(F(2, 3), 4, 1, MD_DIMS(3)), "view", "[3]", "[2,3]")                      \
    X(reshape_count, md_reshape(F(2, 3), 2, MD_DIMS(4, -1)), "reshape", "[2,3]", "")               \
    X(extern_range, md_extern(g, &buffer, 3, 1, MD_DIMS(4)), "persistent", "[4]", "6")             \
    X(empty_dim, F(2, 0), "dimension 1", "0", "")

#define X(name, call, op, a, b)                                                                    \
    static md_tensor *build_##name(void)                                                           \
    {                                                                                              \
        return call;                                                                               \
    }
CASES(X)
#undef X

static const struct refusal {
    const char *name;
    md_tensor *(*build)(void);
    const char *text[3];
} refusals[] = {
#define X(name, call, op, a, b) {#name, build_##name, {op, a, b}},
    CASES(X)
#undef X
};

static void builders_name_what_they_refuse(void **state)
{
    (void)state;
    int failed = 0;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        OK(md_graph_new(&g));
        md_graph_set_path(g, "down.0.res.1");
        md_tensor *y = refusals[i].build();
        md_tensor *later = md_add(md_silu(y), y); /* must go through */
        md_status status = md_graph_check(g);
        bool named = md_is_poison(y) && md_is_poison(later) && status == MD_SHAPE &&
                     strstr(md_status_text(), "down.0.res.1");
        for (int k = 0; k < 3; k++)
            named = named && strstr(md_status_text(), refusals[i].text[k]);
        if (!named) {
            print_error("%s: %s \"%s\"\n", refusals[i].name, md_status_name(status),
                        md_status_text());
            failed++;
        }
        md_graph_free(g);
    }
    if (failed)
        fail_msg("%d refusals are missing or unclear", failed);
}

static void the_first_error_is_kept(void **state)
{
    (void)state;
    OK(md_graph_new(&g));
    md_graph_set_path(g, "mid_block");
    md_tensor *bad = md_add(F(3, 7), F(2, 7));
    md_graph_set_path(g, "conv_out");
    md_mul(F(5), F(6));
    md_linear(bad, F(2, 2), NULL);
    assert_int_equal(md_graph_check(g), MD_SHAPE);
    assert_non_null(strstr(md_status_text(), "mid_block"));
    assert_null(strstr(md_status_text(), "conv_out"));
    md_graph_free(g);
}

/* What has no gradient says so; what the loss does not depend on gets none. */
static void md_grad_refuses(void **state)
{
    (void)state;
    md_tensor *grad[2];
    OK(md_graph_new(&g));
    md_tensor *x = F(4), *unused = F(3);
    OK(md_grad(md_sum(md_silu(x)), (md_tensor *[]){x, unused}, 2, 0, grad));
    assert_non_null(grad[0]);
    assert_null(grad[1]);
    assert_int_not_equal(md_grad(md_sumsq(x), &x, 1, 0, grad), MD_OK);
    assert_non_null(strstr(md_status_text(), "sumsq"));
    md_graph_free(g);

    OK(md_graph_new(&g));
    x = F(4);
    assert_int_not_equal(md_grad(md_silu(x), &x, 1, 0, grad), MD_OK); /* [4] is no loss */
    md_graph_free(g);

    OK(md_graph_new(&g));
    x = F(4);
    md_tensor *bad = md_add(x, F(5));
    assert_int_equal(md_grad(md_sum(bad), &x, 1, 0, grad), MD_SHAPE);
    assert_non_null(strstr(md_status_text(), "[5]"));
    md_graph_free(g);
}

static void a_poisoned_graph_gives_no_plan(void **state)
{
    (void)state;
    md_backend *be;
    md_plan *plan = NULL;
    OK(ref_backend_open(&be));
    OK(md_graph_new(&g));
    md_tensor *bad = md_add(F(3, 7), F(2, 7));
    assert_int_equal(md_plan_build(g, be, &bad, 1, &plan), MD_SHAPE);
    assert_null(plan);
    assert_non_null(strstr(md_status_text(), "[2,7]"));
    md_graph_free(g);
    be->ops->close(be);
}

static void check_ids(md_backend *be, int32_t bad)
{
    md_plan *plan;
    md_tensor *grad;
    OK(md_graph_new(&g));
    md_tensor *ids = I(2, 3), *table = F(11, 4), *y = md_embedding(ids, table);
    OK(md_grad(md_sum(y), &table, 1, 0, &grad));
    OK(md_plan_build(g, be, (md_tensor *[]){y, grad}, 2, &plan));
    OK(md_plan_load(plan));
    const int32_t good[6] = {0, 10, 3, 3, 10, 0};
    int32_t id[6];
    memcpy(id, good, sizeof id);
    id[4] = bad;
    const float values[44] = {0};
    OK(md_plan_write(plan, table, values, MD_F32, 44));
    OK(md_plan_write(plan, ids, id, MD_I32, 6));
    assert_int_equal(md_plan_run(plan), MD_BAD_INPUT);
    char text[32];
    snprintf(text, sizeof text, "%d", (int)bad);
    assert_non_null(strstr(md_status_text(), text));
    assert_non_null(strstr(md_status_text(), "11"));
    OK(md_plan_write(plan, ids, good, MD_I32, 6)); /* and the plan is still good */
    OK(md_plan_run(plan));
    md_plan_free(plan);
    md_graph_free(g);
}

static void embedding_ids_are_checked_at_run_time(void **state)
{
    (void)state;
    md_backend *be[2];
    OK(ref_backend_open(&be[0]));
    OK(cpu_backend_open(&be[1], 2));
    for (int i = 0; i < 2; i++) {
        check_ids(be[i], -1);
        check_ids(be[i], 11);
        check_ids(be[i], INT32_MAX);
        check_ids(be[i], INT32_MIN);
        be[i]->ops->close(be[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(builders_name_what_they_refuse), cmocka_unit_test(the_first_error_is_kept),
        cmocka_unit_test(md_grad_refuses), cmocka_unit_test(a_poisoned_graph_gives_no_plan),
        cmocka_unit_test(embedding_ids_are_checked_at_run_time)};
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}

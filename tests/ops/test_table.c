/* No op of ops.def without a row: each is built by some row, each differentiable one is the subject
   of a row that differentiates it, and each op that only gradients use turns up in one. */
#include "ops_cmocka.h"
#include <string.h>

static const struct {
    const char *vjp;
} table[MD_OP_COUNT] = {
#define MD_OP(name, n_out, vjp) {#vjp},
#include "graph/ops.def"
#undef MD_OP
};

static void every_op_has_its_rows(void **state)
{
    (void)state;
    bool built[MD_OP_COUNT] = {false}, differentiated[MD_OP_COUNT] = {false};
    bool small[MD_OP_COUNT] = {false};
    for (int i = 0; i < op_n_families; i++) {
        const op_family *f = op_families[i];
        for (int row = 0; row < f->n; row++) {
            const op_case *c = &f->rows[row];
            op_graph o;
            if (op_graph_build(f, c, MD_F32, c->flags & GRAD, &o) != MD_OK)
                fail_msg("%s: %s", op_case_text(f, row, MD_F32), md_status_text());
            if (o.y->node->op != c->op)
                fail_msg("%s builds %s", op_case_text(f, row, MD_F32), md_op_name(o.y->node->op));
            for (int k = 0; k < md_graph_n_nodes(o.g); k++)
                built[md_graph_node(o.g, k)->op] = true;
            if (c->flags & GRAD)
                differentiated[c->op] = true;
            if (c->flags & GRAD && !(c->flags & BIG))
                small[c->op] = true;
            op_graph_free(&o);
        }
    }
    for (int op = 0; op < MD_OP_COUNT; op++) {
        bool has_gradient = strcmp(table[op].vjp, "vjp_none") != 0;
        if (!built[op])
            fail_msg("%s has no row in tests/ops", md_op_name(op));
        if (has_gradient && (!differentiated[op] || !small[op]))
            fail_msg("%s has a gradient but no row that differentiates it", md_op_name(op));
        if (!has_gradient && differentiated[op])
            fail_msg("%s has a row with GRAD but no gradient", md_op_name(op));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op_has_its_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}

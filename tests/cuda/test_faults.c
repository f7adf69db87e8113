/* What kernels cannot report themselves: an id outside the table is found at the next fence, the
   rest of the result is right, and the backend goes on. */
#include "backend/cuda/internal.h"
#include "ops_cmocka.h"
#include "sim.h"

enum { V = 11, D = 4, N = 6 };

static md_backend *be;

static void check_rows(const float *y, const float *table, const int32_t *id)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < D; j++) {
            bool inside = id[i] >= 0 && id[i] < V;
            assert_true(y[i * D + j] == (inside ? table[id[i] * D + j] : 0.0f));
        }
}

/* dtable counts the places of each id, whatever is outside. */
static void check_sums(const float *dtable, const int32_t *id)
{
    for (int v = 0; v < V; v++) {
        float count = 0;
        for (int i = 0; i < N; i++)
            count += id[i] == v ? 1.0f : 0.0f;
        for (int j = 0; j < D; j++)
            assert_true(dtable[v * D + j] == count);
    }
}

/* Runs one of the two nodes on buffers of the caller's. */
static void run(md_node *node, void *a, void *b, void *out)
{
    md_kernel k = {.node = node, .backend = be};
    void *in[2] = {a, b};
    OK(be->ops->prepare[node->op](be, node, &k));
    OK(k.run(&k, in, &out, NULL));
    if (k.release)
        k.release(&k);
}

static void an_id_outside_the_table(void **state)
{
    (void)state;
    static const int32_t bad[] = {-1, V, INT32_MAX, INT32_MIN};
    md_graph *g;
    OK(md_graph_new(&g));
    md_tensor *ids = md_input(g, "ids", MD_I32, 1, MD_DIMS(N));
    md_tensor *table = md_input(g, "table", MD_F32, 2, MD_DIMS(V, D));
    md_tensor *y = md_embedding(ids, table), *grad = md_embedding_grad(y, ids, V);
    OK(md_graph_check(g));
    float values[V * D], rows[N * D], dy[N * D], dtable[V * D];
    for (int i = 0; i < V * D; i++)
        values[i] = (float)(i + 1);
    for (int i = 0; i < N * D; i++)
        dy[i] = 1;
    for (int b = 0; b < 4; b++) {
        int32_t id[N] = {0, 10, 3, 3, 10, 0}, good[N] = {0, 10, 3, 3, 10, 0};
        id[4] = bad[b];
        run(y->node, id, values, rows);
        assert_int_equal(be->ops->sync(be), MD_BAD_INPUT);
        check_rows(rows, values, id);
        run(grad->node, dy, id, dtable);
        assert_int_equal(be->ops->sync(be), MD_BAD_INPUT);
        check_sums(dtable, id);
        run(y->node, good, values, rows);
        run(grad->node, dy, good, dtable);
        OK(be->ops->sync(be));
        check_rows(rows, values, good);
        check_sums(dtable, good);
    }
    md_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_id_outside_the_table)};
    if (sim_backend_open(&be) != MD_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    be->ops->close(be);
    return failed ? 1 : 0;
}

/* The rows of tests/ops and what every program does with them. A row describes one small graph: an
   op, its inputs' shapes and its attributes. The same rows serve finite differences in ref
   (test_gradient), cpu against ref (test_kernels), thread counts (test_threads), PyTorch's numbers
   (test_golden) and the check that no op of ops.def was forgotten (test_table). */
#ifndef MD_TESTS_OPS_TEST_H
#define MD_TESTS_OPS_TEST_H

#include "graph/backend.h"
#include "ops/ops.h"
#include <stdint.h>

#define OPS_MAX_IN 9

typedef struct op_shape {
    int ndim; /* 0: this input is absent */
    int64_t dim[MD_MAX_DIMS];
} op_shape;

#define IN(...)                                                                                    \
    {                                                                                              \
        (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                           \
        {                                                                                          \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

enum {
    GRAD = 1,        /* differentiate by the float inputs */
    BF16 = 2,        /* run in bf16 too */
    BIG = 4,         /* realistic size: too slow for finite differences */
    EXACT = 8,       /* the op only copies or rounds: every element must be the rounded reference */
    ANY_THREADS = 16 /* forward bytes must not depend on the number of threads */
};

typedef struct op_case op_case;
struct op_case {
    md_op op;
    op_shape a, b, c, d, e, f, g, h, i; /* inputs in order */
    md_attr attr;
    op_shape to; /* result shape, where the builder wants one */
    int64_t len; /* result length along attr.axis, width of a timestep embedding, table size */
    int flags;
    /* bit i: input i is MD_I32; F32, BF16, U8 in any run; an md_extern */
    unsigned i32, f32, bf16, u8, persistent;
    double scale, offset; /* inputs are offset + scale * normal; scale 0 means 1 */
    void (*fill)(const op_case *c, int input, double *x, int64_t n); /* NULL: as above; overrides */
    md_tensor *(*build)(const op_case *c, md_tensor *const *in);     /* NULL: the family's */
    const char *golden; /* name in tests/golden/ops/<family>.safetensors */
};

typedef struct op_family {
    const char *name;
    const op_case *rows;
    int n;
    md_tensor *(*build)(const op_case *c, md_tensor *const *in); /* the node of c->op */
} op_family;

#define OP(name) MD_OP_##name
#define OPS_FAMILY(name)                                                                           \
    const op_family ops_##name = {#name, rows, (int)(sizeof rows / sizeof rows[0]), build}

extern const op_family *const op_families[];
extern const int op_n_families;

/* One row as a graph. */
typedef struct op_graph {
    md_graph *g;
    int n_in;
    md_tensor *in[OPS_MAX_IN];   /* NULL where absent */
    md_buffer buf[OPS_MAX_IN];   /* behind persistent inputs */
    md_tensor *y;                /* the op's first output */
    md_tensor *w, *loss;         /* with gradients: loss = sum(w y), w an input */
    md_tensor *grad[OPS_MAX_IN]; /* d loss / d in[i], NULL where not differentiable */
    int n_forward;               /* nodes up to and including y's */
} op_graph;

MD_MUST md_status op_graph_build(const op_family *f, const op_case *c, md_dtype dtype,
                                 bool with_grad, op_graph *out);
void op_graph_free(op_graph *o);

/* "elementwise[3] mul bf16 (seed 7)" in a static buffer. */
const char *op_case_text(const op_family *f, int row, md_dtype dtype);
uint64_t op_case_seed(const op_family *f, int row);
/* Values of input i (or, with i = OPS_MAX_IN, of w), rounded to the tensor's type. */
void op_case_fill(const op_case *c, int i, const md_tensor *t, uint64_t seed, double *x);

double op_round(md_dtype dtype, double x); /* to nearest even */
double op_normal(uint64_t *state);

/* Runs the row's graph node by node on two backends from the same inputs: after each node `tested`
   is compared with `oracle`, then both go on with the oracle's result rounded to its type, so that
   an error is charged to the op that makes it. Every tensor of `tested` has guard bytes around it,
   outputs and scratch start as NaN, inputs must stay as they were, each kernel has run on other
   values before. `shift` moves every tensor off its alignment by so many elements.
   Returns MD_OK, or MD_NONFINITE / MD_INTERNAL ... with what differed. */
typedef struct op_compare {
    md_backend *oracle, *tested;
    bool with_grad; /* also the backward nodes */
    bool equal;     /* every element the same, in place of the tolerance per type */
    int shift;
    uint64_t seed; /* added to the row's own: other numbers in the same shapes */
    int *seen;     /* [MD_OP_COUNT] counts the nodes compared, or NULL */
    double *worst; /* [MD_OP_COUNT] largest error relative to max, or NULL */
} op_compare;
MD_MUST md_status op_compare_run(const op_compare *o, const op_family *f, int row, md_dtype dtype);

/* op_compare's counts and errors, for f32 and bf16. */
typedef struct op_tally {
    int seen[2][MD_OP_COUNT];
    double worst[2][MD_OP_COUNT];
} op_tally;
/* The row in each type that it wants, in place and, unless BIG, one element off its alignment. */
MD_MUST md_status op_compare_row(md_backend *oracle, md_backend *tested, const op_family *f,
                                 int row, op_tally *tally);

#endif

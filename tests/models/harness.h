/* Runs a model of src/model on golden inputs and compares it with diffusers or transformers block
   by block, outputs and gradients. Golden files: tests/golden/make_models.py. */
#ifndef MD_TESTS_MODELS_HARNESS_H
#define MD_TESTS_MODELS_HARNESS_H

#include "model/registry.h"

#define GOLDEN "tests/golden/"

/* One safetensors file, read by a few lines of our own: the product's reader is under test too. */
typedef struct golden_tensor {
    char name[160];
    int ndim;
    int64_t dim[MD_MAX_DIMS], numel;
    bool i32;
    const void *data;
} golden_tensor;

typedef struct golden {
    char path[256];
    void *file;
    int n;
    golden_tensor *t;
} golden;

/* Both end the test with a message if there is no such file or tensor. */
golden golden_open(const char *path);
void golden_close(golden *g);
const golden_tensor *golden_get(const golden *g, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

enum { MAX_LEAVES = 8, MAX_OUT = 4 };

/* What a model's graph consists of; filled by its build function. */
typedef struct model_graph {
    md_graph *g;
    nn m;
    const golden *golden;
    int n_in, n_out, n_extra;
    struct {
        md_tensor *t;
        const char *golden;
        float *values; /* of an input that is no golden tensor */
    } in[MAX_LEAVES], out[MAX_OUT];
    struct {
        md_tensor *leaf;
        const char *golden;
    } extra[MAX_LEAVES]; /* inputs with a gradient */
    md_tensor *loss;
} model_graph;

/* An input shaped as the golden tensor of this name, fed with it. */
md_tensor *feed(model_graph *b, const char *name);
/* An f32 input [rows,columns] of other origin; takes `values` over, from malloc. */
md_tensor *given(model_graph *b, float *values, int64_t rows, int64_t columns);
/* Compares t with the golden tensor `name` and, if `weight` is not NULL, adds sum(t * golden
 * `weight`) to the loss. */
void expect(model_graph *b, md_tensor *t, const char *name, const char *weight);
/* Compares the gradient of the loss with respect to an input with the golden tensor `name`. */
void expect_gradient(model_graph *b, md_tensor *input, const char *name);

typedef struct model_case {
    const char *folder; /* of config and weights, below GOLDEN, e.g. "sd/vae" */
    model_part part;
    void (*build)(model_graph *b, const model_config *config);
    double ref_tolerance;           /* relative to a tensor's largest value */
    double bf16_out, bf16_gradient; /* relative L2 of all outputs, of all gradients */
    const char *expected; /* <expected>.expected.safetensors holds the values; NULL: <folder> */
} model_case;

/* Runs all cases as cmocka tests: in `ref`; on the device that
   the environment names in MEDDIFF_TEST_DEVICE, or the CPU, in f32 and in bf16 (outputs and all
   gradients together, by relative L2); and with every block recomputed, which must give the same
   gradients exactly. A test fails at the first tap, output or gradient beyond the tolerance and
   names it. The config, the weights and the parameters' names go through the product's own readers.
   Returns what main returns. */
int model_cases_run(const model_case *cases, int n);

#endif

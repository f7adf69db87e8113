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
    } in[MAX_LEAVES], out[MAX_OUT];
    struct {
        md_tensor *leaf;
        const char *golden;
    } extra[MAX_LEAVES]; /* inputs with a gradient */
    md_tensor *loss;
} model_graph;

/* An input shaped as the golden tensor of this name, fed with it. */
md_tensor *feed(model_graph *b, const char *name);
/* Compares t with the golden tensor `name` and adds sum(t * golden `weight`) to the loss. */
void expect(model_graph *b, md_tensor *t, const char *name, const char *weight);
/* Compares the gradient of the loss with respect to an input with the golden tensor `name`. */
void expect_gradient(model_graph *b, md_tensor *input, const char *name);

typedef struct model_case {
    const char
        *folder; /* below GOLDEN, e.g. "sd/vae"; expected values: <folder>.expected.safetensors */
    model_part part;
    void (*build)(model_graph *b, const model_config *config);
    double ref_tolerance;           /* relative to a tensor's largest value */
    double bf16_out, bf16_gradient; /* relative L2 of all outputs, of all gradients */
} model_case;

/* Fails the running cmocka test at the first tap, output or gradient beyond the tolerance; names
   it. The config, the weights and the parameters' names go through the product's own readers. What
   says cpu runs on the device that the environment names in MEDDIFF_TEST_DEVICE, if it does. */
void check_ref(const model_case *c);
void check_cpu(const model_case *c);
/* bf16: outputs and all gradients together, by relative L2. */
void check_cpu_bf16(const model_case *c);
/* Gradients with every block recomputed equal those with none, exactly. */
void check_recompute(const model_case *c);

#endif

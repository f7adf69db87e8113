/* Layers and parameters. `nn` is a value: a graph, a parameter store and a path that equals the
   checkpoint's own key, so that loading is one loop and an error names the layer. */
#ifndef MD_NN_NN_H
#define MD_NN_NN_H

#include "format/safetensors.h"
#include "graph/backend.h"
#include "ops/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nn_params nn_params;
typedef struct nn_taps nn_taps;

typedef struct nn {
    md_graph *g;
    nn_params *params;
    const char *path; /* "" at the root */
    md_dtype dtype;   /* compute type: parameters are held in it or cast to it */
    nn_taps *taps;    /* where nn_tap notes block outputs; NULL (as nn_root leaves it): nowhere */
} nn;

/* How a parameter starts when there is no file: PyTorch's defaults. KAIMING is what nn.Linear and
   nn.Conv2d do to weight and bias alike: kaiming_uniform with a = sqrt(5), that is uniform in
   +-1/sqrt(fan_in). NORMAL02: normal, deviation 0.02, as CLIP's embeddings. LORA_A: normal,
   deviation 1/fan_in, which is the rank there, as peft's "gaussian". */
typedef enum nn_init { NN_ZERO, NN_ONE, NN_KAIMING, NN_NORMAL02, NN_LORA_A } nn_init;

/* Outputs of named blocks, for tests that compare a model block by block. */
#define NN_MAX_TAPS 256
struct nn_taps {
    int n;
    struct {
        const char *path; /* owned by the graph */
        md_tensor *t;
    } tap[NN_MAX_TAPS];
};

typedef struct nn_param_info {
    const char *name; /* checkpoint key, e.g. "down_blocks.0.resnets.1.conv1.weight" */
    int ndim;
    int64_t dim[MD_MAX_DIMS]; /* in memory; conv weights are O,kh,kw,I */
    bool conv;                /* the file holds O,I,kh,kw */
    bool linear_as_conv;      /* the file holds [O,I,1,1] for a linear [O,I]; read as either */
    int64_t offset;           /* elements into the flat buffer, 16-aligned */
    int64_t numel;
    int64_t fan_in;
    nn_init init;
} nn_param_info;

/* A store holds one model's parameters in one flat f32 buffer. While it is open, building the model
   declares them; after nn_params_close, further graphs bind to the same ones and an unknown name is
   an error. */
MD_MUST md_status nn_params_new(const char *model, nn_params **out);
void nn_params_free(nn_params *p, md_backend *be);
MD_MUST md_status nn_params_close(nn_params *p);
int nn_params_count(const nn_params *p);
const nn_param_info *nn_params_info(const nn_params *p, int i);
/* How a store is held on the device. In bf16, graphs read a bf16 copy in place of casting the f32
   weights at every use; a training needs both (md_adamw updates both), sampling the copy alone. */
typedef enum nn_hold { NN_HOLD_F32, NN_HOLD_BOTH, NN_HOLD_BF16 } nn_hold;
/* Before the first graph that computes with them; NN_HOLD_F32 until then. */
void nn_params_hold(nn_params *p, nn_hold hold);
/* Takes the memory of what is held, zeroed; no-op when it is taken. */
MD_MUST md_status nn_params_alloc(nn_params *p, md_backend *be);
bool nn_params_allocated(const nn_params *p);
size_t nn_params_bytes(const nn_params *p, const md_backend *be); /* of what is held */
md_buffer *nn_params_buffer(nn_params *p); /* the f32 weights; size final after close */
md_buffer *nn_params_copy(nn_params *p);   /* the bf16 copy, NULL where none is held */
/* Rounds the f32 weights into the copy again, after the former were written through their buffer.
 */
MD_MUST md_status nn_params_refresh(nn_params *p, md_backend *be);
/* Elements of all parameters, without the gaps that alignment leaves in the buffer. */
int64_t nn_params_numel(const nn_params *p);
const char *nn_params_model(const nn_params *p);
/* Index of a name, -1 if there is none. */
int nn_params_find(const nn_params *p, const char *name);
/* Fills by each parameter's nn_init from Philox (seed, purpose, parameter index). The store must
   be allocated; gaps stay zero. */
MD_MUST md_status nn_params_randomize(nn_params *p, md_backend *be, uint64_t seed);
/* All parameters that the graph of `m` has used, in declaration order, as the leaves to pass to
   md_grad; tensor i belongs to nn_params_info(p, i). NULL where the graph did not use it. */
void nn_params_tensors(nn_params *p, md_graph *g, md_tensor **out);
/* Host copies of one parameter (numel f32 in memory layout); writing sets all that is held. */
MD_MUST md_status nn_params_read(const nn_params *p, md_backend *be, int i, float *host);
MD_MUST md_status nn_params_write(nn_params *p, md_backend *be, int i, const float *host);

/* ---- Parameter files: safetensors, named by parameter. Conv weights are O,I,kh,kw in files. */

/* What a parameter is called in a file that has names of its own. */
typedef struct nn_file_name {
    const char *name;
    bool as_conv; /* a linear layer's [O,I] is written as [O,I,1,1] */
} nn_file_name;

/* How a model's files differ from its parameters. Any member may be NULL. */
typedef struct nn_file_rules {
    /* Writes our name for a file's name into buf and returns true; false: it is ours already. */
    bool (*rename)(const char *name, char *buf, size_t size);
    const char *const *ignorable; /* pieces of names that are not weights; NULL-terminated */
    const char *prefix;           /* what does not begin with it belongs to another model */
    const nn_file_name *names;    /* by parameter; then `rename` is not asked */
} nn_file_rules;

/* Checks the file against the parameters without reading a weight: every parameter there once, in
   the right shape and in f16, bf16 or f32, and nothing else. A linear layer [O,I] may stand as
   [O,I,1,1] and the reverse. MD_BAD_INPUT names the file and the tensor. path: a .safetensors file
   or an index of several. */
MD_MUST md_status nn_params_check_file(const nn_params *p, const char *path,
                                       const nn_file_rules *rules);
/* Checks, then reads into the store, which must be allocated. Values that are not finite are
   refused. */
MD_MUST md_status nn_params_load(nn_params *p, md_backend *be, const char *path,
                                 const nn_file_rules *rules);
/* Writes all parameters, in f32 (or f16) and file layout; atomic. */
MD_MUST md_status nn_params_save(const nn_params *p, md_backend *be, const char *path, bool f16);
/* As nn_params_save, but the values come from `values`, a buffer laid out as the parameters' own:
   the moving average, for instance. */
MD_MUST md_status nn_params_save_from(const nn_params *p, const md_buffer *values, md_backend *be,
                                      const char *path, bool f16);

/* Copies a checked file as nn_params_save would write it, tensor by tensor; no buffer is needed. */
MD_MUST md_status nn_params_convert(const nn_params *p, const char *from, const char *to,
                                    const nn_file_rules *rules, bool f16);

/* The steps of saving, for files that hold several models: all of them are declared first, then put
   in that order. names: by parameter, or NULL: the parameters' own. */
MD_MUST md_status nn_params_declare(const nn_params *p, const nn_file_name *names, bool f16,
                                    format_writer *w);
MD_MUST md_status nn_params_put(const nn_params *p, const md_buffer *values, md_backend *be,
                                format_writer *w); /* values NULL: the loaded parameters */
MD_MUST md_status nn_params_put_file(const nn_params *p, const char *from,
                                     const nn_file_rules *rules, format_writer *w);

nn nn_root(md_graph *g, nn_params *p, md_dtype dtype);
nn nn_in(nn m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Notes x as the output of the block m.path; returns x. */
md_tensor *nn_tap(nn m, md_tensor *x);
/* The parameter <path>.<name>, not yet cast; the same leaf each time a graph asks for it. */
md_tensor *nn_param(nn m, const char *name, nn_init init, int64_t fan_in, int ndim,
                    const int64_t *dim);

/* Layers: the name is appended to the path; keys are <name>.weight and <name>.bias. */
md_tensor *nn_linear(nn m, const char *name, md_tensor *x, int64_t out, bool bias);
/* A 1x1 convolution, computed as a linear layer: on NHWC images and on tokens it is one. */
md_tensor *nn_linear_conv(nn m, const char *name, md_tensor *x, int64_t out, bool bias);
md_tensor *nn_conv2d(nn m, const char *name, md_tensor *x, int64_t out, int kernel, int stride,
                     int pad);
md_tensor *nn_conv2d_pad(nn m, const char *name, md_tensor *x, int64_t out, int kernel, int stride,
                         int pad_t, int pad_l, int pad_b, int pad_r);
md_tensor *nn_group_norm(nn m, const char *name, md_tensor *x, int groups, double eps, md_act act);
md_tensor *nn_layer_norm(nn m, const char *name, md_tensor *x, double eps);
md_tensor *nn_embedding(nn m, const char *name, md_tensor *ids, int64_t vocab, int64_t width);

#ifdef __cplusplus
}
#endif
#endif

/* safetensors files (github.com/huggingface/safetensors, format 1): reading with every size, offset
   and count checked against the file before use, sharded sets through their index file, streaming
   atomic writing. Messages name the file and the tensor. Nothing here knows models or graphs. */
#ifndef MD_FORMAT_SAFETENSORS_H
#define MD_FORMAT_SAFETENSORS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FORMAT_DIMS_MAX 8

/* name, bytes of an element */
#define FORMAT_DTYPE_MAP(X)                                                                        \
    X(BOOL, 1)                                                                                     \
    X(U8, 1)                                                                                       \
    X(I8, 1)                                                                                       \
    X(U16, 2)                                                                                      \
    X(I16, 2)                                                                                      \
    X(F16, 2)                                                                                      \
    X(BF16, 2)                                                                                     \
    X(U32, 4)                                                                                      \
    X(I32, 4)                                                                                      \
    X(F32, 4)                                                                                      \
    X(U64, 8)                                                                                      \
    X(I64, 8)                                                                                      \
    X(F64, 8)

typedef enum format_dtype {
#define X(name, size) FORMAT_##name,
    FORMAT_DTYPE_MAP(X)
#undef X
} format_dtype;

const char *format_dtype_name(format_dtype d);
size_t format_dtype_bytes(format_dtype d);

/* dim: outermost first, as in PyTorch; ndim 0 is a scalar of one element. Owned by the file. */
typedef struct format_tensor {
    const char *name;
    format_dtype dtype;
    int ndim;
    int64_t dim[FORMAT_DIMS_MAX], numel;
    size_t bytes;
    uint64_t offset; /* from the start of its file */
    int shard;       /* which file of the set */
} format_tensor;

typedef struct format_tensors format_tensors;

/* path: a .safetensors file, or an index ("*.safetensors.index.json") whose shards lie beside it.
   A pickle file is refused with the name of what to get instead. */
MD_MUST md_status format_tensors_open(const char *path, format_tensors **out);
/* One file's bytes, borrowed until close. */
MD_MUST md_status format_tensors_open_memory(const char *name, const void *bytes, size_t n,
                                             format_tensors **out);
void format_tensors_close(format_tensors *f); /* NULL is fine */

int64_t format_tensors_count(const format_tensors *f);
const format_tensor *format_tensors_at(const format_tensors *f, int64_t i); /* sorted by name */
const format_tensor *format_tensors_find(const format_tensors *f, const char *name); /* or NULL */
/* As find, with MD_BAD_INPUT that names the file, the tensor and, if given, the wanted shape. */
MD_MUST md_status format_tensors_get(const format_tensors *f, const char *name, int ndim,
                                     const int64_t *dim, const format_tensor **out);
int64_t format_tensors_n_meta(const format_tensors *f); /* pairs of __metadata__ (first shard's) */
void format_tensors_meta_at(const format_tensors *f, int64_t i, const char **key,
                            const char **value);
const char *format_tensors_meta(const format_tensors *f, const char *key); /* or NULL */
const char *format_tensors_name(const format_tensors *f);                  /* as opened */
int format_tensors_n_files(const format_tensors *f);
const char *format_tensors_file(const format_tensors *f, int i); /* path */

/* Elements first .. first+n-1 in the file's order, converted to f32 (any dtype), into dst[n]. */
MD_MUST md_status format_tensors_read_f32(const format_tensors *f, const format_tensor *t,
                                          int64_t first, int64_t n, float *dst);
/* The tensor's bytes as they stand (little-endian), into dst[t->bytes]. */
MD_MUST md_status format_tensors_read_raw(const format_tensors *f, const format_tensor *t,
                                          void *dst);

/* Writing: new, declare every tensor (and metadata), then put their elements in the order of
   declaration in any number of pieces, then finish. The file appears under `path` only in finish
   (temporary name, fsync, rename); free removes what is unfinished. */
typedef struct format_writer format_writer;
MD_MUST md_status format_writer_new(const char *path, format_writer **out);
/* dtype F32, F16 or BF16 (rounded to nearest even), or I64 or U8 (from integral floats, for buffers
   and codes). */
MD_MUST md_status format_writer_declare(format_writer *w, const char *name, format_dtype dtype,
                                        int ndim, const int64_t *dim);
MD_MUST md_status format_writer_meta(format_writer *w, const char *key, const char *value);
/* The next n elements. A finite value that f16 cannot hold is MD_BAD_INPUT and names the tensor. */
MD_MUST md_status format_writer_put(format_writer *w, const float *src, int64_t n);
/* MD_INTERNAL when elements are missing. */
MD_MUST md_status format_writer_finish(format_writer *w);
void format_writer_free(format_writer *w); /* NULL is fine */

/* Bit conversions, for those who hold half floats elsewhere. */
float format_f16_to_f32(uint16_t h);
uint16_t format_f32_to_f16(float f); /* nearest even; too large becomes infinity */

#ifdef __cplusplus
}
#endif
#endif

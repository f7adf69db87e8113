/* A safetensors file: header, then every tensor's elements and the metadata. */
#include "fuzz.h"

#include "format/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    format_tensors *f = NULL;
    if (format_tensors_open_memory("fuzz", data, n, &f) != MD_OK)
        return 0;
    for (int64_t i = 0; i < format_tensors_count(f); i++) {
        const format_tensor *t = format_tensors_at(f, i);
        /* an element has a byte at least, so a tensor is no larger than the file */
        float *x = malloc(((size_t)t->numel + 1) * sizeof *x);
        void *raw = malloc(t->bytes + 1);
        if (!x || !raw || (size_t)t->numel > n || format_tensors_find(f, t->name) != t ||
            format_tensors_read_f32(f, t, 0, t->numel, x) != MD_OK ||
            format_tensors_read_f32(f, t, t->numel / 2, t->numel - t->numel / 2, x) != MD_OK ||
            format_tensors_read_raw(f, t, raw) != MD_OK)
            abort();
        free(x);
        free(raw);
    }
    for (int64_t i = 0; i < format_tensors_n_meta(f); i++) {
        const char *key, *value;
        format_tensors_meta_at(f, i, &key, &value);
        if (!format_tensors_meta(f, key) || strlen(value) > n)
            abort();
    }
    format_tensors_close(f);
    return 0;
}

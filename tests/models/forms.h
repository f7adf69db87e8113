/* Model files made for tests: headers with holes in place of data, so that full size costs nothing,
   and the golden lists of LDM names (tests/golden/make_ldm.py). */
#ifndef MD_TESTS_MODELS_FORMS_H
#define MD_TESTS_MODELS_FORMS_H

#include "model/registry.h"

typedef struct form_tensor {
    char name[160];
    const char *dtype; /* "F32"; NULL: F16 */
    int ndim;
    int64_t dim[4];
} form_tensor;

typedef struct form_line {
    form_tensor ldm;
    model_part part;
    char ours[160];
} form_line;

/* tests/golden/ldm/<name>.txt; free(*lines). Ends the test when it cannot be read. */
int form_golden(const char *name, form_line **lines);
/* A safetensors file whose data is a hole. meta: "\"key\":\"value\",..." or NULL. */
void form_write(const char *path, const form_tensor *t, int n, const char *meta);
/* "name" or "name[2,3]" of each, separated by blanks; without a shape: one element. */
void form_write_names(const char *path, const char *names);

#endif

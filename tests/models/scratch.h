/* A directory and a backend for tests of model folders: each program includes this once. */
#ifndef MD_TESTS_MODELS_SCRATCH_H
#define MD_TESTS_MODELS_SCRATCH_H

#include "backend/ref/ref.h"
#include "model/foundation.h"
#include "support/expect.h"
#include "support/tmp_dir.h"
#include <math.h>

#define SD "tests/golden/sd"

static char root[256];
static md_backend *be;

/* "<root>/<name>", valid until four more calls. */
static inline const char *in_root(const char *name)
{
    static char path[4][512];
    static int next;
    char *p = path[next++ & 3];
    (void)snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}

/* A shell command in root. */
static inline void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void shell(const char *fmt, ...)
{
    char command[2048];
    int n = snprintf(command, sizeof command, "cd %s && ", root);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(command + n, sizeof command - (size_t)n, fmt, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("%s", command);
}

/* SD, or what is below it, as `name` in root, in place of what was there. */
static inline void copy_sd(const char *what, const char *name)
{
    char command[1200];
    (void)snprintf(command, sizeof command, "rm -rf %s && cp -r " SD "%s %s", in_root(name), what,
                   in_root(name));
    assert_int_equal(system(command), 0);
}

/* Largest relative difference of all parameters of two loaded foundations' parts. */
static inline double scratch_difference(const foundation *a, const foundation *b, model_part part)
{
    double worst = 0;
    const nn_params *p = a->params[part], *q = b->params[part];
    assert_int_equal(nn_params_count(p), nn_params_count(q));
    for (int i = 0; i < nn_params_count(p); i++) {
        int64_t n = nn_params_info(p, i)->numel;
        float *u = malloc((size_t)n * sizeof *u), *v = malloc((size_t)n * sizeof *v);
        assert_string_equal(nn_params_info(p, i)->name, nn_params_info(q, i)->name);
        OK(nn_params_read(p, be, i, u));
        OK(nn_params_read(q, be, i, v));
        for (int64_t k = 0; k < n; k++)
            worst = fmax(worst, fabs(u[k] - v[k]) / (fabs(u[k]) + 1e-4));
        free(u);
        free(v);
    }
    return worst;
}

static inline int scratch_open(void **state)
{
    (void)state;
    return !tmp_dir_make(root) || ref_backend_open(&be) != MD_OK;
}

static inline int scratch_close(void **state)
{
    (void)state;
    be->ops->close(be);
    tmp_dir_remove(root);
    return 0;
}

#endif

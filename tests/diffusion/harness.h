/* Shared by tests/diffusion: a graph of a few inputs on the ref backend, and numbers. */
#ifndef MD_TESTS_DIFFUSION_HARNESS_H
#define MD_TESTS_DIFFUSION_HARNESS_H

#include "diffusion/blend.h"
#include "diffusion/guidance.h"
#include "diffusion/sampler.h"
#include "graph/plan.h"
#include "ops/ops.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define must(call)                                                                                 \
    do {                                                                                           \
        md_status must_ = (call);                                                                  \
        if (must_ != MD_OK)                                                                        \
            fail_msg("%s: %s: %s", #call, md_status_name(must_), md_status_text());                \
    } while (0)
#define ok(condition) assert_true(condition)

/* |a - b| <= tolerance (1 + |b|) */
#define near(a, b, tolerance) near_at((a), (b), (tolerance), __FILE__, __LINE__)
void near_at(double a, double b, double tolerance, const char *file, int line);

typedef struct stage {
    md_backend *be;
    md_graph *g;
    md_plan *plan;
} stage;

void stage_open(stage *s); /* ref backend, empty graph */
void stage_load(stage *s, md_tensor *const *outputs, int n);
/* What a sampler remembers of latents of this shape, zeroed; free the buffer with
   md_buffer_release. */
md_tensor *stage_past(stage *s, md_buffer *b, const diffusion_sampler *row, int ndim,
                      const int64_t *dim);
void stage_put(stage *s, md_tensor *input,
               const double *values); /* md_numel of them; NULL input: none */
void stage_run(stage *s, md_tensor *output, double *values);
void stage_close(stage *s);

/* Any numbers of about unit size, a pure function of seed and i. */
double wave(int seed, int64_t i);

#endif

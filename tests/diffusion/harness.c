#include "harness.h"
#include "backend/ref/ref.h"
#include <math.h>
#include <stdlib.h>

void near_at(double a, double b, double tolerance, const char *file, int line)
{
    if (!(fabs(a - b) <= tolerance * (1 + fabs(b)))) {
        print_error("%.17g, wanted %.17g (difference %.3g)\n", a, b, a - b);
        _fail(file, line);
    }
}

void stage_open(stage *s)
{
    *s = (stage){0};
    must(ref_backend_open(&s->be));
    must(md_graph_new(&s->g));
}

md_tensor *stage_past(stage *s, md_buffer *b, const diffusion_sampler *row, int ndim,
                      const int64_t *dim)
{
    int64_t all[MD_MAX_DIMS], n = row->past;
    for (int i = 0; i < ndim; i++)
        n *= all[i] = dim[i];
    all[0] *= row->past;
    double *zeros = calloc((size_t)n, sizeof *zeros);
    ok(zeros != NULL);
    md_buffer_init(b, "past", MD_F32, n);
    must(md_buffer_alloc(s->be, b));
    must(md_buffer_write(s->be, b, 0, zeros, MD_F64, n));
    free(zeros);
    return md_extern(s->g, b, 0, ndim, all);
}

void stage_load(stage *s, md_tensor *const *outputs, int n)
{
    must(md_graph_check(s->g));
    must(md_plan_build(s->g, s->be, outputs, n, &s->plan));
    must(md_plan_load(s->plan));
}

void stage_put(stage *s, md_tensor *input, const double *values)
{
    if (input)
        must(md_plan_write(s->plan, input, values, MD_F64, md_numel(input)));
}

void stage_run(stage *s, md_tensor *output, double *values)
{
    must(md_plan_run(s->plan));
    must(md_plan_read(s->plan, output, values, MD_F64, md_numel(output)));
}

void stage_close(stage *s)
{
    md_plan_free(s->plan);
    md_graph_free(s->g);
    s->be->ops->close(s->be);
}

double wave(int seed, int64_t i)
{
    return 1.3 * sin(12.9898 * (double)(i + 1) + 78.233 * seed);
}

/* bench: what training and painting cost on this device, part by part, with random weights: the
   same plans, step and painter as in finetune and generate, on numbers drawn here. */
#include "bench.h"
#include "backend/open.h"
#include "base/clock.h"
#include "base/memory.h"
#include "session.h"
#include "train/finetune.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILED = 3 }; /* most runs under the profile */

void bench_meter_start(bench_meter *m)
{
    m->begin = m->last = md_now();
}

md_status bench_meter_lap(bench_meter *m, bool *more)
{
    MD_TRY(m->be->ops->sync(m->be));
    double now = md_now();
    bool over = now - m->begin > m->limit;
    if (m->warmup > 0) {
        m->warmup = over ? 0 : m->warmup - 1;
        *more = true;
    } else {
        m->ms[m->n++] = 1e3 * (now - m->last);
        *more = m->n < m->repeats && !over;
    }
    m->last = md_now();
    return MD_OK;
}

typedef struct result {
    const char *name;
    int n;
    double median, least, most; /* ms */
    size_t rss;                 /* largest of the process so far; 0: unknown */
} result;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static result summarize(const char *name, const bench_meter *m)
{
    qsort(m->ms, (size_t)m->n, sizeof *m->ms, by_value);
    return (result){.name = name,
                    .n = m->n,
                    .median = (m->ms[(m->n - 1) / 2] + m->ms[m->n / 2]) / 2,
                    .least = m->ms[0],
                    .most = m->ms[m->n - 1],
                    .rss = md_memory_peak()};
}

static double tflops(const bench_part *p, const result *r)
{
    return p->flops / (1e9 * r->median);
}

static void print_head(const bench *b)
{
    (void)printf("%s, %s, %d threads, pictures of %lld pixels, random weights\n", b->be->ops->name,
                 md_dtype_name(b->dtype), b->be->threads, (long long)b->size);
    (void)printf("%-7s %5s %11s %11s %11s %11s %9s %8s %10s %10s  %s\n", "part", "runs",
                 "median ms", "min", "max", "GFLOP", "TFLOP/s", "of peak", "device MiB", "peak RSS",
                 "shapes");
}

static void print_row(const bench_part *p, const result *r)
{
    char share[16] = "-";
    if (p->b->peak > 0)
        (void)snprintf(share, sizeof share, "%.1f %%", 1e14 * tflops(p, r) / p->b->peak);
    (void)printf("%-7s %5d %11.3f %11.3f %11.3f %11.3f %9.4f %8s %10.1f %10.1f  %s\n", r->name,
                 r->n, r->median, r->least, r->most, p->flops / 1e9, tflops(p, r), share,
                 (double)p->bytes / 1048576, (double)r->rss / 1048576, p->shapes);
    (void)fflush(stdout);
}

/* What the device says is taken, by whomever; 0 where it says nothing. */
static size_t taken(md_backend *be)
{
    size_t free_bytes = 0, total = 0;
    if (!be->ops->queues || !be->ops->queues->memory ||
        be->ops->queues->memory(be, &free_bytes, &total) != MD_OK)
        return 0;
    return total - free_bytes;
}

static md_status write_json(FILE *f, const char *path, const bench_part *p, const result *r)
{
    const bench *b = p->b;
    (void)fprintf(f,
                  "{\"name\": \"%s\", \"shapes\": \"%s\", \"size\": %lld, \"batch\": %lld, "
                  "\"dtype\": \"%s\", \"device\": \"%s\", \"threads\": %d, \"runs\": %d, "
                  "\"median_ms\": %.6g, \"min_ms\": %.6g, \"max_ms\": %.6g, \"gflop\": %.6g, "
                  "\"tflops\": %.6g, \"device_bytes\": %zu, \"device_taken_bytes\": %zu, "
                  "\"rss_peak_bytes\": %zu}\n",
                  r->name, p->shapes, (long long)b->size, (long long)p->batch,
                  md_dtype_name(b->dtype), b->be->ops->name, b->be->threads, r->n, r->median,
                  r->least, r->most, p->flops / 1e9, tflops(p, r), p->bytes, taken(b->be), r->rss);
    if (fflush(f) != 0 || ferror(f))
        MD_FAIL(MD_IO, "%s: cannot write: %s", path, strerror(errno));
    return MD_OK;
}

/* The plans once more, with a fence behind each kernel. */
static md_status print_profile(bench_part *p, const char *name)
{
    double ms[PROFILED];
    int repeats = (int)config_int(p->b->cfg, KEY_bench_repeats);
    bench_meter m = {.be = p->b->be,
                     .repeats = repeats < PROFILED ? repeats : PROFILED,
                     .limit = config_float(p->b->cfg, KEY_bench_seconds),
                     .ms = ms};
    for (int i = 0; i < BENCH_PLANS && p->plan[i]; i++)
        md_plan_profile(p->plan[i], true);
    md_status status = p->run(p, &m);
    for (int i = 0; i < BENCH_PLANS && p->plan[i] && status == MD_OK; i++) {
        (void)printf("\n%s%s, %d runs:\n", name, i ? ", update" : "", m.n);
        md_plan_print_profile(p->plan[i], stdout);
    }
    (void)printf("\n");
    for (int i = 0; i < BENCH_PLANS && p->plan[i]; i++)
        md_plan_profile(p->plan[i], false);
    return status;
}

static md_status time_part(bench *b, bench_part *p, const char *name, FILE *json)
{
    const config *c = p->b->cfg;
    bench_meter m = {.be = p->b->be,
                     .warmup = (int)config_int(c, KEY_bench_warmup),
                     .repeats = (int)config_int(c, KEY_bench_repeats),
                     .limit = config_float(c, KEY_bench_seconds)};
    m.ms = malloc((size_t)m.repeats * sizeof *m.ms);
    if (!m.ms)
        MD_FAIL(MD_NOMEM, "bench: out of memory");
    md_status status = p->run(p, &m);
    if (status == MD_OK && m.n == 0)
        status = md_fail(MD_INTERNAL, __FILE__, __LINE__, "bench: no run was timed");
    if (status == MD_OK) {
        result r = summarize(name, &m);
        if (!strcmp(name, bench_rows[0].name))
            b->peak = 1e12 * tflops(p, &r);
        print_row(p, &r);
        if (json)
            status = write_json(json, config_string(c, KEY_bench_json), p, &r);
    }
    free(m.ms);
    if (status == MD_OK && config_bool(c, KEY_bench_profile))
        status = print_profile(p, name);
    return status;
}

static md_status time_row(bench *b, const bench_row *row, FILE *json)
{
    bench_part p = {.b = b, .batch = config_int(b->cfg, KEY_bench_batch)};
    if (!p.batch)
        p.batch = config_int(b->cfg, row->trains ? KEY_finetune_batch : KEY_generate_batch);
    md_status status = row->open(b, &p);
    if (status == MD_OK)
        status = time_part(b, &p, row->name, json);
    if (p.close)
        p.close(&p);
    return status == MD_OK ? MD_OK : md_context(status, "bench %s", row->name);
}

/* Which rows bench.what names. */
static md_status choose(const config *c, bool chosen[BENCH_ROWS])
{
    const char *word = config_string(c, KEY_bench_what);
    while (*word) {
        size_t n = strcspn(word, ", ");
        bool all = n == 3 && !strncmp(word, "all", n), known = all || n == 0;
        for (int i = 0; i < BENCH_ROWS; i++) {
            bool here = strlen(bench_rows[i].name) == n && !strncmp(word, bench_rows[i].name, n);
            chosen[i] = chosen[i] || all || here;
            known = known || here;
        }
        if (!known)
            return config_fail(
                c, KEY_bench_what,
                "\"%.*s\" is none of peak, unet, train, paint, encode, decode, text, all", (int)n,
                word);
        word += n + (word[n] != 0);
    }
    return MD_OK;
}

/* As the jobs hold their weights: f32 beside bf16 only where there is a training among the rows. */
static void hold(const bench *b, const bool chosen[BENCH_ROWS])
{
    bool trains = false;
    for (int i = 0; i < BENCH_ROWS; i++)
        trains = trains || (chosen[i] && bench_rows[i].trains);
    if (trains)
        finetune_hold(b->cfg, b->f);
    else
        foundation_hold(b->f, b->dtype, 0);
}

static md_status time_rows(bench *b, const bool chosen[BENCH_ROWS])
{
    const char *path = config_string(b->cfg, KEY_bench_json);
    FILE *json = NULL;
    if (*path) {
        json = fopen(path, "w");
        if (!json)
            return config_fail(b->cfg, KEY_bench_json, "%s: cannot open: %s", path,
                               strerror(errno));
    }
    md_status status = MD_OK;
    hold(b, chosen);
    print_head(b);
    for (int i = 0; i < BENCH_ROWS && status == MD_OK; i++)
        if (chosen[i])
            status = time_row(b, &bench_rows[i], json);
    if (json && fclose(json) != 0 && status == MD_OK)
        status = md_fail(MD_IO, __FILE__, __LINE__, "%s: cannot write: %s", path, strerror(errno));
    return status;
}

/* Local. */
md_status job_bench(job *j)
{
    bench b = {.cfg = j->cfg,
               .dtype = config_choice(j->cfg, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32,
               .size = config_int(j->cfg, KEY_data_size)};
    bool chosen[BENCH_ROWS] = {0};
    MD_TRY(choose(j->cfg, chosen));
    md_status status = foundation_open_configs(config_string(j->cfg, KEY_model_foundation), &b.f);
    backend_options o = session_backend_options(j->cfg, 1, 0);
    if (status == MD_OK)
        status = backend_open(&o, &b.be);
    if (status == MD_OK)
        status = time_rows(&b, chosen);
    foundation_free(b.f, b.be);
    if (b.be)
        b.be->ops->close(b.be);
    return status;
}

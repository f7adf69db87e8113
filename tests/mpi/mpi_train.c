/* Data-parallel training: any number of workers ends where one alone does, all with the same bytes;
   one that fails, or wants to stop, takes the others along. */
#include "base/crc32c.h"
#include "check.h"
#include "train/rig.h"

enum { STEPS = 20 };

/* A batch that one worker cannot make. */
typedef struct faulty {
    train_task task;
    int64_t at; /* step */
    bool here;
} faulty;

static md_tensor *build(void *user, md_graph *g, int64_t n)
{
    faulty *f = user;
    return f->task.build(f->task.user, g, n);
}

static md_status fill(void *user, md_plan *plan, int64_t step, int64_t first, int64_t n)
{
    faulty *f = user;
    if (f->here && step == f->at)
        MD_FAIL(MD_IO, "the disk is gone");
    return f->task.fill(f->task.user, plan, step, first, n);
}

static md_status load(void *user, md_backend *be)
{
    faulty *f = user;
    return f->task.load(f->task.user, be);
}

static void train_steps(rig *r, int n, train_stats *s)
{
    for (int i = 0; i < n; i++) {
        must(train_step(r->t, false, &s[i]));
        ok(!s[i].skipped && !s[i].stop && isfinite(s[i].loss) && s[i].grad_norm > 0);
    }
}

static void all_the_same(rig *r)
{
    int64_t n;
    float *all = rig_all(r, &n);
    uint32_t crc = md_crc32c(0, all, (size_t)n * sizeof *all), list[64] = {0};
    must(comm_gather(comm_workers(), 0, &crc, sizeof crc, list, 20));
    for (int i = 0; i < comm_size(comm_workers()) && comm_rank(comm_workers()) == 0; i++)
        ok(list[i] == crc);
    free(all);
}

static float *read_param(rig *r, nn_params *p, int i, int64_t *n)
{
    *n = nn_params_info(p, i)->numel;
    float *w = malloc((size_t)*n * sizeof *w);
    ok(w != NULL);
    must(nn_params_read(p, r->be, i, w));
    return w;
}

/* Trained tensor i as the model sees it: a layer's weight, or where adapters are trained the sum of
   weight i and its adapter. B starts at zero, so that its own relative error would be that of a
   change. free(). */
static float *effective(rig *r, int i, int64_t *n)
{
    char name[256];
    const char *own = nn_params_info(r->params, i)->name, *end = strstr(own, ".weight");
    float *w = read_param(r, r->params, i, n);
    if (r->trained == r->params || !end)
        return w;
    (void)snprintf(name, sizeof name, "%.*s.lora_A.weight", (int)(end - own), own);
    int at = nn_params_find(r->trained, name);
    if (at < 0)
        return w;
    int64_t n_a, n_b, rank = r->lora.rank;
    float *a = read_param(r, r->trained, at, &n_a), *b = read_param(r, r->trained, at + 1, &n_b);
    ok(n_a * n_b == *n * rank * rank); /* [rank,K], [O,rank] */
    for (int64_t k = 0; k < *n; k++)
        for (int64_t j = 0, width = n_a / rank; j < rank; j++)
            w[k] += (float)r->lora.scale * b[k / width * rank + j] * a[j * width + k % width];
    free(a);
    free(b);
    return w;
}

/* Each tensor of what both trained, by relative L2. */
static void compare(rig *together, rig *alone)
{
    double worst = 0;
    for (int i = 0; i < nn_params_count(alone->params); i++) {
        int64_t n;
        float *a = effective(together, i, &n), *b = effective(alone, i, &n);
        worst = fmax(worst, rig_distance(a, b, n));
        free(a);
        free(b);
    }
    (void)printf("%d workers: at most %.2e away from one, relative L2 of a tensor\n",
                 comm_size(comm_workers()), worst);
    ok(worst <= 1e-6);
    if (comm_size(comm_workers()) == 1)
        ok(worst <= 0);
}

/* PyTorch's eps: where it does not count, rounding errors of small gradients count in full. */
static train_options options(const rig *r)
{
    train_options o = r->o;
    o.steps = STEPS;
    o.lr = 2e-4;
    o.eps = 1e-8;
    return o;
}

/* lora: adapters are trained, and nothing else. */
static void equals_one_worker(comm_reducer *reducer, const nn_lora *lora)
{
    static rig together, alone; /* large */
    train_stats s[STEPS], t[STEPS];
    rig_open(&together, false);
    if (lora)
        rig_adapt(&together, lora);
    together.o = options(&together);
    together.o.workers = comm_workers();
    together.o.reducer = reducer;
    rig_start(&together);
    train_steps(&together, STEPS, s);
    all_the_same(&together);
    if (comm_rank(comm_workers()) == 0) {
        rig_open(&alone, false);
        if (lora)
            rig_adapt(&alone, lora);
        alone.o = options(&alone);
        rig_start(&alone);
        train_steps(&alone, STEPS, t);
        for (int i = 0; i < STEPS; i++) /* AdamW would hide a wrong scale */
            ok(fabs(s[i].loss / t[i].loss - 1) < 1e-5 &&
               fabs(s[i].grad_norm / t[i].grad_norm - 1) < 1e-5);
        compare(&together, &alone);
        rig_close(&alone);
    }
    rig_close(&together);
}

static void fails_together(comm_reducer *reducer)
{
    static rig r;
    int last = comm_size(comm_workers()) - 1;
    bool here = comm_rank(comm_workers()) == last;
    rig_open(&r, false);
    faulty f = {.task = r.task, .at = 2, .here = here && last > 0};
    r.task = (train_task){.user = &f, .build = build, .fill = fill, .load = load};
    r.o.workers = comm_workers();
    r.o.reducer = reducer;
    rig_start(&r);
    train_stats s, two[2];
    train_steps(&r, 2, two);
    if (last > 0) {
        int64_t n;
        float *before = rig_all(&r, &n);
        must(train_step(r.t, false, &s));
        ok(s.skipped);
        float *after = rig_all(&r, &n);
        ok(!memcmp(before, after, (size_t)n * sizeof *before));
        free(before);
        free(after);
    }
    train_steps(&r, 1, two);
    must(train_step(r.t, here, &s)); /* one worker's wish is everybody's */
    ok(s.stop);
    all_the_same(&r);
    rig_close(&r);
}

int main(int argc, char **argv)
{
    must(comm_init(&argc, &argv));
    comm_reducer *reducer = NULL;
    if (comm_workers()) {
        must(comm_reducer_new(comm_workers(), &reducer));
        equals_one_worker(reducer, NULL);
        equals_one_worker(reducer, &(nn_lora){.rank = 3, .scale = 2});
        fails_together(reducer);
        comm_reducer_free(reducer);
    }
    must(comm_agree(comm_world(), MD_OK));
    must(comm_finalize());
    return 0;
}

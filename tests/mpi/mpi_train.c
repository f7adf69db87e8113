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

/* Each tensor of what both trained, by relative L2. */
static void compare(rig *together, rig *alone)
{
    double worst = 0;
    for (int i = 0; i < nn_params_count(alone->trained); i++) {
        const nn_param_info *info = nn_params_info(alone->trained, i);
        float *a = malloc((size_t)info->numel * sizeof *a);
        float *b = malloc((size_t)info->numel * sizeof *b);
        ok(a && b);
        must(nn_params_read(together->trained, together->be, i, a));
        must(nn_params_read(alone->trained, alone->be, i, b));
        worst = fmax(worst, rig_distance(a, b, info->numel));
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

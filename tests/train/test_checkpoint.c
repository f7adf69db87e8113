/* Checkpoints: resuming changes nothing, damage is named and the one before is used, a changed key
   is refused. */
#include "base/file.h"
#include "base/log.h"
#include "format/safetensors.h"
#include "rig.h"
#include "support/tmp_dir.h"
#include <unistd.h>

#define SECTIONS ". finetune loss"

typedef struct place {
    char dir[256];
    config *cfg;
} place;

static void open_place(place *p)
{
    assert_non_null(tmp_dir_make(p->dir));
    OK(config_load(NULL, NULL, 0, &p->cfg));
}

static void close_place(place *p)
{
    config_free(p->cfg);
    tmp_dir_remove(p->dir);
}

static void steps(rig *r, int n)
{
    train_stats s;
    for (int i = 0; i < n; i++) {
        OK(train_step(r->t, false, &s));
        assert_false(s.skipped);
    }
}

static void path_of(const place *p, char out[512], int step, const char *file)
{
    (void)snprintf(out, 512, "%s/step-%d%s%s", p->dir, step, *file ? "/" : "", file);
}

static bool exists(const place *p, int step, const char *file)
{
    char path[512];
    path_of(p, path, step, file);
    return md_file_exists(path);
}

static void resume_is_exact(bool adapters)
{
    for (int ref = 0; ref < 2; ref++)
        for (int ema = 0; ema < 2; ema++) {
            place p;
            rig r;
            int64_t n, m;
            bool found = true;
            open_place(&p);
            rig_open(&r, ref);
            if (adapters)
                rig_adapt(&r, &(nn_lora){.rank = 2, .scale = 2});
            r.o.lr_rule = TRAIN_LR_COSINE;
            r.o.ema = ema ? 0.9 : 0;
            rig_start(&r);
            OK(train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
            assert_false(found);
            steps(&r, 3);
            OK(train_checkpoint_save(r.t, p.dir, p.cfg));
            steps(&r, 4);
            float *whole = rig_all(&r, &n);
            rig_stop(&r);

            rig_start(&r);
            OK(train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
            assert_true(found);
            assert_int_equal(train_next_step(r.t), 3);
            steps(&r, 4);
            float *resumed = rig_all(&r, &m);
            assert_int_equal(n, m);
            if (ref) /* a file holds f32 of ref's doubles */
                assert_true(rig_distance(resumed, whole, n) < 1e-5);
            else
                assert_memory_equal(resumed, whole, (size_t)n * sizeof *whole);
            free(whole);
            free(resumed);
            rig_close(&r);
            close_place(&p);
        }
}

static void test_resume_is_exact(void **state)
{
    (void)state;
    resume_is_exact(false);
    resume_is_exact(true);
}

/* The weights' bf16 copy is these weights, rounded. */
static void copy_follows(rig *r)
{
    md_buffer *copy = nn_params_copy(r->trained);
    int64_t n;
    float *w = rig_state(r, 0, &n), *c = malloc((size_t)n * sizeof *c);
    uint16_t *want = malloc((size_t)n * sizeof *want);
    assert_true(c && want && copy);
    OK(md_buffer_read(r->be, copy, 0, c, MD_F32, n));
    md_convert_host(want, MD_BF16, w, MD_F32, n);
    md_convert_host(w, MD_F32, want, MD_BF16, n);
    assert_memory_equal(c, w, (size_t)n * sizeof *c);
    free(w);
    free(c);
    free(want);
}

/* Adapters beside weights in bf16 alone: they learn, the weights stay, and a checkpoint holds
   nothing but them. */
static void test_adapters_alone(void **state)
{
    (void)state;
    place p;
    rig r;
    md_backend *be;
    int64_t n;
    char path[512];
    bool found;
    open_place(&p);
    OK(cpu_backend_open(&be, 1));
    rig_open_on(&r, be, MD_BF16);
    nn_params_free(r.params, be);
    OK(nn_params_new("unet", &r.params));
    OK(model_registry(MODEL_UNET)->declare(r.params, &r.config));
    nn_params_hold(r.params, NN_HOLD_BF16);
    r.d.unet_params = r.params;
    r.trained = r.params;
    rig_adapt(&r, &(nn_lora){.rank = 2, .scale = 1});
    rig_start(&r);
    size_t bytes = nn_params_bytes(r.params, be);
    void *before = malloc(bytes), *after = malloc(bytes);
    assert_true(before && after && bytes);
    md_buffer *held = nn_params_copy(r.params);
    OK(md_buffer_read(be, held, 0, before, MD_BF16, held->numel));
    float *start = rig_state(&r, 0, &n);
    assert_int_equal(n, nn_params_buffer(r.trained)->numel);
    steps(&r, 3);
    copy_follows(&r);
    float *end = rig_state(&r, 0, &n);
    assert_true(rig_distance(end, start, n) > 1e-3);
    OK(md_buffer_read(be, held, 0, after, MD_BF16, held->numel));
    assert_memory_equal(before, after, bytes);

    OK(train_checkpoint_save(r.t, p.dir, p.cfg));
    format_tensors *f;
    path_of(&p, path, 3, "state.safetensors");
    OK(format_tensors_open(path, &f));
    for (int64_t i = 0; i < format_tensors_count(f); i++) {
        assert_memory_equal(format_tensors_at(f, i)->name, "unet_lora.", 10);
        assert_int_equal(format_tensors_at(f, i)->numel, n);
    }
    format_tensors_close(f);
    steps(&r, 2);
    float *whole = rig_state(&r, 0, &n);
    rig_stop(&r);
    rig_start(&r);
    OK(train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
    assert_true(found);
    copy_follows(&r);
    steps(&r, 2);
    float *resumed = rig_state(&r, 0, &n);
    assert_memory_equal(resumed, whole, (size_t)n * sizeof *whole);
    free(before);
    free(after);
    free(start);
    free(end);
    free(whole);
    free(resumed);
    rig_close(&r);
    close_place(&p);
}

/* In each form of the moments, with a bf16 copy of the weights, which no file holds. */
static void test_resume_in_bf16(void **state)
{
    (void)state;
    for (int form = TRAIN_STATES_F32; form <= TRAIN_STATES_8BIT; form++) {
        place p;
        rig r;
        md_backend *be;
        int64_t n;
        bool found;
        open_place(&p);
        OK(cpu_backend_open(&be, 1));
        rig_open_on(&r, be, MD_BF16);
        r.o.states = (train_states)form;
        OK(train_new(r.be, &r.params, 1, &r.task, &r.o, &r.t));
        train_bytes promised = train_memory(r.t);
        OK(train_load(r.t));
        assert_int_equal(be->allocated_bytes, promised.total);
        steps(&r, 3);
        copy_follows(&r);
        OK(train_checkpoint_save(r.t, p.dir, p.cfg));
        steps(&r, 2);
        OK(train_swap_ema(r.t));
        copy_follows(&r);
        /* the averages: every step's weights are in them */
        float *whole = rig_state(&r, 0, &n);
        rig_stop(&r);

        rig_start(&r);
        OK(train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
        assert_true(found);
        copy_follows(&r);
        steps(&r, 2);
        OK(train_swap_ema(r.t));
        float *resumed = rig_state(&r, 0, &n);
        assert_memory_equal(resumed, whole, (size_t)n * sizeof *whole);
        free(whole);
        free(resumed);
        rig_stop(&r);

        r.o.states = form == TRAIN_STATES_8BIT ? TRAIN_STATES_BF16 : TRAIN_STATES_8BIT;
        rig_start(&r); /* other moments are no moments */
        FAILS(MD_BAD_INPUT, "unet.m", train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
        rig_close(&r);
        close_place(&p);
    }
}

/* Three checkpoints, of which the last two are kept. */
static void save_three(rig *r, place *p)
{
    for (int i = 0; i < 3; i++) {
        steps(r, 1);
        OK(train_checkpoint_save(r->t, p->dir, p->cfg));
    }
    assert_false(exists(p, 1, ""));
    assert_true(exists(p, 2, "DONE") && exists(p, 3, "DONE"));
}

static void flip(const char *path, long from_end)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, -from_end, SEEK_END), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, -from_end, SEEK_END), 0);
    assert_true(fputc(c ^ 4, f) != EOF);
    assert_int_equal(fclose(f), 0);
}

static void damage(const place *p, int step, int how)
{
    char state[512], done[512];
    path_of(p, state, step, "state.safetensors");
    path_of(p, done, step, "DONE");
    switch (how) {
    case 0: /* a power cut before the marker */
        assert_int_equal(unlink(done), 0);
        break;
    case 1:
        assert_int_equal(truncate(state, 5000), 0);
        break;
    case 2:
        assert_int_equal(truncate(state, 0), 0);
        break;
    case 3:
        flip(state, 100);
        break;
    case 4:
        assert_int_equal(unlink(state), 0);
        break;
    case 5:
        flip(done, 3);
        break;
    default:
        assert_int_equal(truncate(done, 4), 0);
    }
}

/* What the log says while `load` runs. */
static void load_logged(rig *r, const place *p, bool *found, char *log, size_t size)
{
    char path[512];
    path_of(p, path, 0, "");
    (void)snprintf(path, sizeof path, "%s/log", p->dir);
    OK(md_log_open(0, 1, path));
    OK(train_checkpoint_load(r->t, p->dir, p->cfg, SECTIONS, found));
    md_log_close();
    void *text;
    size_t n;
    OK(md_file_read(path, 1 << 20, &text, &n));
    (void)snprintf(log, size, "%.*s", (int)n, (const char *)text);
    free(text);
    assert_int_equal(unlink(path), 0);
}

static void test_damage(void **state)
{
    (void)state;
    for (int how = 0; how < 7; how++) {
        place p;
        rig r;
        bool found;
        char log[4096];
        open_place(&p);
        rig_open(&r, false);
        rig_start(&r);
        save_three(&r, &p);
        int64_t n, m;
        rig_stop(&r);
        rig_start(&r);
        steps(&r, 2);
        float *second = rig_all(&r, &n);
        rig_stop(&r);

        damage(&p, 3, how);
        rig_start(&r);
        load_logged(&r, &p, &found, log, sizeof log);
        assert_true(found);
        assert_int_equal(train_next_step(r.t), 2);
        if (!strstr(log, "step-3"))
            fail_msg("damage %d: step-3 is not named in: %s", how, log);
        float *got = rig_all(&r, &m);
        assert_memory_equal(got, second, (size_t)n * sizeof *got);
        free(got);
        free(second);
        damage(&p, 2, how);
        load_logged(&r, &p, &found, log, sizeof log);
        assert_false(found);
        assert_non_null(strstr(log, "step-2"));
        /* and the next one is whole again */
        OK(train_checkpoint_save(r.t, p.dir, p.cfg));
        assert_true(exists(&p, 2, "DONE"));
        assert_false(exists(&p, 3, "")); /* went with it */
        OK(train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
        assert_true(found);
        OK(train_checkpoint_clear(p.dir));
        assert_false(exists(&p, 2, "") || exists(&p, 3, ""));
        rig_close(&r);
        close_place(&p);
    }
}

static void test_changed_key(void **state)
{
    (void)state;
    place p;
    rig r;
    bool found;
    open_place(&p);
    rig_open(&r, false);
    rig_start(&r);
    steps(&r, 1);
    OK(train_checkpoint_save(r.t, p.dir, p.cfg));
    OK(config_set(p.cfg, "threads=3", "test"));        /* shapes nothing */
    OK(config_set(p.cfg, "generate.steps=7", "test")); /* not of these sections */
    OK(train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
    assert_true(found);
    OK(config_set(p.cfg, "finetune.lr=1e-05", "test"));
    FAILS(MD_USAGE, "finetune.lr", train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
    rig_close(&r);
    close_place(&p);
}

/* A checkpoint of another model does not fit and says which tensor. */
static void test_other_model(void **state)
{
    (void)state;
    place p;
    rig r;
    bool found;
    open_place(&p);
    rig_open(&r, false);
    r.o.ema = 0;
    rig_start(&r);
    steps(&r, 1);
    OK(train_checkpoint_save(r.t, p.dir, p.cfg));
    rig_stop(&r);
    r.o.ema = 0.9;
    rig_start(&r);
    FAILS(MD_BAD_INPUT, "unet.ema", train_checkpoint_load(r.t, p.dir, p.cfg, SECTIONS, &found));
    rig_close(&r);
    close_place(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume_is_exact), cmocka_unit_test(test_resume_in_bf16),
        cmocka_unit_test(test_adapters_alone),  cmocka_unit_test(test_damage),
        cmocka_unit_test(test_changed_key),     cmocka_unit_test(test_other_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "train/loop.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "cluster/groups.h"
#include "comm/frame.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Worker 0 to rank 0, and STOP the other way. */
enum { MESSAGE_STEP = 0x5401, MESSAGE_START, MESSAGE_END, MESSAGE_STOP };

/* What is shown by rank 0, or by the first of a group that trains beside others: its rows go to
   rank 0 of the world. */
typedef struct reporter {
    md_progress bar;
    FILE *csv;
    int why; /* errno of the first row that could not be written; said at the end */
    double began, smooth;
    int64_t seen;
} reporter;

md_status train_metrics_open(const char *path, FILE **out)
{
    struct stat st;
    FILE *csv = fopen(path, "a");
    if (!csv)
        MD_FAIL(MD_IO, "%s: cannot be opened for appending: %s", path, md_file_write_reason(errno));
    /* empty: new, or of a run that was killed before its first rows left memory */
    if (fstat(fileno(csv), &st) == 0 && st.st_size == 0)
        (void)fputs("stage,step,loss,grad_norm,lr,seconds\n", csv);
    (void)fflush(csv);
    *out = csv;
    return MD_OK;
}

md_status train_metrics_close(const char *path, FILE *csv)
{
    errno = 0;
    bool bad = csv && (fflush(csv) != 0 || ferror(csv));
    int why = errno;
    if (csv && fclose(csv) != 0 && !bad) {
        bad = true;
        why = errno;
    }
    if (bad)
        MD_FAIL(MD_IO, "%s: cannot write: %s", path,
                why ? md_file_write_reason(why) : "rows of it were lost");
    return MD_OK;
}

static md_status report_start(reporter *r, const train_loop *l, int64_t done)
{
    *r = (reporter){.began = md_now()};
    if (l->metrics && !cluster_in_group())
        MD_TRY(train_metrics_open(l->metrics, &r->csv));
    if (done)
        md_info("train", "%s: resumed after step %lld of %lld", l->what, (long long)done,
                (long long)l->steps);
    r->bar = md_progress_begin(l->what, "steps", done, l->steps);
    return MD_OK;
}

static md_status report_step(reporter *r, const train_loop *l, const train_stats *s)
{
    char row[256];
    (void)snprintf(row, sizeof row, "%s,%lld,%.6g,%.4g,%.4g,%.3f", l->what, (long long)s->step,
                   s->loss, s->grad_norm, s->lr, md_now() - r->began);
    if (r->csv) {
        if (fprintf(r->csv, "%s\n", row) < 0 && !r->why)
            r->why = errno;
    } else if (l->metrics)
        MD_TRY(cluster_send_row(row));
    r->smooth = r->seen ? 0.98 * r->smooth + 0.02 * s->loss : s->loss;
    r->seen++;
    md_log_step((long)s->step);
    md_progress_at(&r->bar, s->step + 1);
    if ((s->step + 1) % 200 == 0) {
        md_info("train", "%s: step %lld, loss %.5f (smoothed), gradient norm %.3f, lr %.2g",
                l->what, (long long)(s->step + 1), r->smooth, s->grad_norm, s->lr);
        if (r->csv && fflush(r->csv) != 0 && !r->why)
            r->why = errno;
    }
    return MD_OK;
}

static md_status report_end(reporter *r, const train_loop *l, int64_t done)
{
    if (r->bar.what) /* not when all ended before it began */
        md_progress_end(&r->bar, done);
    md_log_step(-1);
    FILE *csv = r->csv;
    r->csv = NULL;
    md_status closed = train_metrics_close(l->metrics, csv);
    if (r->why)
        MD_FAIL(MD_IO, "%s: cannot write: %s", l->metrics, md_file_write_reason(r->why));
    return closed;
}

static md_status tell(uint16_t type, const train_stats *s)
{
    comm_writer w = {0};
    comm_frame_begin(&w, type, 0);
    comm_put_i64(&w, s->step);
    comm_put_f64(&w, s->loss);
    comm_put_f64(&w, s->grad_norm);
    comm_put_f64(&w, s->lr);
    md_status status = comm_frame_end(&w);
    if (status == MD_OK)
        status = comm_send(comm_world(), 0, w.data, w.size);
    comm_writer_free(&w);
    return status;
}

/* True once rank 0 has asked for an end. */
static md_status asked_to_stop(bool *stop)
{
    for (;;) {
        int from;
        const uint8_t *data;
        size_t bytes;
        comm_frame f;
        MD_TRY(comm_receive(comm_world(), 0, &from, &data, &bytes));
        if (!bytes)
            return MD_OK;
        MD_TRY(comm_frame_open(data, bytes, &f));
        *stop = *stop || f.type == MESSAGE_STOP;
    }
}

/* Who hears of a step: this process itself, when it leads and works, rank 0, or nobody. */
typedef enum audience { SELF, RANK0, NOBODY } audience;

static audience audience_of(void)
{
    if (comm_rank(comm_workers()) > 0)
        return NOBODY;
    return comm_rank(comm_world()) == 0 ? SELF : RANK0;
}

/* The first worker knows when it is time to save. */
typedef struct saver {
    double at, longest_s;
    int64_t step; /* of the last checkpoint */
} saver;

static bool is_due(const saver *v, const train_loop *l)
{
    return comm_leads() && md_now() - v->at >= 60 * l->checkpoint_minutes;
}

/* Collective(workers). */
static md_status save(saver *v, const train_loop *l, train *t)
{
    static const double LEAST_S = 60;
    double began = md_now();
    md_status status = MD_OK;
    if (train_next_step(t) == v->step)
        return MD_OK; /* it stands */
    if (comm_leads())
        status = train_checkpoint_save(t, l->checkpoints, l->cfg);
    v->at = md_now();
    v->step = train_next_step(t);
    if (comm_workers())
        status = comm_agree_within(comm_workers(), status, train_patience(v->longest_s, LEAST_S));
    v->longest_s = fmax(v->longest_s, md_now() - began);
    return status;
}

static md_status step_until_done(const train_loop *l, train *t, audience who, reporter *r)
{
    saver v = {.at = md_now(), .step = train_next_step(t)}; /* resumed from, or the start */
    bool stop = false;
    while (train_next_step(t) < l->steps && !stop) {
        train_stats s;
        bool want = l->stop && l->stop();
        if (who == RANK0)
            MD_TRY(asked_to_stop(&want));
        MD_TRY(train_step(t, (want ? TRAIN_STOP : 0) | (is_due(&v, l) ? TRAIN_SAVE : 0), &s));
        if (who == SELF)
            MD_TRY(report_step(r, l, &s));
        else if (who == RANK0)
            MD_TRY(tell(MESSAGE_STEP, &s));
        stop = s.stop;
        if (s.save)
            MD_TRY(save(&v, l, t));
    }
    MD_TRY(save(&v, l, t));
    if (train_next_step(t) < l->steps)
        MD_FAIL(MD_STOPPED, "%s: stopped after step %lld of %lld", l->what,
                (long long)train_next_step(t), (long long)l->steps);
    return MD_OK;
}

/* All workers or none: one that refused would leave the others in their first sum. */
static md_status resume(const train_loop *l, train *t)
{
    bool resumed = false;
    md_status status = train_checkpoint_load(t, l->checkpoints, l->cfg, l->sections, &resumed);
    return comm_workers() ? comm_agree(comm_workers(), status) : status;
}

md_status train_loop_work(const train_loop *l, train *t)
{
    reporter r = {0};
    audience who = audience_of();
    md_status status = resume(l, t);
    train_stats s = {.step = train_next_step(t)};
    if (who == SELF) {
        MD_TRY(status);
        MD_TRY(report_start(&r, l, s.step));
    } else if (status == MD_OK && who == RANK0)
        status = tell(MESSAGE_START, &s);
    if (status == MD_OK)
        status = step_until_done(l, t, who, &r);
    s.step = train_next_step(t);
    if (who == SELF) {
        md_status end = report_end(&r, l, s.step);
        return status != MD_OK ? status : end;
    }
    /* also after a failure, so that rank 0 does not wait in vain; where one does not answer, that
     * may be worker 0 */
    if (who == RANK0 || (status == MD_COMM && comm_rank(comm_world()) > 0)) {
        char text[1024];
        (void)snprintf(text, sizeof text, "%s", md_status_text());
        md_status told = tell(MESSAGE_END, &s);
        if (status == MD_OK)
            return told;
        if (told != MD_OK)
            md_warn("train", "%s", md_status_text());
        return md_fail(status, __FILE__, __LINE__, "%s", text);
    }
    return status;
}

static md_status watch(const train_loop *l, reporter *r, int64_t *done)
{
    bool told = false;
    double heard = md_now();
    for (;;) {
        int from;
        const uint8_t *data;
        size_t bytes;
        comm_frame f;
        if (!told && l->stop && l->stop()) {
            comm_writer w = {0};
            comm_frame_begin(&w, MESSAGE_STOP, 0);
            md_status status = comm_frame_end(&w);
            if (status == MD_OK)
                status = comm_send(comm_world(), 1, w.data, w.size);
            comm_writer_free(&w);
            MD_TRY(status);
            told = true;
        }
        MD_TRY(comm_receive(comm_world(), 0.2, &from, &data, &bytes));
        if (!bytes && md_now() - heard > comm_timeout()) {
            char who[COMM_WHO];
            MD_FAIL(MD_COMM, "%s: nothing was heard of %s for %.0f s", l->what,
                    comm_who(comm_world(), 1, who), md_now() - heard);
        }
        if (!bytes)
            continue;
        heard = md_now();
        MD_TRY(comm_frame_open(data, bytes, &f));
        train_stats s = {.step = comm_get_i64(&f)};
        s.loss = comm_get_f64(&f);
        s.grad_norm = comm_get_f64(&f);
        s.lr = comm_get_f64(&f);
        if (f.bad)
            MD_FAIL(MD_COMM, "%s: a short message from rank %d", l->what, from);
        *done = s.step;
        if (f.type == MESSAGE_START)
            MD_TRY(report_start(r, l, s.step));
        else if (f.type == MESSAGE_STEP)
            MD_TRY(report_step(r, l, &s));
        else if (f.type == MESSAGE_END)
            return MD_OK;
    }
}

md_status train_loop_watch(const train_loop *l)
{
    reporter r = {0};
    int64_t done = 0;
    md_status status = watch(l, &r, &done);
    md_status end = report_end(&r, l, done);
    return status != MD_OK ? status : end;
}

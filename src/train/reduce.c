#include "train/reduce.h"
#include "base/clock.h"
#include "base/watch.h"
#include <stdlib.h>

/* 64 MiB of f32: large enough for the links' full speed, small enough that most of it overlaps. */
static const int64_t BUCKET = 16 << 20;

int train_reduce_workers(const train_reduce *r)
{
    return r->workers ? comm_size(r->workers) : 1;
}

static int64_t bucket_of(const train_reduce *r)
{
    return r->bucket > 0 ? r->bucket : BUCKET;
}

static md_status make_buckets(train_reduce *r)
{
    int64_t most = bucket_of(r), n = 0;
    for (int i = 0; i < r->n_gradients; i++)
        n += (r->gradients[i]->numel + most - 1) / most;
    r->buckets = calloc((size_t)n + 1, sizeof *r->buckets);
    if (!r->buckets)
        MD_FAIL(MD_NOMEM, "training: out of memory");
    for (int i = 0; i < r->n_gradients; i++) {
        int64_t all = r->gradients[i]->numel;
        for (int64_t at = 0; at < all; at += most)
            r->buckets[r->n_buckets++] =
                (md_range){r->gradients[i], at, at + most < all ? at + most : all};
    }
    r->buckets[r->n_buckets] = (md_range){r->tail, 0, r->tail->numel};
    return MD_OK;
}

static md_status sum_on_device(train_reduce *r, const md_range *range)
{
    const md_buffer *b = range->buffer;
    char *at = (char *)b->ptr + (size_t)range->first * r->be->ops->elem_bytes(b->dtype);
    comm_device_type type = b->dtype == MD_BF16 ? COMM_DEVICE_BF16 : COMM_DEVICE_F32;
    return comm_device_sum(r->device, at, range->end - range->first, type,
                           r->be->ops->queues->side(r->be));
}

/* The flags come last; then the launches to come wait for all sums. */
static md_status finish_on_device(train_reduce *r)
{
    MD_TRY(sum_on_device(r, &r->buckets[r->n_buckets]));
    return r->be->ops->queues->join(r->be);
}

/* Range n_buckets, the flags, is only waited for: the fork of the last range lies behind all. */
static md_status bucket_is_ready(void *user, int i)
{
    train_reduce *r = user;
    bool last = ++r->seen > r->n_buckets;
    if (i < r->n_buckets || last)
        MD_TRY(r->be->ops->queues->fork(r->be));
    if (i < r->n_buckets) {
        comm_device_phase(r->device, "the sum of gradient bucket %d of %d", i + 1, r->n_buckets);
        MD_TRY(sum_on_device(r, &r->buckets[i]));
    }
    if (!last)
        return MD_OK;
    r->seen = 0;
    return finish_on_device(r);
}

md_status train_reduce_overlap(train_reduce *r, md_plan *p)
{
    if (!r->buckets)
        MD_TRY(make_buckets(r));
    r->overlapped = true;
    return md_plan_on_written(p, r->buckets, r->n_buckets + 1, bucket_is_ready, r);
}

static md_status sum_all_on_device(train_reduce *r)
{
    if (!r->buckets)
        MD_TRY(make_buckets(r));
    MD_TRY(r->be->ops->queues->fork(r->be));
    for (int i = 0; i < r->n_buckets; i++)
        MD_TRY(sum_on_device(r, &r->buckets[i]));
    return finish_on_device(r);
}

/* A buffer of f32, through host memory where the host cannot see it. */
static md_status sum_on_host(train_reduce *r, md_buffer *b)
{
    if (r->be->ops->host_visible)
        return comm_allreduce_f32(r->host, b->ptr, b->numel, r->patience_s);
    float *host = malloc((size_t)b->numel * sizeof *host);
    if (!host)
        MD_FAIL(MD_NOMEM, "training: out of memory");
    md_status status = md_buffer_read(r->be, b, 0, host, MD_F32, b->numel);
    if (status == MD_OK)
        status = comm_allreduce_f32(r->host, host, b->numel, r->patience_s);
    if (status == MD_OK)
        status = md_buffer_write(r->be, b, 0, host, MD_F32, b->numel);
    free(host);
    return status;
}

md_status train_reduce_now(train_reduce *r)
{
    if (train_reduce_workers(r) == 1 || r->overlapped)
        return MD_OK;
    if (r->device)
        return sum_all_on_device(r);
    for (int i = 0; i < r->n_gradients; i++)
        MD_TRY(sum_on_host(r, r->gradients[i]));
    return sum_on_host(r, r->tail);
}

md_status train_reduce_wait(train_reduce *r, int64_t step, double stall_s)
{
    double begin = md_now();
    if (!r->device)
        return MD_OK;
    for (bool idle = false; !idle;) {
        MD_TRY(r->be->ops->queues->idle(r->be, &idle));
        md_status status = comm_device_check(r->device);
        if (status == MD_OK && !idle && md_now() - begin > stall_s)
            status =
                md_fail(MD_COMM, __FILE__, __LINE__,
                        "worker %d on %s: nothing ended for %.0f s in step %lld: another worker "
                        "has stopped",
                        comm_rank(r->workers), comm_host(), stall_s, (long long)step);
        if (status != MD_OK) {
            comm_device_abort(r->device);
            return status;
        }
        md_watch("the sum of gradients"); /* this wait has its own end */
        if (!idle)
            md_sleep(50e-6);
    }
    return MD_OK;
}

void train_reduce_close(train_reduce *r)
{
    free(r->buckets);
    r->buckets = NULL;
}

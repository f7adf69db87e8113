#include "generate/mask_worker.h"
#include "base/rng.h"
#include <stdlib.h>

struct mask_worker {
    const masks_job *j;
    mask_judge judge;
    mask_hints hints;
    mask_sampler *sampler;
    masks_store *store;
    double affine, threshold;
    int batch;
    float *pictures; /* [batch,edge,edge] */
    bool *finite;
    bool calibrated;
};

md_status masks_cut(const masks_job *j, mask_place place, const float *picture, double affine,
                    double threshold, image *out)
{
    md_rng r = md_rng_at((uint64_t)config_int(j->cfg, KEY_seed), MD_RNG_MASK_FORM,
                         (uint64_t)place.slot, place.attempt);
    image_affine a = image_affine_jitter(&r, affine, (double)j->view.size);
    double level = threshold * md_rng_range(&r, -1, 1);
    return image_picture_mask(&j->view, picture, &a, level, out);
}

static md_status setup(mask_worker *w)
{
    const config *c = w->j->cfg;
    w->affine = config_float(c, KEY_masks_affine);
    w->threshold = config_float(c, KEY_masks_threshold);
    w->batch = (int)config_int(c, KEY_masks_sample_batch);
    MD_TRY(mask_judge_open(w->j->data, config_float(c, KEY_masks_copy), &w->judge));
    MD_TRY(mask_hints_open(c, &w->judge.real, &w->j->view, &w->hints));
    mask_sampler_options o = mask_sampler_options_for(c, &w->hints);
    MD_TRY(mask_sampler_new(w->j->model, w->j->be, &o, &w->sampler));
    if (w->j->budget && mask_sampler_bytes(w->sampler) > w->j->budget)
        MD_FAIL(MD_NOMEM,
                "sampling %d masks together needs %.1f MiB, there are %.1f MiB: raise "
                "memory.budget or lower masks.sample_batch",
                w->batch, (double)mask_sampler_bytes(w->sampler) / 1048576,
                (double)w->j->budget / 1048576);
    int64_t px = w->j->view.edge * w->j->view.edge;
    w->pictures = malloc((size_t)(w->batch * px) * sizeof *w->pictures);
    w->finite = calloc((size_t)w->batch, sizeof *w->finite);
    if (!w->pictures || !w->finite)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    return MD_OK;
}

md_status mask_worker_open(const masks_job *j, mask_worker **out)
{
    mask_worker *w = calloc(1, sizeof *w);
    if (!w)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    w->j = j;
    md_status status = setup(w);
    if (status != MD_OK) {
        mask_worker_close(w);
        return status;
    }
    *out = w;
    return MD_OK;
}

md_status mask_worker_start(mask_worker *w)
{
    MD_TRY(masks_open_writer(w->j->store, &w->store));
    return mask_sampler_load(w->sampler);
}

void mask_worker_close(mask_worker *w)
{
    if (!w)
        return;
    mask_sampler_free(w->sampler);
    mask_hints_close(&w->hints);
    mask_judge_close(&w->judge);
    masks_close(w->store);
    free(w->pictures);
    free(w->finite);
    free(w);
}

/* Cut out, judge, and write what is fine. */
static md_status finish(mask_worker *w, mask_place place, const float *picture, mask_report *report)
{
    image mask = {0};
    mask_seen seen = {0};
    MD_TRY(masks_cut(w->j, place, picture, w->affine, w->threshold, &mask));
    md_status status = mask_judge_see(&w->judge, &mask, &seen);
    *report = (mask_report){.fault = (int32_t)seen.fault,
                            .nearest_id = seen.nearest_id,
                            .nearest_iou = (float)seen.nearest_iou};
    for (int i = 0; i < MASKS_SHAPES; i++)
        report->shape[i] = (float)seen.shape.value[i];
    if (status == MD_OK && seen.fault == MASK_FINE)
        status = masks_write_pixels(w->store, place.slot, mask.px, &report->crc);
    image_free(&mask);
    return status;
}

md_status mask_worker_lease(void *worker, cluster_batch *b)
{
    mask_worker *w = worker;
    int n = cluster_batch_size(b);
    mask_place place[CLUSTER_LEASE_MAX];
    mask_report report[CLUSTER_LEASE_MAX];
    md_status done[CLUSTER_LEASE_MAX];
    int64_t px = w->j->view.edge * w->j->view.edge;
    if (n > w->batch)
        MD_FAIL(MD_INTERNAL, "masks: a lease of %d slots", n);
    for (int i = 0; i < n; i++) {
        cluster_item it = cluster_batch_item(b, i);
        place[i] = (mask_place){it.id, it.attempt};
    }
    if (!w->calibrated) /* not before: a store that is complete asks for no draw */
        MD_TRY(mask_sampler_calibrate(w->sampler, cluster_beat_of, b));
    w->calibrated = true;
    MD_TRY(mask_sampler_draw(w->sampler, place, n, cluster_beat_of, b, w->pictures, w->finite));
    for (int i = 0; i < n; i++) {
        if (w->finite[i])
            done[i] = finish(w, place[i], w->pictures + i * px, &report[i]);
        else
            done[i] = md_fail(MD_NONFINITE, __FILE__, __LINE__,
                              "mask %lld, attempt %u: the picture is not finite",
                              (long long)place[i].slot, (unsigned)place[i].attempt);
        if (done[i] != MD_OK)
            MD_TRY(cluster_reply_fail(b, i, done[i]));
    }
    MD_TRY(masks_sync(w->store)); /* the pixels are on disk before anybody hears of them */
    for (int i = 0; i < n; i++)
        if (done[i] == MD_OK)
            MD_TRY(cluster_reply_ok(b, i, &report[i], sizeof report[i]));
    return MD_OK;
}

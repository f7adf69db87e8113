#include "generate/summary.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/comm.h"
#include "generate/figures.h"
#include "generate/reader.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_SIMILAR = 20 };
static const char *const part_names[N_PARTS] = {"whole", "lesion"};

/* Features of the accepted pairs. */
typedef struct census {
    reader r;
    int64_t n, width;
    cluster_item *items; /* [n] slots, ascending; rank 0 */
    int32_t *group; /* [n] of the backgrounds: pairs over one are no independent draws, and they
                       show what real images of this group show */
    float *part[N_PARTS]; /* [n,width] */
} census;

static void census_free(census *c)
{
    reader_close(&c->r);
    free(c->items);
    free(c->group);
    for (int part = 0; part < N_PARTS; part++)
        free(c->part[part]);
}

static md_status list_slots(census *c, pairs_store *p, data_store *backgrounds, int64_t most)
{
    for (int64_t slot = 0; slot < pairs_rows(p) && c->n < most; slot++) {
        pairs_row row;
        data_row background;
        MD_TRY(pairs_read_row(p, slot, &row));
        if (row.state != PAIRS_ACCEPTED)
            continue;
        MD_TRY(data_read_row(backgrounds, row.background_id, &background));
        c->group[c->n] = background.group;
        c->items[c->n++] = (cluster_item){slot, (uint32_t)row.attempt};
    }
    return MD_OK;
}

static md_status list_accepted(census *c, pairs_store *p, const char *backgrounds_h5)
{
    data_store *backgrounds = NULL;
    size_t most = (size_t)(pairs_rows(p) < SUMMARY_PAIRS ? pairs_rows(p) : SUMMARY_PAIRS);
    c->items = malloc(most * sizeof *c->items);
    c->group = malloc(most * sizeof *c->group);
    for (int part = 0; part < N_PARTS; part++)
        c->part[part] = calloc(most * (size_t)c->width, sizeof(float));
    if (!c->items || !c->group || !c->part[PART_WHOLE] || !c->part[PART_LESION])
        MD_FAIL(MD_NOMEM, "assessment: out of memory");
    MD_TRY(data_open(backgrounds_h5, DATA_BACKGROUNDS, &backgrounds));
    md_status status = list_slots(c, p, backgrounds, (int64_t)most);
    data_close(backgrounds);
    return status;
}

static md_status on_lease(void *worker, cluster_batch *b)
{
    census *c = worker;
    int n = cluster_batch_size(b);
    assess_pair pair[CLUSTER_LEASE_MAX];
    pairs_report report[CLUSTER_LEASE_MAX];
    size_t bytes = (size_t)(N_PARTS * c->width) * sizeof(float);
    float *out = malloc((size_t)n * bytes);
    md_status status = out ? reader_read(&c->r, b, pair, report)
                           : md_fail(MD_NOMEM, __FILE__, __LINE__, "assessment: out of memory");
    if (status == MD_OK)
        status = assessor_encode(c->r.assess, pair, n, out);
    for (int i = 0; i < n && status == MD_OK; i++)
        status = cluster_reply_ok(b, i, out + i * N_PARTS * c->width, bytes);
    free(out);
    return status;
}

static md_status on_result(void *user, const cluster_result *r, cluster_verdict *v)
{
    census *c = user;
    size_t bytes = (size_t)c->width * sizeof(float);
    int64_t low = 0, high = c->n;
    if (r->size != N_PARTS * bytes)
        MD_FAIL(MD_COMM, "slot %lld: features of %zu bytes", (long long)r->id, r->size);
    while (high - low > 1) {
        int64_t at = (low + high) / 2;
        *(c->items[at].id <= r->id ? &low : &high) = at;
    }
    for (int part = 0; part < N_PARTS; part++)
        memcpy(c->part[part] + low * c->width, (const char *)r->payload + (size_t)part * bytes,
               bytes);
    *v = CLUSTER_ACCEPT;
    return MD_OK;
}

static md_status on_failed(void *user, cluster_item item, md_status status, const char *text)
{
    (void)user;
    MD_FAIL(status, "slot %lld: %s", (long long)item.id, text);
}

/* Of each real image the view that shows it as it is: [n,width], the caller's. */
static float *first_views(const references *real, int part)
{
    float *first = malloc((size_t)(real->n * real->width) * sizeof *first);
    for (int64_t i = 0; i < real->n && first; i++)
        memcpy(first + i * real->width, real->view[part] + i * real->views * real->width,
               (size_t)real->width * sizeof *first);
    return first;
}

/* The pairs most like a real image, for eyes. */
static md_status add_copies(const census *c, const references *real, const float *first, int part,
                            md_text *t)
{
    figures_copy copy[MOST_SIMILAR];
    int64_t n = 0;
    md_status status =
        figures_copies(c->width, (figures_set){first, real->n, NULL, NULL},
                       (figures_set){c->part[part], c->n, NULL, NULL}, MOST_SIMILAR, copy, &n);
    for (int64_t i = 0; i < n && status == MD_OK; i++)
        status = md_text_add(t, "%s\n    {\"slot\": %lld, \"real\": %d, \"similarity\": %.6f}",
                             i ? "," : "", (long long)c->items[copy[i].generated].id,
                             (int)real->id[copy[i].real], copy[i].similarity);
    return status;
}

/* One part of the pictures: figures, and the most similar pairs. */
static md_status add_part(const census *c, const references *real, const references *holdout,
                          uint64_t seed, int part, md_text *t)
{
    figures f;
    float *first = first_views(real, part);
    if (!first)
        MD_FAIL(MD_NOMEM, "assessment: out of memory");
    md_status status =
        figures_compute(c->width, (figures_set){first, real->n, real->group, NULL},
                        (figures_set){holdout->view[part], holdout->n, holdout->group, NULL},
                        (figures_set){c->part[part], c->n, c->group, c->group}, seed, &f);
    if (status == MD_OK)
        status = md_text_add(t, ",\n  \"%s\": ", part_names[part]);
    if (status == MD_OK)
        status = figures_json(&f, t);
    if (status == MD_OK)
        status = md_text_add(t, ",\n  \"most_similar_%s\": [", part_names[part]);
    if (status == MD_OK)
        status = add_copies(c, real, first, part, t);
    free(first);
    if (status == MD_OK && f.memory_flagged)
        md_warn(
            "assess",
            "%s: %.1f %% of the pairs are nearer to a training image than to one that was never "
            "trained on (95 %% interval %.1f to %.1f): the model repeats what it was shown",
            part == PART_LESION ? "lesions" : "images", 100 * f.memory, 100 * f.memory_low,
            100 * f.memory_high);
    return status == MD_OK ? md_text_add(t, "\n  ]") : status;
}

static md_status write_file(const pairs_job *j, const assessor *a, const census *c,
                            const references *holdout)
{
    md_text t = {0};
    md_status status = md_text_add(&t, "{\n  \"encoder\": \"%s\",\n  \"pairs\": %lld",
                                   assessor_hash(a), (long long)c->n);
    for (int part = 0; part < N_PARTS && status == MD_OK; part++)
        status = add_part(c, assessor_real(a), holdout, (uint64_t)config_int(j->cfg, KEY_seed),
                          part, &t);
    if (status == MD_OK)
        status = md_text_add(&t, "\n}\n");
    if (status == MD_OK)
        status = md_file_write_atomic(j->summary, t.s, t.n);
    md_text_free(&t);
    if (status == MD_OK)
        md_info("assess", "%lld accepted pairs as a set: see %s", (long long)c->n, j->summary);
    return status;
}

static md_status encode_all(const pairs_job *j, assessor *a, pairs_store *store, census *c)
{
    c->width = assessor_real(a)->width;
    md_status status = store ? list_accepted(c, store, j->backgrounds) : MD_OK;
    if (status == MD_OK && j->be)
        status = reader_open(&c->r, j, a);
    MD_TRY(comm_agree(comm_world(), status));
    MD_TRY(comm_broadcast(comm_world(), 0, &c->n, sizeof c->n, 0));
    if (c->n == 0)
        return MD_OK;
    cluster_work work = {.name = "features",
                         .user = c,
                         .items = c->items,
                         .n_items = c->n,
                         .on_result = on_result,
                         .on_failed = on_failed,
                         .worker = c,
                         .on_lease = on_lease,
                         .batch = (int)config_int(j->cfg, KEY_generate_batch)};
    return cluster_run(&work, NULL);
}

md_status summary_drop(const pairs_job *j)
{
    return md_file_remove(j->summary);
}

md_status summary_write(const pairs_job *j, assessor *a, pairs_store *store)
{
    census c = {0};
    references holdout = {0};
    int stands = store && md_file_exists(j->summary);
    MD_TRY(comm_broadcast(comm_world(), 0, &stands, sizeof stands, 0));
    if (stands)
        return MD_OK;
    md_status status = assessor_holdout(a, &holdout);
    if (status == MD_OK)
        status = encode_all(j, a, store, &c);
    if (status == MD_OK && c.n > 0)
        status = comm_agree(comm_world(), store ? write_file(j, a, &c, &holdout) : MD_OK);
    census_free(&c);
    references_free(&holdout);
    return status;
}

/* --fresh: which products (outputs.def) a job makes, what was made from these, and whether the job
   can make them anew. */
#include "fresh.h"
#include "base/file.h"
#include "base/log.h"
#include "model/features.h"
#include "outputs.h"
#include "session.h"
#include "store/pairs.h"
#include "train/finetune.h"
#include "train/masks.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define BIT(name) (1u << PRODUCT_##name)

/* ---- what a job makes */

/* Which of the products of its name: "" for all. */
static const char *word_of(const job *j)
{
    if (!strcmp(j->name, "masks"))
        return j->step;
    if (!strcmp(j->name, "finetune"))
        return config_choice(j->cfg, KEY_finetune_region) == LESIONS_OUTSIDE ? "background"
                                                                             : "lesion";
    if (!strcmp(j->name, "pretrain") && strcmp(config_string(j->cfg, KEY_pretrain_what), "all"))
        return config_string(j->cfg, KEY_pretrain_what);
    return "";
}

static product_set made_by(const job *j)
{
    const char *word = word_of(j);
    bool every = !strcmp(j->name, "pipeline");
    product_set set = 0;
    for (int p = 0; p < N_PRODUCTS; p++) {
        const product_row *r = product_find((product)p);
        if (every ? strcmp(r->job, "pretrain") != 0
                  : !strcmp(r->job, j->name) && (!*r->word || !*word || !strcmp(r->word, word)))
            set |= 1u << p;
    }
    return set;
}

/* ---- what is made from what */

/* What decides it. */
typedef struct course {
    bool repaired;     /* backgrounds.h5: the backgrounds job's */
    bool tuned, drawn; /* pairs.h5: by the lesion model, under masks of masks.h5 */
} course;

static product_set made_from(product p, const course *c)
{
    switch (p) {
    case PRODUCT_JUDGEMENT:
        return BIT(PAIRS);
    case PRODUCT_PAIRS:
        return BIT(DATA) | (c->tuned ? BIT(LESION_MODEL) : 0) | (c->drawn ? BIT(MASKS) : 0) |
               (c->repaired ? BIT(REPAIRED) : 0);
    case PRODUCT_REPAIRED:
        return BIT(DATA) | (c->repaired ? BIT(BACKGROUND_MODEL) : 0);
    case PRODUCT_MASKS:
        return BIT(DATA) | BIT(MASK_MODEL);
    case PRODUCT_MASK_MODEL:
    case PRODUCT_LESION_MODEL:
    case PRODUCT_BACKGROUND_MODEL:
        return BIT(DATA);
    default:
        return 0;
    }
}

static course course_of(const config *cfg, bool repaired)
{
    return (course){repaired, config_choice(cfg, KEY_generate_weights) == 0,
                    config_choice(cfg, KEY_guide_from) == 0};
}

/* backgrounds.h5 as it is: one that is not there or does not open counts as repaired. */
static bool holds_repaired(const session *s)
{
    char path[SESSION_PATH];
    data_store *d = NULL;
    data_row row = {.kind = DATA_REPAIRED};
    md_status status = session_path(s, path, "backgrounds.h5");
    if (status == MD_OK)
        status = data_open(path, DATA_BACKGROUNDS, &d);
    if (status == MD_OK)
        status = data_read_row(d, 0, &row);
    data_close(d);
    if (status != MD_OK)
        md_status_clear();
    return status != MD_OK || row.kind == DATA_REPAIRED;
}

/* pairs.h5 as it is: one that does not open counts as made from all there is. */
static course course_there(const session *s)
{
    char path[SESSION_PATH];
    pairs_store *p = NULL;
    config *then = NULL;
    course c = {holds_repaired(s), true, true};
    md_status status = session_path(s, path, "pairs.h5");
    if (status == MD_OK)
        status = pairs_open_reader(path, &p);
    if (status == MD_OK)
        status = pairs_config(p, &then);
    if (status == MD_OK)
        c = course_of(then, c.repaired);
    else
        md_status_clear();
    config_free(then);
    pairs_close(p);
    return c;
}

/* ---- whether the job can begin */

static md_status check_root(const session *s)
{
    struct stat st;
    const char *root = config_string(s->j->cfg, KEY_data_root);
    if (stat(root, &st) != 0)
        return config_fail(s->j->cfg, KEY_data_root, "%s: %s", root, strerror(errno));
    return MD_OK;
}

static md_status check_foundation(const session *s)
{
    foundation *f = NULL;
    md_status status = foundation_open(config_string(s->j->cfg, KEY_model_foundation), &f);
    foundation_free(f, NULL);
    return status == MD_OK ? MD_OK : md_context(status, "model.foundation");
}

static md_status check_finetune(const session *s)
{
    MD_TRY(finetune_check(s->j->cfg));
    return check_foundation(s);
}

static md_status check_masks(const session *s)
{
    bool wanted = !strcmp(s->j->name, "masks") || config_choice(s->j->cfg, KEY_guide_from) == 0;
    return wanted ? mask_check(s->j->cfg) : MD_OK;
}

static md_status check_encoder(const session *s)
{
    const char *folder = config_string(s->j->cfg, KEY_model_encoder);
    features *encoder = NULL;
    if (!*folder && !strcmp(s->j->name, "assess"))
        return config_fail(s->j->cfg, KEY_model_encoder, "is empty: there is nothing to judge by");
    md_status status = *folder ? features_open(folder, &encoder) : MD_OK;
    features_free(encoder);
    return status == MD_OK ? MD_OK : md_context(status, "model.encoder");
}

static md_status check_painting(const session *s)
{
    MD_TRY(check_foundation(s));
    return check_encoder(s);
}

static md_status (*const checks[N_PRODUCTS])(const session *s) = {
    [PRODUCT_DATA] = check_root,
    [PRODUCT_LESION_MODEL] = check_finetune,
    [PRODUCT_BACKGROUND_MODEL] = check_finetune,
    [PRODUCT_MASK_MODEL] = check_masks,
    [PRODUCT_REPAIRED] = check_foundation,
    [PRODUCT_PAIRS] = check_painting,
    [PRODUCT_JUDGEMENT] = check_encoder,
};

/* What the job itself does not make, but needs. */
static md_status check_needed(const session *s, product_set made)
{
    char path[SESSION_PATH];
    product_set needed = 0;
    data_kind kind = DATA_REPAIRED;
    for (int p = 0; p < N_PRODUCTS; p++)
        needed |= made >> p & 1 ? made_from((product)p, &(course){0}) : 0;
    if (needed & ~made & BIT(DATA)) {
        MD_TRY(session_need_data(s));
        MD_TRY(session_background_kind(s, &kind));
    }
    course c = course_of(s->j->cfg, kind == DATA_REPAIRED);
    for (int p = 0; p < N_PRODUCTS; p++)
        needed |= made >> p & 1 ? made_from((product)p, &c) : 0;
    needed &= ~made;
    if (needed & BIT(DATA) && made & BIT(PAIRS))
        MD_TRY(session_need_imported(s));
    for (int p = 0; p < N_PRODUCTS; p++) {
        const product_row *r = product_find((product)p);
        if (!(needed >> p & 1))
            continue;
        MD_TRY(session_path(s, path, "%s", r->marker));
        if (!md_file_exists(path))
            MD_FAIL(MD_BAD_INPUT, "%s does not exist: run \"meddiff %s%s%s\" first", path, r->job,
                    *r->word && !strcmp(r->job, "masks") ? " " : "",
                    strcmp(r->job, "masks") ? "" : r->word);
    }
    return MD_OK;
}

static md_status check(const session *s, product_set made)
{
    MD_TRY(check_needed(s, made));
    for (int p = 0; p < N_PRODUCTS; p++)
        if (made >> p & 1 && checks[p])
            MD_TRY(checks[p](s));
    return MD_OK;
}

md_status fresh_start(job *j)
{
    session s = {.j = j};
    product_set set = made_by(j);
    md_status status = check(&s, set);
    if (status != MD_OK)
        return md_context(status, "nothing was removed");
    course there = course_there(&s);
    for (int p = N_PRODUCTS - 1; p >= 0; p--) /* what others are made from comes first */
        if (made_from((product)p, &there) & set)
            set |= 1u << p;
    bool any = false;
    status = outputs_remove(j->run, set, there.repaired, &any);
    j->worked = j->worked || any;
    if (status == MD_OK && !any)
        md_info("fresh", "%s holds nothing that %s would have to remove", j->run, j->name);
    return status;
}

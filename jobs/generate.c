/* generate: paints lesions into the backgrounds under guides: RUN/pairs.h5, RUN/preview.png and
   RUN/guide.png. */
#include "base/file.h"
#include "base/log.h"
#include "generate/guide_sheet.h"
#include "generate/pairs.h"
#include "session.h"

static md_status use_lesion_model(session *s)
{
    if (config_choice(s->j->cfg, KEY_generate_weights) == 1) /* foundation: the control */
        return MD_OK;
    return session_use_tuned(
        s, "lesion", "\"meddiff finetune\" first, or set generate.weights = \"foundation\"");
}

/* masks.h5 into path; "" where guides are the training masks. */
static md_status need_inputs(const session *s, char path[SESSION_PATH])
{
    MD_TRY(session_need_imported(s));
    *path = 0;
    if (config_choice(s->j->cfg, KEY_guide_from) == 1)
        return MD_OK;
    MD_TRY(session_path(s, path, "masks.h5"));
    if (!md_file_exists(path))
        MD_FAIL(MD_BAD_INPUT,
                "%s does not exist: run \"meddiff masks\" with this configuration first, or set "
                "guide.from = \"data\" for guides from the training masks",
                path);
    return MD_OK;
}

static md_status load(session *s)
{
    MD_TRY(use_lesion_model(s));
    return session_load(s);
}

/* What the guide's parts did, of three pairs. */
static md_status draw_guides(const session *s, const char *store)
{
    char png[SESSION_PATH];
    painter_options o;
    MD_TRY(session_path(s, png, "guide.png"));
    MD_TRY(pairs_painter_options(s->j->cfg, config_int(s->j->cfg, KEY_data_size), &o));
    return guide_sheet(store, s->f, o, 3, png);
}

/* What did not come out as it was asked for. */
static md_status judge(const session *s, const pairs_job *p, const pairs_outcome *out)
{
    bool again = config_bool(s->j->cfg, KEY_quality_redraw);
    if (out->failed)
        MD_FAIL(MD_NONFINITE,
                "%lld slots of %s failed; /reason says why, and the same command draws them again",
                (long long)out->failed, p->store);
    if (out->rejected && again)
        MD_FAIL(
            MD_EXHAUSTED,
            "%lld of %lld pairs were still rejected after %lld draws (%s); see %s and %s/; more "
            "draws: quality.attempts, other limits: quality.low, quality.high and \"meddiff "
            "assess\"",
            (long long)out->rejected, (long long)(out->rejected + out->accepted),
            (long long)config_int(s->j->cfg, KEY_quality_attempts), out->reasons, p->rejected,
            p->pictures);
    return MD_OK;
}

static md_status run(session *s)
{
    char masks[SESSION_PATH];
    session_files files;
    pairs_job p;
    pairs_outcome out;
    MD_TRY(session_pairs_job(s, &files, &p));
    MD_TRY(comm_agree(comm_world(), need_inputs(s, masks)));
    p.masks = *masks ? masks : NULL;
    MD_TRY(comm_agree(comm_world(), load(s)));
    MD_TRY(session_budget(s->j->cfg, s->be, comm_node_workers(), &p.budget));
    MD_TRY(pairs_generate(&p, &out));
    md_info("generate", "%lld pairs in %s, %lld slots rejected, %lld failed; %.2f pairs/s; see %s",
            (long long)out.accepted, p.store, (long long)out.rejected, (long long)out.failed,
            out.rate, p.preview);
    if (s->j->rank == 0)
        MD_TRY(draw_guides(s, p.store));
    if (s->j->rank == 0 && out.kept_guide)
        md_info("generate",
                "%lld masks were not eroded: a disc of quality.corrode_px = %lld would leave "
                "nothing of them; /reason marks them",
                (long long)out.kept_guide,
                (long long)config_int(s->j->cfg, KEY_quality_corrode_px));
    return s->j->rank == 0 ? judge(s, &p, &out) : MD_OK;
}

/* Collective(world). */
md_status job_generate(job *j)
{
    session s;
    md_status status = session_open(&s, j, false);
    if (status == MD_OK)
        status = comm_agree(comm_world(), run(&s));
    session_close(&s);
    return status;
}

/* assess: judges the pairs of RUN/pairs.h5 by their likeness to the real images: all of them where
   the rules or the encoder changed, where nobody judged them, or with --fresh. Paints nothing:
   "generate" draws rejected ones again. */
#include "base/file.h"
#include "base/log.h"
#include "generate/reassess.h"
#include "session.h"

static md_status check(const session *s, const pairs_job *p)
{
    MD_TRY(session_need_imported(s));
    if (!md_file_exists(p->store))
        MD_FAIL(MD_BAD_INPUT, "%s does not exist: run \"meddiff generate\" first", p->store);
    return MD_OK;
}

static md_status run(session *s)
{
    session_files files;
    pairs_job p;
    pairs_outcome out;
    MD_TRY(session_pairs_job(s, &files, &p));
    p.anew = s->j->fresh;
    MD_TRY(comm_agree(comm_world(), check(s, &p)));
    MD_TRY(reassess_store(&p, &out));
    md_info("assess", "%lld pairs judged; %s holds %lld accepted, %lld rejected%s%s%s",
            (long long)out.assessed, p.store, (long long)out.accepted, (long long)out.rejected,
            out.rejected ? " (" : "", out.reasons, out.rejected ? ")" : "");
    return MD_OK;
}

/* Collective(world). */
md_status job_assess(job *j)
{
    session s;
    md_status status = session_open(&s, j, true);
    if (status == MD_OK)
        status = comm_agree(comm_world(), run(&s));
    session_close(&s);
    return status;
}

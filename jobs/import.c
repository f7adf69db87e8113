/* meddiff import CONFIG: the data set of data.root into data.h5 and backgrounds.h5, and import.png,
   the sheet that shows what was understood. Rank 0 works, the others wait. */
#include "store/import.h"
#include "base/file.h"
#include "base/log.h"
#include "comm/comm.h"
#include "job.h"

/* Both stores are there and were imported under this configuration; MD_USAGE when under another. */
static md_status is_complete(job *j, bool *complete)
{
    char path[1024];
    MD_TRY(import_is_done(j->cfg, j->run, complete));
    MD_TRY(md_path_join(path, sizeof path, j->run, "backgrounds.h5"));
    *complete = *complete && md_file_exists(path);
    return MD_OK;
}

static md_status import_here(job *j)
{
    import_report r;
    bool complete;
    MD_TRY(is_complete(j, &complete));
    if (complete) {
        md_info("import", "%s/data.h5 is complete already; --fresh imports again", j->run);
        return MD_OK;
    }
    MD_TRY(import_run(j->cfg, j->run, &r));
    for (int s = 0; s < DATA_N_SPLITS; s++)
        md_info("import", "%s: %lld pairs, %lld lesion-free images", data_split_name((data_split)s),
                (long long)r.lesion[s], (long long)r.healthy[s]);
    md_info("import", "splits: %s; %lld groups, %lld pictures nearly equal another one",
            r.official ? "the data set's own"
                       : "80/10/10 by group and seed, the reading here of the paper's 20 % for "
                         "test and validation",
            (long long)r.groups, (long long)r.joined);
    if (r.moved)
        md_info("import", "%lld pictures moved to the stricter part that a near duplicate is in",
                (long long)r.moved);
    if (r.skipped)
        md_info("import", "%lld lines in %s/import_skipped.csv say what was left out and why",
                (long long)r.skipped, j->run);
    md_info("import", "%lld training pairs are used (data.pairs = %lld)", (long long)r.used,
            (long long)config_int(j->cfg, KEY_data_pairs));
    if (r.background == DATA_REPAIRED)
        md_info("import",
                "backgrounds: to be made by \"meddiff backgrounds\", from these pairs with "
                "their lesions repaired");
    else
        md_info("import", "%lld backgrounds: %s", (long long)r.backgrounds,
                r.background == DATA_CROP ? "squares cut from these pairs where there is no lesion"
                                          : "lesion-free images");
    md_info("import", "made %s/data.h5 and %s/import.png", j->run, j->run);
    return MD_OK;
}

/* Collective(world). */
md_status job_import(job *j)
{
    static const double WEEK_S =
        7 * 86400; /* a large data set takes longer than an agreement waits */
    char done = 1;
    md_status status = j->rank == 0 ? import_here(j) : MD_OK;
    md_status told = comm_broadcast(comm_world(), 0, &done, sizeof done, WEEK_S);
    return comm_agree(comm_world(), status != MD_OK ? status : told);
}

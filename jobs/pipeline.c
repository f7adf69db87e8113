/* pipeline: import, finetune, generate, one after the other; a stage whose result is complete is
   skipped. A result made under another configuration is refused, naming the key. */
#include "base/file.h"
#include "base/log.h"
#include "generate/pairs.h"
#include "session.h"

static md_status import_is_complete(const session *s, bool *complete)
{
    char data[SESSION_PATH], backgrounds[SESSION_PATH];
    MD_TRY(session_path(s, data, "data.h5"));
    MD_TRY(session_path(s, backgrounds, "backgrounds.h5"));
    *complete = md_file_exists(data) && md_file_exists(backgrounds);
    return *complete ? session_need_imported(s) : MD_OK;
}

/* Faults of the foundation, and what it cannot paint, are known before any work, rather than after
   the fine-tune. Collective(world). */
static md_status check_foundation(job *j)
{
    session s;
    painter_options o;
    md_status status = session_open(&s, j, false);
    if (status == MD_OK)
        status = pairs_painter_options(j->cfg, config_int(j->cfg, KEY_data_size), &o);
    if (status == MD_OK)
        status = painter_check(s.f, &o);
    session_close(&s);
    return comm_agree(comm_world(), status);
}

static const struct {
    const char *name;
    md_status (*is_complete)(const session *s, bool *complete); /* NULL: the job sees to it */
    md_status (*run)(job *j);
} stages[] = {
    {"import", import_is_complete, job_import},
    {"finetune", NULL, job_finetune},
    {"generate", NULL, job_generate},
};

/* Collective(world). */
md_status job_pipeline(job *j)
{
    session s = {.j = j};
    MD_TRY(check_foundation(j));
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        bool complete = false;
        /* every rank looks at the same files, between two agreements */
        if (stages[i].is_complete)
            MD_TRY(comm_agree(comm_world(), stages[i].is_complete(&s, &complete)));
        if (complete) {
            md_info("pipeline", "%s: complete already", stages[i].name);
            continue;
        }
        md_info("pipeline", "%s", stages[i].name);
        MD_TRY(stages[i].run(j));
        /* known now, rather than after the fine-tune */
        if (stages[i].run == job_import)
            MD_TRY(comm_agree(comm_world(), session_need_imported(&s)));
    }
    return MD_OK;
}

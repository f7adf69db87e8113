/* backgrounds: where the data set's own lesion-free images are not what to paint into, the
   background model repairs the lesions of the training images: RUN/backgrounds.h5 and
   RUN/backgrounds.png. */
#include "generate/backgrounds.h"
#include "base/file.h"
#include "base/log.h"
#include "session.h"

#include <stdlib.h>

/* of the configuration that shape what is there when it is complete; while it is not, how it is
   painted must stay, too */
static const char complete_under[] = ". data model backgrounds",
                  begun_under[] = ". data model backgrounds generate guide";

static md_status load(session *s)
{
    MD_TRY(session_use_tuned(s, "background",
                             "\"meddiff finetune\" with --set finetune.region=background first"));
    return session_load(s);
}

static md_status run(session *s, const char *store)
{
    char data[SESSION_PATH], sheet[SESSION_PATH];
    MD_TRY(session_path(s, data, "data.h5"));
    MD_TRY(session_path(s, sheet, "backgrounds.png"));
    MD_TRY(comm_agree(comm_world(), load(s)));
    size_t budget;
    MD_TRY(session_budget(s->j->cfg, s->be, comm_node_workers(), &budget));
    backgrounds_job b = {.cfg = s->j->cfg,
                         .f = s->f,
                         .be = s->be,
                         .budget = budget,
                         .data = data,
                         .store = store,
                         .sheet = sheet,
                         .sections = begun_under};
    backgrounds_outcome out;
    MD_TRY(backgrounds_repair(&b, &out));
    md_info("backgrounds", "%lld repaired backgrounds in %s; see %s", (long long)out.rows, store,
            sheet);
    return MD_OK;
}

static md_status made_under(const session *s, const char *store)
{
    char *text = NULL;
    data_store *d = NULL;
    MD_TRY(session_need_imported(s)); /* kind and number */
    MD_TRY(data_open(store, DATA_BACKGROUNDS, &d));
    md_status status = data_text(d, "config", &text);
    if (status == MD_OK)
        status = config_same_as(s->j->cfg, text, store, complete_under);
    free(text);
    data_close(d);
    return status;
}

/* *todo: they are to be repaired, and have not been. */
static md_status look(const session *s, const char *store, bool *todo)
{
    data_kind kind;
    MD_TRY(session_need_data(s));
    MD_TRY(session_background_kind(s, &kind));
    if (kind != DATA_REPAIRED) {
        MD_TRY(session_need_imported(s));
        md_info("backgrounds", "nothing to repair: %s comes from the import (backgrounds.from)",
                store);
        return MD_OK;
    }
    *todo = !md_file_exists(store);
    if (*todo)
        return MD_OK;
    MD_TRY(made_under(s, store));
    md_info("backgrounds", "%s is complete already; --fresh repairs again", store);
    return MD_OK;
}

/* Collective(world). */
md_status job_backgrounds(job *j)
{
    session s = {.j = j};
    char store[SESSION_PATH];
    bool todo = false;
    MD_TRY(session_path(&s, store, "backgrounds.h5"));
    MD_TRY(comm_agree(comm_world(), look(&s, store, &todo)));
    if (!todo)
        return MD_OK;
    md_status status = session_open(&s, j, false);
    if (status == MD_OK)
        status = comm_agree(comm_world(), run(&s, store));
    session_close(&s);
    return status;
}

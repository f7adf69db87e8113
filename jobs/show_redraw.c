/* show: one slot painted again as a worker of generate would, from the files of the run directory
   and the configuration in pairs.h5, with what --set says over it. */
#include "session.h"
#include "show.h"

#include <string.h>

/* The configuration in pairs.h5 with what the command line gives over it. */
static md_status lay_over(const show *s, config **out)
{
    md_status status;
    config *cfg;
    const char *text = config_text(s->cfg, &status);
    MD_TRY(status);
    MD_TRY(config_parse(text, strlen(text), "this command", &cfg));
    status = config_lay_over(cfg, s->j->cfg);
    if (status != MD_OK)
        config_free(cfg);
    else
        *out = cfg;
    return status;
}

static md_status open_model(session *w)
{
    foundation **f = &w->f;
    MD_TRY(foundation_open(config_string(w->j->cfg, KEY_model_foundation), f));
    if (config_choice(w->j->cfg, KEY_generate_weights) == 0)
        MD_TRY(session_use_tuned(w, "lesion", "\"meddiff finetune\": without it nothing paints"));
    return MD_OK;
}

static md_status load(session *w)
{
    backend_options o = session_backend_options(w->j->cfg, 1, 0);
    MD_TRY(backend_open(&o, &w->be));
    foundation_hold(w->f, w->dtype, 0);
    for (int part = 0; part < MODEL_N_PARTS; part++)
        MD_TRY(foundation_load(w->f, (model_part)part, w->be));
    return MD_OK;
}

static md_status paint(show *s, session *w)
{
    char masks[SESSION_PATH];
    session_files files;
    pairs_job p;
    pairs_worker *worker = NULL;
    MD_TRY(session_pairs_job(w, &files, &p));
    MD_TRY(session_path(w, masks, "masks.h5"));
    p.masks = pairs_has_input(s->pairs, "masks") ? masks : NULL;
    MD_TRY(pairs_check_made_from(&p)); /* before anything large is loaded */
    MD_TRY(load(w));
    p.be = w->be;
    MD_TRY(session_budget(w->j->cfg, w->be, 1, &p.budget));
    MD_TRY(pairs_worker_open(&p, NULL, &worker));
    md_status status = pairs_worker_redraw(worker, (cluster_item){s->slot, s->attempt}, &s->again);
    pairs_worker_close(worker);
    return status;
}

md_status show_redraw(show *s)
{
    config *cfg = NULL;
    int64_t asked = config_int(s->j->cfg, KEY_show_attempt);
    s->attempt = (uint32_t)(asked < 0 ? s->row.attempt : asked);
    MD_TRY(lay_over(s, &cfg));
    job j = {.name = s->j->name, .arg = s->j->arg, .cfg = cfg, .run = s->run, .size = 1};
    session w = {.j = &j, .dtype = config_choice(cfg, KEY_model_dtype) == 1 ? MD_BF16 : MD_F32};
    md_status status = open_model(&w);
    if (status == MD_OK)
        status = paint(s, &w);
    s->redrawn = status == MD_OK;
    session_close(&w);
    config_free(cfg);
    return status == MD_OK ? MD_OK : md_context(status, "show.redraw");
}

/* Pictures of the class for a fine-tune with prior preservation (train/prior.h), where the user
   gave none: the foundation draws them before it is trained. */
#ifndef MD_JOBS_PRIOR_H
#define MD_JOBS_PRIOR_H

#include "generate/painter.h"
#include "session.h"

/* The folder they are in or will be, into out[SESSION_PATH]. MD_BAD_INPUT when a given folder has
   no picture. Local. */
MD_MUST md_status job_prior_folder(const session *s, char out[SESSION_PATH]);
/* The painter that draws them. */
MD_MUST md_status job_prior_options(const config *cfg, const foundation *f, painter_options *out);
/* Draws those that are missing, each worker its share; all parts must be loaded on workers. Those
   of another configuration are MD_USAGE. Collective(world). */
MD_MUST md_status job_prior_draw(const session *s, const char *folder);

#endif

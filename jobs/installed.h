/* Where an installed program finds what came with it: configs/, data/tiny. */
#ifndef MD_JOBS_INSTALLED_H
#define MD_JOBS_INSTALLED_H

#include "config/config.h"

/* path as it is where there is something by that name, or where it is absolute; else the same below
   the program's share/meddiff, if it is there. `buf` holds it. */
const char *installed_path(const char *path, char *buf, size_t bytes);
/* The same for the models that cfg names. */
MD_MUST md_status installed_models(config *cfg);

#endif

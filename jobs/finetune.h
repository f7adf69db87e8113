/* The fine-tune of either region from one configuration, for jobs that want both. */
#ifndef MD_JOBS_FINETUNE_H
#define MD_JOBS_FINETUNE_H

#include "job.h"
#include "train/lesions.h"

/* As `meddiff finetune` with finetune.region set so, whatever the configuration says of it, and for
   the background backgrounds.steps in place of finetune.steps. Writes RUN/models/lesion or
   RUN/models/background; done already: returns at once. Collective(world). */
MD_MUST md_status job_finetune_region(job *j, lesions_region region);

#endif

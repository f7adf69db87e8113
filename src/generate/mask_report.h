/* How the masks of masks.h5 compare with the training masks: shapes, likeness, and what each level
   of randomness adds. */
#ifndef MD_GENERATE_MASK_REPORT_H
#define MD_GENERATE_MASK_REPORT_H

#include "generate/masks.h"

/* Writes a summary (JSON), every mask's numbers (CSV) and a sheet of masks with their nearest
   training masks (PNG), and logs the summary. The model must be loaded on j->be: the levels of
   randomness are sampled apart. Local; one worker does it once masks_generate has ended. */
MD_MUST md_status mask_report_write(const masks_job *j, const char *json, const char *csv,
                                    const char *png);

/* Kolmogorov and Smirnov's distance of two samples: the largest difference of their distribution
   functions. Sorts both. */
double mask_ks(double *a, int64_t n, double *b, int64_t m);

#endif

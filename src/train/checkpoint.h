/* Training state on disk: DIR/step-N/state.safetensors, then DIR/step-N/DONE, which holds the step
   and the state's CRC32C and makes it complete. The last two are kept; a damaged one is named and
   the one before it used. */
#ifndef MD_TRAIN_CHECKPOINT_H
#define MD_TRAIN_CHECKPOINT_H

#include "config/config.h"
#include "train/step.h"

/* Weights, moments and averages of all stores, with the configuration's text. One rank saves.
 * Local. */
MD_MUST md_status train_checkpoint_save(train *t, const char *dir, config *cfg);
/* Newest whole one into t; *found false when there is none. A checkpoint made under another value
   of a key of `sections` that shapes samples is refused, naming the key. Every worker loads. Local.
 */
MD_MUST md_status train_checkpoint_load(train *t, const char *dir, const config *cfg,
                                        const char *sections, bool *found);
/* Steps of the folders step-N in dir, newest first, at most `max`; whether each has DONE is not
   looked at. None where there is no dir. Local. */
MD_MUST md_status train_checkpoint_list(const char *dir, int64_t *steps, int max, int *n);
/* MD_BAD_INPUT when step-N is not a whole checkpoint: no DONE, another step's, a wrong CRC32C.
 * Local.
 */
MD_MUST md_status train_checkpoint_check(const char *dir, int64_t step);
/* Removes all, once the result they led to is complete. Local. */
MD_MUST md_status train_checkpoint_clear(const char *dir);

#endif

/* scheduler_config.json of a foundation: diffusers' schedulers, read and written. */
#ifndef MD_MODEL_SCHEDULE_JSON_H
#define MD_MODEL_SCHEDULE_JSON_H

#include "diffusion/schedule.h"
#include "format/json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Missing keys have the defaults of the file's class. What would change the noise that the model
   was trained with and is not here is MD_BAD_INPUT by key; what concerns the file's own sampler
   alone is noted in out->refused, since another one can be chosen. */
MD_MUST md_status schedule_read(const format_json *doc, diffusion_schedule *out);
/* As the class of s->sampler; as DDIMScheduler, which samples every model, where that is not here.
 */
MD_MUST md_status schedule_write(md_text *t, const diffusion_schedule *s);
/* The class that schedule_write names. */
const char *schedule_class(const diffusion_schedule *s);

#ifdef __cplusplus
}
#endif
#endif

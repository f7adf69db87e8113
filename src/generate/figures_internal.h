/* Shared by figures.c and figures_near.c. */
#ifndef MD_GENERATE_FIGURES_INTERNAL_H
#define MD_GENERATE_FIGURES_INTERNAL_H

#include "generate/figures.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sizes that fit, and every feature finite; `name` is what messages say. */
MD_MUST md_status figures__check(const char *name, int64_t d, figures_set s);

#ifdef __cplusplus
}
#endif
#endif

/* RUN/guide.png: what the guide's parts do. */
#ifndef MD_GENERATE_GUIDE_SHEET_H
#define MD_GENERATE_GUIDE_SHEET_H

#include "generate/painter.h"

/* One row for each of the first accepted pairs of the store, up to `most`: the pair; its guide at
   the latent's size pooled, grown, and feathered; M of equation 2 at six of the timesteps of o's
   sampler. Black is 0, white 1, the outline is the guide. No accepted pair: no file. Local. */
MD_MUST md_status guide_sheet(const char *store, const foundation *f, painter_options o, int most,
                              const char *png);

#endif

/* Stages of pretraining, shared by pretrain.c and pretrain_encoder.c. */
#ifndef MD_JOBS_PRETRAIN_H
#define MD_JOBS_PRETRAIN_H

#include "session.h"
#include "train/loop.h"

/* Trains `stores` on `task` with checkpoints in RUN/checkpoints/<what>; on rank 0 of several, only
   watches. o: steps, batch and lr, the rest is the same for all stages. The parameters end as their
   moving averages. Collective(world). */
MD_MUST md_status pretrain_learn(session *s, const char *what, nn_params *const *stores, int n,
                                 const train_task *task, train_options o);
/* The encoder, into FOLDER/encoder. Depends on no other stage. Collective(world). */
MD_MUST md_status pretrain_encoder(session *s, const char *folder);

#endif

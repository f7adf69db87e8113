/* The fine-tune as a configuration describes it: the denoising task and the options of its
   training. Shared by the job that trains and the one that only plans. */
#ifndef MD_TRAIN_FINETUNE_H
#define MD_TRAIN_FINETUNE_H

#include "config/config.h"
#include "model/foundation.h"
#include "train/lesions.h"

/* What no single key can tell: MD_USAGE. */
MD_MUST md_status finetune_check(const config *cfg);
/* Pictures of the class are learned beside the lesions. */
bool finetune_prior(const config *cfg);
/* They are drawn by the foundation, as the user gave none. */
bool finetune_prior_drawn(const config *cfg);
/* Adapters are trained, and not the weights. */
bool finetune_adapts(const config *cfg);
/* f, source and alphas [train_steps] must outlive the task. */
denoise finetune_task(const config *cfg, const foundation *f, const denoise_source *source,
                      const double *alphas);
/* What is read for it: data.h5, and where there is a prior the pictures in the folder `class`. */
lesions_options finetune_lesions(const config *cfg, const char *data, const char *class);
/* The shape of the source without its data, for planning: of data.pairs pictures, or of one where
   all shall be used. size: of the pictures, in pixels. */
MD_MUST md_status finetune_source_shape(const config *cfg, const foundation *f, int64_t size,
                                        denoise_source *out);
/* budget_bytes: for training alone; 0: no limit. workers and reducer are left out. */
train_options finetune_options(const config *cfg, size_t budget_bytes);
/* Holds the parts of f as a fine-tune needs them (foundation_hold): with adapters none is trained,
   and bf16 alone is enough. */
void finetune_hold(const config *cfg, foundation *f);
/* With finetune.lora_rank: declares the adapters of what is trained (foundation_adapt). Before
   finetune_stores and before graphs are built. */
MD_MUST md_status finetune_adapt(const config *cfg, foundation *f);
/* What is trained: the UNet, and with finetune.text_encoder the text encoder, or their adapters;
   returns how many. */
int finetune_stores(const config *cfg, const foundation *f, nn_params *stores[MODEL_N_PARTS]);

#endif

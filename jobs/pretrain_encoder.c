/* The last stage of pretraining: a small encoder of DINOv2's architecture, for assessment. */
#include "base/file.h"
#include "base/log.h"
#include "model/standalone.h"
#include "pretrain.h"
#include "train/encode.h"

enum { EDGE = 96 };

static const model_config tiny_dino = {
    .dino = {.num_channels = 3,
             .image_size = EDGE,
             .patch_size = 12, /* 8 x 8 of them */
             .hidden_size = 96,
             .num_hidden_layers = 4,
             .num_attention_heads = 4,
             .mlp_ratio = 4,
             .qkv_bias = true,
             .layer_norm_eps = 1e-6},
};

static md_status save(const session *s, const standalone *e, const preprocess *input,
                      const char *folder)
{
    char path[SESSION_PATH];
    MD_TRY(md_path_join(path, sizeof path, folder, "encoder"));
    MD_TRY(standalone_save(e, path, s->be, NULL, true));
    MD_TRY(preprocess_write(path, input));
    md_info("pretrain", "wrote the encoder to %s", path);
    return MD_OK;
}

static md_status learn(session *s, standalone *e, const preprocess *input)
{
    const config *cfg = s->j->cfg;
    encode task = {.config = &e->config.dino,
                   .input = input,
                   .params = e->params,
                   .dtype = s->dtype,
                   .seed = s->seed,
                   .batch = config_int(cfg, KEY_pretrain_encoder_batch),
                   .group = config_int(cfg, KEY_pretrain_encoder_group),
                   .temperature = config_float(cfg, KEY_pretrain_encoder_temperature)};
    train_task t = encode_task(&task);
    md_status status = session_works() ? standalone_randomize(e, s->be, s->seed) : MD_OK;
    MD_TRY(comm_agree(comm_world(), status));
    return pretrain_learn(s, "encoder", &e->params, 1, &t,
                          (train_options){.steps = config_int(cfg, KEY_pretrain_encoder_steps),
                                          .batch = task.batch,
                                          .lr = config_float(cfg, KEY_pretrain_encoder_lr)});
}

md_status pretrain_encoder(session *s, const char *folder)
{
    preprocess input = preprocess_default();
    input.edge = input.crop = EDGE;
    standalone *e = NULL;
    md_status status = standalone_new(MODEL_DINO, &tiny_dino, &e);
    if (status == MD_OK && s->dtype == MD_BF16)
        nn_params_hold(e->params, NN_HOLD_BOTH);
    status = comm_agree(comm_world(), status);
    if (status == MD_OK)
        status = comm_agree(comm_world(), learn(s, e, &input));
    if (status == MD_OK)
        status =
            comm_agree(comm_world(), session_first_worker() ? save(s, e, &input, folder) : MD_OK);
    standalone_free(e, s->be);
    return status;
}

/* Foundation folders: opened, saved and opened again; wrong ones end with one message that names
   what is wrong. The folder is tests/golden/sd, written by diffusers and transformers. */
#include "base/file.h"
#include "base/str.h"
#include "format/safetensors.h"
#include "model/foundation.h"
#include "scratch.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_same_schedule(const foundation_schedule *a, const foundation_schedule *b)
{
    assert_int_equal(a->train_steps, b->train_steps);
    assert_int_equal(a->betas, b->betas);
    assert_int_equal(a->prediction, b->prediction);
    assert_int_equal(a->spacing, b->spacing);
    assert_int_equal(a->steps_offset, b->steps_offset);
    assert_int_equal(a->set_alpha_to_one, b->set_alpha_to_one);
    assert_true(a->beta_start == b->beta_start && a->beta_end == b->beta_end && a->clip == b->clip);
    assert_string_equal(a->sampler, b->sampler);
    assert_string_equal(a->refused, b->refused);
    assert_int_equal(a->zero_snr, b->zero_snr);
    assert_int_equal(a->karras, b->karras);
    assert_int_equal(a->large_variance, b->large_variance);
    assert_int_equal(a->first_order, b->first_order);
    assert_int_equal(a->full_to_end, b->full_to_end);
    assert_int_equal(a->euler_at_final, b->euler_at_final);
    assert_int_equal(a->final_sigma_min, b->final_sigma_min);
}

static void load_all(foundation *f)
{
    for (int i = 0; i < MODEL_N_PARTS; i++)
        OK(foundation_load(f, (model_part)i, be));
}

static void test_open(void **state)
{
    (void)state;
    foundation *f;
    OK(foundation_open(SD, &f));
    assert_int_equal(vae_shrink(f->vae), 4);
    assert_int_equal(f->vae->block_out_channels[1], 8);
    assert_true(fabs(f->vae->scaling_factor - 0.7) < 1e-12);
    assert_int_equal(f->unet->in_channels, 4);
    assert_true(f->unet->down_attention[0] && !f->unet->down_attention[1]);
    assert_true(!f->unet->up_attention[0] && f->unet->up_attention[1]);
    assert_int_equal(f->unet->heads[0], 2);
    assert_int_equal(f->unet->time_embedding_dim, 16);
    assert_int_equal(f->text->hidden_act, MD_ACT_QUICK_GELU);
    assert_int_equal(f->text->vocab_size, format_tokenizer_vocab_size(f->tokenizer));
    assert_int_equal(f->schedule.train_steps, 1000);
    assert_int_equal(f->schedule.betas, SCHEDULE_SCALED_LINEAR);
    assert_int_equal(f->schedule.prediction, SCHEDULE_EPSILON);
    assert_int_equal(f->schedule.steps_offset, 1);
    assert_true(!f->schedule.set_alpha_to_one && f->schedule.clip == 0);
    assert_string_equal(f->schedule.sampler, "pndm");
    assert_string_equal(f->schedule.refused, "");
    assert_true(fabs(f->schedule.beta_end - 0.012) < 1e-15);
    for (int i = 0; i < MODEL_N_PARTS; i++) /* opening takes no memory for weights */
        assert_null(nn_params_buffer(f->params[i])->ptr);
    foundation_free(f, NULL);
}

/* from memory in f32 and f16, and straight from the files */
static void test_round_trip(void **state)
{
    (void)state;
    foundation *f, *g;
    OK(foundation_open(SD, &f));
    OK(foundation_save(f, in_root("converted"), be, false));
    load_all(f);
    OK(foundation_save(f, in_root("f32"), be, false));
    OK(foundation_save(f, in_root("f16"), be, true));
    static const char *const names[] = {"converted", "f32", "f16"};
    for (int i = 0; i < 3; i++) {
        OK(foundation_open(in_root(names[i]), &g));
        load_all(g);
        assert_memory_equal(&f->config, &g->config, sizeof f->config);
        assert_same_schedule(&f->schedule, &g->schedule);
        for (int part = 0; part < MODEL_N_PARTS; part++) {
            double d = scratch_difference(f, g, (model_part)part);
            if (!(d <= (i == 2 ? 1.0 / 2048 : 0))) /* f16 has 11 bits */
                fail_msg("%s, part %d: %g", names[i], part, d);
        }
        foundation_free(g, be);
    }
    /* the two f32 folders are the same files */
    shell("diff -r converted f32");
    foundation_free(f, be);
}

static void test_variants(void **state)
{
    (void)state;
    foundation *f, *g;
    OK(foundation_open(SD, &f));
    load_all(f);
    OK(foundation_save(f, in_root("variant"), be, true));
    shell("cd variant && for f in */*.safetensors; do mv $f ${f%%.safetensors}.fp16.safetensors; "
          "done");
    OK(foundation_open(in_root("variant"), &g)); /* *.fp16.safetensors */
    load_all(g);
    assert_true(scratch_difference(f, g, MODEL_UNET) <= 1.0 / 2048);
    foundation_free(g, be);

    /* another UNet for the same foundation, as a fine-tune leaves it */
    OK(foundation_open(SD, &g));
    OK(foundation_randomize(g, MODEL_UNET, be, 3));
    OK(foundation_save_part(g, MODEL_UNET, in_root("tuned"), be, NULL, false));
    assert_true(scratch_difference(f, g, MODEL_UNET) > 0.1);
    OK(foundation_replace(f, MODEL_UNET, in_root("tuned")));
    OK(foundation_load(f, MODEL_UNET, be));
    assert_true(scratch_difference(f, g, MODEL_UNET) == 0);
    assert_int_equal(foundation_replace(f, MODEL_UNET, "tests/golden/unet9"), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "parameter"));
    foundation_free(g, be);
    foundation_free(f, be);
}

/* A pretraining: configs in code or in a folder without weights, random parameters, a saved folder.
 */
static void test_new(void **state)
{
    (void)state;
    foundation *f, *g, *h;
    OK(foundation_open(SD, &f));
    foundation_schedule noise = schedule_stable_diffusion();
    OK(foundation_new(f->text, f->vae, f->unet, &noise, SD "/tokenizer", &g));
    for (int part = 0; part < MODEL_N_PARTS; part++)
        OK(foundation_randomize(g, (model_part)part, be, 5));
    foundation_set_scaling_factor(g, 1.25);
    OK(foundation_save(g, in_root("new"), be, false));
    shell("cp -r new configs && rm configs/*/*.safetensors");
    assert_int_equal(foundation_open(in_root("configs"), &h), MD_BAD_INPUT);
    OK(foundation_open_configs(in_root("configs"), &h));
    assert_int_equal(foundation_load(h, MODEL_VAE, be), MD_INTERNAL);
    for (int part = 0; part < MODEL_N_PARTS; part++) {
        OK(foundation_randomize(h, (model_part)part, be, 5)); /* the same seed: the same model */
        assert_true(scratch_difference(g, h, (model_part)part) == 0);
    }
    foundation_free(h, be);
    OK(foundation_open(in_root("new"), &h));
    assert_true(h->vae->scaling_factor == 1.25);
    assert_same_schedule(&noise, &h->schedule);
    load_all(h);
    assert_true(scratch_difference(g, h, MODEL_UNET) == 0);
    foundation_free(h, be);
    foundation_free(g, be);

    /* parts that do not fit each other, and a config that is wrong in itself */
    unet_config unet = *f->unet;
    unet.cross_attention_dim = 12;
    assert_int_equal(foundation_new(f->text, f->vae, &unet, &noise, SD "/tokenizer", &g),
                     MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "cross_attention_dim is 12"));
    unet = *f->unet;
    unet.in_channels = 5;
    assert_int_equal(foundation_new(f->text, f->vae, &unet, &noise, SD "/tokenizer", &g),
                     MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "in_channels is 5; wanted 4, or 9"));
    unet = *f->unet;
    unet.norm_num_groups = 0;
    assert_int_equal(foundation_new(f->text, f->vae, &unet, &noise, SD "/tokenizer", &g),
                     MD_BAD_INPUT);
    foundation_free(f, NULL);
}

/* The published VAE: old attention names, [O,I,1,1] instead of [O,I], bf16. */
static void write_old_vae(const char *from, const char *to)
{
    static const char *const names[][2] = {{".to_q.", ".query."},
                                           {".to_k.", ".key."},
                                           {".to_v.", ".value."},
                                           {".to_out.0.", ".proj_attn."}};
    format_tensors *f;
    format_writer *w;
    OK(format_tensors_open(from, &f));
    OK(format_writer_new(to, &w));
    int renamed = 0;
    for (int64_t i = 0; i < format_tensors_count(f); i++) {
        const format_tensor *t = format_tensors_at(f, i);
        char name[256];
        snprintf(name, sizeof name, "%s", t->name);
        int ndim = t->ndim;
        int64_t dim[4] = {1, 1, 1, 1};
        memcpy(dim, t->dim, (size_t)ndim * sizeof *dim);
        for (int k = 0; k < 4; k++) {
            const char *at = strstr(t->name, names[k][0]);
            if (!at)
                continue;
            snprintf(name, sizeof name, "%.*s%s%s", (int)(at - t->name), t->name, names[k][1],
                     at + strlen(names[k][0]));
            ndim = ndim == 2 ? 4 : ndim;
            renamed++;
        }
        OK(format_writer_declare(w, name, FORMAT_BF16, ndim, dim));
    }
    assert_int_equal(renamed, 16);
    for (int64_t i = 0; i < format_tensors_count(f); i++) {
        const format_tensor *t = format_tensors_at(f, i);
        float *v = malloc((size_t)t->numel * sizeof *v);
        OK(format_tensors_read_f32(f, t, 0, t->numel, v));
        OK(format_writer_put(w, v, t->numel));
        free(v);
    }
    OK(format_writer_finish(w));
    format_writer_free(w);
    format_tensors_close(f);
}

static void test_old_vae(void **state)
{
    (void)state;
    foundation *f, *g;
    copy_sd("", "old");
    write_old_vae(SD "/vae/diffusion_pytorch_model.safetensors",
                  in_root("old/vae/diffusion_pytorch_model.safetensors"));
    OK(foundation_open(SD, &f));
    OK(foundation_open(in_root("old"), &g));
    OK(foundation_load(f, MODEL_VAE, be));
    OK(foundation_load(g, MODEL_VAE, be));
    assert_true(scratch_difference(f, g, MODEL_VAE) <= 1.0 / 256); /* bf16 has 8 bits */
    foundation_free(f, be);
    foundation_free(g, be);
}

/* What is done to a good folder, and what the message must say. */
static const struct {
    const char *damage, *says[3];
} wrong[] = {
    {"rm model_index.json", {"model_index.json"}},
    {"sed -i s/AutoencoderKL/AutoencoderTiny/ model_index.json",
     {"model_index.json", "vae", "AutoencoderTiny"}},
    {"sed -i 's/\"unet\"/\"text_encoder_2\": [\"transformers\", \"X\"], \"unet\"/' "
     "model_index.json",
     {"model_index.json", "text_encoder_2", "Stable Diffusion XL"}},
    {"sed -i 's/}/,}/' model_index.json", {"model_index.json"}},
    {"rm -r unet", {"unet/config.json"}},
    {"sed -i 's/\"act_fn\": \"silu\"/\"act_fn\": \"mish\"/' unet/config.json",
     {"unet/config.json", "act_fn", "mish"}},
    {"sed -i 's/\"class_embed_type\": null/\"class_embed_type\": \"timestep\"/' unet/config.json",
     {"unet/config.json", "class_embed_type", "timestep"}},
    {"sed -i 's/\"norm_num_groups\": 2/\"norm_num_groups\": 3/' vae/config.json",
     {"vae/config.json", "norm_num_groups 3", "4"}},
    {"sed -i 's/\"norm_num_groups\": 2/\"norm_num_groups\": \"2\"/' vae/config.json",
     {"vae/config.json", "norm_num_groups"}},
    {"sed -i 's/\"attention_head_dim\": 2/\"attention_head_dim\": 3/' unet/config.json",
     {"unet/config.json", "attention_head_dim", "block_out_channels 4"}},
    {"sed -i 's/\"layers_per_block\": 1/\"layers_per_block\": 2/' vae/config.json",
     {"vae/diffusion_pytorch_model.safetensors", "resnets.1.norm1.weight is missing", "of"}},
    {"sed -i 's/\"DownBlock2D\"/\"CrossAttnDownBlock2D\"/' unet/config.json",
     {"unet/diffusion_pytorch_model.safetensors", "down_blocks.1.attentions.0"}},
    {"sed -i 's/\"CrossAttnDownBlock2D\"/\"DownBlock2D\"/' unet/config.json",
     {"unet/diffusion_pytorch_model.safetensors", "unexpected tensor down_blocks.0.attentions.0"}},
    {"sed -i 's/\"cross_attention_dim\": 8/\"cross_attention_dim\": 9/' unet/config.json",
     {"unet/diffusion_pytorch_model.safetensors", "attn2.to_k.weight", "asks for [4,9]"}},
    {"truncate -s -4 unet/diffusion_pytorch_model.safetensors",
     {"unet/diffusion_pytorch_model.safetensors"}},
    {"truncate -s 100 vae/diffusion_pytorch_model.safetensors",
     {"vae/diffusion_pytorch_model.safetensors", "truncated"}},
    {"rm text_encoder/model.safetensors && touch text_encoder/pytorch_model.bin",
     {"text_encoder/pytorch_model.bin", "pickle", "model.safetensors"}},
    {"rm text_encoder/model.safetensors", {"text_encoder", "no weights", "model.safetensors"}},
    {"cp unet/diffusion_pytorch_model.safetensors vae/",
     {"vae/diffusion_pytorch_model.safetensors", "unexpected tensor"}},
    {"sed -i s/scaled_linear/exponential/ scheduler/scheduler_config.json",
     {"scheduler_config.json", "beta_schedule", "exponential"}},
    {"sed -i 's/\"beta_start\": 0.00085/\"beta_start\": 0.5/' scheduler/scheduler_config.json",
     {"scheduler_config.json", "beta"}},
    {"rm tokenizer/merges.txt", {"merges.txt"}},
    {"sed -i 's/\"model_max_length\": 77/\"model_max_length\": 99/' "
     "tokenizer/tokenizer_config.json",
     {"99", "77", "max_position_embeddings"}},
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        foundation *f = NULL;
        copy_sd("", "wrong");
        shell("cd wrong && %s", wrong[i].damage);
        md_status s = foundation_open(in_root("wrong"), &f);
        if (s == MD_OK)
            fail_msg("opened after: %s", wrong[i].damage);
        if (md_status_exit_code(s) != 2)
            fail_msg("%s: %s: %s", wrong[i].damage, md_status_name(s), md_status_text());
        assert_null(f);
        for (int k = 0; k < 3 && wrong[i].says[k]; k++)
            if (!strstr(md_status_text(), wrong[i].says[k]))
                fail_msg("%s: \"%s\" does not say %s", wrong[i].damage, md_status_text(),
                         wrong[i].says[k]);
        assert_null(strchr(md_status_text(), '\n'));
    }
}

/* What stands beside the weights; a card comes before a LICENSE, and text below it does not count.
 */
static void test_licences(void **state)
{
    (void)state;
    static const char *const steps[][2] = {
        {"rm -f README.md LICENSE", "CC0 1.0; weights: terms not stated in their folder"},
        {"printf 'OpenRAIL\\r\\nmore\\n' >LICENSE", "CC0 1.0; weights: OpenRAIL"},
        {"printf '# model\\nlicense: no\\n' >README.md", "CC0 1.0; weights: OpenRAIL"},
        {"printf -- '---\\ntags:\\n- a\\n---\\nlicense: no\\n' >README.md",
         "CC0 1.0; weights: OpenRAIL"},
        {"printf -- '---\\n\\ntags:\\n- a\\nlicense: creativeml-openrail-m\\n---\\n' >README.md",
         "CC0 1.0; weights: creativeml-openrail-m"}};
    copy_sd("", "licences");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        foundation *f = NULL;
        char *found = NULL;
        shell("cd licences && %s", steps[i][0]);
        OK(foundation_open(in_root("licences"), &f));
        OK(foundation_licences(f, "CC0 1.0", &found));
        assert_string_equal(found, steps[i][1]);
        free(found);
        foundation_free(f, NULL);
    }
}

/* Parts that are right each by itself. */
static void test_misfit(void **state)
{
    (void)state;
    foundation *f = NULL;
    copy_sd("", "misfit");
    char command[512];
    snprintf(command, sizeof command, "cp tests/golden/unet9/unet/* %s", in_root("misfit/unet"));
    assert_int_equal(system(command), 0);
    OK(foundation_open(in_root("misfit"), &f)); /* 9 channels = 2 x 4 + 1: an inpainting model */
    assert_int_equal(f->unet->in_channels, 9);
    foundation_free(f, NULL);
    f = NULL;
    /* a text encoder of another vocabulary than the tokenizer's, in several files */
    snprintf(command, sizeof command, "rm %s/* && cp tests/golden/clip_gelu/text_encoder/* %s",
             in_root("misfit/text_encoder"), in_root("misfit/text_encoder"));
    assert_int_equal(system(command), 0);
    assert_int_equal(foundation_open(in_root("misfit"), &f), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "tokenizer has 522 tokens"));
    assert_non_null(strstr(md_status_text(), "vocab_size is 40"));
    /* one of the several is gone */
    shell("rm misfit/text_encoder/model-00002-of-00003.safetensors");
    assert_int_equal(foundation_open(in_root("misfit"), &f), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "model-00002-of-00003.safetensors"));
    assert_int_equal(foundation_open("no/such/folder", &f), MD_BAD_INPUT);
    assert_non_null(strstr(md_status_text(), "no/such/folder"));
    assert_null(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),     cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_variants), cmocka_unit_test(test_old_vae),
        cmocka_unit_test(test_new),      cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_licences), cmocka_unit_test(test_misfit)};
    return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}

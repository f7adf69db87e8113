/* Original checkpoints in one file: every name against diffusers' conversion, Stable Diffusion 1.5
   at full size (data are holes), a small one with values, what we write, and other kinds by name.
 */
#include "backend/cpu/cpu.h"
#include "base/file.h"
#include "base/str.h"
#include "format/safetensors.h"
#include "forms.h"
#include "model/foundation.h"
#include "model/ldm.h"
#include "scratch.h"
#include <math.h>

#define PUBLISHED "tests/golden/published/"

/* ---- names */

static const form_line *find_ours(const form_line *l, int n, model_part part, const char *name)
{
    for (int i = 0; i < n; i++)
        if (l[i].part == part && !strcmp(l[i].ours, name))
            return &l[i];
    fail_msg("no line for %s", name);
    return NULL;
}

/* Every parameter of the part has the golden name, and a shape that the file's fits. */
static int check_names(model_part part, const model_config *c, const form_line *l, int n)
{
    nn_params *p;
    nn_file_name *names;
    OK(nn_params_new("part", &p));
    OK(model_registry(part)->declare(p, c));
    OK(ldm_names(part, c, p, NULL, &names));
    int count = nn_params_count(p);
    for (int i = 0; i < count; i++) {
        const nn_param_info *q = nn_params_info(p, i);
        const form_line *want = find_ours(l, n, part, q->name);
        assert_string_equal(names[i].name, want->ldm.name);
        bool conv = q->conv || q->linear_as_conv || (names[i].as_conv && q->ndim == 2);
        assert_int_equal(conv, want->ldm.ndim == 4);
    }
    free(names);
    nn_params_free(p, NULL);
    return count;
}

static void test_names(void **state)
{
    (void)state;
    form_line *l;
    model_config c;
    int n = form_golden("sd15", &l), seen = 0;
    assert_int_equal(n, 1130);
    OK(clip_text_config_read(PUBLISHED "sd15-text_encoder.json", &c.text));
    seen += check_names(MODEL_TEXT_ENCODER, &c, l, n);
    OK(vae_config_read(PUBLISHED "sd15-vae.json", &c.vae));
    seen += check_names(MODEL_VAE, &c, l, n);
    OK(unet_config_read(PUBLISHED "sd15-unet.json", &c.unet));
    seen += check_names(MODEL_UNET, &c, l, n);
    assert_int_equal(seen, n);
    char name[256];
    bool conv;
    FAILS(
        ldm_name(MODEL_UNET, &c, "down_blocks.9.resnets.0.conv1.weight", name, sizeof name, &conv),
        MD_INTERNAL, "down_blocks.9");
    FAILS(ldm_name(MODEL_UNET, &c, "add_embedding.linear_1.bias", name, sizeof name, &conv),
          MD_INTERNAL, "add_embedding");
    free(l);
    n = form_golden("small", &l);
    OK(unet_config_read(SD "/unet/config.json", &c.unet));
    seen = check_names(MODEL_UNET, &c, l, n);
    OK(vae_config_read(SD "/vae/config.json", &c.vae));
    seen += check_names(MODEL_VAE, &c, l, n);
    OK(clip_text_config_read(SD "/text_encoder/config.json", &c.text));
    seen += check_names(MODEL_TEXT_ENCODER, &c, l, n);
    assert_int_equal(seen, n);
    free(l);
}

/* ---- full size */

static form_tensor *named(form_tensor *t, int n, const char *ending)
{
    for (int i = 0; i < n; i++)
        if (md_str_ends(t[i].name, ending))
            return &t[i];
    fail_msg("no tensor ends in %s", ending);
    return NULL;
}

/* Stable Diffusion 1.5 as published: with what training left in the file. */
static int published(form_tensor t[1200])
{
    static const char *const left[] = {"cond_stage_model.transformer.text_projection.weight",
                                       "first_stage_model.loss.logvar",
                                       "betas",
                                       "alphas_cumprod",
                                       "posterior_mean_coef1",
                                       "sqrt_recipm1_alphas_cumprod",
                                       "model_ema.num_updates",
                                       "model_ema.diffusion_modelinput_blocks00weight"};
    form_line *l;
    int n = form_golden("sd15", &l);
    memset(t, 0, 1200 * sizeof *t);
    for (int i = 0; i < n; i++)
        t[i] = l[i].ldm;
    free(l);
    t[n++] = (form_tensor){
        "cond_stage_model.transformer.text_model.embeddings.position_ids", "I64", 2, {1, 77}};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        t[n] = (form_tensor){.dtype = "F32", .ndim = 1, .dim = {1000}};
        snprintf(t[n++].name, sizeof t->name, "%s", left[i]);
    }
    return n;
}

static void assert_published(const foundation *f, int in_channels)
{
    model_config want;
    memset(&want, 0, sizeof want);
    OK(unet_config_read(PUBLISHED "sd15-unet.json", &want.unet));
    want.unet.in_channels = in_channels;
    assert_memory_equal(f->unet, &want.unet, sizeof want.unet);
    OK(vae_config_read(PUBLISHED "sd15-vae.json", &want.vae));
    assert_memory_equal(f->vae, &want.vae, sizeof want.vae);
    OK(clip_text_config_read(PUBLISHED "sd15-text_encoder.json", &want.text));
    assert_memory_equal(f->text, &want.text, sizeof want.text);
    diffusion_schedule s = schedule_stable_diffusion();
    assert_memory_equal(&f->schedule, &s, sizeof s);
}

static void test_full_size(void **state)
{
    (void)state;
    static form_tensor t[1200];
    int n = published(t);
    foundation *f;
    const char *path = in_root("v1-5-pruned.safetensors");
    form_write(path, t, n, "\"format\":\"pt\"");
    FAILS(foundation_open(path, &f), MD_BAD_INPUT, "/tokenizer/");
    assert_non_null(strstr(md_status_text(), "vocab.json and merges.txt"));
    copy_sd("/tokenizer", "tokenizer");
    OK(foundation_open(path, &f));
    assert_published(f, 4);
    foundation_free(f, NULL);

    named(t, n, "diffusion_model.input_blocks.0.0.weight")->dim[1] = 9; /* SD 1.5-inpainting */
    form_write(path, t, n, NULL);
    OK(foundation_open(path, &f));
    assert_published(f, 9);
    foundation_free(f, NULL);

    for (int i = 0; i < n; i++) { /* as the first releases were */
        char *at = strstr(t[i].name, "transformer.text_model.");
        if (at)
            memmove(at + 12, at + 23, strlen(at + 23) + 1);
    }
    form_write(path, t, n, NULL);
    OK(foundation_open(path, &f));
    assert_published(f, 9);
    foundation_free(f, NULL);

    /* a file that lies is refused by its tensor */
    form_tensor *q = named(t, n, "output_blocks.5.2.conv.weight");
    snprintf(q->name, sizeof q->name, "model.diffusion_model.output_blocks.5.1.conv.weight");
    form_write(path, t, n, NULL);
    FAILS(foundation_open(path, &f), MD_BAD_INPUT,
          "unexpected tensor model.diffusion_model.output_blocks.5.1.conv.weight");
    snprintf(q->name, sizeof q->name, "model.diffusion_model.output_blocks.5.2.conv.weight");
    named(t, n, "encoder.mid.attn_1.k.weight")->dim[1] = 256;
    form_write(path, t, n, NULL);
    FAILS(foundation_open(path, &f), MD_BAD_INPUT,
          "tensor first_stage_model.encoder.mid.attn_1.k.weight is [512,256,1,1]");
    named(t, n, "encoder.mid.attn_1.k.weight")->dim[1] = 512;
    named(t, n, "encoder.mid.attn_1.v.weight")->dtype = "I64";
    form_write(path, t, n, NULL);
    FAILS(foundation_open(path, &f), MD_BAD_INPUT, "attn_1.v.weight holds I64");
    named(t, n, "encoder.mid.attn_1.v.weight")->dtype = "F16";
    q = named(t, n, "time_embed.2.bias");
    snprintf(q->name, sizeof q->name, "something.else");
    form_write(path, t, n, NULL);
    FAILS(foundation_open(path, &f), MD_BAD_INPUT,
          "model.diffusion_model.time_embed.2.bias is missing (1 of 686 are)");
    shell("rm v1-5-pruned.safetensors");
}

/* ---- small, with values */

static void load_all(foundation *f)
{
    for (int i = 0; i < MODEL_N_PARTS; i++)
        OK(foundation_load(f, (model_part)i, be));
}

/* Largest relative difference of all parameters. */
static double difference(const foundation *a, const foundation *b)
{
    double worst = 0;
    for (int part = 0; part < MODEL_N_PARTS; part++)
        worst = fmax(worst, scratch_difference(a, b, (model_part)part));
    return worst;
}

static const char *part_file(model_part part)
{
    static const char *const files[] = {"/text_encoder/model", "/vae/diffusion_pytorch_model",
                                        "/unet/diffusion_pytorch_model"};
    static char path[256];
    snprintf(path, sizeof path, SD "%s.safetensors", files[part]);
    return path;
}

static void add_config(format_writer *w, const char *key, const char *path)
{
    void *text;
    size_t n;
    OK(md_file_read(path, 1 << 16, &text, &n));
    OK(format_writer_meta(w, key, text));
    free(text);
}

/* The weights of tests/golden/sd under their LDM names, by the golden list alone. */
static void write_small(const char *path, bool configs)
{
    form_line *l;
    format_writer *w;
    format_tensors *parts[MODEL_N_PARTS];
    int n = form_golden("small", &l);
    OK(format_writer_new(path, &w));
    if (configs) {
        add_config(w, "meddiff.unet", SD "/unet/config.json");
        add_config(w, "meddiff.vae", SD "/vae/config.json");
        add_config(w, "meddiff.text_encoder", SD "/text_encoder/config.json");
    }
    for (int i = 0; i < MODEL_N_PARTS; i++)
        OK(format_tensors_open(part_file((model_part)i), &parts[i]));
    for (int i = 0; i < n; i++)
        OK(format_writer_declare(w, l[i].ldm.name, FORMAT_F32, l[i].ldm.ndim, l[i].ldm.dim));
    for (int i = 0; i < n; i++) {
        const format_tensor *t = format_tensors_find(parts[l[i].part], l[i].ours);
        assert_non_null(t);
        float *v = malloc((size_t)t->numel * sizeof *v);
        OK(format_tensors_read_f32(parts[l[i].part], t, 0, t->numel, v));
        OK(format_writer_put(w, v, t->numel));
        free(v);
    }
    OK(format_writer_finish(w));
    format_writer_free(w);
    for (int i = 0; i < MODEL_N_PARTS; i++)
        format_tensors_close(parts[i]);
    free(l);
}

static void test_small(void **state)
{
    (void)state;
    foundation *f, *g;
    copy_sd("/tokenizer", "tokenizer");
    write_small(in_root("small.safetensors"), true);
    OK(foundation_open(SD, &f));
    load_all(f);
    OK(foundation_open(in_root("small.safetensors"), &g));
    assert_memory_equal(f->config, g->config, sizeof f->config);
    load_all(g);
    assert_true(difference(f, g) == 0);
    /* a folder out of it, and a part of another model into it */
    foundation_free(g, be);
    OK(foundation_open(in_root("small.safetensors"), &g));
    OK(foundation_save(g, in_root("folder"), be, false));
    OK(foundation_randomize(f, MODEL_UNET, be, 7));
    OK(foundation_save_part(f, MODEL_UNET, in_root("tuned"), be, NULL, false));
    OK(foundation_replace(g, MODEL_UNET, in_root("tuned")));
    load_all(g);
    assert_true(difference(f, g) == 0);
    foundation_free(g, be);
    foundation_free(f, be);
    OK(foundation_open(in_root("folder"), &f));
    OK(foundation_open(SD, &g));
    load_all(f);
    load_all(g);
    assert_true(difference(f, g) == 0);
    foundation_free(g, be);
    foundation_free(f, be);
    /* without its configs it is read as Stable Diffusion 1.x, whose heads have 64 channels */
    write_small(in_root("small.safetensors"), false);
    FAILS(foundation_open(in_root("small.safetensors"), &f), MD_BAD_INPUT, "carries no config: ");
    assert_non_null(strstr(md_status_text(), "num_attention_heads is 0"));
}

/* Written from memory, from a folder's files, and from another single file. */
static void test_writing(void **state)
{
    (void)state;
    foundation *f, *g;
    OK(foundation_open(SD, &f));
    OK(foundation_save_file(f, in_root("a.safetensors"), be, false));
    load_all(f);
    OK(foundation_save_file(f, in_root("b.safetensors"), be, false));
    OK(foundation_save_file(f, in_root("half.safetensors"), be, true));
    shell("cmp a.safetensors b.safetensors");
    OK(foundation_open(in_root("a.safetensors"), &g));
    assert_memory_equal(f->config, g->config, sizeof f->config);
    OK(foundation_save_file(g, in_root("c.safetensors"), be, false));
    shell("cmp a.safetensors c.safetensors");
    load_all(g);
    assert_true(difference(f, g) == 0);
    foundation_free(g, be);
    OK(foundation_open(in_root("half.safetensors"), &g));
    load_all(g);
    assert_true(difference(f, g) <= 1.0 / 2048); /* f16 has 11 bits */
    foundation_free(g, be);
    /* the very tensors and shapes of the golden list */
    form_line *l;
    format_tensors *t;
    const format_tensor *got;
    int n = form_golden("small", &l);
    OK(format_tensors_open(in_root("a.safetensors"), &t));
    assert_int_equal(format_tensors_count(t), n);
    for (int i = 0; i < n; i++)
        OK(format_tensors_get(t, l[i].ldm.name, l[i].ldm.ndim, l[i].ldm.dim, &got));
    format_tensors_close(t);
    free(l);
    foundation_free(f, be);
    /* a part held in bf16 comes from its file, not from the rounded copy */
    md_backend *cpu;
    OK(cpu_backend_open(&cpu, 1));
    OK(foundation_open(SD, &f));
    foundation_hold(f, MD_BF16, 1u << MODEL_UNET);
    for (int i = 0; i < MODEL_N_PARTS; i++)
        OK(foundation_load(f, (model_part)i, cpu));
    OK(foundation_save_file(f, in_root("d.safetensors"), cpu, false));
    shell("cmp a.safetensors d.safetensors");
    foundation_free(f, cpu);
    cpu->ops->close(cpu);
    OK(foundation_open(SD, &f));
    /* the schedule travels */
    f->schedule.beta_end = 0.013;
    OK(foundation_save_file(f, in_root("e.safetensors"), be, false));
    OK(foundation_open(in_root("e.safetensors"), &g));
    assert_true(g->schedule.beta_end == 0.013);
    foundation_free(g, be);
    foundation_free(f, be);
}

/* A transformer of two blocks in the middle is the last level's, whose way down has none. */
static void test_depth(void **state)
{
    (void)state;
    format_tensors *t;
    model_config c;
#define U "model.diffusion_model."
    form_write_names(
        in_root("deep.safetensors"), U
        "input_blocks.0.0.weight[32,4] " U "out.2.weight[4,32] " U "time_embed.0.weight[128,32] " U
        "middle_block.1.transformer_blocks.0.attn2.to_k.weight[32,8] " U
        "middle_block.1.transformer_blocks.0.norm1.weight " U
        "middle_block.1.transformer_blocks.1.norm1.weight " U
        "input_blocks.1.0.in_layers.2.weight[32,32] " U "middle_block.1.proj_in.weight[32,32]");
    OK(format_tensors_open(in_root("deep.safetensors"), &t));
    OK(ldm_config(t, MODEL_UNET, &c));
    assert_int_equal(c.unet.transformer_layers[0], 2);
    assert_true(!c.unet.down_attention[0] && !c.unet.up_attention[0]);
    assert_true(c.unet.use_linear_projection); /* the projection is [O,I], not [O,I,1,1] */
    format_tensors_close(t);
}

/* ---- other kinds */

static const struct {
    const char *names, *says;
} others[] = {
    {"lora_unet_down_blocks_0_attentions_0.lora_down.weight lora_unet_x.alpha", "LoRA"},
    {"unet.down_blocks.0.attentions.0.to_q.lora_A.weight", "LoRA"},
    {"unet.down_blocks.0.attn1.processor.to_q_lora.down.weight", "LoRA"},
    {"lora_te_x.hada_w1_a", "LyCORIS"},
    {"control_model.time_embed.0.bias model.diffusion_model.out.0.bias", "ControlNet"},
    {"controlnet_cond_embedding.conv_in.bias down_blocks.0.x", "ControlNet"},
    {"conditioner.embedders.0.transformer.x model.diffusion_model.out.0.bias "
     "first_stage_model.encoder.conv_in.bias",
     "Stable Diffusion XL"},
    {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.bias", "Stable Diffusion 3"},
    {"double_blocks.0.img_attn.proj.bias", "FLUX"},
    {"cond_stage_model.model.transformer.resblocks.0.ln_1.bias model.diffusion_model.out.0.bias "
     "first_stage_model.encoder.conv_in.bias",
     "Stable Diffusion 2.x as a single file"},
    {"emb_params[4,768]", "textual inversion"},
    {"<lesion>[768]", "textual inversion"},
    {"first_stage_model.encoder.conv_in.bias", "a VAE alone"},
    {"decoder.conv_in.bias encoder.conv_in.bias quant_conv.bias", "a VAE alone"},
    {"conv_in.bias down_blocks.0.resnets.0.conv1.bias", "a UNet out of a folder"},
    {"text_model.embeddings.position_ids", "a text encoder alone"},
    {"model_ema.decay", "averaged weights"},
    {"model.diffusion_model.out.0.bias", "without VAE"},
    {"model.diffusion_model.out.0.bias first_stage_model.encoder.conv_in.bias",
     "without text encoder"},
    {"a[2,2,2] b[2,2,2] c", "the first of 3: a"},
    {"", "the first of 0: none"},
};

static void test_others(void **state)
{
    (void)state;
    foundation *f = NULL;
    copy_sd("/tokenizer", "tokenizer");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        form_write_names(in_root("other.safetensors"), others[i].names);
        FAILS(foundation_open(in_root("other.safetensors"), &f), MD_BAD_INPUT, others[i].says);
        assert_non_null(strstr(md_status_text(), "other.safetensors"));
        assert_null(f);
    }
    static const char *const endings[][2] = {{"x.ckpt", "get %s/x.safetensors"},
                                             {"x.pt", "pickle"},
                                             {"x.bin", "pickle"},
                                             {"x.pth", "pickle"},
                                             {"x.gguf", "GGUF"},
                                             {"x.onnx", "ONNX"},
                                             {"x.msgpack", "Flax"},
                                             {"x", "safetensors"}};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        char says[512];
        snprintf(says, sizeof says, endings[i][1], root);
        shell("printf GGUF > %s", endings[i][0]);
        FAILS(foundation_open(in_root(endings[i][0]), &f), MD_BAD_INPUT, says);
    }
    /* a pickle in disguise */
    shell("printf 'PK\\003\\004aaaaaaaa' > p.safetensors");
    FAILS(foundation_open(in_root("p.safetensors"), &f), MD_BAD_INPUT, "p.safetensors: a pickle");
    FAILS(foundation_open(in_root("none.safetensors"), &f), MD_BAD_INPUT, "No such file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_full_size),
        cmocka_unit_test(test_small), cmocka_unit_test(test_writing),
        cmocka_unit_test(test_depth), cmocka_unit_test(test_others)};
    return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}

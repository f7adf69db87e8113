/* Foundation folders as they are found: variants and shards under every name that diffusers has
   given them, the Hugging Face cache with its links, published configs; and folders that are none.
 */
#include "base/file.h"
#include "format/safetensors.h"
#include "forms.h"
#include "model/foundation.h"
#include "scratch.h"

/* The first parameter of the UNet that the folder opens to. */
static float first_weight(const char *path)
{
    foundation *f;
    OK(foundation_open(path, &f));
    OK(foundation_load(f, MODEL_UNET, be));
    int i = nn_params_find(f->params[MODEL_UNET], "conv_out.bias");
    float v[64];
    assert_true(i >= 0 && nn_params_info(f->params[MODEL_UNET], i)->numel <= 64);
    OK(nn_params_read(f->params[MODEL_UNET], be, i, v));
    foundation_free(f, be);
    return v[0];
}

/* The UNet of `folder` as `file`, every value times `factor`. */
static void scale(const char *file, float factor)
{
    format_tensors *f;
    format_writer *w;
    OK(format_tensors_open(SD "/unet/diffusion_pytorch_model.safetensors", &f));
    OK(format_writer_new(in_root(file), &w));
    for (int64_t i = 0; i < format_tensors_count(f); i++) {
        const format_tensor *t = format_tensors_at(f, i);
        OK(format_writer_declare(w, t->name, FORMAT_F32, t->ndim, t->dim));
    }
    for (int64_t i = 0; i < format_tensors_count(f); i++) {
        const format_tensor *t = format_tensors_at(f, i);
        float *v = malloc((size_t)t->numel * sizeof *v);
        OK(format_tensors_read_f32(f, t, 0, t->numel, v));
        for (int64_t k = 0; k < t->numel; k++)
            v[k] *= factor;
        OK(format_writer_put(w, v, t->numel));
        free(v);
    }
    OK(format_writer_finish(w));
    format_writer_free(w);
    format_tensors_close(f);
}

/* An index that puts all the UNet's tensors into one shard. */
static void write_index(const char *file, const char *shard)
{
    format_tensors *f;
    md_text t = {0};
    OK(format_tensors_open(SD "/unet/diffusion_pytorch_model.safetensors", &f));
    OK(md_text_add(&t, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {"));
    for (int64_t i = 0; i < format_tensors_count(f); i++)
        OK(md_text_add(&t, "%s\"%s\": \"%s\"", i ? ", " : "", format_tensors_at(f, i)->name,
                       shard));
    OK(md_text_add(&t, "}}"));
    OK(md_file_write_atomic(in_root(file), t.s, t.n));
    md_text_free(&t);
    format_tensors_close(f);
}

/* Each file that may hold the UNet, worst first: adding one must change what is opened. */
static void test_variants(void **state)
{
    (void)state;
#define BASE "v/unet/diffusion_pytorch_model"
    const float plain = first_weight(SD);
    copy_sd("", "v");
    shell("rm v/unet/*.safetensors");
    float factor = 1;
    static const struct {
        const char *index, *shard;
    } ladder[] = {
        {".non_ema.safetensors.index.json", ".non_ema-00001-of-00001.safetensors"},
        {NULL, ".non_ema.safetensors"},
        {".bf16.safetensors.index.json", ".bf16-00001-of-00001.safetensors"},
        {NULL, ".bf16.safetensors"},
        {".safetensors.index.fp16.json",
         "-00001-of-00001.fp16.safetensors"}, /* diffusers 0.27 on */
        {NULL, ".fp16.safetensors"},
        {".safetensors.index.json", "-00001-of-00001.safetensors"},
        {NULL, ".safetensors"},
    };
    for (size_t i = 0; i < sizeof ladder / sizeof ladder[0]; i++) {
        char file[256], index[256], shard[256];
        snprintf(file, sizeof file, BASE "%s", ladder[i].shard);
        scale(file, factor *= 2);
        if (ladder[i].index) {
            snprintf(index, sizeof index, BASE "%s", ladder[i].index);
            snprintf(shard, sizeof shard, "diffusion_pytorch_model%s", ladder[i].shard);
            write_index(index, shard);
        }
        if (first_weight(in_root("v")) != factor * plain)
            fail_msg("not from %s", ladder[i].shard);
    }
    /* the other two places of the variant in an index's name */
    static const char *const names[] = {".fp16.safetensors.index.json",
                                        ".safetensors.fp16.index.json"};
    for (int i = 0; i < 2; i++) {
        copy_sd("", "v");
        shell("mv " BASE ".safetensors " BASE ".fp16-00001-of-00001.safetensors");
        char index[256];
        snprintf(index, sizeof index, BASE "%s", names[i]);
        write_index(index, "diffusion_pytorch_model.fp16-00001-of-00001.safetensors");
        assert_true(first_weight(in_root("v")) == plain);
        /* the shard by itself is no variant */
        shell("rm v/unet/*.json && cp v/vae/config.json v/unet/config.json");
        foundation *f;
        assert_int_equal(foundation_open(in_root("v"), &f), MD_BAD_INPUT);
    }
}

/* A sharded part's hash is that of its shards: the index alone would not show another weight. */
static void test_hash(void **state)
{
    (void)state;
    char plain[MD_SHA256_HEX], hex[3][MD_SHA256_HEX];
    foundation *f;
    copy_sd("", "hash");
    for (int i = 0; i < 3; i++) {
        char command[1024];
        snprintf(command, sizeof command, "cp tests/golden/clip_gelu/text_encoder/* %s",
                 in_root("hash/unet"));
        assert_int_equal(system(command), 0);
        OK(foundation_open(SD, &f));
        OK(foundation_hash(f, MODEL_UNET, plain));
        snprintf(f->weights[MODEL_UNET], FOUNDATION_PATH, "%s",
                 in_root("hash/unet/model.safetensors.index.json"));
        if (i == 2) /* one byte of a weight */
            shell("printf x | dd of=hash/unet/model-00002-of-00003.safetensors bs=1 conv=notrunc "
                  "seek=$(($(stat -c %%s hash/unet/model-00002-of-00003.safetensors) - 9)) "
                  "2>/dev/null");
        OK(foundation_hash(f, MODEL_UNET, hex[i]));
        foundation_free(f, NULL);
    }
    assert_string_equal(hex[0], hex[1]);
    assert_string_not_equal(hex[0], hex[2]);
    assert_string_not_equal(hex[0], plain);
    char want[MD_SHA256_HEX];
    OK(md_sha256_file(SD "/unet/diffusion_pytorch_model.safetensors", want));
    assert_string_equal(plain, want);
}

/* models--owner--name/{refs,snapshots,blobs} as huggingface_hub lays it out. */
static void make_cache(void)
{
    copy_sd("", "sd");
    shell("rm -rf hub && mkdir -p hub/models--o--sd/refs hub/models--o--sd/blobs "
          "hub/models--o--sd/snapshots/0123abcd && cd hub/models--o--sd && "
          "printf 0123abcd > refs/main && n=0 && cd ../../sd && "
          "find . -type f | while read -r f; do n=$((n + 1)); "
          "cp \"$f\" ../hub/models--o--sd/blobs/b$n; d=$(dirname \"$f\"); "
          "mkdir -p ../hub/models--o--sd/snapshots/0123abcd/$d; up=../../; "
          "[ \"$d\" = . ] || up=../../../; "
          "ln -s ${up}blobs/b$n ../hub/models--o--sd/snapshots/0123abcd/$f; done");
}

static void test_cache(void **state)
{
    (void)state;
#define HUB      "hub/models--o--sd"
#define SNAPSHOT HUB "/snapshots/0123abcd"
    const float plain = first_weight(SD);
    foundation *f = NULL;
    make_cache();
    assert_true(first_weight(in_root(HUB)) == plain);
    assert_true(first_weight(in_root(HUB "/")) == plain);
    assert_true(first_weight(in_root(SNAPSHOT)) == plain);
    FAILS(foundation_open(in_root("hub"), &f), MD_BAD_INPUT, "hub/models--o--sd");
    shell("printf '0123abcd\\n' > " HUB "/refs/main"); /* a newline does no harm */
    assert_true(first_weight(in_root(HUB)) == plain);
    shell("printf ../../../sd > " HUB "/refs/main");
    FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, "refs/main: holds no commit");
    shell("head -c 300 /dev/zero > " HUB "/refs/main");
    FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, "refs/main: 300 bytes");
    shell("printf 89 > " HUB "/refs/main");
    FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, "snapshot 89, which is not there");
    shell("rm " HUB "/refs/main");
    assert_true(first_weight(in_root(HUB)) == plain); /* the only one there is */
    shell("mkdir " HUB "/snapshots/7");
    FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, "no refs/main, and 2 snapshots");
    shell("rm -r " HUB "/snapshots/*");
    FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, "no refs/main, and 0 snapshots");
}

/* Links that lead nowhere or in a circle, one at a time. */
static void test_links(void **state)
{
    (void)state;
    static const char *const files[] = {
        "model_index.json",     "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",      "scheduler/scheduler_config.json",
        "tokenizer/vocab.json", "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
    };
    foundation *f = NULL;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        make_cache();
        shell("ln -sfn nowhere " SNAPSHOT "/%s", files[i]);
        FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, files[i]);
        assert_non_null(strstr(md_status_text(), "a symbolic link to a file that is not there"));
        shell("cd $(dirname " SNAPSHOT "/%s) && b=$(basename %s) && ln -sfn $b $b", files[i],
              files[i]);
        FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, files[i]);
        assert_non_null(strstr(md_status_text(), "its symbolic links lead in a circle"));
    }
    make_cache();
    shell("cd " SNAPSHOT " && rm -r unet && ln -s unet unet");
    FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, "unet/config.json");
    assert_non_null(strstr(md_status_text(), "in a circle"));
    shell("ln -s b a && ln -s a b");
    FAILS(foundation_open(in_root("a"), &f), MD_BAD_INPUT, "a: its symbolic links");
    FAILS(foundation_open(in_root("a/x.safetensors"), &f), MD_BAD_INPUT, "in a circle");
    shell("ln -s nowhere c");
    FAILS(foundation_open(in_root("c"), &f), MD_BAD_INPUT, "c: a symbolic link to a file");
    /* a folder below itself is no danger: nothing walks into it */
    make_cache();
    shell("ln -s . " SNAPSHOT "/unet/more && ln -s .. " SNAPSHOT "/unet/up");
    assert_true(first_weight(in_root(HUB)) == first_weight(SD));
    shell("mkfifo " SNAPSHOT "/unet/p && ln -sfn p " SNAPSHOT
          "/unet/diffusion_pytorch_model.safetensors");
    FAILS(foundation_open(in_root(HUB), &f), MD_BAD_INPUT, "not a file");
}

/* What is done to a copy of the folder, and what the message must say. */
static const struct {
    const char *damage, *says[2];
} none[] = {
    {"sed -i 's/\"StableDiffusionPipeline\"/\"StableDiffusionXLPipeline\"/' model_index.json",
     {"model_index.json", "Stable Diffusion XL"}},
    {"sed -i 's/\"StableDiffusionPipeline\"/\"StableDiffusion3Pipeline\"/' model_index.json",
     {"model_index.json", "Stable Diffusion 3"}},
    {"sed -i 's/\"StableDiffusionPipeline\"/\"FluxPipeline\"/' model_index.json",
     {"model_index.json", "FLUX"}},
    {"sed -i 's/\"StableDiffusionPipeline\"/\"OnnxStableDiffusionPipeline\"/' model_index.json",
     {"model_index.json", "ONNX"}},
    {"sed -i 's/\"StableDiffusionPipeline\"/\"X\"/; s/\"unet\"/\"transformer\"/' model_index.json",
     {"model_index.json", "diffusion transformer"}},
    {"sed -i 's/\"StableDiffusionPipeline\"/\"StableDiffusionControlNetPipeline\"/' "
     "model_index.json",
     {"model_index.json", "ControlNet"}},
    {"rm -r * && touch pytorch_lora_weights.safetensors", {"pytorch_lora_weights", "LoRA"}},
    {"rm -r * && touch adapter_config.json", {"adapter_config.json", "PEFT"}},
    {"rm -r * && touch learned_embeds.bin", {"learned_embeds.bin", "textual inversion"}},
    {"rm -r * && echo '{\"_class_name\": \"ControlNetModel\"}' > config.json",
     {"config.json", "a ControlNet"}},
    {"mv vae/* . && rm -r */ model_index.json", {"config.json", "a VAE alone"}},
    {"mv unet/* . && rm -r */ model_index.json", {"config.json", "a UNet alone"}},
    {"mv text_encoder/* . && rm -r */ model_index.json", {"config.json", "a text encoder alone"}},
    {"rm -r * && touch v1-5.safetensors", {"name that", "v1-5.safetensors"}},
    {"rm -r * && touch v1-5.ckpt", {"a pickle file", "get"}},
    {"rm -r *", {"no model_index.json", "diffusers' layout"}},
    {"cd unet && mv *.safetensors diffusion_pytorch_model.bin",
     {"unet/diffusion_pytorch_model.bin: a pickle", "unet/diffusion_pytorch_model.safetensors"}},
    {"cd unet && mv *.safetensors diffusion_pytorch_model.fp16.bin", {"fp16.bin: a pickle", "get"}},
    {"cd text_encoder && rm model.safetensors && touch pytorch_model.bin.index.json",
     {"the index of pickle files", "text_encoder/model.safetensors"}},
    {"cd text_encoder && mv *.safetensors x.ckpt", {"x.ckpt: a pickle", "get"}},
    {"cd vae && rm *.safetensors && touch model.onnx", {"vae/model.onnx", "ONNX"}},
    {"cd vae && rm *.safetensors && touch diffusion_flax_model.msgpack", {"vae/diffusion", "Flax"}},
    {"cd text_encoder && rm *.safetensors && touch tf_model.h5", {"tf_model.h5", "TensorFlow"}},
};

static void test_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        foundation *f = NULL;
        copy_sd("", "none");
        shell("cd none && %s", none[i].damage);
        for (int k = 0; k < 2; k++)
            FAILS(foundation_open(in_root("none"), &f), MD_BAD_INPUT, none[i].says[k]);
        assert_null(f);
    }
}

/* ---- published configs, at full size, data being holes */

static void put(const char *file, const char *text)
{
    OK(md_file_write_atomic(in_root(file), text, strlen(text)));
}

/* As VAE files before diffusers 0.12 name it. */
static void to_old_name(char name[160])
{
    static const char *const names[][2] = {{".to_q.", ".query."},
                                           {".to_k.", ".key."},
                                           {".to_v.", ".value."},
                                           {".to_out.0.", ".proj_attn."}};
    char ours[160];
    memcpy(ours, name, sizeof ours);
    for (int k = 0; k < 4; k++) {
        const char *at = strstr(ours, names[k][0]);
        if (at)
            snprintf(name, 160, "%.*s%s%s", (int)(at - ours), ours, names[k][1],
                     at + strlen(names[k][0]));
    }
}

/* The part's weight file as its own parameters declare it. */
static void put_weights(const char *file, model_part part, const model_config *c)
{
    static form_tensor t[1200];
    nn_params *p;
    int n;
    OK(nn_params_new("part", &p));
    OK(model_registry(part)->declare(p, c));
    memset(t, 0, sizeof t);
    for (n = 0; n < nn_params_count(p); n++) {
        const nn_param_info *q = nn_params_info(p, n);
        snprintf(t[n].name, sizeof t[n].name, "%s", q->name);
        t[n].dtype = "F32";
        t[n].ndim = q->linear_as_conv ? 4 : q->ndim;
        for (int d = 0; d < t[n].ndim; d++)
            t[n].dim[d] = d < q->ndim ? q->dim[d] : 1;
        if (q->conv) { /* O,kh,kw,I -> O,I,kh,kw */
            t[n].dim[1] = q->dim[3];
            t[n].dim[3] = q->dim[1];
        }
        if (part == MODEL_VAE)
            to_old_name(t[n].name);
    }
    if (part == MODEL_TEXT_ENCODER)
        t[n++] = (form_tensor){"text_model.embeddings.position_ids", "I64", 2, {1, 77}};
    form_write(in_root(file), t, n, "\"format\":\"pt\"");
    nn_params_free(p, NULL);
}

static const char scheduler_15[] =
    "{\"_class_name\": \"PNDMScheduler\", \"_diffusers_version\": \"0.6.0\", \"beta_end\": 0.012,"
    "\"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085, \"num_train_timesteps\": 1000,"
    "\"set_alpha_to_one\": false, \"skip_prk_steps\": true, \"steps_offset\": 1,"
    "\"trained_betas\": null, \"clip_sample\": false}";

/* The index of a pipeline with its safety checker, as the hub has it. */
static void put_index(const char *file, const char *pipeline)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"_class_name\": \"%s\", \"_diffusers_version\": \"0.6.0\","
             "\"feature_extractor\": [\"transformers\", \"CLIPImageProcessor\"],"
             "\"safety_checker\": [\"stable_diffusion\", \"StableDiffusionSafetyChecker\"],"
             "\"scheduler\": [\"diffusers\", \"PNDMScheduler\"],"
             "\"text_encoder\": [\"transformers\", \"CLIPTextModel\"],"
             "\"tokenizer\": [\"transformers\", \"CLIPTokenizer\"],"
             "\"unet\": [\"diffusers\", \"UNet2DConditionModel\"],"
             "\"vae\": [\"diffusers\", \"AutoencoderKL\"]}",
             pipeline);
    put(file, text);
}

/* A folder of three published configs, below tests/golden/published. */
static void put_folder(const char *pipeline, const char *unet, const char *text)
{
    model_config c;
    char command[1024];
    shell("rm -rf hub15 && mkdir -p hub15/unet hub15/vae hub15/text_encoder hub15/scheduler "
          "hub15/safety_checker");
    snprintf(command, sizeof command,
             "cp -r " SD "/tokenizer %s && cd tests/golden/published && cp %s %s && cp %s %s && "
             "cp sd15-vae.json %s",
             in_root("hub15"), unet, in_root("hub15/unet/config.json"), text,
             in_root("hub15/text_encoder/config.json"), in_root("hub15/vae/config.json"));
    assert_int_equal(system(command), 0);
    put_index("hub15/model_index.json", pipeline);
    put("hub15/scheduler/scheduler_config.json", scheduler_15);
    OK(unet_config_read(in_root("hub15/unet/config.json"), &c.unet));
    put_weights("hub15/unet/diffusion_pytorch_model.safetensors", MODEL_UNET, &c);
    OK(vae_config_read(in_root("hub15/vae/config.json"), &c.vae));
    put_weights("hub15/vae/diffusion_pytorch_model.safetensors", MODEL_VAE, &c);
    OK(clip_text_config_read(in_root("hub15/text_encoder/config.json"), &c.text));
    put_weights("hub15/text_encoder/model.safetensors", MODEL_TEXT_ENCODER, &c);
}

static void test_published(void **state)
{
    (void)state;
    foundation *f;
    put_folder("StableDiffusionPipeline", "sd15-unet.json", "sd15-text_encoder.json");
    OK(foundation_open(in_root("hub15"), &f));
    assert_int_equal(f->unet->in_channels, 4);
    assert_int_equal(f->unet->heads[3], 8); /* attention_head_dim: 8 */
    assert_int_equal(nn_params_numel(f->params[MODEL_UNET]), 859520964);
    foundation_free(f, NULL);
    put_folder("StableDiffusionInpaintPipeline", "sd15-inpainting-unet.json",
               "sd15-text_encoder.json");
    OK(foundation_open(in_root("hub15"), &f));
    assert_int_equal(f->unet->in_channels, 9);
    foundation_free(f, NULL);
    put_folder("StableDiffusionPipeline", "sd21-unet.json", "sd21-text_encoder.json");
    OK(foundation_open(in_root("hub15"), &f));
    assert_true(f->unet->use_linear_projection);
    assert_int_equal(f->unet->heads[3], 20);
    assert_int_equal(nn_params_numel(f->params[MODEL_UNET]), 865910724);
    assert_int_equal(nn_params_numel(f->params[MODEL_TEXT_ENCODER]), 340387840);
    foundation_free(f, NULL);
    shell("rm -r hub15");
}

/* transformers 5.6 and later leave text_model. out. */
static void test_flat_text(void **state)
{
    (void)state;
    static form_tensor t[256];
    format_tensors *f;
    foundation *g;
    copy_sd("", "flat");
    OK(format_tensors_open(SD "/text_encoder/model.safetensors", &f));
    int n = (int)format_tensors_count(f);
    for (int i = 0; i < n; i++) {
        const format_tensor *s = format_tensors_at(f, i);
        const char *name = s->name + strlen("text_model.");
        t[i] = (form_tensor){.dtype = "F32", .ndim = s->ndim};
        snprintf(t[i].name, sizeof t[i].name, "%s", name);
        memcpy(t[i].dim, s->dim, sizeof t[i].dim);
    }
    form_write(in_root("flat/text_encoder/model.safetensors"), t, n, NULL);
    OK(foundation_open(in_root("flat"), &g));
    foundation_free(g, NULL);
    snprintf(t[0].name, sizeof t[0].name, "text_model.%s", format_tensors_at(f, 0)->name);
    form_write(in_root("flat/text_encoder/model.safetensors"), t, n, NULL);
    FAILS(foundation_open(in_root("flat"), &g), MD_BAD_INPUT, "unexpected tensor text_model.");
    format_tensors_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants), cmocka_unit_test(test_hash),
        cmocka_unit_test(test_cache),    cmocka_unit_test(test_links),
        cmocka_unit_test(test_none),     cmocka_unit_test(test_published),
        cmocka_unit_test(test_flat_text)};
    return cmocka_run_group_tests(tests, scratch_open, scratch_close);
}

/* Telling what a folder or a file is that is no foundation of ours, so that the message names it
   and what to get instead. Tables by the marks that each kind leaves. */
#include "base/file.h"
#include "base/str.h"
#include "model/foundation_internal.h"
#include <stdlib.h>
#include <string.h>

static const char WANTED[] =
    "wanted: Stable Diffusion 1.x, with 4 or 9 (inpainting) input channels";

typedef struct mark {
    const char *sign, *kind;
} mark;

static md_status refuse(const char *name, const char *sign, const char *kind)
{
    MD_FAIL(MD_BAD_INPUT, "%s: this is %s (%s); %s", name, kind, sign, WANTED);
}

/* ---- Folders. */

static const mark pipelines[] = {
    {"StableDiffusionXL", "Stable Diffusion XL"},
    {"StableDiffusion3", "Stable Diffusion 3"},
    {"Flux", "FLUX"},
    {"Onnx", "an ONNX export"},
    {"ORT", "an ONNX export"},
    {"Flax", "Flax's form of Stable Diffusion"},
    {"StableDiffusionUpscale", "the Stable Diffusion x4 upscaler"},
    {"StableDiffusionLatentUpscale", "a latent upscaler"},
    {"StableDiffusionDepth2Img", "Stable Diffusion 2 with depth"},
    {"StableDiffusionInstructPix2Pix", "InstructPix2Pix"},
    {"StableUnCLIP", "Stable unCLIP"},
    {"StableDiffusionControlNet", "a pipeline with a ControlNet"},
    {"StableVideoDiffusion", "Stable Video Diffusion"},
    {"StableCascade", "Stable Cascade"},
    {"PixArt", "PixArt"},
    {"Kandinsky", "Kandinsky"},
    {NULL, NULL},
};

/* By component, for pipelines of no known class. */
static const mark components[] = {
    {"text_encoder_3", "Stable Diffusion 3"},   {"text_encoder_2", "Stable Diffusion XL or FLUX"},
    {"transformer", "a diffusion transformer"}, {"controlnet", "a pipeline with a ControlNet"},
    {"prior", "a pipeline with a prior"},       {NULL, NULL},
};

md_status model__check_pipeline(const format_json *index)
{
    const char *class_name;
    MD_TRY(format_json_string_or(index, "_class_name", "", &class_name));
    for (const mark *m = pipelines; m->sign; m++)
        if (md_str_starts(class_name, m->sign))
            return refuse(format_json_name(index), class_name, m->kind);
    for (const mark *m = components; m->sign; m++)
        if (format_json_has(index, m->sign))
            return refuse(format_json_name(index), m->sign, m->kind);
    return MD_OK;
}

/* Files in a folder that has no model_index.json. */
static const mark lone_files[] = {
    {"pytorch_lora_weights.safetensors", "a LoRA: adapters, which need a foundation"},
    {"pytorch_lora_weights.bin", "a LoRA: adapters, which need a foundation"},
    {"adapter_config.json", "a PEFT adapter, which needs a foundation"},
    {"learned_embeds.safetensors", "a textual inversion: one word's embedding"},
    {"learned_embeds.bin", "a textual inversion: one word's embedding"},
    {"model.onnx", "an ONNX export"},
    {NULL, NULL},
};

static const mark classes[] = {
    {"ControlNetModel", "a ControlNet"},
    {"AutoencoderKL", "a VAE alone"},
    {"UNet2DConditionModel", "a UNet alone: name the folder above it"},
    {"CLIPTextModel", "a text encoder alone"},
    {NULL, NULL},
};

/* The class that a part's own config.json names. */
static md_status refuse_config(const char *path)
{
    format_json *doc;
    const char *class_name = "";
    MD_TRY(format_json_load(path, &doc));
    md_status status = format_json_string_or(doc, "_class_name", "", &class_name);
    if (status == MD_OK && !*class_name)
        status = format_json_string_or(doc, "architectures[0]", "", &class_name);
    for (const mark *m = classes; status == MD_OK && m->sign; m++)
        if (!strcmp(class_name, m->sign))
            status = refuse(path, class_name, m->kind);
    format_json_free(doc);
    return status;
}

/* A checkpoint file that was meant. */
static md_status refuse_names(const char *folder, char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (const mark *m = lone_files; m->sign; m++)
            if (!strcmp(names[i], m->sign))
                return refuse(folder, names[i], m->kind);
        if (md_str_starts(names[i], "models--"))
            MD_FAIL(MD_BAD_INPUT, "%s: a cache of several models; name one, such as %s/%s", folder,
                    folder, names[i]);
    }
    for (size_t i = 0; i < n; i++)
        if (md_str_ends(names[i], ".safetensors"))
            MD_FAIL(MD_BAD_INPUT,
                    "%s: no model_index.json; if you mean the file in it, name that: %s/%s", folder,
                    folder, names[i]);
    for (size_t i = 0; i < n; i++) {
        char path[FOUNDATION_PATH];
        MD_TRY(md_path_join(path, sizeof path, folder, names[i]));
        MD_TRY(model__check_file_name(path));
    }
    return MD_OK;
}

md_status model__refuse_folder(const char *folder)
{
    char path[FOUNDATION_PATH], **names = NULL;
    size_t n = 0;
    MD_TRY(md_path_join(path, sizeof path, folder, "config.json"));
    if (md_file_exists(path))
        MD_TRY(refuse_config(path));
    MD_TRY(md_dir_list(folder, &names, &n));
    md_status status = refuse_names(folder, names, n);
    free(names);
    MD_TRY(status);
    MD_FAIL(MD_BAD_INPUT,
            "%s: no model_index.json; a foundation is a folder in diffusers' layout, "
            "or a single .safetensors file; data/README.md says where to get one",
            folder);
}

/* ---- Files. */

md_status model__check_file_name(const char *path)
{
    static const char *const pickles[] = {".ckpt", ".pt", ".pth", ".bin", NULL};
    static const mark others[] = {{".gguf", "a quantised GGUF file"},
                                  {".onnx", "an ONNX model"},
                                  {".msgpack", "Flax weights"},
                                  {NULL, NULL}};
    for (const char *const *end = pickles; *end; end++)
        if (md_str_ends(path, *end))
            MD_FAIL(MD_BAD_INPUT,
                    "%s: a pickle file, which can run code when it is opened and is not read; get "
                    "%.*s.safetensors from the same source",
                    path, (int)(strlen(path) - strlen(*end)), path);
    for (const mark *m = others; m->sign; m++)
        if (md_str_ends(path, m->sign))
            return refuse(path, m->sign, m->kind);
    return MD_OK;
}

/* Marks of tensor names: "^" at its beginning, else anywhere. In this order: a LoRA of SDXL is a
   LoRA. */
static const mark tensors[] = {
    {"lora_down.", "a LoRA: adapters, which need a foundation"},
    {"lora_up.", "a LoRA: adapters, which need a foundation"},
    {".lora_A.", "a LoRA: adapters, which need a foundation"},
    {"lora.down.", "a LoRA: adapters, which need a foundation"},
    {".hada_w1_a", "a LyCORIS: adapters, which need a foundation"},
    {".lokr_w1", "a LyCORIS: adapters, which need a foundation"},
    {"^control_model.", "a ControlNet"},
    {"^controlnet_cond_embedding.", "a ControlNet"},
    {"input_hint_block.", "a ControlNet"},
    {"^conditioner.embedders.", "Stable Diffusion XL"},
    {"joint_blocks.0.", "Stable Diffusion 3"},
    {"double_blocks.0.", "FLUX"},
    {"^cond_stage_model.model.",
     "Stable Diffusion 2.x as a single file; its folder in diffusers' layout is read"},
    {"^emb_params", "a textual inversion: one word's embedding"},
    {"^string_to_param", "a textual inversion: one word's embedding"},
    {NULL, NULL},
};

/* The same for files in which no tensor has the UNet's prefix. */
static const mark lone_parts[] = {
    {"^model_ema.", "the averaged weights of a training alone"},
    {"^first_stage_model.", "a VAE alone"},
    {"^encoder.", "a VAE alone"},
    {"^decoder.", "a VAE alone"},
    {"^down_blocks.", "a UNet out of a folder in diffusers' layout: name the folder"},
    {"^text_model.", "a text encoder alone"},
    {"^cond_stage_model.", "a text encoder alone"},
    {NULL, NULL},
};

/* The first tensor with the mark's sign, or NULL. */
static const char *marked(const format_tensors *f, const char *sign)
{
    for (int64_t i = 0; i < format_tensors_count(f); i++) {
        const char *name = format_tensors_at(f, i)->name;
        if (*sign == '^' ? md_str_starts(name, sign + 1) : strstr(name, sign) != NULL)
            return name;
    }
    return NULL;
}

static md_status refuse_marked(const format_tensors *f, const mark *list)
{
    for (const mark *m = list; m->sign; m++) {
        const char *name = marked(f, m->sign);
        if (name)
            return refuse(format_tensors_name(f), name, m->kind);
    }
    return MD_OK;
}

/* Under the word itself, as diffusers saves it. */
static bool one_embedding(const format_tensors *f)
{
    const format_tensor *t = format_tensors_count(f) == 1 ? format_tensors_at(f, 0) : NULL;
    return t && t->name[0] == '<' && t->ndim <= 2;
}

md_status model__check_tensors(const format_tensors *f)
{
    MD_TRY(refuse_marked(f, tensors));
    bool unet = marked(f, "^model.diffusion_model.");
    if (one_embedding(f))
        return refuse(format_tensors_name(f), format_tensors_at(f, 0)->name,
                      "a textual inversion: one word's embedding");
    if (!unet)
        MD_TRY(refuse_marked(f, lone_parts));
    if (!unet)
        MD_FAIL(MD_BAD_INPUT, "%s: no tensor of it belongs to a UNet (the first of %lld: %s); %s",
                format_tensors_name(f), (long long)format_tensors_count(f),
                format_tensors_count(f) ? format_tensors_at(f, 0)->name : "none", WANTED);
    if (!marked(f, "^first_stage_model."))
        return refuse(format_tensors_name(f), "no first_stage_model.*", "a checkpoint without VAE");
    if (!marked(f, "^cond_stage_model."))
        return refuse(format_tensors_name(f), "no cond_stage_model.*",
                      "a checkpoint without text encoder");
    return MD_OK;
}

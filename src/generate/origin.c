#include "generate/origin.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "model/schedule_json.h"

const char *const origin_names[ORIGIN_N_PARTS] = {"unet", "vae", "text_encoder", "scheduler",
                                                  "lora"};

/* The noise schedule in one spelling: generate.sampler = "auto" says nothing about it. */
static md_status hash_schedule(const diffusion_schedule *s, char hex[MD_SHA256_HEX])
{
    md_text t = {0};
    md_status status = schedule_write(&t, s);
    if (status == MD_OK)
        md_sha256(t.s, t.n, hex);
    md_text_free(&t);
    return status;
}

/* Of UNet, VAE and text encoder; a file that holds several is gigabytes and read once. */
static md_status hash_parts(const foundation *f, char hex[3][MD_SHA256_HEX])
{
    static const model_part parts[3] = {MODEL_UNET, MODEL_VAE, MODEL_TEXT_ENCODER};
    for (int i = 0; i < 3; i++) {
        int same = 0;
        while (same < i && strcmp(f->weights[parts[same]], f->weights[parts[i]]) != 0)
            same++;
        if (same < i)
            memcpy(hex[i], hex[same], sizeof hex[i]);
        else
            MD_TRY(foundation_hash(f, parts[i], hex[i]));
    }
    return MD_OK;
}

md_status origin_of(const foundation *f, char hex[ORIGIN_N_PARTS][MD_SHA256_HEX], int *n)
{
    MD_TRY(hash_parts(f, hex));
    MD_TRY(hash_schedule(&f->schedule, hex[ORIGIN_SCHEDULER]));
    *n = *f->lora ? ORIGIN_N_PARTS : ORIGIN_LORA;
    return *f->lora ? md_sha256_file(f->lora, hex[ORIGIN_LORA]) : MD_OK;
}

md_status origin_licences(const foundation *f, data_store *data, char **out)
{
    char *of_data;
    MD_TRY(data_text(data, "licences", &of_data));
    md_status status = foundation_licences(f, of_data, out);
    free(of_data);
    return status;
}

md_status origin_text(const foundation *f, const char *data, char **text)
{
    char hex[ORIGIN_N_PARTS][MD_SHA256_HEX], of_data[MD_SHA256_HEX];
    int n;
    md_text t = {0};
    MD_TRY(md_sha256_file(data, of_data));
    MD_TRY(origin_of(f, hex, &n));
    md_status status = md_text_add(&t, "data %s\n", of_data);
    for (int i = 0; i < n && status == MD_OK; i++)
        status = md_text_add(&t, "%s %s\n", origin_names[i], hex[i]);
    if (status != MD_OK) {
        md_text_free(&t);
        return status;
    }
    *text = t.s;
    return MD_OK;
}

/* verify: the SHA-256 of what pairs.h5 was made from, against the files that are there. */
#include "base/file.h"
#include "base/sha256.h"
#include "generate/origin.h"
#include "model/features.h"
#include "model/standalone.h"
#include "verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is there. */
typedef struct sources {
    const verify *v;
    const config *cfg;
    int n_origin; /* 0 where the model that painted cannot be opened */
    char origin[ORIGIN_N_PARTS][MD_SHA256_HEX];
} sources;

/* Fills hex, or leaves it empty where the source is not there. */
typedef md_status (*hasher)(const sources *s, const char *name, char hex[MD_SHA256_HEX]);

static md_status hash_store(const sources *s, const char *name, char hex[MD_SHA256_HEX])
{
    char path[VERIFY_PATH], file[64];
    (void)snprintf(file, sizeof file, "%s.h5", name);
    return verify_path(s->v, file, path) ? md_sha256_file(path, hex) : MD_OK;
}

static md_status hash_origin(const sources *s, const char *name, char hex[MD_SHA256_HEX])
{
    for (int i = 0; i < s->n_origin; i++)
        if (!strcmp(origin_names[i], name))
            memcpy(hex, s->origin[i], MD_SHA256_HEX);
    return MD_OK;
}

static md_status hash_mask_model(const sources *s, const char *name, char hex[MD_SHA256_HEX])
{
    (void)name;
    char path[VERIFY_PATH];
    standalone *m = NULL;
    if (!verify_path(s->v, "models/masks", path))
        return MD_OK;
    MD_TRY(standalone_open(MODEL_MASK_UNET, path, &m));
    md_status status = standalone_hash(m, hex);
    standalone_free(m, NULL);
    return status;
}

/* What judged. */
static md_status hash_encoder(const sources *s, const char *name, char hex[MD_SHA256_HEX])
{
    (void)name;
    const char *folder = config_string(s->cfg, KEY_model_encoder);
    features *f = NULL;
    if (!md_file_exists(folder))
        return MD_OK;
    MD_TRY(features_open(folder, &f));
    md_status status = features_hash(f, hex);
    features_free(f);
    return status;
}

static const struct {
    const char *name; /* attribute sha256_<name> */
    hasher hash;
} inputs[] = {
    {"data", hash_store},       {"masks", hash_store}, {"backgrounds", hash_store},
    {"unet", hash_origin},      {"vae", hash_origin},  {"text_encoder", hash_origin},
    {"scheduler", hash_origin}, {"lora", hash_origin}, {"mask_model", hash_mask_model},
    {"encoder", hash_encoder},
};

/* The foundation as generate took it; NULL after saying why it is not. */
static foundation *open_model(verify *v, const config *cfg)
{
    char tuned[VERIFY_PATH];
    foundation *f = NULL;
    bool lesion = config_choice(cfg, KEY_generate_weights) == 0;
    md_status status = MD_OK;
    if (lesion && !verify_path(v, "models/lesion", tuned))
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s is not there", tuned);
    if (status == MD_OK)
        status = foundation_open(config_string(cfg, KEY_model_foundation), &f);
    if (status == MD_OK && lesion)
        status = foundation_use_tuned(f, tuned);
    if (status == MD_OK)
        return f;
    verify_note(v, "the model that painted cannot be compared with its hashes: %s",
                md_status_text());
    foundation_free(f, NULL);
    return NULL;
}

static hasher find_hasher(const char *name)
{
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        if (!strcmp(inputs[i].name, name))
            return inputs[i].hash;
    return NULL;
}

static void check_input(verify *v, const sources *s, pairs_store *p, const char *name)
{
    char attribute[64], hex[MD_SHA256_HEX] = "", *was = NULL;
    hasher hash = find_hasher(name);
    if (!hash) {
        verify_note(v, "%s/pairs.h5: the hash of \"%s\" is not compared", v->run, name);
        return;
    }
    (void)snprintf(attribute, sizeof attribute, "sha256_%s", name);
    if (pairs_text(p, attribute, &was) != MD_OK || hash(s, name, hex) != MD_OK) {
        verify_failed(v);
    } else if (hex[0] && strcmp(hex, was) != 0) {
        verify_problem(v,
                       "%s/pairs.h5: was made from another version of \"%s\" (SHA-256 %.12s..., "
                       "now %.12s...)",
                       v->run, name, was, hex);
    } else if (!hex[0] && hash == hash_store) {
        verify_note(v, "%s/pairs.h5: the %s.h5 that it was made from is not there", v->run, name);
    } else if (!hex[0] && hash == hash_encoder) {
        verify_note(v, "%s/pairs.h5: the encoder that judged it, %s, is not there", v->run,
                    config_string(s->cfg, KEY_model_encoder));
    }
    free(was);
}

void verify_inputs(verify *v, pairs_store *p, const config *cfg)
{
    sources s = {.v = v, .cfg = cfg};
    const char *name;
    foundation *f = open_model(v, cfg);
    if (f && origin_of(f, s.origin, &s.n_origin) != MD_OK) {
        verify_failed(v);
        s.n_origin = 0;
    }
    foundation_free(f, NULL);
    for (int i = 0; (name = pairs_input_name(i)); i++)
        if (pairs_has_input(p, name))
            check_input(v, &s, p, name);
}

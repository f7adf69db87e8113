/* show: what made the pair: models, stores, licences, settings. */
#include "base/file.h"
#include "base/sha256.h"
#include "show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of models and stores; of the stores beside pairs.h5, whether they are still the same. */
static md_status tell_hashes(const show *s, md_text *t)
{
    char attribute[64], path[SHOW_PATH], file[64], now[MD_SHA256_HEX], *was;
    const char *name;
    for (int i = 0; (name = pairs_input_name(i)); i++) {
        if (!pairs_has_input(s->pairs, name))
            continue;
        (void)snprintf(attribute, sizeof attribute, "sha256_%s", name);
        (void)snprintf(file, sizeof file, "%s.h5", name);
        MD_TRY(md_path_join(path, sizeof path, s->run, file));
        MD_TRY(pairs_text(s->pairs, attribute, &was));
        bool store =
            !strcmp(name, "data") || !strcmp(name, "backgrounds") || !strcmp(name, "masks");
        md_status status = store && md_file_exists(path) ? md_sha256_file(path, now) : MD_OK;
        bool gone = store && !md_file_exists(path);
        if (status == MD_OK)
            status = show_line(t, i ? "" : "SHA-256", "%-12s %s%s", name, was,
                               gone                             ? " (not there any more)"
                               : store && strcmp(now, was) != 0 ? " (ANOTHER ONE IS THERE NOW)"
                                                                : "");
        free(was);
        MD_TRY(status);
    }
    return MD_OK;
}

static md_status tell_texts(const show *s, md_text *t)
{
    static const struct {
        const char *attribute, *label;
    } texts[] = {{"prompt", "prompt"},
                 {"foundation", "foundation"},
                 {"code_version", "made by"},
                 {"licences", "licences"}};
    bool real;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char *value;
        MD_TRY(pairs_text(s->pairs, texts[i].attribute, &value));
        md_status status = show_line(t, texts[i].label, "%s%s", i == 2 ? "meddiff " : "", value);
        free(value);
        MD_TRY(status);
    }
    MD_TRY(pairs_contains_real_pixels(s->pairs, &real));
    return real ? show_line(t, "privacy",
                            "outside the guide these are the pixels of a picture of the data set")
                : MD_OK;
}

/* The settings that are not the defaults: two texts of the same keys, line by line. */
static md_status tell_config(const show *s, md_text *t)
{
    config *plain = NULL;
    md_status status;
    char section[64] = "";
    bool first = true;
    MD_TRY(config_load(NULL, NULL, 0, &plain));
    const char *own = config_text(s->cfg, &status);
    const char *usual = status == MD_OK ? config_text(plain, &status) : NULL;
    while (status == MD_OK && *own && *usual) {
        size_t n = strcspn(own, "\n"), m = strcspn(usual, "\n"), blank = strspn(own, " ");
        bool head = n > 4 && !strncmp(own + n - 4, " = {", 4);
        if (head)
            (void)snprintf(section, sizeof section, "%.*s.", (int)(n - 4), own);
        if (!head && (n != m || strncmp(own, usual, n) != 0)) {
            status = show_line(t, first ? "settings" : "", "%s%.*s", blank ? section : "",
                               (int)(n - blank - 1), own + blank);
            first = false;
        }
        own += n + (own[n] != 0);
        usual += m + (usual[m] != 0);
    }
    config_free(plain);
    MD_TRY(status);
    return show_line(t, first ? "settings" : "",
                     "all others are the defaults; every key: the attribute "
                     "config of pairs.h5");
}

md_status show_origin(const show *s, md_text *t)
{
    MD_TRY(tell_texts(s, t));
    MD_TRY(tell_hashes(s, t));
    return tell_config(s, t);
}

/* A raw data set of nnU-Net (version 2), as its NaturalImage2DIO reads it: imagesTr/CASE_0000.png
   in red, green and blue, labelsTr/CASE.png of 0 and 1, imagesTs and labelsTs for the test part,
   dataset.json, and splits_final.json, which nnU-Net's planning copies beside what it preprocesses.
   Synthetic pairs are never validation there. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "format/json.h"
#include "store/export_internal.h"

enum { FOLDS = 5 };

/* ---- its name ---- */

static bool is_name(const char *s)
{
    static const char fine[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return *s && strspn(s, fine) == strlen(s);
}

/* The last word of the run directory's path, in letters that nnU-Net takes. */
static md_status name_after_run(const char *run, char *out, size_t size)
{
    size_t end = strlen(run);
    while (end && run[end - 1] == '/')
        end--;
    size_t start = end;
    while (start && run[start - 1] != '/')
        start--;
    MD_TRY(md_str_printf(out, size, "%.*s", (int)(end - start), run + start));
    if (!strcmp(out, ".") || !strcmp(out, "..") || !*out)
        return md_str_copy(out, size, "pairs");
    for (char *c = out; *c; c++)
        if (!is_name((char[]){*c, 0}))
            *c = '-';
    return MD_OK;
}

md_status export__nnunet_name(const export_set *s, const char *above, char *out, size_t size)
{
    char start[16], name[128], **list = NULL;
    size_t n = 0;
    const char *asked = config_string(s->cfg, KEY_export_name);
    if (*asked && !is_name(asked))
        return config_fail(s->cfg, KEY_export_name,
                           "\"%s\" holds more than letters, digits, _ and -", asked);
    if (*asked)
        MD_TRY(md_str_copy(name, sizeof name, asked));
    else if (s->shared)
        MD_TRY(md_str_copy(name, sizeof name, "pairs")); /* a run's name may say whose they are */
    else
        MD_TRY(name_after_run(s->run, name, sizeof name));
    MD_TRY(md_str_printf(start, sizeof start, "Dataset%03d_",
                         (int)config_int(s->cfg, KEY_export_number)));
    MD_TRY(md_str_printf(out, size, "%s%s", start, name));
    if (!md_file_exists(above) || md_dir_list(above, &list, &n) != MD_OK)
        return MD_OK;
    md_status status = MD_OK;
    for (size_t i = 0; i < n && status == MD_OK; i++)
        if (md_str_starts(list[i], start) && strcmp(list[i], out) != 0 &&
            !list[i][md_file_plain_length(list[i])]) /* whole: not what an export is making */
            status = config_fail(s->cfg, KEY_export_number,
                                 "%s holds %s already, and nnU-Net tells data sets apart by their "
                                 "number; take another",
                                 above, list[i]);
    free(list);
    return status;
}

/* ---- pictures ---- */

static md_status where(const export_item *e, char *out, size_t size)
{
    char name[EXPORT_NAME];
    export__name(e, name);
    return md_str_printf(out, size, "images%s/%s_0000.png", e->split == DATA_TEST ? "Ts" : "Tr",
                         name);
}

static md_status write_pictures(export_set *s, const char *folder)
{
    char path[EXPORT_PATH], name[EXPORT_NAME];
    for (int64_t i = 0; i < s->n; i++) {
        bool test = s->item[i].split == DATA_TEST;
        export__name(&s->item[i], name);
        MD_TRY(export__load(s, i));
        MD_TRY(export__file(path, folder, test ? "imagesTs" : "imagesTr", name, "_0000.png"));
        MD_TRY(image_write_png(path, &s->image, NULL, 0));
        MD_TRY(export__file(path, folder, test ? "labelsTs" : "labelsTr", name, ".png"));
        MD_TRY(image_write_png(path, &s->mask, NULL, 0));
    }
    return MD_OK;
}

/* ---- folds ---- */

/* With a validation part of the data set: one fold, in which it is that. Without: groups of the
   real training pictures in turn, without the pairs that show them. */
typedef struct folds {
    int n;
    bool own;       /* the data set's */
    int32_t *group; /* of real training pictures, ascending, each once */
    int64_t groups;
} folds;

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

static md_status plan_folds(const export_set *s, folds *f)
{
    int64_t n = 0;
    f->group = malloc(((size_t)s->n + 1) * sizeof *f->group);
    if (!f->group)
        MD_FAIL(MD_NOMEM, "%s: no memory for the folds", s->run);
    for (int64_t i = 0; i < s->n; i++) {
        const export_item *e = &s->item[i];
        f->own = f->own || e->split == DATA_VAL;
        if (e->kind != EXPORT_PAIR && e->split == DATA_TRAIN)
            f->group[n++] = e->group[0];
    }
    qsort(f->group, (size_t)n, sizeof *f->group, ascending);
    for (int64_t i = 0; i < n; i++)
        if (!i || f->group[i] != f->group[i - 1])
            f->group[f->groups++] = f->group[i];
    f->n = f->own || f->groups < 2 ? 1 : f->groups < FOLDS ? (int)f->groups : FOLDS;
    return MD_OK;
}

/* Whether a group is validation in a fold. */
static bool is_held(const folds *f, int32_t group, int fold)
{
    if (f->own || f->groups < 2)
        return false;
    const int32_t *at = bsearch(&group, f->group, (size_t)f->groups, sizeof *f->group, ascending);
    return at && (at - f->group) % f->n == fold;
}

static bool validates(const folds *f, const export_item *e, int fold)
{
    return e->kind != EXPORT_PAIR &&
           (e->split == DATA_VAL || (e->split == DATA_TRAIN && is_held(f, e->group[0], fold)));
}

static bool trains(const folds *f, const export_item *e, int fold)
{
    return e->split == DATA_TRAIN && !is_held(f, e->group[0], fold) &&
           !is_held(f, e->group[1], fold);
}

static md_status add_cases(const export_set *s, const folds *f, int fold,
                           bool (*in)(const folds *, const export_item *, int), md_text *t)
{
    char name[EXPORT_NAME];
    bool any = false;
    for (int64_t i = 0; i < s->n; i++) {
        if (!in(f, &s->item[i], fold))
            continue;
        export__name(&s->item[i], name);
        MD_TRY(md_text_add(t, "%s\"%s\"", any ? ", " : "", name));
        any = true;
    }
    return MD_OK;
}

static md_status add_splits(const export_set *s, const folds *f, md_text *t)
{
    for (int fold = 0; fold < f->n; fold++) {
        MD_TRY(md_text_add(t, "%s  {\"train\": [", fold ? ",\n" : "[\n"));
        MD_TRY(add_cases(s, f, fold, trains, t));
        MD_TRY(md_text_add(t, "],\n   \"val\": ["));
        MD_TRY(add_cases(s, f, fold, validates, t));
        MD_TRY(md_text_add(t, "]}"));
    }
    return md_text_add(t, "\n]\n");
}

static void tell_folds(const folds *f)
{
    if (f->own)
        return;
    if (f->groups >= 2)
        md_warn("export",
                "the data set has no validation part: splits_final.json has %d folds of the real "
                "training pictures, each without the pairs that show what it holds out; as the "
                "models have learnt from all of them, judge by the test part",
                f->n);
    else
        md_warn("export", "no real pictures to validate on: \"val\" of splits_final.json is empty; "
                          "add your own before you train (export.real, or cases of yours in "
                          "imagesTr and labelsTr)");
}

/* ---- dataset.json ---- */

static md_status add_dataset(export_set *s, md_text *t)
{
    char *licences = NULL;
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++)
        n += s->item[i].split != DATA_TEST;
    MD_TRY(
        md_text_add(t,
                    "{\n  \"channel_names\": {\"0\": \"R\", \"1\": \"G\", \"2\": \"B\"},\n"
                    "  \"labels\": {\"background\": 0, \"lesion\": 1},\n"
                    "  \"numTraining\": %lld,\n  \"file_ending\": \".png\",\n"
                    "  \"overwrite_image_reader_writer\": \"NaturalImage2DIO\",\n"
                    "  \"description\": \"exported by meddiff " MEDDIFF_VERSION
                    "; cases pair-* are synthetic, and none is validation in splits_final.json\",\n"
                    "  \"licence\": ",
                    (long long)n));
    MD_TRY(pairs_text(s->pairs, "licences", &licences));
    md_status status = format_json_quote(t, licences);
    free(licences);
    MD_TRY(status);
    return md_text_add(t, "\n}\n");
}

static md_status write_text(const char *folder, const char *name, md_text *t, md_status status)
{
    char path[EXPORT_PATH];
    if (status == MD_OK)
        status = md_path_join(path, sizeof path, folder, name);
    if (status == MD_OK)
        status = md_file_write_atomic(path, t->s, t->n);
    md_text_free(t);
    return status;
}

md_status export__nnunet(export_set *s, const char *folder)
{
    md_text t = {0};
    folds f = {0};
    MD_TRY(write_pictures(s, folder));
    md_status status = plan_folds(s, &f);
    if (status == MD_OK) {
        tell_folds(&f);
        status = write_text(folder, "splits_final.json", &t, add_splits(s, &f, &t));
    }
    free(f.group);
    MD_TRY(status);
    MD_TRY(write_text(folder, "dataset.json", &t, add_dataset(s, &t)));
    return export__describe(s, folder, where);
}

/* COCO: images/NAME.png and annotations/instances_{train,val,test}.json. One annotation for each
   connected part of a mask, its pixels exactly, as COCO's compressed run lengths. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "format/json.h"
#include "image/mask.h"
#include "store/export_internal.h"

/* One JSON in the making. */
typedef struct part {
    md_text images, annotations, licences;
    int64_t n_annotations;
    int n_licences;
    char (*licence)[DATA_LICENCE_BYTES]; /* [n_licences] */
} part;

static void free_part(part *p)
{
    md_text_free(&p->images);
    md_text_free(&p->annotations);
    md_text_free(&p->licences);
    free(p->licence);
}

static md_status where(const export_item *e, char *out, size_t size)
{
    char name[EXPORT_NAME];
    export__name(e, name);
    return md_str_printf(out, size, "images/%s.png", name);
}

/* ---- run lengths ---- */

/* One count as pycocotools' rleToString writes it: from the third on the difference to the one
   before the last, in groups of five bits from the lowest, 32 where another follows, moved into the
   printable letters from '0' on; as the backslash is one of them, it is escaped for JSON. */
static md_status add_count(md_text *t, int64_t x)
{
    for (bool more = true; more;) {
        int c = (int)(x & 31);
        x >>= 5; /* of a negative number too: the sign bit comes along */
        more = c & 16 ? x != -1 : x != 0;
        char letter = (char)((more ? c | 32 : c) + 48);
        MD_TRY(letter == '\\' ? md_text_add(t, "\\\\") : md_text_add(t, "%c", letter));
    }
    return MD_OK;
}

/* The pixels of `label` column by column: how many are not it, how many are, and so on. */
static md_status add_runs(md_text *t, const int32_t *labels, int64_t side, int32_t label)
{
    int64_t last[3] = {0}, run = 0, n = 0;
    bool inside = false;
    for (int64_t i = 0; i <= side * side; i++) {
        bool end = i == side * side;
        if (!end && (labels[i % side * side + i / side] == label) == inside) {
            run++;
            continue;
        }
        last[n % 3] = run;
        MD_TRY(add_count(t, n > 2 ? run - last[(n + 1) % 3] : run));
        n++;
        run = 1;
        inside = !inside;
    }
    return MD_OK;
}

typedef struct box {
    int64_t y0, x0, y1, x1; /* ends exclusive */
} box;

static box box_of(const int32_t *labels, int64_t side, int32_t label)
{
    box b = {side, side, 0, 0};
    for (int64_t i = 0; i < side * side; i++) {
        int64_t y = i / side, x = i % side;
        if (labels[i] != label)
            continue;
        b.y0 = y < b.y0 ? y : b.y0;
        b.x0 = x < b.x0 ? x : b.x0;
        b.y1 = y + 1 > b.y1 ? y + 1 : b.y1;
        b.x1 = x + 1 > b.x1 ? x + 1 : b.x1;
    }
    return b;
}

/* ---- entries ---- */

static md_status add_annotation(part *p, const int32_t *labels, int64_t side, int32_t label,
                                int64_t area, int64_t image_id)
{
    md_text *t = &p->annotations;
    box b = box_of(labels, side, label);
    MD_TRY(md_text_add(
        t,
        "%s    {\"id\": %lld, \"image_id\": %lld, \"category_id\": 1, \"iscrowd\": 0, "
        "\"area\": %lld, \"bbox\": [%lld, %lld, %lld, %lld], \"segmentation\": "
        "{\"size\": [%lld, %lld], \"counts\": \"",
        p->n_annotations ? ",\n" : "", (long long)p->n_annotations + 1, (long long)image_id,
        (long long)area, (long long)b.x0, (long long)b.y0, (long long)(b.x1 - b.x0),
        (long long)(b.y1 - b.y0), (long long)side, (long long)side));
    MD_TRY(add_runs(t, labels, side, label));
    MD_TRY(md_text_add(t, "\"}}"));
    p->n_annotations++;
    return MD_OK;
}

static md_status add_annotations(part *p, const image *mask, int64_t image_id)
{
    int64_t n = 0, *area = NULL;
    int32_t *labels = malloc((size_t)(mask->h * mask->w) * sizeof *labels);
    if (!labels)
        MD_FAIL(MD_NOMEM, "no memory for the parts of a mask");
    md_status status = image_mask_components(mask, &n, labels, &area);
    for (int64_t i = 0; i < n && status == MD_OK; i++)
        status = add_annotation(p, labels, mask->w, (int32_t)i + 1, area[i], image_id);
    free(area);
    free(labels);
    return status;
}

/* The number of a licence in this part, which it enters when it is new. */
static md_status find_licence(part *p, const char *text, int *id)
{
    for (int i = 0; i < p->n_licences; i++)
        if (!strcmp(p->licence[i], text)) {
            *id = i + 1;
            return MD_OK;
        }
    void *grown = realloc(p->licence, ((size_t)p->n_licences + 1) * sizeof *p->licence);
    if (!grown)
        MD_FAIL(MD_NOMEM, "no memory for a licence");
    p->licence = grown;
    MD_TRY(md_str_copy(p->licence[p->n_licences], DATA_LICENCE_BYTES, text));
    *id = ++p->n_licences;
    MD_TRY(md_text_add(&p->licences,
                       "%s    {\"id\": %d, \"url\": \"\", \"name\": ", *id > 1 ? ",\n" : "", *id));
    MD_TRY(format_json_quote(&p->licences, text));
    return md_text_add(&p->licences, "}");
}

static md_status add_image(export_set *s, part *p, const export_item *e, int64_t id)
{
    char name[EXPORT_NAME], licence[DATA_LICENCE_BYTES];
    int licence_id = 0;
    export__name(e, name);
    MD_TRY(export__licence(s, e, licence));
    MD_TRY(find_licence(p, licence, &licence_id));
    return md_text_add(&p->images,
                       "%s    {\"id\": %lld, \"file_name\": \"%s.png\", \"width\": %lld, "
                       "\"height\": %lld, \"license\": %d, \"kind\": \"%s\"}",
                       p->images.n ? ",\n" : "", (long long)id, name, (long long)s->image.w,
                       (long long)s->image.h, licence_id, export__kind(e));
}

/* ---- files ---- */

static const char *text_of(const md_text *t)
{
    return t->s ? t->s : "";
}

static md_status write_part(const part *p, data_split split, const char *folder)
{
    char path[EXPORT_PATH], file[64];
    md_text t = {0};
    MD_TRY(md_str_printf(file, sizeof file, "instances_%s", data_split_name(split)));
    MD_TRY(export__file(path, folder, "annotations", file, ".json"));
    md_status status = md_text_add(
        &t,
        "{\n  \"info\": {\"description\": \"%s part, exported by meddiff " MEDDIFF_VERSION
        "\", \"version\": \"1\"},\n  \"licenses\": [\n%s\n  ],\n"
        "  \"categories\": [\n    {\"id\": 1, \"name\": \"lesion\", \"supercategory\": "
        "\"lesion\"}\n  ],\n  \"images\": [\n%s\n  ],\n  \"annotations\": [\n%s\n  ]\n}\n",
        data_split_name(split), text_of(&p->licences), text_of(&p->images),
        text_of(&p->annotations));
    if (status == MD_OK)
        status = md_file_write_atomic(path, t.s, t.n);
    md_text_free(&t);
    return status;
}

static md_status write_parts(export_set *s, part *parts, const char *folder)
{
    char path[EXPORT_PATH], name[EXPORT_NAME];
    for (int64_t i = 0; i < s->n; i++) {
        const export_item *e = &s->item[i];
        MD_TRY(export__load(s, i));
        export__name(e, name);
        MD_TRY(export__file(path, folder, "images", name, ".png"));
        MD_TRY(image_write_png(path, &s->image, NULL, 0));
        MD_TRY(add_image(s, &parts[e->split], e, i + 1));
        MD_TRY(add_annotations(&parts[e->split], &s->mask, i + 1));
    }
    for (int i = 0; i < DATA_N_SPLITS; i++)
        if (parts[i].images.n)
            MD_TRY(write_part(&parts[i], (data_split)i, folder));
    return MD_OK;
}

md_status export__coco(export_set *s, const char *folder)
{
    part parts[DATA_N_SPLITS];
    memset(parts, 0, sizeof parts);
    md_status status = write_parts(s, parts, folder);
    for (int i = 0; i < DATA_N_SPLITS; i++)
        free_part(&parts[i]);
    MD_TRY(status);
    return export__describe(s, folder, where);
}

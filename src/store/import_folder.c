/* Plain folders: images/<stem>.* with masks/<stem>.*, and lesion-free pictures in backgrounds/. Any
   of the three also below train/, val/ and test/, which are then the data set's own splits; with
   those, the folders at the top are the training part. A licence is what the first line of LICENSE
   says. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/file.h"
#include "store/import_list.h"

static bool same_stem(const char *a, const char *b)
{
    size_t n = import__stem(a);
    return import__stem(b) == n && strncmp(a, b, n) == 0;
}

static md_status check_unique(const import_list *list, const char *dir, const import_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        for (size_t j = i + 1; j < names->n; j++)
            if (same_stem(names->name[i], names->name[j]))
                MD_FAIL(MD_BAD_INPUT, "%s/%s: %s and %s have the same name; which is meant?",
                        list->root, dir, names->name[i], names->name[j]);
    return MD_OK;
}

/* `name` holds the stem as a word of its own, whatever stands around it: "a_mask" and "seg-a", not
   "a1". */
static bool holds_stem(const char *name, const char *stem, size_t n)
{
    for (const char *at = name; *at; at++)
        if (strncasecmp(at, stem, n) == 0 && (at == name || !isalnum((unsigned char)at[-1])) &&
            !isalnum((unsigned char)at[n]))
            return true;
    return false;
}

static bool has_same_stem(const import_names *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++)
        if (same_stem(names->name[i], name))
            return true;
    return false;
}

/* What there is in `dir` in place of <stem>.png, and what to do with it; "" when there is nothing
   like it. In the arena. */
static const char *find_like(const import_list *list, const char *dir, const char *image,
                             const import_names *images)
{
    import_names names = {0};
    const char *told = "";
    size_t n = import__stem(image);
    if (import__entries(list, dir, &names) != MD_OK)
        md_status_clear();
    for (size_t i = 0; i < names.n && !*told; i++) {
        const char *name = names.name[i];
        bool anothers = import__is_picture(name) && has_same_stem(images, name);
        if (anothers || !holds_stem(name, image, n))
            continue;
        told = md_arena_printf(list->arena, "; found %s there: %s", name,
                               import__is_picture(name) ? "rename it" : "convert it to PNG");
    }
    import__names_free(&names);
    return told ? told : "";
}

/* names[first] has none of the same name in `dir`. */
static md_status refuse_lone_image(const import_list *list, const char *image_dir,
                                   const import_names *images, size_t first, const char *mask_dir,
                                   const import_names *masks)
{
    const char *image = images->name[first];
    size_t lone = 0;
    for (size_t i = 0; i < images->n; i++)
        lone += !has_same_stem(masks, images->name[i]);
    const char *like = find_like(list, mask_dir, image, images);
    MD_FAIL(MD_BAD_INPUT,
            "%s/%s/%s has no mask of the same name in %s (%zu of %zu images have none); wanted "
            "%s/%.*s.png%s",
            list->root, image_dir, image, mask_dir, lone, images->n, mask_dir,
            (int)import__stem(image), image,
            *like ? like : "; draw it, or move the picture to backgrounds if it shows no lesion");
}

static md_status pair_up(import_list *list, const char *image_dir, const import_names *images,
                         const char *mask_dir, const import_names *masks, int split,
                         const char *licence)
{
    MD_TRY(check_unique(list, image_dir, images));
    MD_TRY(check_unique(list, mask_dir, masks));
    for (size_t i = 0; i < images->n; i++) {
        md_status status = MD_OK;
        import_picture *p = import__add(list, image_dir, images->name[i], DATA_LESION, &status);
        if (!p)
            return status;
        p->split = split;
        p->licence = licence;
        for (size_t j = 0; j < masks->n; j++)
            if (same_stem(images->name[i], masks->name[j]))
                MD_TRY(import__add_mask(list, p, mask_dir, masks->name[j]));
        if (!p->n_masks)
            return refuse_lone_image(list, image_dir, images, i, mask_dir, masks);
    }
    for (size_t j = 0; j < masks->n; j++)
        if (!has_same_stem(images, masks->name[j])) {
            const char *like = find_like(list, image_dir, masks->name[j], masks);
            MD_FAIL(MD_BAD_INPUT, "%s/%s/%s is a mask without an image of the same name in %s%s",
                    list->root, mask_dir, masks->name[j], image_dir,
                    *like ? like : "; add the image, or take the mask out");
        }
    return MD_OK;
}

/* One of images and masks without the other. */
static md_status refuse_lone_folder(const import_list *list, const char *there, const char *missing)
{
    char found[200], above[64] = "";
    const char *slash = strrchr(there, '/');
    (void)snprintf(above, sizeof above, "%.*s", slash ? (int)(slash - there) : 0, there);
    import__tell_entries(list, above, found, sizeof found);
    MD_FAIL(MD_BAD_INPUT,
            "%s/%s is there, but %s is not (found: %s): every lesion image wants a mask of its "
            "name, images/NAME.png and masks/NAME.png",
            list->root, there, missing, found);
}

static md_status scan_pairs(import_list *list, const char *image_dir, const char *mask_dir,
                            int split, const char *licence)
{
    if (!import__is_dir(list, mask_dir))
        return refuse_lone_folder(list, image_dir, mask_dir);
    import_names images = {0}, masks = {0};
    md_status status = import__pictures(list, image_dir, &images);
    if (status == MD_OK)
        status = import__pictures(list, mask_dir, &masks);
    if (status == MD_OK && !images.n)
        status = import__refuse_others(list, image_dir);
    if (status == MD_OK && !masks.n)
        status = import__refuse_others(list, mask_dir);
    if (status == MD_OK)
        status = import__skip_others(list, image_dir, NULL);
    if (status == MD_OK)
        status = import__skip_others(list, mask_dir, NULL);
    if (status == MD_OK)
        status = pair_up(list, image_dir, &images, mask_dir, &masks, split, licence);
    import__names_free(&images);
    import__names_free(&masks);
    return status;
}

static md_status scan_backgrounds(import_list *list, const char *dir, int split,
                                  const char *licence)
{
    import_names names;
    MD_TRY(import__skip_others(list, dir, NULL));
    MD_TRY(import__pictures(list, dir, &names));
    md_status status = MD_OK;
    for (size_t i = 0; i < names.n && status == MD_OK; i++) {
        import_picture *p = import__add(list, dir, names.name[i], DATA_HEALTHY, &status);
        if (!p)
            break;
        p->split = split;
        p->licence = licence;
    }
    import__names_free(&names);
    return status;
}

/* The three folders below `above` ("" or "test/"). */
static md_status scan_part(import_list *list, const char *above, int split, const char *licence,
                           bool *any)
{
    char images[64], masks[64], backgrounds[64];
    (void)snprintf(images, sizeof images, "%simages", above);
    (void)snprintf(masks, sizeof masks, "%smasks", above);
    (void)snprintf(backgrounds, sizeof backgrounds, "%sbackgrounds", above);
    if (import__is_dir(list, images)) {
        *any = true;
        MD_TRY(scan_pairs(list, images, masks, split, licence));
    } else if (import__is_dir(list, masks))
        return refuse_lone_folder(list, masks, images);
    if (import__is_dir(list, backgrounds))
        MD_TRY(scan_backgrounds(list, backgrounds, split, licence));
    return MD_OK;
}

/* In the arena. */
static const char *read_licence(import_list *list)
{
    char line[DATA_LICENCE_BYTES];
    md_dir_licence(list->root, line, sizeof line);
    const char *kept = *line ? md_arena_printf(list->arena, "%s", line) : NULL;
    return kept ? kept : "not stated";
}

static md_status scan(import_list *list)
{
    static const struct {
        const char *above;
        data_split split;
    } parts[] = {{"train/", DATA_TRAIN}, {"val/", DATA_VAL}, {"test/", DATA_TEST}};
    const char *licence = read_licence(list);
    bool any = false, split = import__is_dir(list, "train/images") ||
                              import__is_dir(list, "val/images") ||
                              import__is_dir(list, "test/images");
    MD_TRY(scan_part(list, "", split ? (int)DATA_TRAIN : IMPORT_NO_SPLIT, licence, &any));
    for (size_t i = 0; split && i < sizeof parts / sizeof *parts; i++)
        MD_TRY(scan_part(list, parts[i].above, (int)parts[i].split, licence, &any));
    if (!any) {
        char found[200];
        import__tell_entries(list, "", found, sizeof found);
        MD_FAIL(MD_BAD_INPUT,
                "%s holds no folder images (beside it masks, and perhaps backgrounds), but: %s. "
                "Name the folder that does, lay yours out so (data/README.md), or set data.format",
                list->root, found);
    }
    return MD_OK;
}

const import_format import_folder = {"folder", NULL, "backgrounds", scan};

/* Plain folders: images/<stem>.* with masks/<stem>.*, and lesion-free pictures in backgrounds/. Any
   of the three also below train/, val/ and test/, which are then the data set's own splits; with
   those, the folders at the top are the training part. A licence is what the first line of LICENSE
   says. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
            MD_FAIL(MD_BAD_INPUT, "%s/%s has no mask of the same name in %s", list->root, p->image,
                    mask_dir);
    }
    for (size_t j = 0; j < masks->n; j++) {
        bool found = false;
        for (size_t i = 0; i < images->n && !found; i++)
            found = same_stem(images->name[i], masks->name[j]);
        if (!found)
            MD_FAIL(MD_BAD_INPUT, "%s/%s/%s is a mask without an image of the same name in %s",
                    list->root, mask_dir, masks->name[j], image_dir);
    }
    return MD_OK;
}

static md_status scan_pairs(import_list *list, const char *image_dir, const char *mask_dir,
                            int split, const char *licence)
{
    if (!import__is_dir(list, mask_dir))
        MD_FAIL(MD_BAD_INPUT, "%s/%s is there, but %s is not", list->root, image_dir, mask_dir);
    import_names images = {0}, masks = {0};
    MD_TRY(import__skip_others(list, image_dir, NULL));
    MD_TRY(import__skip_others(list, mask_dir, NULL));
    md_status status = import__pictures(list, image_dir, &images);
    if (status == MD_OK)
        status = import__pictures(list, mask_dir, &masks);
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
        MD_FAIL(MD_BAD_INPUT, "%s/%s is there, but %s is not", list->root, masks, images);
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
    if (!any)
        MD_FAIL(
            MD_BAD_INPUT,
            "%s holds no folder images (beside it masks, and perhaps backgrounds): name the folder "
            "that does, or set data.format",
            list->root);
    return MD_OK;
}

const import_format import_folder = {"folder", NULL, "backgrounds", scan};

/* ISIC challenges 2017 (arXiv:1710.05006) and 2018 (arXiv:1902.03368), lesion segmentation:
       ISIC-2017_<Part>_Data/ISIC_<id>.jpg
   ISIC-2017_<Part>_Part1_GroundTruth/ISIC_<id>_segmentation.png ISIC2018_Task1-2_<Part>_Input/...
   ISIC2018_Task1_<Part>_GroundTruth/... Part is Training, Validation or Test (Test_v2 in 2017). The
   suffix is also spelt _Segmentation. <id>_superpixels.png is no mask; ATTRIBUTION.txt and
   LICENSE.txt are no pictures. An id names one picture, so it is the group: both years share ids.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "store/import_list.h"

#define LICENCE_2017 "CC0 1.0 (ISIC 2017)"
#define LICENCE_2018 "CC BY-NC 4.0 (ISIC 2018, HAM10000)"

typedef struct part {
    const char *images, *masks, *licence;
    data_split split;
} part;

static const part parts[] = {
    {"ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", LICENCE_2017, DATA_TRAIN},
    {"ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth", LICENCE_2017, DATA_VAL},
    {"ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth", LICENCE_2017, DATA_TEST},
    {"ISIC-2017_Test_Data", "ISIC-2017_Test_Part1_GroundTruth", LICENCE_2017, DATA_TEST},
    {"ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth", LICENCE_2018,
     DATA_TRAIN},
    {"ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth", LICENCE_2018,
     DATA_VAL},
    {"ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth", LICENCE_2018, DATA_TEST},
};

static bool is_superpixels(const char *name)
{
    return import__ends(name, import__stem(name), "_superpixels");
}

static md_status skip_superpixels(import_list *list, const char *dir, const import_names *names)
{
    for (size_t i = 0; i < names->n; i++)
        if (is_superpixels(names->name[i]))
            MD_TRY(import__skip(list, dir, names->name[i], "superpixels, no mask"));
    return MD_OK;
}

/* Length of the image's stem when `name` is a mask's, else 0. */
static size_t mask_of(const char *name)
{
    size_t n = import__stem(name);
    return import__ends(name, n, "_segmentation") ? n - strlen("_segmentation") : 0;
}

static md_status add_image(import_list *list, const part *p, const char *image,
                           const import_names *masks)
{
    md_status status = MD_OK;
    import_picture *item = import__add(list, p->images, image, DATA_LESION, &status);
    if (!item)
        return status;
    size_t n = import__stem(image);
    item->split = (int)p->split;
    item->licence = p->licence;
    item->group = md_arena_printf(list->arena, "%.*s", (int)n, image);
    if (!item->group)
        MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
    for (size_t j = 0; j < masks->n; j++)
        if (mask_of(masks->name[j]) == n && strncmp(masks->name[j], image, n) == 0)
            MD_TRY(import__add_mask(list, item, p->masks, masks->name[j]));
    if (item->n_masks == 0)
        MD_FAIL(MD_BAD_INPUT, "%s/%s has no mask %s/%.*s_segmentation.png", list->root, item->image,
                p->masks, (int)n, image);
    if (item->n_masks > 1)
        MD_FAIL(MD_BAD_INPUT, "%s/%s has two masks, %s and %s", list->root, item->image,
                item->mask[0], item->mask[1]);
    return MD_OK;
}

static md_status check_masks(const import_list *list, const part *p, const import_names *images,
                             const import_names *masks)
{
    for (size_t j = 0; j < masks->n; j++) {
        const char *mask = masks->name[j];
        size_t n = mask_of(mask);
        if (is_superpixels(mask))
            continue;
        bool found = false;
        for (size_t i = 0; i < images->n && n && !found; i++)
            found = import__stem(images->name[i]) == n && strncmp(images->name[i], mask, n) == 0;
        if (!found)
            MD_FAIL(MD_BAD_INPUT, "%s/%s/%s is a mask without its image in %s", list->root,
                    p->masks, mask, p->images);
    }
    return MD_OK;
}

static md_status scan_part(import_list *list, const part *p)
{
    if (!import__is_dir(list, p->masks))
        MD_FAIL(MD_BAD_INPUT, "%s/%s is there, but its masks %s are not", list->root, p->images,
                p->masks);
    import_names images = {0}, masks = {0};
    MD_TRY(import__skip_others(list, p->images, NULL));
    MD_TRY(import__skip_others(list, p->masks, NULL));
    md_status status = import__pictures(list, p->images, &images);
    if (status == MD_OK)
        status = import__pictures(list, p->masks, &masks);
    for (size_t i = 0; i < images.n && status == MD_OK; i++)
        if (!is_superpixels(images.name[i]))
            status = add_image(list, p, images.name[i], &masks);
    if (status == MD_OK)
        status = check_masks(list, p, &images, &masks);
    if (status == MD_OK)
        status = skip_superpixels(list, p->images, &images);
    if (status == MD_OK)
        status = skip_superpixels(list, p->masks, &masks);
    import__names_free(&images);
    import__names_free(&masks);
    return status;
}

/* Other tasks of the challenges, and what else lies there. */
static md_status skip_rest(import_list *list)
{
    import_names names;
    MD_TRY(import__entries(list, "", &names));
    md_status status = MD_OK;
    for (size_t i = 0; i < names.n && status == MD_OK; i++) {
        bool used = false;
        for (size_t k = 0; k < sizeof parts / sizeof *parts && !used; k++)
            used =
                !strcmp(names.name[i], parts[k].images) || !strcmp(names.name[i], parts[k].masks);
        if (!used)
            status = import__skip(list, "", names.name[i],
                                  "neither images nor masks of the lesion segmentation");
    }
    import__names_free(&names);
    return status;
}

static md_status scan(import_list *list)
{
    bool any = false;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!import__is_dir(list, parts[i].images))
            continue;
        any = true;
        MD_TRY(scan_part(list, &parts[i]));
    }
    if (!any)
        MD_FAIL(MD_BAD_INPUT,
                "%s holds no folder of ISIC 2017 or 2018, such as "
                "ISIC2018_Task1-2_Training_Input: name the folder that does, or set data.format",
                list->root);
    return skip_rest(list);
}

const import_format import_isic = {"isic", NULL, NULL, scan};

/* BUSI (Al-Dhabyani et al., Data in Brief 28, 2020): {benign,malignant,normal}/<class> (<k>).png
   with <class> (<k>)_mask.png and, for further lesions of the same image, _mask_1.png and so on.
   The pictures of `normal` hold no lesion (their masks are all zero): they are backgrounds. The
   files do not tell patients apart, so an image is a group of its own unless it nearly equals
   another. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "store/import_list.h"

/* Length of the image's stem when `name` is one of its masks ("x_mask.png", "x_mask_2.png"), else
 * 0. */
static size_t mask_of(const char *name)
{
    size_t n = import__stem(name), m = n;
    while (m && isdigit((unsigned char)name[m - 1]))
        m--;
    if (m && m < n && name[m - 1] == '_')
        n = m - 1;
    return import__ends(name, n, "_mask") ? n - 5 : 0;
}

static bool same_stem(const char *image, const char *mask, size_t n)
{
    return import__stem(image) == n && strncmp(image, mask, n) == 0;
}

static md_status add_image(import_list *list, const char *dir, const import_names *names,
                           const char *image, data_kind kind)
{
    md_status status = MD_OK;
    import_picture *p = import__add(list, dir, image, kind, &status);
    if (!p)
        return status;
    p->licence = import_busi.licence;
    for (size_t j = 0; j < names->n; j++) {
        size_t n = mask_of(names->name[j]);
        if (n && same_stem(image, names->name[j], n))
            MD_TRY(import__add_mask(list, p, dir, names->name[j]));
    }
    if (!p->n_masks && kind == DATA_LESION)
        MD_FAIL(MD_BAD_INPUT, "%s/%s has no mask; expected %.*s_mask.png beside it", list->root,
                p->image, (int)import__stem(p->image), p->image);
    return MD_OK;
}

static md_status check_masks(const import_list *list, const char *dir, const import_names *names)
{
    for (size_t i = 0; i < names->n; i++) {
        size_t n = mask_of(names->name[i]);
        bool found = n == 0;
        for (size_t j = 0; j < names->n && !found; j++)
            found = !mask_of(names->name[j]) && same_stem(names->name[j], names->name[i], n);
        if (!found)
            MD_FAIL(MD_BAD_INPUT, "%s/%s/%s is a mask without its image %.*s.png", list->root, dir,
                    names->name[i], (int)n, names->name[i]);
    }
    return MD_OK;
}

static md_status scan_class(import_list *list, const char *dir, data_kind kind)
{
    import_names names;
    MD_TRY(import__skip_others(list, dir, NULL));
    MD_TRY(import__pictures(list, dir, &names));
    md_status status = MD_OK;
    for (size_t i = 0; i < names.n && status == MD_OK; i++)
        if (!mask_of(names.name[i]))
            status = add_image(list, dir, &names, names.name[i], kind);
    if (status == MD_OK)
        status = check_masks(list, dir, &names);
    import__names_free(&names);
    return status;
}

static md_status scan(import_list *list)
{
    static const struct {
        const char *dir;
        data_kind kind;
    } classes[] = {{"benign", DATA_LESION}, {"malignant", DATA_LESION}, {"normal", DATA_HEALTHY}};
    const char *above = import__is_dir(list, "Dataset_BUSI_with_GT") ? "Dataset_BUSI_with_GT/" : "";
    bool any = false;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        char dir[64];
        (void)snprintf(dir, sizeof dir, "%s%s", above, classes[i].dir);
        if (!import__is_dir(list, dir))
            continue;
        any = true;
        MD_TRY(scan_class(list, dir, classes[i].kind));
    }
    if (!any)
        MD_FAIL(
            MD_BAD_INPUT,
            "%s holds none of benign, malignant, normal; is it BUSI's folder, and not one above or "
            "below? Otherwise set data.format",
            list->root);
    return MD_OK;
}

const import_format import_busi = {"busi", "BUSI: terms not stated; cite Al-Dhabyani et al. 2020",
                                   "normal", scan};

/* PH2 (Mendonca et al. 2013, EMBC): "PH2 Dataset images/IMDnnn" with
   IMDnnn_Dermoscopic_Image/IMDnnn.bmp and IMDnnn_lesion/IMDnnn_lesion.bmp. IMDnnn_roi holds masks
   of colour regions, not of the lesion. Copies in circulation have other picture types. The numbers
   do not tell patients apart. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"
#include "store/import_list.h"

enum { DIR_BYTES = NAME_MAX + 256 };

/* The one picture <stem>.* in `dir`; BAD_INPUT when there is none, or two. */
static md_status find_picture(const import_list *list, const char *dir, const char *stem,
                              char out[NAME_MAX + 1])
{
    import_names names;
    if (!import__is_dir(list, dir))
        MD_FAIL(MD_BAD_INPUT, "%s/%s is missing; is it PH2?", list->root, dir);
    MD_TRY(import__pictures(list, dir, &names));
    md_status status = MD_OK;
    *out = 0;
    for (size_t i = 0; i < names.n && status == MD_OK; i++) {
        size_t n = import__stem(names.name[i]);
        if (n != strlen(stem) || strncmp(names.name[i], stem, n) != 0)
            continue;
        if (*out)
            status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                             "%s/%s: %s and %s have the same name; which is meant?", list->root,
                             dir, out, names.name[i]);
        else
            status = md_str_copy(out, NAME_MAX + 1, names.name[i]);
    }
    import__names_free(&names);
    if (status == MD_OK && !*out)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s/%s holds no picture %s.bmp",
                         list->root, dir, stem);
    return status;
}

/* What lies in a case beside the two pictures: bitmaps of colour regions in IMDnnn_roi. */
static md_status skip_rest(import_list *list, const char *dir, const char *used, const char *why)
{
    import_names names;
    if (!import__is_dir(list, dir))
        return MD_OK;
    MD_TRY(import__entries(list, dir, &names));
    md_status status = MD_OK;
    for (size_t i = 0; i < names.n && status == MD_OK; i++)
        if (!used || strcmp(names.name[i], used) != 0)
            status = import__skip(list, dir, names.name[i], "%s", why);
    import__names_free(&names);
    return status;
}

static md_status add_case(import_list *list, const char *above, const char *name)
{
    char dir[DIR_BYTES], stem[NAME_MAX + 16], file[NAME_MAX + 1];
    MD_TRY(md_str_printf(dir, sizeof dir, "%s%s/%s_Dermoscopic_Image", above, name, name));
    MD_TRY(find_picture(list, dir, name, file));
    md_status status = MD_OK;
    import_picture *p = import__add(list, dir, file, DATA_LESION, &status);
    if (!p)
        return status;
    p->licence = import_ph2.licence;
    MD_TRY(skip_rest(list, dir, file, "not the case's picture"));
    MD_TRY(md_str_printf(dir, sizeof dir, "%s%s/%s_lesion", above, name, name));
    MD_TRY(md_str_printf(stem, sizeof stem, "%s_lesion", name));
    MD_TRY(find_picture(list, dir, stem, file));
    MD_TRY(skip_rest(list, dir, file, "not the case's lesion mask"));
    MD_TRY(import__add_mask(list, p, dir, file));
    MD_TRY(md_str_printf(dir, sizeof dir, "%s%s/%s_roi", above, name, name));
    return skip_rest(list, dir, NULL, "a colour region, no lesion mask");
}

static md_status scan(import_list *list)
{
    static const char *const places[] = {"PH2Dataset/PH2 Dataset images/", "PH2 Dataset images/",
                                         ""};
    const char *above = places[0];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (import__is_dir(list, above = places[i]))
            break;
    import_names names;
    MD_TRY(import__entries(list, above, &names));
    md_status status = MD_OK;
    int64_t n = 0;
    for (size_t i = 0; i < names.n && status == MD_OK; i++) {
        char dir[DIR_BYTES];
        status = md_str_printf(dir, sizeof dir, "%s%s", above, names.name[i]);
        if (status != MD_OK)
            continue;
        if (strncmp(names.name[i], "IMD", 3) != 0 || !import__is_dir(list, dir)) {
            status = import__skip(list, above, names.name[i], "no case");
            continue;
        }
        n++;
        status = add_case(list, above, names.name[i]);
    }
    import__names_free(&names);
    if (status == MD_OK && n == 0)
        status =
            md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                    "%s holds no folder \"PH2 Dataset images\" with IMD002 and so on: name the "
                    "folder that does, or set data.format",
                    list->root);
    return status;
}

const import_format import_ph2 = {
    "ph2", "PH2: research and education only, no redistribution; cite Mendonca et al. 2013", NULL,
    scan};

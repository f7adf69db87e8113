/* DDTI (Pedraza et al. 2015, Proc. SPIE 9287, 92870W): <case>.xml with outlines beside
   <case>_<image>.jpg, all in one folder. There are no mask files: a mask is the filled union of an
   image's outlines. An image without a usable outline is unknown, not healthy, and left out with a
   warning. A case is a patient, so it is the group. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "format/outlines.h"
#include "store/import_list.h"

static md_status copy_outlines(import_list *list, const format_mark *m, import_picture *p)
{
    format_polygon *own = md_arena_alloc(list->arena, (size_t)m->n_polygons * sizeof *own);
    if (!own)
        MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
    for (int64_t i = 0; i < m->n_polygons; i++) {
        size_t bytes = (size_t)m->polygon[i].n * 2 * sizeof(double);
        double *xy = md_arena_alloc(list->arena, bytes);
        if (!xy)
            MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
        memcpy(xy, m->polygon[i].xy, bytes);
        own[i] = (format_polygon){m->polygon[i].n, xy};
    }
    p->outline = own;
    p->n_outlines = m->n_polygons;
    return MD_OK;
}

/* The case and the number in <case>_<image>.jpg; false for other names. */
static bool split_name(const char *name, size_t *case_bytes, int64_t *image)
{
    size_t n = import__stem(name), digits = n;
    while (digits && name[digits - 1] >= '0' && name[digits - 1] <= '9')
        digits--;
    if (digits < 2 || digits == n || n - digits > 9 || name[digits - 1] != '_')
        return false;
    *case_bytes = digits - 1;
    *image = strtoll(name + digits, NULL, 10);
    return true;
}

static const format_mark *find_mark(const format_outlines *o, int64_t image)
{
    for (int64_t i = 0; i < o->n_marks; i++)
        if (o->mark[i].image == image)
            return &o->mark[i];
    return NULL;
}

static md_status add_image(import_list *list, const char *name, size_t case_bytes,
                           const format_outlines *o, int64_t number)
{
    const format_mark *m = find_mark(o, number);
    if (!m || m->n_polygons == 0) {
        md_warn("store", "%s/%s is left out: %s", list->root, name,
                m ? m->why : "the case's file does not mention it");
        return import__skip(list, "", name, "no usable outline (%s)",
                            m ? m->why : "the case's file does not mention it");
    }
    if (m->n_dropped)
        MD_TRY(import__skip(list, "", name,
                            "a region that marks no area, an arrow or less than three points (%lld "
                            "of %lld; the others are used)",
                            (long long)m->n_dropped, (long long)(m->n_dropped + m->n_polygons)));
    md_status status = MD_OK;
    import_picture *p = import__add(list, "", name, DATA_LESION, &status);
    if (!p)
        return status;
    p->licence = import_ddti.licence;
    p->group = md_arena_printf(list->arena, "%.*s", (int)case_bytes, name);
    if (!p->group)
        MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
    return copy_outlines(list, m, p);
}

/* The pictures names[first..end) of one case. */
static md_status add_case(import_list *list, const import_names *names, size_t first, size_t end,
                          size_t case_bytes)
{
    char relative[NAME_MAX + 8], path[PATH_MAX];
    format_outlines *o = NULL;
    MD_TRY(
        md_str_printf(relative, sizeof relative, "%.*s.xml", (int)case_bytes, names->name[first]));
    MD_TRY(md_path_join(path, sizeof path, list->root, relative));
    if (!md_file_exists(path))
        MD_FAIL(MD_BAD_INPUT, "%s/%s has no outlines; expected %s beside it", list->root,
                names->name[first], relative);
    MD_TRY(import__resolve(list, relative, path, sizeof path));
    MD_TRY(format_outlines_read(path, &o));
    md_status status = MD_OK;
    for (size_t i = first; i < end && status == MD_OK; i++) {
        size_t bytes = 0;
        int64_t image = 0;
        if (split_name(names->name[i], &bytes, &image))
            status = add_image(list, names->name[i], bytes, o, image);
    }
    for (int64_t k = 0; k < o->n_marks && status == MD_OK; k++) {
        bool found = false;
        for (size_t i = first; i < end && !found; i++) {
            size_t bytes = 0;
            int64_t image = 0;
            found = split_name(names->name[i], &bytes, &image) && image == o->mark[k].image;
        }
        if (!found)
            status = import__skip(list, "", relative, "a mark without its picture (of image %lld)",
                                  (long long)o->mark[k].image);
    }
    format_outlines_free(o);
    return status;
}

/* <case>.xml of no picture. */
static md_status skip_lone_cases(import_list *list, const import_names *pictures)
{
    import_names names;
    MD_TRY(import__entries(list, "", &names));
    md_status status = MD_OK;
    for (size_t k = 0; k < names.n && status == MD_OK; k++) {
        size_t n = import__stem(names.name[k]), bytes;
        int64_t image;
        bool found = !import__ends(names.name[k], strlen(names.name[k]), ".xml");
        for (size_t i = 0; i < pictures->n && !found; i++)
            found = split_name(pictures->name[i], &bytes, &image) && bytes == n &&
                    strncmp(pictures->name[i], names.name[k], n) == 0;
        if (!found)
            status = import__skip(list, "", names.name[k], "a case without a picture");
    }
    import__names_free(&names);
    return status;
}

static md_status add_cases(import_list *list, const import_names *names)
{
    int64_t image = 0;
    size_t end = 0;
    for (size_t i = 0; i < names->n; i = end) {
        size_t bytes = 0, other = 0;
        if (!split_name(names->name[i], &bytes, &image))
            MD_FAIL(MD_BAD_INPUT, "%s/%s: expected names like 139_2.jpg; is it DDTI?", list->root,
                    names->name[i]);
        for (end = i + 1; end < names->n; end++)
            if (!split_name(names->name[end], &other, &image) || other != bytes ||
                strncmp(names->name[i], names->name[end], bytes) != 0)
                break;
        MD_TRY(add_case(list, names, i, end, bytes));
    }
    return MD_OK;
}

static md_status scan(import_list *list)
{
    import_names names;
    MD_TRY(import__pictures(list, "", &names));
    md_status status = add_cases(list, &names);
    if (status == MD_OK)
        status = skip_lone_cases(list, &names);
    if (status == MD_OK)
        status = import__skip_others(list, "", ".xml");
    import__names_free(&names);
    return status;
}

const import_format import_ddti = {"ddti", "DDTI: terms not stated; cite Pedraza et al. 2015", NULL,
                                   scan};

/* Files that are no pictures, or pictures of a kind that is not read: what they are, and how to
   make them PNG. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "store/import_list.h"

typedef enum source { SOURCE_DICOM, SOURCE_IMAGE, SOURCE_VOLUME, SOURCE_UNKNOWN } source;

typedef struct kind {
    const char *suffix;
    source source;
} kind;

static const kind kinds[] = {
    {".dcm", SOURCE_DICOM},     {".dicom", SOURCE_DICOM}, {".ima", SOURCE_DICOM},
    {".tif", SOURCE_IMAGE},     {".tiff", SOURCE_IMAGE},  {".gif", SOURCE_IMAGE},
    {".webp", SOURCE_IMAGE},    {".heic", SOURCE_IMAGE},  {".jp2", SOURCE_IMAGE},
    {".pgm", SOURCE_IMAGE},     {".ppm", SOURCE_IMAGE},   {".nii", SOURCE_VOLUME},
    {".nii.gz", SOURCE_VOLUME}, {".nrrd", SOURCE_VOLUME}, {".mha", SOURCE_VOLUME},
    {".npy", SOURCE_VOLUME},    {".npz", SOURCE_VOLUME}};

static const char *const how[] = {
    [SOURCE_DICOM] = ", for example with DCMTK: dcmj2pnm +on +Wi 1 in.dcm out.png",
    [SOURCE_IMAGE] = ", for example with ImageMagick: convert in.tif out.png",
    [SOURCE_VOLUME] = ", slice by slice",
    [SOURCE_UNKNOWN] = ", if they are DICOM with DCMTK: dcmj2pnm +on +Wi 1 in.dcm out.png"};

typedef struct others {
    int64_t n;
    char suffixes[96];
    const char *first; /* of the names they were found among */
} others;

static const kind *kind_of(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (import__ends(name, strlen(name), kinds[i].suffix))
            return &kinds[i];
    return NULL;
}

static const char *suffix_of(const char *name)
{
    const kind *k = kind_of(name);
    return k ? k->suffix : name + import__stem(name);
}

/* Adds the suffix to the list in `seen`, once and while there is room. */
static void note_suffix(char *seen, size_t bytes, const char *name)
{
    char one[24];
    const char *suffix = suffix_of(name);
    size_t at = strlen(seen);
    if (snprintf(one, sizeof one, "%s", *suffix ? suffix : "no suffix") >= (int)sizeof one ||
        strstr(seen, one) || at + strlen(one) + 3 > bytes)
        return;
    (void)snprintf(seen + at, bytes - at, "%s%s", at ? ", " : "", one);
}

static md_status tell(const import_list *list, const char *dir, const others *o, bool fail)
{
    const kind *k = kind_of(o->first);
    const char *then = how[k ? k->source : SOURCE_UNKNOWN];
    if (fail)
        MD_FAIL(MD_BAD_INPUT,
                "%s/%s holds no PNG, JPEG or BMP, but %lld files of other kinds (%s), as %s: "
                "convert them to 8-bit PNG%s",
                list->root, dir, (long long)o->n, o->suffixes, o->first, then);
    md_warn("import",
            "%s/%s: passed over what is not PNG, JPEG or BMP: %lld (%s), as %s; convert to 8-bit "
            "PNG%s",
            list->root, dir, (long long)o->n, o->suffixes, o->first, then);
    return MD_OK;
}

static void add(others *o, const char *name)
{
    note_suffix(o->suffixes, sizeof o->suffixes, name);
    if (o->n++ == 0)
        o->first = name;
}

void import__tell_entries(const import_list *list, const char *dir, char *out, size_t bytes)
{
    static const char more[] = ", ...";
    import_names names = {0};
    (void)snprintf(out, bytes, "nothing");
    if (import__entries(list, dir, &names) != MD_OK)
        md_status_clear();
    for (size_t i = 0, at = 0; i < names.n; i++) {
        size_t n = strlen(names.name[i]) + (i ? 2 : 0);
        if (at + n + sizeof more > bytes) {
            (void)snprintf(out + at, bytes - at, "%s", more);
            break;
        }
        (void)snprintf(out + at, bytes - at, "%s%s", i ? ", " : "", names.name[i]);
        at += n;
    }
    import__names_free(&names);
}

md_status import__refuse_others(const import_list *list, const char *dir)
{
    import_names names;
    others o = {.n = 0};
    MD_TRY(import__entries(list, dir, &names));
    for (size_t i = 0; i < names.n; i++)
        if (!import__is_picture(names.name[i]))
            add(&o, names.name[i]);
    md_status status = o.n ? tell(list, dir, &o, true) : MD_OK;
    import__names_free(&names);
    return status;
}

md_status import__skip_others(import_list *list, const char *dir, const char *used)
{
    import_names names;
    others o = {.n = 0};
    MD_TRY(import__entries(list, dir, &names));
    md_status status = MD_OK;
    for (size_t i = 0; i < names.n && status == MD_OK; i++) {
        const char *name = names.name[i];
        const kind *k = kind_of(name);
        if (import__is_picture(name) || (used && import__ends(name, strlen(name), used)))
            continue;
        if (k)
            add(&o, name);
        status = k ? import__skip(list, dir, name, "a picture of a kind that is not read (%s)",
                                  k->suffix)
                   : import__skip(list, dir, name, "no picture");
    }
    if (status == MD_OK && o.n)
        status = tell(list, dir, &o, false);
    import__names_free(&names);
    return status;
}

/* Folders that most data loaders take: {train,val,test}/{images,masks,guides}/NAME.png, masks of 0
   and 255. */
#include "store/export_internal.h"

static md_status where(const export_item *e, char *out, size_t size)
{
    char name[EXPORT_NAME];
    export__name(e, name);
    return md_str_printf(out, size, "%s/images/%s.png", data_split_name(e->split), name);
}

static md_status in_part(const export_item *e, const char *folder, const char *what,
                         char out[EXPORT_PATH])
{
    char name[EXPORT_NAME], sub[64];
    export__name(e, name);
    MD_TRY(md_str_printf(sub, sizeof sub, "%s/%s", data_split_name(e->split), what));
    return export__file(out, folder, sub, name, ".png");
}

md_status export__png(export_set *s, const char *folder)
{
    bool guides = config_bool(s->cfg, KEY_export_guides);
    char path[EXPORT_PATH];
    for (int64_t i = 0; i < s->n; i++) {
        const export_item *e = &s->item[i];
        MD_TRY(export__load(s, i));
        MD_TRY(in_part(e, folder, "images", path));
        MD_TRY(image_write_png(path, &s->image, NULL, 0));
        MD_TRY(in_part(e, folder, "masks", path));
        MD_TRY(image_write_mask(path, &s->mask));
        if (!guides || e->kind != EXPORT_PAIR)
            continue;
        MD_TRY(in_part(e, folder, "guides", path));
        MD_TRY(image_write_mask(path, &s->guide));
    }
    return export__describe(s, folder, where);
}

/* What is odd about the pictures as a whole. */
#include "store/import_checks.h"

#include "base/log.h"

/* Most of the outermost rows and columns are marked. */
static bool border_is_marked(const image *mask)
{
    int64_t marked = 0, h = mask->h, w = mask->w;
    for (int64_t x = 0; x < w; x++)
        marked += mask->px[x] + mask->px[(h - 1) * w + x];
    for (int64_t y = 0; y < h; y++)
        marked += mask->px[y * w] + mask->px[y * w + w - 1];
    return marked > h + w; /* half of both sides */
}

void import__look(import_odd *odd, const import_picture *p, const import_pixels *px)
{
    if (p->kind != DATA_LESION)
        return;
    odd->lesions++;
    if (border_is_marked(&px->mask)) {
        if (!odd->inverted++)
            odd->first_inverted = p->image;
    }
    /* Where the sides tell, a mask that fits was drawn on the picture as it is shown. */
    bool sides_tell = px->rgb.h != px->rgb.w && (px->orientation > 4) != (px->mask_orientation > 4);
    if (p->n_masks && px->orientation != px->mask_orientation && !sides_tell) {
        if (!odd->turned++) {
            odd->first_turned = p->image;
            odd->orientation[0] = px->orientation;
            odd->orientation[1] = px->mask_orientation;
        }
    }
}

void import__tell_odd(const import_list *list, const import_odd *odd)
{
    if (2 * odd->inverted > odd->lesions)
        md_warn("import",
                "%lld of %lld masks mark most of the picture's border, as that of %s/%s: are they "
                "inverted? A mask is 255 where the lesion is and 0 elsewhere; import.png shows "
                "what was understood",
                (long long)odd->inverted, (long long)odd->lesions, list->root, odd->first_inverted);
    if (odd->turned)
        md_warn("import",
                "EXIF orientation turns %lld of %lld images otherwise than their masks, as %s/%s "
                "(image %d, mask %d; 1: as stored): if import.png shows these masks in the wrong "
                "place, they were drawn on the pictures as stored; turn them, or take the "
                "orientation out of the pictures",
                (long long)odd->turned, (long long)odd->lesions, list->root, odd->first_turned,
                odd->orientation[0], odd->orientation[1]);
}

void import__tell_few(const import_list *list, const import_report *r, int64_t wanted)
{
    if (!wanted || r->used >= wanted)
        return;
    int64_t kept = r->lesion[DATA_VAL] + r->lesion[DATA_TEST];
    long long used = r->used, val = r->lesion[DATA_VAL], test = r->lesion[DATA_TEST];
    if (r->official)
        md_warn("import",
                "%lld training pairs are used, fewer than data.pairs = %lld: the data set's own "
                "training part holds no more (val %lld, test %lld)",
                used, (long long)wanted, val, test);
    else if (!kept)
        md_warn("import",
                "%lld training pairs are used, fewer than data.pairs = %lld: %s holds no more",
                used, (long long)wanted, list->root);
    else
        md_warn("import",
                "%lld training pairs are used, fewer than data.pairs = %lld: %s holds %lld, of "
                "which %lld went to validation and %lld to test (80/10/10). To say yourself which "
                "ones train, lay them out as train/images and train/masks beside val/ or test/ "
                "(data.format = \"folder\"; data/README.md)",
                used, (long long)wanted, list->root, used + (long long)kept, val, test);
}

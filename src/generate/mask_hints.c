#include "generate/mask_hints.h"
#include "base/rng.h"
#include <stdlib.h>

static md_status see_all(mask_hints *h, const guide_bank *real)
{
    const image_affine still = image_affine_make(0, 0, 1, 0, 0);
    int64_t px = h->view.edge * h->view.edge, all = h->view.size * h->view.size;
    double sum = 0;
    md_status status = MD_OK;
    h->fields = malloc((size_t)(h->n * all) * sizeof *h->fields);
    float *picture = malloc((size_t)px * sizeof *picture);
    if (!h->fields || !picture)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "masks: out of memory");
    for (int64_t i = 0; i < h->n && status == MD_OK; i++) {
        status = image_mask_field(&real->mask[i], h->fields + i * all);
        if (status == MD_OK)
            image_field_picture(&h->view, h->fields + i * all, &still, picture);
        for (int64_t k = 0; k < px && status == MD_OK; k++)
            sum += (double)picture[k];
    }
    free(picture);
    h->mean = sum / (double)(h->n * px);
    MD_TRY(status);
    return image_sketch_spread_of(&h->view, h->fields, h->n, &h->spread);
}

static md_status put_in_order(mask_hints *h)
{
    md_rng r = md_rng_at(h->seed, MD_RNG_MASK_ORDER, 0, 0);
    h->order = malloc((size_t)h->n * sizeof *h->order);
    if (!h->order)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    for (int64_t i = 0; i < h->n; i++) { /* Fisher-Yates, from the inside out */
        int64_t k = md_rng_below(&r, i + 1);
        h->order[i] = h->order[k];
        h->order[k] = i;
    }
    return MD_OK;
}

md_status mask_hints_open(const config *c, const guide_bank *real, const image_field_view *v,
                          mask_hints *out)
{
    *out = (mask_hints){.view = *v,
                        .n = real->n,
                        .augment = config_float(c, KEY_masks_augment),
                        .warp = config_float(c, KEY_masks_warp),
                        .seed = (uint64_t)config_int(c, KEY_seed)};
    md_status status = see_all(out, real);
    if (status == MD_OK)
        status = put_in_order(out);
    if (status != MD_OK)
        mask_hints_close(out);
    return status;
}

void mask_hints_close(mask_hints *h)
{
    free(h->fields);
    free(h->order);
    *h = (mask_hints){0};
}

md_status mask_hints_sketch(const mask_hints *h, mask_place place,
                            const image_sketch_spread *spread, float *planes)
{
    uint32_t move = place.attempt / MASK_HINTS_DRAWS;
    md_rng r = md_rng_at(h->seed, MD_RNG_MASK_SKETCH, (uint64_t)place.slot, move);
    int64_t mask = move < MASK_HINTS_MOVES ? h->order[place.slot % h->n] : md_rng_below(&r, h->n);
    const float *field = h->fields + mask * h->view.size * h->view.size;
    float *picture = malloc((size_t)(h->view.edge * h->view.edge) * sizeof *picture);
    if (!picture)
        MD_FAIL(MD_NOMEM, "masks: out of memory");
    image_field_augment(&h->view, field, h->augment, h->warp, &r, picture);
    md_status status = image_sketch_planes(&h->view, picture, spread, &r, planes);
    free(picture);
    return status;
}

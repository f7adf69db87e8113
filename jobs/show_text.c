/* show: what is known of a pair, as text: what a reviewer asks first comes first, the commands that
   make it again come last. */
#include "base/rng.h"
#include "show.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

md_status show_line(md_text *t, const char *label, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return md_text_add(t, "%-12s %s\n", label, text);
}

static md_status tell_pair(const show *s, md_text *t)
{
    static const char *const states[] = {
        [PAIRS_EMPTY] = "empty: not painted yet",
        [PAIRS_WRITTEN] = "painted, not judged yet",
        [PAIRS_ACCEPTED] = "accepted",
        [PAIRS_REJECTED] = "rejected for good",
        [PAIRS_FAILED] = "failed",
    };
    MD_TRY(show_line(t, "pair", "%" PRId64 " of %s/pairs.h5, %" PRId64 "x%" PRId64 " pixels: %s",
                     s->slot, s->run, s->size, s->size, states[s->row.state]));
    if (s->row.reason[0])
        MD_TRY(show_line(t, s->row.state == PAIRS_ACCEPTED ? "remark" : "reason", "%s",
                         s->row.reason));
    if (s->row.state == PAIRS_EMPTY)
        MD_TRY(show_line(t, "attempt", "%d is the next to be painted", s->row.attempt));
    else
        MD_TRY(show_line(t, "attempt", "%d, so draw number %d of this slot", s->row.attempt,
                         s->row.attempt + 1));
    for (int64_t i = 0; i < s->n_rejected; i++) {
        const reject *r = &s->rejected[i];
        const likeness *w = &r->m.part[PART_WHOLE], *d = &r->m.part[PART_LESION];
        MD_TRY(
            show_line(t, i ? "" : "rejected",
                      "attempt %d: %s (image %.4f, five nearest %.4f; lesion %.4f, %.4f; alignment "
                      "%.4f)",
                      r->attempt, verdict_name(r->why), (double)w->nearest, (double)w->mean,
                      (double)d->nearest, (double)d->mean, (double)r->m.alignment));
    }
    return MD_OK;
}

/* "row 12 of data.h5: NAME, group 3, train" */
static md_status tell_row(data_store *d, const char *store, const char *label, int32_t id,
                          md_text *t)
{
    static const char *const kinds[] = {"lesion image", "lesion-free image",
                                        "square cut from beside a lesion", "repaired"};
    data_row r;
    if (!d)
        return show_line(t, label, "row %d of %s, which is not there", id, store);
    if (id < 0 || id >= data_rows(d))
        return show_line(t, label, "row %d of %s, which has none such", id, store);
    MD_TRY(data_read_row(d, id, &r));
    MD_TRY(show_line(t, label, "row %d of %s: %s (%s), group %d, %s part", id, store, r.name,
                     kinds[r.kind], r.group, data_split_name(r.split)));
    return show_line(t, "", "licence: %s; SHA-256 of the file %s", r.licence, r.sha256);
}

static md_status tell_background(const show *s, md_text *t)
{
    data_row r;
    int32_t id = s->row.background_id;
    if (!s->painted)
        return MD_OK;
    MD_TRY(tell_row(s->backgrounds, "backgrounds.h5", "background", id, t));
    if (!s->backgrounds || id < 0 || id >= data_rows(s->backgrounds))
        return MD_OK;
    MD_TRY(data_read_row(s->backgrounds, id, &r));
    if (r.kind == DATA_REPAIRED || r.kind == DATA_CROP)
        return show_line(t, "", "%s row %d of data.h5",
                         r.kind == DATA_CROP ? "cut from" : "the lesion was painted over in",
                         r.data_id);
    return MD_OK;
}

static int64_t area(const image *mask)
{
    int64_t n = 0;
    for (int64_t i = 0; i < mask->h * mask->w; i++)
        n += mask->px[i] != 0;
    return n;
}

static md_status tell_guide(const show *s, md_text *t)
{
    bool as_is = config_choice(s->cfg, KEY_guide_mask) == 1;
    int32_t id = s->row.mask_id;
    masks_row m;
    if (!s->painted)
        return MD_OK;
    if (!pairs_has_input(s->pairs, "masks"))
        MD_TRY(tell_row(s->data, "data.h5", "guide", id, t));
    else if (!s->masks || id < 0 || id >= masks_rows(s->masks))
        MD_TRY(show_line(t, "guide", "row %d of masks.h5, which is not there", id));
    else {
        MD_TRY(masks_read_row(s->masks, id, &m));
        MD_TRY(show_line(
            t, "guide",
            "row %d of masks.h5 (attempt %d; most alike training mask: row %d of data.h5, "
            "IoU %.3f after alignment)",
            id, m.attempt, m.nearest_id, (double)m.nearest_iou));
    }
    MD_TRY(
        show_line(t, "", "%s", as_is ? "as it is" : "mirrored or not, turned, scaled and moved"));
    return show_line(t, "mask",
                     "%" PRId64 " of %" PRId64 " pixels (%.2f %%), of the guide's %" PRId64
                     " after erosion by %lld px",
                     area(&s->mask), s->size * s->size,
                     100.0 * (double)area(&s->mask) / (double)(s->size * s->size), area(&s->guide),
                     (long long)config_int(s->cfg, KEY_quality_corrode_px));
}

static md_status tell_likeness(const show *s, md_text *t)
{
    double limit[PAIRS_BAND], least = config_float(s->cfg, KEY_quality_alignment);
    if (!s->painted)
        return MD_OK;
    MD_TRY(pairs_band(s->pairs, limit));
    if (isnan(s->row.similarity)) {
        MD_TRY(show_line(t, "similarity", "not measured: %s",
                         pairs_has_input(s->pairs, "encoder") ? "not judged yet"
                                                              : "model.encoder is empty"));
    } else {
        MD_TRY(show_line(t, "similarity", "image %.4f to the nearest, lesion %.4f",
                         (double)s->row.similarity, (double)s->row.similarity_lesion));
        MD_TRY(show_line(
            t, "",
            "allowed: image at most %.4f, five nearest at least %.4f; lesion at most %.4f, "
            "%.4f",
            limit[1], limit[0], limit[3], limit[2]));
        MD_TRY(tell_row(s->data, "data.h5", "nearest", s->row.nearest_id, t));
    }
    if (least > 0)
        return show_line(t, "alignment", "Dice %.4f of mask and change, wanted at least %.4f",
                         (double)s->row.alignment, least);
    return show_line(t, "alignment", "Dice %.4f of mask and change, nothing is asked of it",
                     (double)s->row.alignment);
}

/* Where each purpose's stream of this draw begins. */
static md_status tell_keys(const show *s, md_text *t)
{
    static const struct {
        md_purpose what;
        const char *name;
    } streams[] = {{MD_RNG_BACKGROUND, "background"},
                   {MD_RNG_GUIDE, "guide"},
                   {MD_RNG_SAMPLE_NOISE, "start noise"},
                   {MD_RNG_STEP_NOISE, "step noise"}};
    uint64_t seed;
    bool same = config_choice(s->cfg, KEY_generate_noise) == 1;
    uint32_t attempt = s->redrawn ? s->attempt : (uint32_t)s->row.attempt;
    MD_TRY(pairs_seed(s->pairs, &seed));
    MD_TRY(show_line(t, "seed", "%" PRIu64 "; Philox4x32-10 of slot %" PRId64 ", attempt %u:", seed,
                     s->slot, (unsigned)attempt));
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
        bool noise = streams[i].what == MD_RNG_SAMPLE_NOISE || streams[i].what == MD_RNG_STEP_NOISE;
        md_rng r = same && noise ? md_rng_at(seed, streams[i].what, 0, 0)
                                 : md_rng_at(seed, streams[i].what, (uint64_t)s->slot, attempt);
        MD_TRY(show_line(t, "", "%-11s key %08x %08x, counter from %08x %08x %08x %08x",
                         streams[i].name, (unsigned)r.key[0], (unsigned)r.key[1],
                         (unsigned)r.counter[0], (unsigned)r.counter[1], (unsigned)r.counter[2],
                         (unsigned)r.counter[3]));
    }
    return MD_OK;
}

static md_status tell_redraw(const show *s, md_text *t)
{
    show_difference d = show_compare(s);
    if (!s->redrawn)
        return MD_OK;
    if (!d.known)
        return show_line(
            t, "redrawn",
            "attempt %u: CRC32C %08x, alignment %.4f; the store does not hold this draw",
            (unsigned)s->attempt, (unsigned)d.crc, (double)s->again.alignment);
    if (d.crc == s->row.crc)
        return show_line(t, "redrawn", "attempt %u: CRC32C %08x, the same bytes as in the store",
                         (unsigned)s->attempt, (unsigned)d.crc);
    return show_line(
        t, "redrawn",
        "attempt %u: CRC32C %08x, NOT the same: %" PRId64 " pixels of the image differ, by "
        "at most %d grey levels, %" PRId64 " of the mask, %" PRId64 " of the guide",
        (unsigned)s->attempt, (unsigned)d.crc, d.pixels, d.most, d.mask_pixels, d.guide_pixels);
}

/* The run directory as a shell reads it. */
static md_status quote(const char *s, md_text *t)
{
    if (s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-")] == 0)
        return md_text_add(t, "%s", s);
    MD_TRY(md_text_add(t, "'"));
    for (; *s; s++)
        MD_TRY(md_text_add(t, *s == '\'' ? "'\\''" : "%c", *s));
    return md_text_add(t, "'");
}

static md_status tell_again(const show *s, const char *png, md_text *t)
{
    if (s->painted)
        MD_TRY(show_line(t, "checksum", "CRC32C %08x of image, mask and guide%s",
                         (unsigned)s->row.crc, s->whole ? "" : ", which its pixels do NOT give"));
    MD_TRY(tell_redraw(s, t));
    if (png)
        MD_TRY(show_line(t, "picture", "%s", png));
    if (s->redrawn)
        return MD_OK;
    MD_TRY(md_text_add(t, "%-12s meddiff show ", "make again"));
    MD_TRY(quote(s->run, t));
    return md_text_add(t, " %" PRId64 " --set show.redraw=true\n", s->slot);
}

md_status show_text(const show *s, const char *png, md_text *t)
{
    MD_TRY(tell_pair(s, t));
    MD_TRY(tell_background(s, t));
    MD_TRY(tell_guide(s, t));
    MD_TRY(tell_likeness(s, t));
    MD_TRY(tell_keys(s, t));
    MD_TRY(show_origin(s, t));
    return tell_again(s, png, t);
}

/* Whether a mask of several gray levels says clearly what it marks. Edges may hold any levels: they
   are thin, whether a resize, a blur or JPEG made them. A level that fills areas of its own is
   another matter: a label, a second lesion, a mark at half strength. */
#include "image/raw.h"

#include <stdio.h>
#include <string.h>

enum {
    LEVELS = 256,
    HALF = 128,
    NEAR = 32,    /* from black or white: JPEG's noise on even areas */
    FEW = 8,      /* levels; so few are no noise */
    AREA_MIN = 9, /* pixels amid their own level */
    SHARE = 20,   /* and 1 / SHARE of what is not black where there are many levels: soft edges that
                     were enlarged are steps of one level */
    PICTURE = 1024, /* pixels: enough to tell a picture from a mask */
    LISTED = 6,     /* levels a message names */
    LIST_BYTES = 64 /* of them */
};

typedef struct levels {
    int64_t count[LEVELS];
    int64_t even[LEVELS]; /* of these, pixels whose eight neighbours are of the same level */
    int n, lowest, largest;
} levels;

static bool is_even(const uint8_t *px, int64_t h, int64_t w, int64_t y, int64_t x)
{
    if (y == 0 || x == 0 || y == h - 1 || x == w - 1)
        return false;
    for (int64_t dy = -1; dy <= 1; dy++)
        for (int64_t dx = -1; dx <= 1; dx++)
            if (px[(y + dy) * w + x + dx] != px[y * w + x])
                return false;
    return true;
}

static levels count_levels(const uint8_t *px, int64_t h, int64_t w)
{
    levels l = {.n = 0};
    for (int64_t i = 0; i < h * w; i++)
        l.count[px[i]]++;
    l.lowest = -1;
    for (int v = 0; v < LEVELS; v++) {
        if (!l.count[v])
            continue;
        l.n++;
        l.largest = v;
        l.lowest = l.lowest < 0 ? v : l.lowest;
    }
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            const uint8_t v = px[y * w + x];
            if (v != 0 && v < UINT8_MAX)
                l.even[v] += is_even(px, h, w, y, x);
        }
    return l;
}

/* The level that fills most, among those whose meaning is open; 0: there is none. */
static int find_open(const levels *l, int64_t pixels, bool lossy)
{
    const int64_t least = l->n > FEW ? (pixels - l->count[0]) / SHARE : 0;
    int worst = 0;
    for (int v = 1; v < LEVELS; v++) {
        if (l->even[v] < AREA_MIN || l->even[v] < least)
            continue;
        if (v >= HALF && v > l->largest - NEAR)
            continue; /* white, or nearly */
        if (v <= NEAR && (lossy || l->n > FEW || (v == l->lowest && l->largest >= HALF)))
            continue; /* black, or nearly */
        if (!worst || l->even[v] > l->even[worst])
            worst = v;
    }
    return worst;
}

/* "0, 1, 2" or "0, 3, 7, 9, 11 ... 255". */
static void list_levels(const levels *l, char out[LIST_BYTES])
{
    size_t at = 0;
    int listed = 0;
    out[0] = 0;
    for (int v = 0; v < LEVELS; v++) {
        const bool last = v == l->largest, cut = l->n > LISTED && listed >= LISTED - 1;
        if (!l->count[v] || (cut && !last))
            continue;
        (void)snprintf(out + at, LIST_BYTES - at, "%s%d", !listed ? "" : cut ? " ... " : ", ", v);
        at += strlen(out + at);
        listed++;
    }
}

/* As many gray pixels as only a picture has, or a blur that leaves no edge. */
static bool is_picture(const levels *l, int64_t pixels)
{
    int64_t gray = 0, bright = 0;
    for (int v = NEAR + 1; v < LEVELS; v++) {
        bright += l->count[v];
        gray += v < l->largest - NEAR ? l->count[v] : 0;
    }
    return pixels >= PICTURE && gray > pixels / 4 && gray > bright / 2;
}

md_status image__check_levels(const char *name, const uint8_t *px, int64_t h, int64_t w, bool lossy)
{
    const levels l = count_levels(px, h, w);
    if (l.largest <= 1 && !lossy)
        return MD_OK; /* labels: 1 is the lesion */
    const int open = find_open(&l, h * w, lossy);
    char found[LIST_BYTES];
    list_levels(&l, found);
    if (is_picture(&l, h * w) && l.n > FEW)
        MD_FAIL(MD_BAD_INPUT,
                "%s: this is no mask but a picture, or too soft: most of what is not black is gray "
                "(values %s); a mask is 255 where the lesion is and 0 elsewhere",
                name, found);
    if (!open)
        return MD_OK;
    MD_FAIL(MD_BAD_INPUT,
            "%s: this mask has the values %s, and %lld pixels are %d: is that lesion or not? Save "
            "it with two values, 255 where the lesion is and 0 elsewhere",
            name, found, (long long)l.count[open], open);
}

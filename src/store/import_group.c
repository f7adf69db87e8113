/* Groups, splits and the choice of training pairs: pure functions of the pictures and the seed. */
#include "store/import_group.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "image/resize.h"
#include "store/import_list.h"

enum { CELLS = 16 };

/* Where the picture goes in a view: bit 0 left-right, bit 1 top-bottom. */
static int cell_at(const image *cells, int view, int y, int x)
{
    int64_t sy = view & 2 ? cells->h - 1 - y : y, sx = view & 1 ? cells->w - 1 - x : x;
    return cells->px[sy * cells->w + sx];
}

static void compare_cells(const image *cells, int view, int dy, int dx, uint64_t *bits)
{
    for (int y = 0; y < CELLS; y++)
        for (int x = 0; x < CELLS; x++) {
            bool rises = cell_at(cells, view, y + dy, x + dx) > cell_at(cells, view, y, x);
            int at = y * CELLS + x;
            bits[at / 64] |= (uint64_t)rises << at % 64;
        }
}

md_status import__hash(const image *im, import_hash *out)
{
    image gray = {0}, cells = {0};
    import_hash h = {{{0}}};
    MD_TRY(image_to_gray(im, &gray));
    md_status status = image_resize(&gray, CELLS, CELLS + 1, IMAGE_AREA, &cells);
    if (status == MD_OK) {
        for (int v = 0; v < IMPORT_VIEWS; v++)
            compare_cells(&cells, v, 0, 1, h.bits[v]);
        image_free(&cells);
        status = image_resize(&gray, CELLS + 1, CELLS, IMAGE_AREA, &cells);
    }
    for (int v = 0; v < IMPORT_VIEWS && status == MD_OK; v++)
        compare_cells(&cells, v, 1, 0, h.bits[v] + 4);
    image_free(&cells);
    image_free(&gray);
    MD_TRY(status);
    *out = h;
    return MD_OK;
}

int import__distance(const import_hash *a, const import_hash *b, int *view)
{
    int least = INT_MAX;
    for (int v = 0; v < IMPORT_VIEWS; v++) {
        int n = 0;
        for (int i = 0; i < 8; i++)
            n += __builtin_popcountll(a->bits[0][i] ^ b->bits[v][i]);
        if (view && n < least)
            *view = v;
        least = n < least ? n : least;
    }
    return least;
}

/* ---- groups: union-find over pictures; the root of a group is its first picture ---- */

static int32_t root_of(import_facts *f, int32_t i)
{
    while (f[i].group != i)
        i = f[i].group = f[f[i].group].group;
    return i;
}

static void join(import_facts *f, int64_t i, int64_t j)
{
    int32_t a = root_of(f, (int32_t)i), b = root_of(f, (int32_t)j);
    if (a < b)
        f[b].group = a;
    else
        f[a].group = b;
}

static bool near(const import_facts *f, int64_t i, int64_t j)
{
    return strcmp(f[i].sha256, f[j].sha256) == 0 ||
           import__distance(&f[i].hash, &f[j].hash, NULL) <= IMPORT_NEAR;
}

md_status import__leave_out_twins(import_list *list, import_facts *f)
{
    int64_t n = 0, first = 0, twin = 0;
    for (int64_t i = 0; i < list->n; i++)
        for (int64_t j = 0; j < list->n && !f[i].left_out; j++) {
            if (list->item[i].kind != DATA_HEALTHY || list->item[j].kind != DATA_LESION ||
                f[j].left_out || !near(f, i, j))
                continue;
            f[i].left_out = true;
            MD_TRY(import__skip(list, "", list->item[i].image,
                                "a lesion-free picture that is nearly one with a lesion (%s)",
                                list->item[j].image));
            if (!n++) {
                first = i;
                twin = j;
            }
        }
    if (n)
        md_warn("import",
                "left out %lld of the lesion-free pictures, nearly the same as ones with a lesion: "
                "%s/%s is %s. Look which folder is right, and take the picture out of the other",
                (long long)n, list->root, list->item[first].image, list->item[twin].image);
    return MD_OK;
}

static int64_t find_groups(const import_list *list, import_facts *f)
{
    int64_t joined = 0;
    for (int64_t i = 0; i < list->n; i++)
        f[i].group = (int32_t)i;
    for (int64_t i = 0; i < list->n; i++) {
        bool twin = false;
        for (int64_t j = 0; j < i; j++) {
            const char *a = list->item[i].group, *b = list->item[j].group;
            bool nearly = near(f, i, j);
            twin = twin || nearly;
            if (nearly || (a && b && strcmp(a, b) == 0))
                join(f, i, j);
        }
        joined += twin;
    }
    return joined;
}

/* Roots become 0, 1, 2... in the order of their first picture. Returns how many. */
static int64_t number_groups(const import_list *list, import_facts *f)
{
    int32_t n = 0;
    for (int64_t i = 0; i < list->n; i++)
        (void)root_of(f, (int32_t)i);
    for (int64_t i = 0; i < list->n; i++)
        f[i].group = root_of(f, (int32_t)i); /* flat: each points at its root */
    for (int64_t i = 0; i < list->n; i++) {
        bool first = f[i].group == (int32_t)i;
        f[i].group = first ? n++ : f[f[i].group].group; /* a root stands before its members */
    }
    return n;
}

/* ---- splits ---- */

static bool has_own_splits(const import_list *list)
{
    bool seen[DATA_N_SPLITS] = {false};
    for (int64_t i = 0; i < list->n; i++) {
        if (list->item[i].split == IMPORT_NO_SPLIT)
            return false;
        seen[list->item[i].split] = true;
    }
    return seen[DATA_TRAIN] && (seen[DATA_VAL] || seen[DATA_TEST]);
}

/* Pictures a and b of one group stand in different splits. */
static md_status face_twins(const import_list *list, const import_grouping *how,
                            const import_facts *f, int64_t a, int64_t b)
{
    const import_picture *p = &list->item[a], *q = &list->item[b];
    const char *of_p = data_split_name((data_split)p->split),
               *of_q = data_split_name((data_split)q->split);
    if (how->twins == IMPORT_TWINS_STAY) {
        md_warn("store", "%s (%s) and %s (%s) belong together but stand in different splits",
                p->image, of_p, q->image, of_q);
        return MD_OK;
    }
    int view = 0, bits = import__distance(&f[a].hash, &f[b].hash, &view);
    /* Grouped by name or by look; a chain of near duplicates may join through a third picture. */
    MD_FAIL(MD_BAD_INPUT,
            "%s: %s (%s) and %s (%s) %s but stand in different splits (%d of 512 hash bits "
            "differ); take one out, or set data.near_duplicates = \"join\" (both to the stricter "
            "split) or \"warn\"",
            list->root, p->image, of_p, q->image, of_q,
            !near(f, a, b) ? "belong to one group"
            : view         ? "are nearly the same picture, mirrored,"
                           : "are nearly the same picture",
            bits);
}

static md_status move_twin(import_list *list, import_facts *f, int64_t i, int64_t to)
{
    f[i].split = (data_split)list->item[to].split;
    return import__skip(list, "", list->item[i].image, "moved from %s to %s (with %s)",
                        data_split_name((data_split)list->item[i].split),
                        data_split_name(f[i].split), list->item[to].image);
}

static md_status take_own_splits(import_list *list, const import_grouping *how, import_facts *f,
                                 int64_t n_groups, int64_t *moved)
{
    int64_t *first = malloc((size_t)n_groups * sizeof *first); /* of each group; or its strictest */
    if (!first)
        MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
    memset(first, -1, (size_t)n_groups * sizeof *first);
    bool move = how->twins == IMPORT_TWINS_MOVE;
    md_status status = MD_OK;
    for (int64_t i = 0; i < list->n && status == MD_OK; i++) {
        int64_t *one = &first[f[i].group];
        f[i].split = (data_split)list->item[i].split;
        if (*one < 0)
            *one = i;
        else if (move && list->item[i].split > list->item[*one].split)
            *one = i;
        else if (!move && list->item[i].split != list->item[*one].split)
            status = face_twins(list, how, f, *one, i);
    }
    for (int64_t i = 0; i < list->n && status == MD_OK && move; i++) {
        int64_t one = first[f[i].group];
        if (list->item[i].split == list->item[one].split)
            continue;
        status = move_twin(list, f, i, one);
        ++*moved;
    }
    free(first);
    return status;
}

typedef struct drawn {
    uint32_t key;
    int32_t id;
} drawn;

static int by_key(const void *a, const void *b)
{
    const drawn *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Random order of ids 0..n-1 by the seed; `use` keeps what is drawn for different ends apart. */
static void shuffle(drawn *d, int64_t n, uint64_t seed, uint32_t use)
{
    for (int64_t i = 0; i < n; i++) {
        md_rng r = md_rng_at(seed, MD_RNG_SPLIT, (uint64_t)i, use);
        d[i] = (drawn){md_rng_u32(&r), (int32_t)i};
    }
    qsort(d, (size_t)n, sizeof *d, by_key);
}

/* Groups in random order fill train up to 80 % of their pictures, then val up to 90 %, then test.
 */
static void deal(const drawn *order, int64_t n_groups, const int64_t *pictures, const bool *wanted,
                 data_split *split)
{
    int64_t total = 0, dealt = 0;
    for (int64_t g = 0; g < n_groups; g++)
        total += wanted[g] ? pictures[g] : 0;
    int64_t train = (8 * total + 5) / 10, val = (9 * total + 5) / 10; /* rounded */
    for (int64_t k = 0; k < n_groups; k++) {
        int32_t g = order[k].id;
        if (!wanted[g])
            continue;
        split[g] = dealt < train ? DATA_TRAIN : dealt < val ? DATA_VAL : DATA_TEST;
        dealt += pictures[g];
    }
}

static md_status draw_splits(const import_list *list, const import_grouping *how, import_facts *f,
                             int64_t n_groups)
{
    size_t n = (size_t)n_groups;
    drawn *order = malloc(n * sizeof *order);
    int64_t *pictures = calloc(n, sizeof *pictures);
    bool *lesion = calloc(n, sizeof *lesion), *healthy = calloc(n, sizeof *healthy);
    data_split *split = calloc(n, sizeof *split);
    md_status status = MD_OK;
    if (!order || !pictures || !lesion || !healthy || !split) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: out of memory", list->root);
        goto done;
    }
    for (int64_t i = 0; i < list->n; i++) {
        pictures[f[i].group]++;
        lesion[f[i].group] |= list->item[i].kind == DATA_LESION;
    }
    for (int64_t g = 0; g < n_groups; g++)
        healthy[g] = !lesion[g];
    shuffle(order, n_groups, how->seed, 0);
    deal(order, n_groups, pictures, lesion, split);
    deal(order, n_groups, pictures, healthy, split);
    for (int64_t i = 0; i < list->n; i++)
        f[i].split = split[f[i].group];
done:
    free(order);
    free(pictures);
    free(lesion);
    free(healthy);
    free(split);
    return status;
}

/* Of the training pairs, data.pairs in random order are used; every lesion-free training image is.
 */
static md_status choose(const import_list *list, const import_grouping *how, import_facts *f,
                        int64_t *used)
{
    drawn *order = malloc((size_t)list->n * sizeof *order);
    if (!order)
        MD_FAIL(MD_NOMEM, "%s: out of memory", list->root);
    shuffle(order, list->n, how->seed, 1);
    *used = 0;
    for (int64_t k = 0; k < list->n; k++) {
        int32_t i = order[k].id;
        bool lesion = list->item[i].kind == DATA_LESION;
        f[i].used = f[i].split == DATA_TRAIN && (!lesion || !how->n_pairs || *used < how->n_pairs);
        *used += f[i].used && lesion;
    }
    free(order);
    return MD_OK;
}

md_status import__group(import_list *list, const import_grouping *how, import_facts *facts,
                        import_report *report)
{
    report->joined = find_groups(list, facts);
    report->groups = number_groups(list, facts);
    report->official = has_own_splits(list);
    if (report->official)
        MD_TRY(take_own_splits(list, how, facts, report->groups, &report->moved));
    else
        MD_TRY(draw_splits(list, how, facts, report->groups));
    MD_TRY(choose(list, how, facts, &report->used));
    for (int64_t i = 0; i < list->n; i++) {
        int64_t *count = list->item[i].kind == DATA_LESION ? report->lesion : report->healthy;
        count[facts[i].split]++;
    }
    return MD_OK;
}

/* The import: scan, read and check, group, split, write. The stores get their names at the very
 * end. */
#include "store/import.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/str.h"
#include "image/tissue.h"
#include "store/import_background.h"
#include "store/import_checks.h"
#include "store/import_crops.h"
#include "store/import_group.h"
#include "store/import_list.h"
#include "store/import_read.h"
#include "store/import_sheet.h"

static const import_format *const formats[] = {&import_folder, &import_busi, &import_ddti,
                                               &import_isic, &import_ph2};

const import_format *import_find(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(formats[i]->name, name))
            return formats[i];
    return NULL;
}

/* A background to be: a whole lesion-free picture, or a square of a lesion picture. */
typedef struct background {
    int64_t picture;
    import_square square; /* side 0: the whole */
} background;

typedef struct importer {
    const import_format *format;
    import_list list;
    import_facts *facts; /* [list.n] */
    data_row *row;       /* [list.n] */
    int64_t size;
    image_fit_mode fit;
    image_filter filter, mask_filter, background_filter;
    uint8_t *rgb, *mask;    /* one stored picture */
    background *background; /* [n_backgrounds] */
    int64_t n_backgrounds, cap_backgrounds;
    data_kind background_kind;
    const char *config;
    char *licences; /* of the pictures */
    import_odd odd;
    uint64_t seed;
    data_store *data, *backgrounds;
    import_pixels source; /* of picture source_of, or -1 */
    int64_t source_of;
} importer;

/* ---- setting up ---- */

static int64_t count_lesions(const import_list *list)
{
    int64_t n = 0;
    for (int64_t i = 0; i < list->n; i++)
        n += list->item[i].kind == DATA_LESION;
    return n;
}

static md_status scan(importer *im, const config *cfg)
{
    const char *root = config_string(cfg, KEY_data_root);
    struct stat st;
    if (!*root)
        return config_fail(cfg, KEY_data_root,
                           "is empty; it names the folder of the data set: --set data.root=FOLDER");
    if (stat(root, &st) != 0)
        return config_fail(
            cfg, KEY_data_root,
            "%s: %s; it names the data set's folder, seen from the working directory "
            "(data/README.md: where to get one)",
            root, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return config_fail(cfg, KEY_data_root,
                           "%s is no folder; name the one that holds the data set", root);
    im->list.root = root;
    im->format = import_find(config_string(cfg, KEY_data_format));
    if (!im->format)
        return config_fail(cfg, KEY_data_format, "there is no importer \"%s\"",
                           config_string(cfg, KEY_data_format));
    im->list.arena = md_arena_new();
    if (!im->list.arena)
        MD_FAIL(MD_NOMEM, "%s: out of memory", root);
    im->list.format = im->format;
    MD_TRY(im->format->scan(&im->list));
    for (int64_t i = 0; i < im->list.n; i++)
        if (strlen(im->list.item[i].image) >= DATA_NAME_BYTES)
            MD_FAIL(MD_BAD_INPUT, "%s: this name has more than %d bytes", im->list.item[i].image,
                    DATA_NAME_BYTES - 1);
    if (!count_lesions(&im->list))
        MD_FAIL(MD_BAD_INPUT,
                "%s holds no image with a lesion mask, as data.format = \"%s\" lays them out; "
                "data/README.md shows how",
                root, im->format->name);
    return MD_OK;
}

static void read_filters(importer *im, const config *cfg)
{
    /* as keys.def lists them */
    static const image_filter of_images[] = {IMAGE_BICUBIC, IMAGE_BILINEAR, IMAGE_LANCZOS};
    static const image_filter of_masks[] = {IMAGE_AREA, IMAGE_BILINEAR, IMAGE_LANCZOS};
    im->filter = of_images[config_choice(cfg, KEY_data_filter)];
    im->mask_filter = of_masks[config_choice(cfg, KEY_data_mask_filter)];
    im->background_filter = of_images[config_choice(cfg, KEY_data_background_filter)];
}

static bool has_licence(const import_list *list, int64_t end, const char *licence)
{
    for (int64_t i = 0; i < end; i++)
        if (!strcmp(list->item[i].licence, licence))
            return true;
    return false;
}

/* The licences of the pictures, each once, in the order of the list. */
static md_status join_licences(importer *im)
{
    enum { MOST = 16 };
    md_text t = {0};
    md_status status = MD_OK;
    int64_t n = 0;
    for (int64_t i = 0; i < im->list.n && n <= MOST && status == MD_OK; i++) {
        const char *licence = im->list.item[i].licence;
        if (has_licence(&im->list, i, licence))
            continue;
        n++;
        status = n <= MOST ? md_text_add(&t, "%s%s", n > 1 ? "; " : "", licence)
                           : md_text_add(&t, "; and others, of each row its own");
    }
    free(im->licences);
    im->licences = t.s; /* NULL only of an empty list */
    return status;
}

static data_info describe_set(const importer *im)
{
    return (data_info){.config = im->config,
                       .code_version = MEDDIFF_VERSION,
                       .format = im->format->name,
                       .licences = im->licences,
                       .seed = im->seed};
}

static md_status begin(importer *im, config *cfg, const char *path)
{
    MD_TRY(scan(im, cfg));
    md_status status = MD_OK;
    im->size = config_int(cfg, KEY_data_size);
    im->fit = (image_fit_mode)config_choice(cfg, KEY_data_fit);
    read_filters(im, cfg);
    im->seed = (uint64_t)config_int(cfg, KEY_seed);
    im->config = config_text(cfg, &status);
    MD_TRY(im->config ? MD_OK : status);
    size_t n = (size_t)im->list.n, area = (size_t)(im->size * im->size);
    im->facts = calloc(n, sizeof *im->facts);
    im->row = calloc(n, sizeof *im->row);
    im->rgb = malloc(3 * area);
    im->mask = malloc(area);
    if (!im->facts || !im->row || !im->rgb || !im->mask)
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    return MD_OK;
}

static void end(importer *im)
{
    data_close(im->data);
    data_close(im->backgrounds);
    free(im->list.item);
    free(im->list.skip);
    md_arena_free(im->list.arena);
    free(im->facts);
    free(im->row);
    free(im->rgb);
    free(im->mask);
    free(im->background);
    free(im->licences);
    import__pixels_free(&im->source);
}

/* ---- pixels ---- */

/* Its outlines lie beside it, or on a line. As with those that cannot be read, it is not known
   where its lesion is. */
static md_status leave_out(importer *im, int64_t i)
{
    static const char why[] = "its outlines mark no pixel of it";
    const import_picture *p = &im->list.item[i];
    im->facts[i].left_out = true;
    md_warn("store", "%s/%s is left out: %s", im->list.root, p->image, why);
    return import__skip(&im->list, "", p->image, "no usable outline (%s)", why);
}

static md_status take_picture(importer *im, int64_t i, import_pixels *px)
{
    const import_picture *p = &im->list.item[i];
    data_row *row = &im->row[i];
    MD_TRY(import__read(&im->list, p, px));
    if (p->n_outlines && !memchr(px->mask.px, 1, (size_t)(px->mask.h * px->mask.w)))
        return leave_out(im, i);
    import__look(&im->odd, p, px);
    MD_TRY(import__hash(&px->rgb, &im->facts[i].hash));
    MD_TRY(md_str_copy(im->facts[i].sha256, sizeof im->facts[i].sha256, px->sha256));
    MD_TRY(import__place(px->rgb.h, px->rgb.w, im->fit, im->size, row));
    MD_TRY(import__draw_image(px, row, im->size, im->filter, im->rgb));
    MD_TRY(import__draw_mask(px, row, im->size, im->mask_filter, im->mask));
    if (p->kind == DATA_LESION && !memchr(im->mask, 1, (size_t)(im->size * im->size)))
        MD_FAIL(
            MD_BAD_INPUT,
            "%s/%s: nothing of its lesion is left at data.size = %lld with data.fit = %s; try a "
            "larger size%s",
            im->list.root, p->image, (long long)im->size,
            im->fit == IMAGE_CROP     ? "crop"
            : im->fit == IMAGE_SQUASH ? "squash"
                                      : "letterbox",
            im->fit == IMAGE_CROP ? " or another fit" : "");
    MD_TRY(data_write_pixels(im->data, i, im->rgb, im->mask));
    return MD_OK;
}

static md_status take_all(importer *im)
{
    im->odd = (import_odd){0};
    md_progress bar = md_progress_begin("import", "images", 0, im->list.n);
    for (int64_t i = 0; i < im->list.n; i++) {
        import_pixels px;
        md_status status = take_picture(im, i, &px);
        import__pixels_free(&px);
        MD_TRY(status);
        md_progress_at(&bar, i + 1);
    }
    md_progress_end(&bar, im->list.n);
    return MD_OK;
}

/* Pictures that are left out leave the list. Returns how many. */
static int64_t close_gaps(importer *im)
{
    int64_t kept = 0, n = im->list.n;
    for (int64_t i = 0; i < n; i++)
        if (!im->facts[i].left_out)
            im->list.item[kept++] = im->list.item[i];
    im->list.n = kept;
    if (kept < n)
        memset(im->facts, 0, (size_t)n * sizeof *im->facts);
    return n - kept;
}

/* A store has its number of rows from the start, and what is left out shows only once all pictures
   are read; then, which is rare, the others are read again. */
static md_status take_pictures(importer *im, const char *path)
{
    for (;;) {
        MD_TRY(join_licences(im));
        const data_info info = describe_set(im);
        MD_TRY(data_create(path, DATA_IMAGES, im->list.n, im->size, &info, &im->data));
        MD_TRY(take_all(im));
        MD_TRY(import__leave_out_twins(&im->list, im->facts));
        int64_t out = close_gaps(im);
        if (!out)
            return MD_OK;
        if (!count_lesions(&im->list))
            MD_FAIL(MD_BAD_INPUT, "%s: no picture with a lesion is left, after %lld were left out",
                    im->list.root, (long long)out);
        md_info("import", "reading again the %lld pictures that stay (%lld left out)",
                (long long)im->list.n, (long long)out);
        data_close(im->data);
        im->data = NULL;
    }
}

/* ---- rows ---- */

static md_status describe(importer *im, int64_t i, data_row *row)
{
    const import_picture *p = &im->list.item[i];
    const import_facts *f = &im->facts[i];
    row->kind = p->kind;
    row->split = f->split;
    row->used = f->used;
    row->group = f->group;
    row->data_id = (int32_t)i;
    MD_TRY(md_str_copy(row->name, sizeof row->name, p->image));
    MD_TRY(md_str_copy(row->sha256, sizeof row->sha256, f->sha256));
    MD_TRY(md_str_copy(row->licence, sizeof row->licence, p->licence));
    return MD_OK;
}

static md_status write_rows(importer *im)
{
    for (int64_t i = 0; i < im->list.n; i++) {
        MD_TRY(describe(im, i, &im->row[i]));
        MD_TRY(data_write_row(im->data, i, &im->row[i]));
    }
    return MD_OK;
}

/* ---- backgrounds ---- */

static md_status add_background(importer *im, int64_t picture, import_square square)
{
    if (im->n_backgrounds == im->cap_backgrounds) {
        int64_t cap = im->cap_backgrounds ? 2 * im->cap_backgrounds : 64;
        background *b = realloc(im->background, (size_t)cap * sizeof *b);
        if (!b)
            MD_FAIL(MD_NOMEM, "%s: out of memory", im->list.root);
        im->background = b;
        im->cap_backgrounds = cap;
    }
    im->background[im->n_backgrounds++] = (background){picture, square};
    return MD_OK;
}

static md_status find_squares(importer *im, int64_t i, int max_n)
{
    import_pixels px;
    import_square square[IMPORT_MAX_CROPS];
    int n = 0;
    md_status status = import__read(&im->list, &im->list.item[i], &px);
    if (status == MD_OK)
        status = import__squares(&px.rgb, &px.mask, im->size, max_n, square, &n);
    import__pixels_free(&px);
    for (int k = 0; k < n && status == MD_OK; k++)
        status = add_background(im, i, square[k]);
    MD_TRY(status);
    return MD_OK;
}

/* Of the candidates, those that backgrounds.count asks for stay. */
static md_status choose_backgrounds(importer *im, config *cfg)
{
    int64_t count = config_int(cfg, KEY_backgrounds_count);
    if (!count)
        return MD_OK;
    if (count > im->n_backgrounds)
        return config_fail(cfg, KEY_backgrounds_count,
                           "%lld, but %s gives %lld %s: take fewer, or backgrounds.from = "
                           "\"repaired\"",
                           (long long)count, im->list.root, (long long)im->n_backgrounds,
                           im->background_kind == DATA_CROP ? "lesion-free squares"
                                                            : "lesion-free training images");
    int64_t *chosen = malloc((size_t)count * sizeof *chosen);
    if (!chosen)
        MD_FAIL(MD_NOMEM, "%s: out of memory", im->list.root);
    md_status status = import_choose(im->seed, im->n_backgrounds, count, chosen);
    for (int64_t i = 0; i < count && status == MD_OK; i++)
        im->background[i] = im->background[chosen[i]]; /* chosen[i] >= i */
    im->n_backgrounds = count;
    free(chosen);
    return status;
}

/* Lesion-free images of the train split, or squares of the chosen training pairs; none where these
   are to be repaired. */
static md_status find_backgrounds(importer *im, config *cfg, import_report *report)
{
    MD_TRY(import_background_kind(cfg, im->data, &im->background_kind));
    report->background = im->background_kind;
    if (im->background_kind == DATA_REPAIRED)
        return MD_OK;
    for (int64_t i = 0; i < im->list.n; i++)
        if (im->background_kind == DATA_HEALTHY && im->row[i].kind == DATA_HEALTHY &&
            im->row[i].split == DATA_TRAIN)
            MD_TRY(add_background(im, i, (import_square){0, 0, 0}));
        else if (im->background_kind == DATA_CROP && im->row[i].kind == DATA_LESION &&
                 im->row[i].used)
            MD_TRY(find_squares(im, i, (int)config_int(cfg, KEY_data_crops)));
    if (im->n_backgrounds == 0 && im->background_kind == DATA_HEALTHY)
        return config_fail(cfg, KEY_backgrounds_from,
                           "%s has no lesion-free image in the train split: set \"repaired\" or "
                           "\"crops\"",
                           im->list.root);
    MD_TRY(choose_backgrounds(im, cfg));
    report->backgrounds = im->n_backgrounds;
    return MD_OK;
}

/* The source of a crop, kept between crops: those of one picture follow each other. */
static md_status load_source(importer *im, int64_t picture)
{
    if (im->source_of == picture)
        return MD_OK;
    import__pixels_free(&im->source);
    im->source_of = -1;
    MD_TRY(import__read(&im->list, &im->list.item[picture], &im->source));
    im->source_of = picture;
    return MD_OK;
}

static md_status write_background(importer *im, int64_t b)
{
    const background *from = &im->background[b];
    data_row row = im->row[from->picture];
    import_square s = from->square;
    if (s.side == 0 && im->background_filter == im->filter) {
        MD_TRY(data_read_pixels(im->data, from->picture, im->rgb, NULL));
    } else {
        image_box box = {(double)s.y, (double)s.x, (double)(s.y + s.side), (double)(s.x + s.side)};
        MD_TRY(load_source(im, from->picture));
        if (s.side) {
            row.kind = DATA_CROP;
            import__place_box(im->source.rgb.h, im->source.rgb.w, box, im->size, &row);
        }
        MD_TRY(import__draw_image(&im->source, &row, im->size, im->background_filter, im->rgb));
    }
    const image shown = {im->size, im->size, 3, im->rgb};
    image allowed = {0};
    MD_TRY(image_tissue(&shown, row.valid, &allowed));
    md_status status = data_write_pixels(im->backgrounds, b, im->rgb, allowed.px);
    if (status == MD_OK && !memchr(allowed.px, 1, (size_t)(im->size * im->size)))
        md_warn("store", "%s: dark all over, so no lesion fits into this background", row.name);
    image_free(&allowed);
    MD_TRY(status);
    MD_TRY(data_write_row(im->backgrounds, b, &row));
    return MD_OK;
}

static md_status write_backgrounds(importer *im, const char *path)
{
    if (im->n_backgrounds == 0) {
        if (im->background_kind == DATA_CROP)
            md_warn("store", "%s: no lesion-free square found, so there are no backgrounds",
                    im->list.root);
        return MD_OK;
    }
    const data_info info = describe_set(im);
    MD_TRY(
        data_create(path, DATA_BACKGROUNDS, im->n_backgrounds, im->size, &info, &im->backgrounds));
    for (int64_t b = 0; b < im->n_backgrounds; b++)
        MD_TRY(write_background(im, b));
    return MD_OK;
}

/* ---- the whole ---- */

/* Hours of work, perhaps; whether it still fits is looked at where it is used. */
static bool holds_repaired(const char *path)
{
    data_store *d = NULL;
    data_row row = {.kind = DATA_LESION};
    md_status status = data_open(path, DATA_BACKGROUNDS, &d);
    if (status == MD_OK)
        status = data_read_row(d, 0, &row);
    data_close(d);
    if (status != MD_OK)
        md_status_clear();
    return row.kind == DATA_REPAIRED;
}

static md_status run_import(importer *im, config *cfg, const char *run, import_report *report)
{
    char data[PATH_MAX], backgrounds[PATH_MAX], sheet[PATH_MAX], skipped[PATH_MAX];
    MD_TRY(md_path_join(data, sizeof data, run, "data.h5"));
    MD_TRY(md_path_join(backgrounds, sizeof backgrounds, run, "backgrounds.h5"));
    MD_TRY(md_path_join(sheet, sizeof sheet, run, "import.png"));
    MD_TRY(md_path_join(skipped, sizeof skipped, run, "import_skipped.csv"));
    MD_TRY(begin(im, cfg, data));
    MD_TRY(take_pictures(im, data));
    import_grouping how = {im->seed, (import_twins)config_choice(cfg, KEY_data_near_duplicates),
                           config_int(cfg, KEY_data_pairs)};
    MD_TRY(import__group(&im->list, &how, im->facts, report));
    MD_TRY(write_rows(im));
    MD_TRY(find_backgrounds(im, cfg, report));
    MD_TRY(write_backgrounds(im, backgrounds));
    MD_TRY(import__sheet(sheet, im->data, im->backgrounds));
    MD_TRY(import__write_skipped(&im->list, skipped));
    report->skipped = im->list.n_skipped;
    import__tell_skipped(&im->list);
    import__tell_odd(&im->list, &im->odd);
    import__tell_few(&im->list, report, how.n_pairs);
    if (im->backgrounds) {
        data_store *b = im->backgrounds;
        im->backgrounds = NULL;
        MD_TRY(data_finish(b));
    } else if (im->background_kind != DATA_REPAIRED || !holds_repaired(backgrounds)) {
        (void)remove(backgrounds); /* of an earlier import */
    }
    data_store *d = im->data; /* last: its name says that all is there */
    im->data = NULL;
    MD_TRY(data_finish(d));
    return MD_OK;
}

md_status import_run(config *cfg, const char *run, import_report *report)
{
    importer im = {.source_of = -1};
    import_report r = {.used = 0};
    md_status status = run_import(&im, cfg, run, &r);
    end(&im);
    if (status != MD_OK)
        return md_frame(status, __FILE__, __LINE__);
    *report = r;
    return MD_OK;
}

md_status import_count(const config *cfg, int64_t *lesions, int64_t *healthy)
{
    importer im = {.source_of = -1};
    md_status status = scan(&im, cfg);
    *lesions = *healthy = 0;
    if (status == MD_OK) {
        *lesions = count_lesions(&im.list);
        *healthy = im.list.n - *lesions;
    }
    end(&im);
    return status;
}

md_status import_is_done(config *cfg, const char *run, bool *done)
{
    char path[PATH_MAX], *text = NULL;
    MD_TRY(md_path_join(path, sizeof path, run, "data.h5"));
    *done = false;
    if (!md_file_exists(path))
        return MD_OK;
    data_store *d = NULL;
    MD_TRY(data_open(path, DATA_IMAGES, &d));
    md_status status = data_text(d, "config", &text);
    if (status == MD_OK)
        status = config_same_as(cfg, text, path, ". data");
    free(text);
    data_close(d);
    MD_TRY(status);
    *done = true;
    return MD_OK;
}

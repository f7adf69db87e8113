/* Data sets into data.h5 and backgrounds.h5. An importer only says which files belong together (one
   C file and one table row per layout); reading, checking, grouping, splitting, fitting and writing
   are the same for all. Whatever is wrong with the data set ends the import before a store is
   there, with one message that names the file: BAD_INPUT. */
#ifndef MD_STORE_IMPORT_H
#define MD_STORE_IMPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "store/data.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- what a job calls ---- */

typedef struct import_report {
    int64_t lesion[DATA_N_SPLITS];  /* pairs */
    int64_t healthy[DATA_N_SPLITS]; /* lesion-free images */
    int64_t used;                   /* training pairs chosen by data.pairs */
    data_kind background;           /* what backgrounds.from comes to */
    int64_t backgrounds; /* rows of backgrounds.h5; 0: not made, they are to be repaired */
    int64_t groups;
    int64_t joined;  /* pictures that share a group with an equal or nearly equal one */
    int64_t moved;   /* pictures that went to the split of their group: data.near_duplicates */
    int64_t skipped; /* lines of run/import_skipped.csv */
    bool official;   /* the splits are the data set's own */
} import_report;

/* Reads the data set of `cfg` (data.*, backgrounds.* and seed) and writes run/data.h5,
   run/backgrounds.h5 (unless its pictures are to be repaired), run/import.png, and
   run/import_skipped.csv, what was left out or moved and why; each complete or not at all. Local:
   one process. */
MD_MUST md_status import_run(config *cfg, const char *run, import_report *report);
/* What the data set of `cfg` holds by its files alone, which are listed but not opened: pictures
   with a lesion and without. Local. */
MD_MUST md_status import_count(const config *cfg, int64_t *lesions, int64_t *healthy);
/* *done = run/data.h5 is there and was made under the same data.* keys and seed; MD_USAGE naming
   the key when it was made under others. */
MD_MUST md_status import_is_done(config *cfg, const char *run, bool *done);

/* What backgrounds.from comes to for these images: DATA_HEALTHY, DATA_CROP or DATA_REPAIRED. */
MD_MUST md_status import_background_kind(const config *cfg, data_store *data, data_kind *out);
/* MD_USAGE naming the key when `backgrounds`, the file of this name, was made under another
   backgrounds.from or backgrounds.count. */
MD_MUST md_status import_check_backgrounds(const config *cfg, data_store *data,
                                           data_store *backgrounds, const char *name);

/* ---- what an importer is ---- */

enum { IMPORT_MAX_MASKS = 32, IMPORT_NO_SPLIT = -1 };

typedef struct import_picture {
    const char *image; /* path below the root; all text lives in the list's arena */
    const char *mask[IMPORT_MAX_MASKS];
    int n_masks;                          /* several: their union */
    const struct format_polygon *outline; /* the mask in place of files: their filled union */
    int64_t n_outlines;  /* a DATA_LESION has masks or outlines, a DATA_HEALTHY may have masks */
    data_kind kind;      /* DATA_LESION or DATA_HEALTHY */
    const char *group;   /* patient or lesion, where the layout tells; NULL: a group of its own */
    int split;           /* the data set's own data_split, or IMPORT_NO_SPLIT */
    const char *licence; /* of this picture */
} import_picture;

/* A file that is not used, or not whole, or not where the data set has it. */
typedef struct import_skip {
    const char *file, *why;
} import_skip;

typedef struct import_list {
    const char *root;
    const struct import_format *format;
    struct md_arena *arena;
    import_picture *item;
    int64_t n, cap;
    import_skip *skip;
    int64_t n_skipped, skip_cap;
} import_list;

typedef struct import_format {
    const char *name;    /* data.format */
    const char *licence; /* of its pictures; NULL where they tell */
    const char *healthy; /* the folder of lesion-free pictures, for messages; NULL: there is none */
    md_status (*scan)(import_list *list); /* fills the list in natural order; opens no picture */
} import_format;

extern const import_format import_busi, import_ddti, import_folder, import_isic, import_ph2;
const import_format *import_find(const char *name); /* NULL when there is none */

#ifdef __cplusplus
}
#endif
#endif

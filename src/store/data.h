/* data.h5: the imported images with their masks. backgrounds.h5: lesion-free pictures with maps of
   where a lesion may lie (/allowed). One code for both; a schema is a subset of one column table
   (masks.h5 will be a third). Written once, under a temporary name; then only read. All functions
   are local. */
#ifndef MD_STORE_DATA_H
#define MD_STORE_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum data_schema { DATA_IMAGES, DATA_BACKGROUNDS, DATA_N_SCHEMAS } data_schema;

typedef enum data_kind {
    DATA_LESION,  /* image and mask */
    DATA_HEALTHY, /* a lesion-free image of the data set; its mask is all zero */
    DATA_CROP,    /* a lesion-free square cut out of a lesion image (backgrounds.h5 only) */
    DATA_REPAIRED /* a lesion image whose lesion was painted over (backgrounds.h5 only) */
} data_kind;

typedef enum data_split { DATA_TRAIN, DATA_VAL, DATA_TEST, DATA_N_SPLITS } data_split;

enum { DATA_NAME_BYTES = 256, DATA_SHA256_BYTES = 64, DATA_LICENCE_BYTES = 96 };

/* The small columns of one row. Rectangles are {y0, x0, y1, x1}, ends exclusive.
   Stored pixel (y, x) of `valid` shows the source pixel
   source[0] + (y + 0.5 - valid[0]) * (source[2] - source[0]) / (valid[2] - valid[0]), x alike. */
typedef struct data_row {
    data_kind kind;
    data_split split;
    bool used;     /* among the data.pairs training pairs; always true for DATA_HEALTHY in train */
    int32_t group; /* equal for pictures of one patient or lesion, and for (near) duplicates */
    int32_t data_id; /* backgrounds.h5: the row of data.h5 it comes from; data.h5: its own number */
    int32_t size[2]; /* height, width of the source image, orientation applied */
    int32_t valid[4]; /* the part of the stored picture that shows the source; the rest is border */
    float source[4];  /* the part of the source it shows */
    char name[DATA_NAME_BYTES];         /* image file, relative to the data set's root */
    char sha256[DATA_SHA256_BYTES + 1]; /* of that file, hex */
    char licence[DATA_LICENCE_BYTES];
} data_row;

/* What the file says about itself; all borrowed, NULL is stored as "". */
typedef struct data_info {
    const char *config, *code_version, *format, *licences;
    const char *made_from; /* of repaired backgrounds: SHA-256 of what shaped them */
    uint64_t seed;
} data_info;

typedef struct data_store data_store;

/* A new file for `rows` pictures of size x size, open for writing under a temporary name;
   data_finish gives it its name, data_close without that removes it. */
MD_MUST md_status data_create(const char *path, data_schema schema, int64_t rows, int64_t size,
                              const data_info *info, data_store **out);
/* image [S,S,3], map [S,S] of 0 and 1: the mask; in backgrounds.h5 where a lesion may lie. */
MD_MUST md_status data_write_pixels(data_store *d, int64_t row, const uint8_t *image,
                                    const uint8_t *map);
MD_MUST md_status data_write_row(data_store *d, int64_t row, const data_row *r);
/* Synced, renamed, closed; d is gone afterwards, also on failure. */
MD_MUST md_status data_finish(data_store *d);

/* A file that several processes fill over several runs. */
/* From now on data_close leaves an unfinished file where it is, for data_resume. */
void data_keep(data_store *d);
/* The unfinished file of `path`, open for writing and kept; *out NULL where there is none. */
MD_MUST md_status data_resume(const char *path, data_schema schema, data_store **out);
/* The halves of data_write_pixels: a worker writes pixels, and the one who has synced their report
   the small column. */
MD_MUST md_status data_put_pixels(data_store *d, int64_t row, const uint8_t *image,
                                  const uint8_t *map, uint32_t *crc);
MD_MUST md_status data_put_crc(data_store *d, int64_t row, uint32_t crc);
MD_MUST md_status data_sync(data_store *d);

/* Reading, while others read, too. BAD_INPUT when it is missing, foreign or truncated. */
MD_MUST md_status data_open(const char *path, data_schema schema, data_store **out);
void data_close(data_store *d); /* NULL is fine */

int64_t data_rows(const data_store *d);
int64_t data_size(const data_store *d);
MD_MUST md_status data_read_row(data_store *d, int64_t row, data_row *r);
/* Either may be NULL. */
MD_MUST md_status data_read_pixels(data_store *d, int64_t row, uint8_t *image, uint8_t *map);
/* *whole = the row's pixels give the checksum that was stored with them. */
MD_MUST md_status data_verify_row(data_store *d, int64_t row, bool *whole);
MD_MUST md_status data_text(data_store *d, const char *attribute, char **out); /* malloced */
MD_MUST md_status data_seed(data_store *d, uint64_t *seed);

/* A compact copy of the rows ids[n] of a data.h5, as the file `path` itself: every column and
   attribute, pixels compressed (store_make_packed), and /data_id i32 [n], their numbers in d. */
MD_MUST md_status data_pack(data_store *d, const int64_t *ids, int64_t n, const char *path);

/* Rows of this kind and split (kind < 0: any; used_only: those of data.pairs), ascending. *ids is
   malloced for the caller, with one spare element, so never NULL. */
MD_MUST md_status data_select(data_store *d, int kind, data_split split, bool used_only,
                              int64_t **ids, int64_t *n);

/* The licence of phantoms, and whether every row has it: no picture of the store is a patient's. */
#define DATA_DRAWN_LICENCE "CC0 1.0: drawn by meddiff phantom, no patient's image"
MD_MUST md_status data_is_drawn(data_store *d, bool *drawn);

const char *data_split_name(data_split s);

#ifdef __cplusplus
}
#endif
#endif

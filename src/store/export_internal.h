/* What the formats of an export share: what is exported, its pixels, its names, its provenance. */
#ifndef MD_STORE_EXPORT_INTERNAL_H
#define MD_STORE_EXPORT_INTERNAL_H

#include "base/progress.h"
#include "base/str.h"
#include "image/image.h"
#include "store/export.h"

enum { EXPORT_NAME = 32 };

typedef struct export_item {
    export_kind kind;
    data_split split; /* of a pair: DATA_TRAIN */
    int64_t row;      /* slot of pairs.h5, row of data.h5 */
    int32_t group[2]; /* whose picture it shows; of a pair: whose background and whose guide, -1: of
                         none that is known */
} export_item;

typedef struct export_set {
    const config *cfg;
    const char *run;
    bool shared;
    pairs_store *pairs;
    data_store *data, *backgrounds; /* NULL where they are not needed or not there */
    export_item *item;              /* pairs by slot, then real ones by row */
    int64_t n;
    export_report *report;
    image image, mask, guide; /* [S,S,3], [S,S,1] of 0 and 1; of a real one no guide */
    md_progress bar;
} export_set;

/* Opens the stores of s->run, checks that they belong together, and lists what is to be exported.
   export__close whatever it says. */
MD_MUST md_status export__open(export_set *s);
void export__close(export_set *s);
/* The pixels of item i into s->image, mask, guide; BAD_INPUT when their checksum is not right. */
MD_MUST md_status export__load(export_set *s, int64_t i);

/* pair-000012, real-000003, healthy-000007: slot of pairs.h5, row of data.h5. */
void export__name(const export_item *e, char out[EXPORT_NAME]);
/* "synthetic", "real", "lesion-free". */
const char *export__kind(const export_item *e);
/* In the licence column of its row; of a pair its background's, else what the store says. */
MD_MUST md_status export__licence(export_set *s, const export_item *e,
                                  char out[DATA_LICENCE_BYTES]);

/* FOLDER/pairs.csv, a line for each file, which `where` names; FOLDER/about.json, what the stores
   say about themselves. */
typedef md_status (*export_where)(const export_item *e, char *out, size_t size);
MD_MUST md_status export__describe(export_set *s, const char *folder, export_where where);
/* name/NAME.png and so on below `folder`, which is made. */
MD_MUST md_status export__file(char out[EXPORT_PATH], const char *folder, const char *sub,
                               const char *file, const char *suffix);

/* One format: writes everything into `folder`, which is there and empty. */
MD_MUST md_status export__png(export_set *s, const char *folder);
MD_MUST md_status export__nnunet(export_set *s, const char *folder);
MD_MUST md_status export__hdf5(export_set *s, const char *folder);
MD_MUST md_status export__coco(export_set *s, const char *folder);
/* DatasetNNN_NAME; USAGE when export.name is no name or `above` has another data set of the number.
 */
MD_MUST md_status export__nnunet_name(const export_set *s, const char *above, char *out,
                                      size_t size);

#endif

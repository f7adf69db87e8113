/* Inside the importers: what is learnt of each picture, and which pictures belong together. */
#ifndef MD_STORE_IMPORT_GROUP_H
#define MD_STORE_IMPORT_GROUP_H

#include "base/sha256.h"
#include "image/image.h"
#include "store/import.h"

/* Difference hash: the picture as gray cells, 17 x 16 by exact area average; bit = the right
   neighbour is brighter; 256 bits along rows and 256 along columns (16 x 17 cells). Measured on 40
   pictures of ISIC 2018, 13 of 2017 and 47 of BUSI: unrelated ones differ in at least 116 of the
   512 bits; copies of 40 of them saved as JPEG 50, at half size, 15 % brighter or without 1 % at
   each edge in at most 18, 8, 53 and 40; without 3 % at each edge in 78 (median): that is beyond
   this hash. The three mirrored views are compared, too,
   since a mirrored copy is a copy: with them unrelated ones differ in at least 108. */
enum { IMPORT_VIEWS = 4 }; /* as it is, left-right, top-bottom, both */
typedef struct import_hash {
    uint64_t bits[IMPORT_VIEWS][8];
} import_hash;

enum { IMPORT_NEAR = 64 }; /* bits: at most this many differ = a near duplicate */

typedef struct import_facts {
    char sha256[MD_SHA256_HEX];
    import_hash hash;
    int32_t group;
    data_split split;
    bool used, left_out;
} import_facts;

MD_MUST md_status import__hash(const image *im, import_hash *out);
/* Bits that differ between a and the view of b that is nearest to it; *view (may be NULL) = which.
 */
int import__distance(const import_hash *a, const import_hash *b, int *view);

/* What a group does that stands in two of the data set's own splits; as keys.def lists it. */
typedef enum import_twins {
    IMPORT_TWINS_REFUSED,
    IMPORT_TWINS_STAY, /* with a warning */
    IMPORT_TWINS_MOVE  /* all of the group to its strictest split: test, then val, then train */
} import_twins;

typedef struct import_grouping {
    uint64_t seed;
    import_twins twins;
    int64_t n_pairs; /* data.pairs, 0 = all */
} import_grouping;

/* Marks the lesion-free pictures that are nearly, or exactly, one with a lesion: facts[].left_out,
   with a line each in list->skip. sha256 and hash must be there. */
MD_MUST md_status import__leave_out_twins(import_list *list, import_facts *facts);

/* Fills group, split and used of facts[list->n]; sha256 and hash must be there. Groups join
   pictures with the same layout group, the same bytes, or nearly equal pixels. What moves is noted
   in list->skip. Splits: the data
   set's own where it names at least two parts, one of them for training; else 80/10/10 by group and
   seed, lesion pictures and lesion-free ones apart. BAD_INPUT naming two files when one group
   stands in two of the set's own parts. */
MD_MUST md_status import__group(import_list *list, const import_grouping *how, import_facts *facts,
                                import_report *report);

#endif

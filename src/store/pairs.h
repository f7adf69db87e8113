/* pairs.h5: the store of generated pairs. Workers write the pixels of their own slots and sync; the
   coordinator alone writes the small columns, /state last. Whatever is killed at whatever moment,
   the file opens, and a slot whose state is 1, 2 or 3 is whole on disk; after a power cut
   pairs_verify tells.

       worker:       pairs_write_pixels(p, slot, image, mask, guide, &crc); ... pairs_sync(p);
   report crc coordinator:  pairs_write_row(p, slot, &row); ... about once a second pairs_sync(p)
       redraw:       pairs_reset(p, slot, attempt + 1), then lease the slot again
   All functions are local: none waits for another process. */
#ifndef MD_STORE_PAIRS_H
#define MD_STORE_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PAIRS_REASON_BYTES = 160, PAIRS_MAX_INPUTS = 10, PAIRS_BAND = 4 };

typedef enum pairs_state {
    PAIRS_EMPTY,
    PAIRS_WRITTEN, /* not yet assessed */
    PAIRS_ACCEPTED,
    PAIRS_REJECTED, /* for good */
    PAIRS_FAILED,
    PAIRS_N_STATES
} pairs_state;

/* SHA-256 of a file the pairs come from; stored as the attribute sha256_<name>. */
typedef struct pairs_input {
    const char *name, *hex;
} pairs_input;

/* What the file says about itself, fixed when it is made. All borrowed; NULL text is stored as "".
 */
typedef struct pairs_spec {
    int64_t rows;
    int64_t height, width;
    const char *prompt, *foundation;
    const char *config; /* the whole resolved text */
    const char *code_version, *licences;
    uint64_t seed;
    double band[PAIRS_BAND]; /* limits of similarity: low and high of the whole image, then of the
                                lesion's box; NaN without assessment */
    bool contains_real_pixels;
    pairs_input input[PAIRS_MAX_INPUTS];
    int n_inputs;
} pairs_spec;

/* The small columns of one slot. */
typedef struct pairs_row {
    pairs_state state;
    float similarity, similarity_lesion; /* NaN until assessed */
    int32_t nearest_id;                  /* -1 until assessed */
    float alignment;                     /* NaN until assessed */
    int32_t background_id, mask_id;      /* -1 when unknown */
    int32_t attempt;
    uint32_t crc;                    /* CRC32C of image, mask and guide bytes, in this order */
    char reason[PAIRS_REASON_BYTES]; /* why 3 or 4; a remark on 2; UTF-8, NUL-terminated */
} pairs_row;

typedef struct pairs_store pairs_store;

pairs_row pairs_row_empty(void);

/* Makes path (temporary name, synced, renamed): rows slots in state 0, disk space claimed. Replaces
   a file that is there. Full disk, missing or unwritable directory: IO, and nothing is left behind.
 */
MD_MUST md_status pairs_create(const char *path, const pairs_spec *spec);

/* Writer: pixels by workers, small columns by the coordinator. Reader: while others write, too. */
MD_MUST md_status pairs_open_writer(const char *path, pairs_store **out);
MD_MUST md_status pairs_open_reader(const char *path, pairs_store **out);
void pairs_close(pairs_store *p); /* NULL is fine */

int64_t pairs_rows(const pairs_store *p);
int64_t pairs_height(const pairs_store *p);
int64_t pairs_width(const pairs_store *p);

/* image [H,W,3], mask and guide [H,W] of 0 and 1; another mask value is MD_INTERNAL. */
MD_MUST md_status pairs_write_pixels(pairs_store *p, int64_t slot, const uint8_t *image,
                                     const uint8_t *mask, const uint8_t *guide, uint32_t *crc);
MD_MUST md_status pairs_sync(pairs_store *p); /* what was written is on the disk afterwards */
MD_MUST md_status pairs_write_row(pairs_store *p, int64_t slot, const pairs_row *row);
/* Before a slot is drawn again: the attempt, then state 0. */
MD_MUST md_status pairs_reset(pairs_store *p, int64_t slot, int32_t attempt);

MD_MUST md_status pairs_read_row(pairs_store *p, int64_t slot, pairs_row *row);
MD_MUST md_status pairs_read_states(pairs_store *p, uint8_t *state /* [rows] */);
MD_MUST md_status pairs_read_attempts(pairs_store *p, int32_t *attempt /* [rows] */);
/* Any of the three may be NULL. */
MD_MUST md_status pairs_read_pixels(pairs_store *p, int64_t slot, uint8_t *image, uint8_t *mask,
                                    uint8_t *guide);
MD_MUST md_status pairs_count_states(pairs_store *p, int64_t count[PAIRS_N_STATES]);
/* Accepted slots with a /reason: their masks were not eroded. */
MD_MUST md_status pairs_count_remarked(pairs_store *p, int64_t *n);

/* What /crc is of such pixels. */
uint32_t pairs_crc(const pairs_store *p, const uint8_t *image, const uint8_t *mask,
                   const uint8_t *guide);
/* *whole = the pixels of the slot give its /crc. */
MD_MUST md_status pairs_verify_slot(pairs_store *p, int64_t slot, bool *whole);
/* For a resume (writer): every slot in state 1, 2 or 3 whose pixels do not give its crc goes back
   to state 0, its attempt kept; slots with an unknown state too. *torn counts them. */
MD_MUST md_status pairs_repair(pairs_store *p, int64_t *torn);

/* Copies path into a larger store of `rows` slots and the same attributes but `config_text` (NULL:
   as it was), then replaces it: finished slots (state 1 to 4) whole, attempts of all. Fewer rows:
   MD_USAGE. */
MD_MUST md_status pairs_grow(const char *path, int64_t rows, const char *config_text);

/* Copies path into a store of the same slots that are all to be judged (anew): states 2 and 3
   become 1, under other limits, another encoder (its SHA-256) and another config; then replaces it.
 */
MD_MUST md_status pairs_unjudge(const char *path, const char *config_text,
                                const double band[PAIRS_BAND], const char *encoder);

/* A compact copy of the slots slot[n] of `from`, as the file `path` itself, which pairs_open_reader
   opens: every column and attribute, pixels compressed (store_make_packed), and /slot i32 [n],
   their numbers in `from`. With backgrounds.h5 (else NULL) also what its rows say of where the
   backgrounds come from: /background_data_id, _group, _name, _sha256, _licence. shared: without
   these, and without what names files, paths and pictures of the data set: config, foundation and
   hashes are empty or gone, background_id, mask_id and nearest_id are -1, /reason is empty. `at` is
   told the number of slots that are written. */
typedef struct pairs_pack_job {
    pairs_store *from;
    const int64_t *slot;
    int64_t n;
    struct data_store *backgrounds;
    bool shared;
    void (*at)(void *progress, int64_t done);
    void *progress;
} pairs_pack_job;
MD_MUST md_status pairs_pack(const pairs_pack_job *j, const char *path);

/* Attributes. Text is malloced for the caller. */
MD_MUST md_status pairs_text(pairs_store *p, const char *name, char **out);
/* The configuration it was made under; the caller's. */
MD_MUST md_status pairs_config(pairs_store *p, config **out);
/* The i-th name that an input may have, NULL behind the last; whether this store has its hash. */
const char *pairs_input_name(int i);
bool pairs_has_input(pairs_store *p, const char *name);
MD_MUST md_status pairs_seed(pairs_store *p, uint64_t *seed);
MD_MUST md_status pairs_band(pairs_store *p, double band[PAIRS_BAND]);
MD_MUST md_status pairs_contains_real_pixels(pairs_store *p, bool *real);

/* MD_USAGE naming the key when the stored config differs from `now` in anything that shapes
   samples, in the sections listed (as config_diff: NULL for all), or naming the file when an
   input's SHA-256 differs from the stored one. */
MD_MUST md_status pairs_check_config(pairs_store *p, const config *now, const char *sections,
                                     const pairs_input *input, int n_inputs);

#ifdef __cplusplus
}
#endif
#endif

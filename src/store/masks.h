/* masks.h5: the store of generated masks, written as pairs.h5 is (store/pairs.h): workers write the
   pixels of their own slots and sync, the coordinator alone the small columns, /state last. All
   functions are local. */
#ifndef MD_STORE_MASKS_H
#define MD_STORE_MASKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MASKS_REASON_BYTES = 32, MASKS_SHAPES = 6 };

typedef enum masks_state {
    MASKS_EMPTY,
    MASKS_WRITTEN, /* plausible by itself, not yet compared with the other masks */
    MASKS_ACCEPTED,
    MASKS_REJECTED, /* no attempt was; /reason is the last one's fault */
    MASKS_FAILED,
    MASKS_N_STATES
} masks_state;

/* Ranges of the training masks, which sampled ones keep to. */
typedef struct masks_limits {
    double area[2];                    /* shares of the square */
    int64_t components, holes, border; /* at most; border in pixels */
    double copy; /* most intersection over union with a training mask, after alignment */
} masks_limits;

/* What the file says about itself; all borrowed, NULL text is stored as "". */
typedef struct masks_spec {
    int64_t rows, size, attempts; /* attempts: most draws of a mask */
    const char *fault_codes;      /* what the numbers in /faults mean: "0 fine, 1 empty, ..." */
    const char *config, *code_version, *licences;
    const char *sha256_data, *sha256_model;
    uint64_t seed;
    masks_limits limits;
} masks_spec;

/* The small columns of one slot. */
typedef struct masks_row {
    masks_state state;
    int32_t attempt;
    int32_t nearest_id;        /* row of data.h5 whose mask is most alike after alignment */
    float nearest_iou;         /* and how much */
    float shape[MASKS_SHAPES]; /* image/shape.h, in its order */
    uint32_t crc;              /* CRC32C of the mask's bytes */
    char reason[MASKS_REASON_BYTES];
} masks_row;

typedef struct masks_store masks_store;

MD_MUST md_status masks_create(const char *path, const masks_spec *spec);
MD_MUST md_status masks_open_writer(const char *path, masks_store **out);
MD_MUST md_status masks_open_reader(const char *path, masks_store **out);
void masks_close(masks_store *m); /* NULL is fine */

int64_t masks_rows(const masks_store *m);
int64_t masks_size(const masks_store *m);

/* mask [S,S] of 0 and 1; another value is MD_INTERNAL. */
MD_MUST md_status masks_write_pixels(masks_store *m, int64_t slot, const uint8_t *mask,
                                     uint32_t *crc);
MD_MUST md_status masks_read_pixels(masks_store *m, int64_t slot, uint8_t *mask);
MD_MUST md_status masks_sync(masks_store *m);
MD_MUST md_status masks_write_row(masks_store *m, int64_t slot, const masks_row *row);
MD_MUST md_status masks_read_row(masks_store *m, int64_t slot, masks_row *row);
/* Why the draw was not taken, before the slot is reset or settled: code (1 to 255) into /faults
   [attempts], where a killed coordinator may write it again; and, if the slot is given up with it,
   into /reason (else NULL). */
MD_MUST md_status masks_write_fault(masks_store *m, int64_t slot, int32_t attempt, int code,
                                    const char *reason);
/* Draws of all slots and starts that were not taken, by code: count[n]. *known is false, and the
   counts are 0, in a file of a version that did not keep them. */
MD_MUST md_status masks_count_faults(masks_store *m, int64_t *count, int n, bool *known);
/* Before a slot is drawn again. */
MD_MUST md_status masks_reset(masks_store *m, int64_t slot, int32_t attempt);
/* Both columns whole: [rows]. masks_settle writes the states in one piece, so that a kill finds all
   slots decided or none. */
MD_MUST md_status masks_read_states(masks_store *m, uint8_t *state, int32_t *attempt);
MD_MUST md_status masks_settle(masks_store *m, const uint8_t *state, const int32_t *attempt);
/* For a resume (writer): slots with pixels whose pixels do not give their crc go back to state 0.
 */
MD_MUST md_status masks_repair(masks_store *m, int64_t *torn);

MD_MUST md_status masks_text(masks_store *m, const char *attribute, char **out); /* malloced */
/* MD_USAGE naming the key or the input when the file was begun under another configuration, data.h5
   or model. */
MD_MUST md_status masks_check(masks_store *m, const config *now, const char *sections,
                              const char *sha256_data, const char *sha256_model);

#ifdef __cplusplus
}
#endif
#endif

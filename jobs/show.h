/* What the parts of `meddiff show` share: show.c reads a pair and what it was made from,
   show_redraw.c paints it again, show_text.c and show_origin.c tell of it, show_sheet.c draws it.
 */
#ifndef MD_JOBS_SHOW_H
#define MD_JOBS_SHOW_H

#include "base/str.h"
#include "generate/rejects.h"
#include "generate/worker.h"
#include "job.h"
#include "store/data.h"
#include "store/masks.h"
#include "store/pairs.h"

enum { SHOW_PATH = 4096 };

typedef struct show {
    const job *j;
    const char *run;
    int64_t slot, size;
    pairs_store *pairs;
    data_store *data, *backgrounds; /* NULL where the run directory does not hold them */
    masks_store *masks;             /* and where the guides are the training masks */
    config *cfg;                    /* the one in pairs.h5 */
    pairs_row row;
    bool painted;           /* the store holds pixels */
    bool whole;             /* and they give the checksum */
    image rgb, mask, guide; /* where painted */
    reject *rejected;       /* [n_rejected]: lines of rejected.csv about this slot */
    int64_t n_rejected;
    uint32_t attempt; /* that was painted again, where `redrawn` */
    bool redrawn;
    pairs_redrawn again;
} show;

/* show.attempt of the slot, painted again from this run directory's models and stores; what shapes
   pixels must be as it was. */
MD_MUST md_status show_redraw(show *s);
/* Redrawn and the stored draw of the same attempt: how far apart. */
typedef struct show_difference {
    bool known; /* there are both */
    uint32_t crc;
    int64_t pixels, mask_pixels, guide_pixels; /* that differ */
    int most;                                  /* grey levels */
} show_difference;
show_difference show_compare(const show *s);

/* "label        text", a line of what is told. */
MD_MUST md_status show_line(md_text *t, const char *label, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Models, stores, licences, settings. */
MD_MUST md_status show_origin(const show *s, md_text *t);
/* Everything about the pair; png: the picture's name, NULL where there is none. */
MD_MUST md_status show_text(const show *s, const char *png, md_text *t);
/* Nothing where there is nothing to draw. `text` is kept in the file. */
MD_MUST md_status show_sheet(const show *s, const char *png, const char *text);

#endif

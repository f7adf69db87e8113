/* Inside the importers: what is odd about the pictures as a whole, and is said rather than refused.
 */
#ifndef MD_STORE_IMPORT_CHECKS_H
#define MD_STORE_IMPORT_CHECKS_H

#include "store/import_read.h"

typedef struct import_odd {
    int64_t lesions;
    int64_t inverted; /* of these, with most of the picture's border marked */
    int64_t turned;   /* one of image and mask has an EXIF orientation, and either way would fit */
    const char *first_inverted, *first_turned; /* image files; the list's */
    int orientation[2];                        /* of the first turned one and of its mask */
} import_odd;

/* Of a picture that stays. */
void import__look(import_odd *odd, const import_picture *p, const import_pixels *px);
/* Warnings, each with what to do. */
void import__tell_odd(const import_list *list, const import_odd *odd);
/* When fewer training pairs are used than data.pairs asks for; 0: all there are. */
void import__tell_few(const import_list *list, const import_report *r, int64_t wanted);

#endif

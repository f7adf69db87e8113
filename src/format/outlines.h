/* Outlines in the case files of DDTI (Pedraza et al. 2015, Proc. SPIE 9287, 92870W): XML over expat
   (named in this room only) with one <mark> per image, whose <svg> is JSON: a list of regions with
   points in pixels. The set holds marks that are empty or were cut off; those are data, not errors:
   they come without polygons and with the reason. */
#ifndef MD_FORMAT_OUTLINES_H
#define MD_FORMAT_OUTLINES_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FORMAT_OUTLINES_BYTES_MAX   ((size_t)16 << 20)
#define FORMAT_OUTLINES_MARKS_MAX   1024
#define FORMAT_OUTLINES_REGIONS_MAX 1024  /* of a mark */
#define FORMAT_OUTLINES_POINTS_MAX  65536 /* of a region */
#define FORMAT_OUTLINES_EXTENT_MAX  1e6   /* largest |x|, |y| */

/* Closed: the last point is joined to the first. */
typedef struct format_polygon {
    int64_t n;        /* at least 3 */
    const double *xy; /* [n,2] x right, y down, in pixels of the image */
} format_polygon;

typedef struct format_mark {
    int64_t image; /* the number after the underscore in the image's name */
    int64_t n_polygons;
    const format_polygon *polygon;
    int64_t n_dropped; /* regions that mark no area */
    const char *why;   /* NULL, or why there is no polygon */
} format_mark;

typedef struct format_outlines {
    int64_t n_marks;
    const format_mark *mark; /* in the file's order */
    struct md_arena *arena;
} format_outlines;

/* Regions of type "arrow", and those of fewer than three points, mark nothing and are left out.
   MD_BAD_INPUT names the file and the line: no XML, a document type, no <case>, a mark without its
   image's number, two marks of one image, more than the limits above. */
MD_MUST md_status format_outlines_read(const char *path, format_outlines **out);
MD_MUST md_status format_outlines_parse(const char *name, const void *bytes, size_t n,
                                        format_outlines **out);
void format_outlines_free(format_outlines *o); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif

/* A case file of DDTI; every polygon that is accepted can be drawn. */
#include "fuzz.h"

#include "format/outlines.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    format_outlines *o = NULL;
    if (format_outlines_parse("fuzz", data, n, &o) != MD_OK)
        return 0;
    for (int64_t i = 0; i < o->n_marks; i++) {
        const format_mark *m = &o->mark[i];
        if (m->image < 0 || !m->why != (m->n_polygons > 0))
            abort();
        for (int64_t k = 0; k < m->n_polygons; k++) {
            if (m->polygon[k].n < 3)
                abort();
            for (int64_t j = 0; j < 2 * m->polygon[k].n; j++)
                if (!(fabs(m->polygon[k].xy[j]) <= FORMAT_OUTLINES_EXTENT_MAX))
                    abort();
        }
    }
    format_outlines_free(o);
    return 0;
}

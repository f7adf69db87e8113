/* BMP, our own parser: the signature is supplied, so that every input reaches it. */
#include "fuzz.h"

#include "image/image.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    image im;
    uint8_t *file = malloc(n + 2);
    if (!file)
        abort();
    file[0] = 'B';
    file[1] = 'M';
    if (n > 2) /* a seed brings its own */
        memcpy(file + 2, data + 2, n - 2);
    if (image_read_memory("fuzz", file, n > 2 ? n : 2, &im) == MD_OK) {
        volatile uint8_t last = im.px[im.h * im.w * im.c - 1];
        (void)last;
        image_free(&im);
    }
    free(file);
    return 0;
}

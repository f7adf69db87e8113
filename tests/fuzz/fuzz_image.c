/* PNG, JPEG and BMP through the reader that importers use, then a small resize and a PNG again. */
#include "fuzz.h"

#include "image/fit.h"
#include "image/image.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    image im, small, again;
    if (image_read_memory("fuzz", data, n, &im) != MD_OK)
        return 0;
    if (im.h < 1 || im.w < 1 || (im.c != 1 && im.c != 3))
        abort();
    if (im.h * im.w <= 1 << 16 &&
        image_fit(&im, 9, IMAGE_LETTERBOX, IMAGE_BILINEAR, &small, NULL) == MD_OK) {
        void *png = NULL;
        size_t bytes = 0;
        if (image_encode_png(&small, NULL, 0, &png, &bytes) != MD_OK ||
            image_read_memory("again", png, bytes, &again) != MD_OK ||
            memcmp(again.px, small.px, (size_t)(81 * small.c)) != 0)
            abort();
        image_free(&again);
        image_free(&small);
        free(png);
    }
    image_free(&im);
    return 0;
}

/* Inside src/image only: the built-in font. */
#ifndef MD_IMAGE_FONT_H
#define MD_IMAGE_FONT_H

#include <stdint.h>

/* Seven rows of five bits, the leftmost bit 4. Lower case gives upper case, unknown a box. */
const uint8_t *image__glyph(char c);

#endif

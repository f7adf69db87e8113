/* What stands before an encoder: preprocessor_config.json of transformers' BitImageProcessor, as
   DINOv2 is published with. Shortest edge resized, centre cut out, scaled, less the mean, by the
   deviation; pixels as PIL gives them. Reference: transformers 4.39.3, models/bit/
   image_processing_bit.py, image_transforms.py (center_crop). */
#ifndef MD_MODEL_PREPROCESS_H
#define MD_MODEL_PREPROCESS_H

#include "base/str.h"
#include "format/json.h"
#include "image/resize.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct preprocess {
    int64_t edge; /* of the shorter side after resizing: 256 */
    int64_t crop; /* of the square that is cut out: 224 */
    image_filter filter;
    double scale; /* 1/255 */
    double mean[3], deviation[3];
} preprocess;

/* Of DINOv2 as published. */
preprocess preprocess_default(void);
/* What a file says otherwise than these steps do is MD_BAD_INPUT by key. */
MD_MUST md_status preprocess_parse(const format_json *doc, preprocess *out);
/* folder/preprocessor_config.json; the default where there is none. */
MD_MUST md_status preprocess_read(const char *folder, preprocess *out);
/* The text of such a file, and the file in `folder`. */
MD_MUST md_status preprocess_text(md_text *t, const preprocess *p);
MD_MUST md_status preprocess_write(const char *folder, const preprocess *p);

/* rgb [h,w,3] -> out [crop,crop,3], the caller's: the pixels before scaling. */
MD_MUST md_status preprocess_cut(const preprocess *p, const image *rgb, image *out);
/* rgb [h,w,3] -> out [crop,crop,3], what the encoder takes. */
MD_MUST md_status preprocess_apply(const preprocess *p, const image *rgb, float *out);

#ifdef __cplusplus
}
#endif
#endif

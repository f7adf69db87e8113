#include "train/prior.h"
#include "base/file.h"
#include "image/fit.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_picture(const char *name)
{
    static const char *const ends[] = {".png", ".jpg", ".jpeg", ".bmp"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (*name != '.' && n > strlen(ends[i]) && !strcasecmp(name + n - strlen(ends[i]), ends[i]))
            return true;
    return false;
}

md_status prior_list(const char *folder, int64_t most, prior_pictures *out)
{
    size_t n = 0;
    prior_pictures p = {0};
    MD_TRY(md_dir_list(folder, &p.names, &n));
    for (size_t i = 0; i < n && p.n < most; i++)
        if (is_picture(p.names[i]))
            p.names[p.n++] = p.names[i];
    if (p.n == 0) {
        prior_free(&p);
        MD_FAIL(MD_BAD_INPUT, "%s: no picture (png, jpg, bmp) of the class in this folder", folder);
    }
    *out = p;
    return MD_OK;
}

void prior_free(prior_pictures *p)
{
    free(p->names);
    *p = (prior_pictures){0};
}

md_status prior_read(const char *folder, const char *name, int64_t size, uint8_t *rgb)
{
    char path[1024];
    image read = {0}, colour = {0}, fitted = {0};
    md_status status;
    MD_TRY(md_path_join(path, sizeof path, folder, name));
    MD_TRY(image_read(path, &read));
    MD_TRY_GOTO(image_to_rgb(&read, &colour), done);
    MD_TRY_GOTO(image_fit(&colour, size, IMAGE_CROP, IMAGE_BILINEAR, &fitted, NULL), done);
    memcpy(rgb, fitted.px, (size_t)(3 * size * size));
    status = MD_OK;
done:
    image_free(&read);
    image_free(&colour);
    image_free(&fitted);
    return status;
}

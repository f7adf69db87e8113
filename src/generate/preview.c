#include "generate/pairs.h"
#include "image/sheet.h"
#include "store/pairs.h"
#include <stdlib.h>

static md_status put_pair(pairs_store *p, int64_t slot, image_sheet *sheet, int64_t cell)
{
    static const image_color green = {60, 255, 60};
    int64_t h = pairs_height(p), w = pairs_width(p);
    image im = {0}, mask = {0};
    md_status status = image_new(&im, h, w, 3);
    if (status == MD_OK)
        status = image_new(&mask, h, w, 1);
    if (status == MD_OK)
        status = pairs_read_pixels(p, slot, im.px, mask.px, NULL);
    /* each pair twice: as it is, and with the outline */
    if (status == MD_OK)
        status = image_sheet_put(sheet, 2 * (cell / sheet->cols), cell % sheet->cols, &im, NULL);
    if (status == MD_OK)
        status = image_draw_outline(&im, &mask, green, 1);
    if (status == MD_OK)
        status =
            image_sheet_put(sheet, 2 * (cell / sheet->cols) + 1, cell % sheet->cols, &im, NULL);
    image_free(&im);
    image_free(&mask);
    return status;
}

md_status pairs_preview(const char *store, const char *png, int most)
{
    enum { COLS = 8 };
    pairs_store *p = NULL;
    image_sheet sheet = {0};
    MD_TRY(pairs_open_reader(store, &p));
    int64_t rows = pairs_rows(p), n = 0;
    uint8_t *state = malloc((size_t)rows);
    md_status status = state ? pairs_read_states(p, state)
                             : md_fail(MD_NOMEM, __FILE__, __LINE__, "preview: out of memory");
    for (int64_t i = 0; i < rows && status == MD_OK; i++)
        n += state[i] == PAIRS_ACCEPTED;
    n = n < most ? n : most;
    if (status == MD_OK && n > 0)
        status = image_sheet_new(&sheet, 2 * ((n + COLS - 1) / COLS), COLS, pairs_height(p),
                                 pairs_width(p), 2, 0);
    int64_t cell = 0;
    for (int64_t i = 0; i < rows && cell < n && status == MD_OK; i++)
        if (state[i] == PAIRS_ACCEPTED)
            status = put_pair(p, i, &sheet, cell++);
    if (status == MD_OK && n > 0)
        status = image_write_png(png, &sheet.im, NULL, 0);
    image_sheet_free(&sheet);
    free(state);
    pairs_close(p);
    return status;
}

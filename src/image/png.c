/* PNG through libpng: decoding from memory, encoding to memory, writing a file atomically.
   libpng reports errors by longjmp; each function that sets the jump keeps its state in one struct,
   so that nothing in a register is lost. */
#include "image/raw.h"

#include "base/file.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

typedef struct png_job {
    jmp_buf jump;
    char message[128];
    const uint8_t *bytes; /* reading */
    size_t n, at;
    uint8_t *buf; /* writing */
    size_t used, room;
    image_raw raw;
    png_bytep *rows;
    png_structp png;
    png_infop info;
} png_job;

static void on_error(png_structp png, png_const_charp text)
{
    png_job *job = png_get_error_ptr(png);
    size_t i = 0;
    for (; text[i] && i + 1 < sizeof job->message; i++)
        job->message[i] = text[i] >= 32 && text[i] < 127 ? text[i] : '?';
    job->message[i] = 0;
    longjmp(job->jump, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_read(png_structp png, png_bytep out, size_t n)
{
    png_job *job = png_get_io_ptr(png);
    if (n > job->n - job->at)
        png_error(png, "the file ends too early (truncated)");
    memcpy(out, job->bytes + job->at, n);
    job->at += n;
}

static void on_write(png_structp png, png_bytep in, size_t n)
{
    png_job *job = png_get_io_ptr(png);
    if (n > job->room - job->used) {
        const size_t room = (job->used + n) * 2;
        uint8_t *buf = realloc(job->buf, room);
        if (!buf)
            png_error(png, "out of memory");
        job->buf = buf;
        job->room = room;
    }
    memcpy(job->buf + job->used, in, n);
    job->used += n;
}

static void on_flush(png_structp png)
{
    (void)png;
}

/* Everything between the jump's setting and its end; returns the refusal, if there is one. */
static md_status decode(const char *name, png_job *job)
{
    png_structp png = job->png;
    png_infop info = job->info;
    png_set_user_limits(png, IMAGE_SIDE_MAX, IMAGE_SIDE_MAX);
    png_set_chunk_malloc_max(png, (png_alloc_size_t)64 << 20);
    png_set_read_fn(png, job, on_read);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* libFuzzer's define: get past the checksums */
    png_set_crc_action(png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
#endif
    png_read_info(png, info);
    const int64_t w = png_get_image_width(png, info), h = png_get_image_height(png, info);
    const int type = png_get_color_type(png, info), depth = png_get_bit_depth(png, info);
    MD_TRY(image__check_size(name, h, w));
    if (depth == 16)
        MD_FAIL(
            MD_BAD_INPUT,
            "%s: 16-bit PNG; choose the gray range that matters and convert it to 8 bits first, "
            "for example: convert in.png -level 0%%,100%% -depth 8 out.png",
            name);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    else if (type == PNG_COLOR_TYPE_GRAY && depth < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (png_get_valid(png, info, PNG_INFO_tRNS))
        png_set_tRNS_to_alpha(png);
    (void)png_set_interlace_handling(png);
    png_read_update_info(png, info);
    const int c = png_get_channels(png, info);
    if (c < 1 || c > 4 || png_get_rowbytes(png, info) != (size_t)(w * c))
        MD_FAIL(MD_BAD_INPUT, "%s: PNG of %d channels", name, c);
    /* Deflate cannot shrink by more than 1032: a bigger claim is a lie, refused before it costs. */
    if ((int64_t)depth * w * h / 8 / 1100 > (int64_t)job->n)
        MD_FAIL(MD_BAD_INPUT, "%s: %zu bytes cannot hold %lld x %lld pixels (truncated)", name,
                job->n, (long long)w, (long long)h);
    MD_TRY(image__raw_new(name, &job->raw, h, w, c));
    job->rows = malloc((size_t)h * sizeof *job->rows);
    if (!job->rows)
        MD_FAIL(MD_NOMEM, "%s: no memory for %lld rows", name, (long long)h);
    for (int64_t y = 0; y < h; y++)
        job->rows[y] = job->raw.px + y * w * c;
    png_read_image(png, job->rows);
    png_read_end(png, info);
#ifdef PNG_eXIf_SUPPORTED
    png_uint_32 n_exif = 0;
    png_bytep exif = NULL;
    if (png_get_eXIf_1(png, info, &n_exif, &exif) && exif)
        job->raw.orientation = image__exif_orientation(exif, n_exif);
#endif
    return MD_OK;
}

md_status image__decode_png(const char *name, const uint8_t *bytes, size_t n, image_raw *out)
{
    md_status status;
    png_job *job = calloc(1, sizeof *job);
    if (!job)
        MD_FAIL(MD_NOMEM, "%s: no memory for the PNG reader", name);
    job->bytes = bytes;
    job->n = n;
    job->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, job, on_error, on_warning);
    job->info = job->png ? png_create_info_struct(job->png) : NULL;
    if (!job->info)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: no memory for libpng", name);
    else if (setjmp(job->jump))
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s: damaged PNG: %s; copy or save it again", name, job->message);
    else
        status = decode(name, job);
    png_destroy_read_struct(&job->png, &job->info, NULL);
    free(job->rows);
    if (status == MD_OK)
        *out = job->raw;
    else
        free(job->raw.px);
    free(job);
    return status;
}

static md_status encode(png_job *job, const image *im, const image_text *text, int n_text)
{
    png_structp png = job->png;
    png_set_write_fn(png, job, on_write, on_flush);
    png_set_IHDR(png, job->info, (png_uint_32)im->w, (png_uint_32)im->h, 8,
                 im->c == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    for (int i = 0; i < n_text; i++) {
        /* iTXt without compression: the text may be any UTF-8. libpng does not write to either. */
        png_text t = {.compression = PNG_ITXT_COMPRESSION_NONE,
                      .key = (png_charp)text[i].key,
                      .text = (png_charp)text[i].text};
        png_set_text(png, job->info, &t, 1);
    }
    png_write_info(png, job->info);
    for (int64_t y = 0; y < im->h; y++)
        png_write_row(png, im->px + y * im->w * im->c);
    png_write_end(png, job->info);
    return MD_OK;
}

md_status image_encode_png(const image *im, const image_text *text, int n_text, void **bytes,
                           size_t *n)
{
    md_status status;
    if ((im->c != 1 && im->c != 3) || im->h < 1 || im->w < 1)
        MD_FAIL(MD_INTERNAL, "PNG of %lld x %lld x %d", (long long)im->h, (long long)im->w, im->c);
    png_job *job = calloc(1, sizeof *job);
    if (!job)
        MD_FAIL(MD_NOMEM, "no memory for the PNG writer");
    job->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, job, on_error, on_warning);
    job->info = job->png ? png_create_info_struct(job->png) : NULL;
    if (!job->info)
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "no memory for libpng");
    else if (setjmp(job->jump))
        status = md_fail(MD_IO, __FILE__, __LINE__, "writing PNG: %s", job->message);
    else
        status = encode(job, im, text, n_text);
    png_destroy_write_struct(&job->png, &job->info);
    if (status == MD_OK) {
        *bytes = job->buf;
        *n = job->used;
    } else {
        free(job->buf);
    }
    free(job);
    return status;
}

md_status image_write_png(const char *path, const image *im, const image_text *text, int n_text)
{
    void *bytes = NULL;
    size_t n = 0;
    md_status status = image_encode_png(im, text, n_text, &bytes, &n);
    if (status != MD_OK)
        return md_context(status, "writing %s", path);
    status = md_file_write_atomic(path, bytes, n);
    free(bytes);
    return status;
}

md_status image_write_mask(const char *path, const image *mask)
{
    if (mask->c != 1)
        MD_FAIL(MD_INTERNAL, "%s: a mask has one channel, not %d", path, mask->c);
    image scaled;
    MD_TRY(image_new(&scaled, mask->h, mask->w, 1));
    for (int64_t i = 0; i < mask->h * mask->w; i++)
        scaled.px[i] = mask->px[i] ? 255 : 0;
    const md_status status = image_write_png(path, &scaled, NULL, 0);
    image_free(&scaled);
    return status;
}

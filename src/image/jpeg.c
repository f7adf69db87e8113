/* JPEG through libjpeg-turbo, from memory. libjpeg forgives cut and corrupt data with a warning and
   gray pixels; here those warnings are errors, because a half-gray image would be trained on. */
#include "image/raw.h"

#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

typedef struct jpeg_job {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr err;
    struct jpeg_source_mgr src;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
    image_raw raw;
} jpeg_job;

enum { MAX_SCANS = 200 };

static void fail_with(jpeg_job *job, const char *text)
{
    snprintf(job->message, sizeof job->message, "%s", text);
    longjmp(job->jump, 1);
}

static void on_error(j_common_ptr cinfo)
{
    jpeg_job *job = cinfo->client_data;
    cinfo->err->format_message(cinfo, job->message);
    longjmp(job->jump, 1);
}

/* level -1 is a warning: these mean lost pixels; others (stray bytes, odd density) do no harm. */
static void on_message(j_common_ptr cinfo, int level)
{
    if (level >= 0)
        return;
    switch (cinfo->err->msg_code) {
    case JWRN_ARITH_BAD_CODE:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
    case JWRN_NOT_SEQUENTIAL:
    case JWRN_BOGUS_PROGRESSION:
        on_error(cinfo);
        break;
    default:
        break;
    }
}

static void on_output(j_common_ptr cinfo)
{
    (void)cinfo;
}

static void src_start(j_decompress_ptr cinfo)
{
    (void)cinfo;
}

static boolean src_fill(j_decompress_ptr cinfo)
{
    fail_with(cinfo->client_data, "the file ends too early (truncated)");
    return FALSE;
}

static void src_skip(j_decompress_ptr cinfo, long n)
{
    if (n <= 0)
        return;
    if ((size_t)n > cinfo->src->bytes_in_buffer)
        fail_with(cinfo->client_data, "the file ends too early (truncated)");
    cinfo->src->next_input_byte += n;
    cinfo->src->bytes_in_buffer -= (size_t)n;
}

/* A small progressive file can hold thousands of scans, each costing a pass over the image. */
static void on_progress(j_common_ptr cinfo)
{
    if (cinfo->is_decompressor && ((j_decompress_ptr)cinfo)->input_scan_number > MAX_SCANS)
        fail_with(cinfo->client_data, "more than 200 scans");
}

static int orientation_of(j_decompress_ptr cinfo)
{
    for (jpeg_saved_marker_ptr m = cinfo->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length > 6 && !memcmp(m->data, "Exif\0\0", 6))
            return image__exif_orientation(m->data + 6, m->data_length - 6);
    return 1;
}

static md_status decode(const char *name, jpeg_job *job, size_t n)
{
    j_decompress_ptr jpeg = &job->jpeg;
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xFFFF);
    (void)jpeg_read_header(jpeg, TRUE);
    const int64_t w = jpeg->image_width, h = jpeg->image_height;
    MD_TRY(image__check_size(name, h, w));
    if (jpeg->num_components == 4)
        MD_FAIL(
            MD_BAD_INPUT,
            "%s: CMYK JPEG (4 components); convert it to RGB first, for example: convert in.jpg "
            "-colorspace sRGB out.jpg",
            name);
    if (jpeg->num_components != 1 && jpeg->num_components != 3)
        MD_FAIL(MD_BAD_INPUT, "%s: JPEG of %d components; 1 or 3 are read", name,
                jpeg->num_components);
    if (jpeg->data_precision != 8)
        MD_FAIL(MD_BAD_INPUT, "%s: %d-bit JPEG; convert it to 8 bits first", name,
                jpeg->data_precision);
    /* Each block of 8 x 8 costs a bit at least. */
    if (w * h / 1024 > (int64_t)n)
        MD_FAIL(MD_BAD_INPUT, "%s: %zu bytes cannot hold %lld x %lld pixels (truncated)", name, n,
                (long long)w, (long long)h);
    job->raw.orientation = 1;
    jpeg->out_color_space = jpeg->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    (void)jpeg_start_decompress(jpeg);
    const int orientation = orientation_of(jpeg);
    MD_TRY(image__raw_new(name, &job->raw, h, w, jpeg->output_components));
    job->raw.orientation = orientation;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = job->raw.px + (int64_t)jpeg->output_scanline * w * job->raw.c;
        (void)jpeg_read_scanlines(jpeg, &row, 1);
    }
    (void)jpeg_finish_decompress(jpeg);
    return MD_OK;
}

md_status image__decode_jpeg(const char *name, const uint8_t *bytes, size_t n, image_raw *out)
{
    md_status status;
    jpeg_job *job = calloc(1, sizeof *job);
    if (!job)
        MD_FAIL(MD_NOMEM, "%s: no memory for the JPEG reader", name);
    job->jpeg.err = jpeg_std_error(&job->err);
    job->err.error_exit = on_error;
    job->err.emit_message = on_message;
    job->err.output_message = on_output;
    job->jpeg.client_data = job;
    if (setjmp(job->jump)) {
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                         "%s: damaged JPEG: %s; copy or save it again", name, job->message);
    } else {
        jpeg_create_decompress(&job->jpeg); /* clears all but err and client_data */
        job->src = (struct jpeg_source_mgr){.next_input_byte = bytes,
                                            .bytes_in_buffer = n,
                                            .init_source = src_start,
                                            .fill_input_buffer = src_fill,
                                            .skip_input_data = src_skip,
                                            .resync_to_restart = jpeg_resync_to_restart,
                                            .term_source = src_start};
        job->jpeg.src = &job->src;
        job->progress.progress_monitor = on_progress;
        job->jpeg.progress = &job->progress;
        status = decode(name, job, n);
    }
    jpeg_destroy_decompress(&job->jpeg);
    if (status == MD_OK)
        *out = job->raw;
    else
        free(job->raw.px);
    free(job);
    return status;
}

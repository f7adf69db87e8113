#include "model/preprocess.h"
#include "base/file.h"
#include "base/log.h"
#include <stdio.h>
#include <string.h>

enum { EDGE_MAX = 1 << 14, PATH_BYTES = 4096 };
static const char file_name[] = "preprocessor_config.json";

/* PIL's numbers of filters; Hamming (5) is not here. */
static const image_filter filters[] = {IMAGE_NEAREST, IMAGE_LANCZOS, IMAGE_BILINEAR, IMAGE_BICUBIC,
                                       IMAGE_BOX};
enum { N_FILTERS = sizeof filters / sizeof *filters };

/* Steps that must be on, and keys without a say here. */
static const char *const steps[] = {"do_resize", "do_center_crop", "do_rescale", "do_normalize"};
static const char *const known[] = {"crop_size",
                                    "do_convert_rgb",
                                    "image_mean",
                                    "image_std",
                                    "resample",
                                    "rescale_factor",
                                    "size",
                                    "image_processor_type",
                                    "processor_class",
                                    "feature_extractor_type",
                                    "default_to_square",
                                    "data_format",
                                    "input_data_format",
                                    "return_tensors",
                                    "device",
                                    "disable_grouping",
                                    "_valid_processor_keys"};

preprocess preprocess_default(void)
{
    return (preprocess){.edge = 256,
                        .crop = 224,
                        .filter = IMAGE_BICUBIC,
                        .scale = 1 / 255.0,
                        .mean = {0.485, 0.456, 0.406}, /* ImageNet's */
                        .deviation = {0.229, 0.224, 0.225}};
}

static bool is_listed(const char *key, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(key, list[i]))
            return true;
    return false;
}

/* The steps are on, the class is right, and nothing else is on. */
static md_status check_keys(const format_json *doc)
{
    static const char *const classes[] = {"BitImageProcessor", "BitImageProcessorFast"};
    const char *name = format_json_name(doc), *class, *key;
    int64_t n;
    bool on;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        MD_TRY(format_json_bool_or(doc, steps[i], true, &on));
        if (!on)
            MD_FAIL(MD_BAD_INPUT, "%s: %s is false; supported: true", name, steps[i]);
    }
    MD_TRY(format_json_string_or(doc, "image_processor_type", classes[0], &class));
    if (!is_listed(class, classes, sizeof classes / sizeof *classes))
        MD_FAIL(MD_BAD_INPUT, "%s: image_processor_type is %s; supported: %s", name, class,
                classes[0]);
    MD_TRY(format_json_count(doc, "", &n));
    for (int64_t i = 0; i < n; i++) {
        MD_TRY(format_json_key(doc, "", i, &key));
        if (is_listed(key, known, sizeof known / sizeof *known) ||
            is_listed(key, steps, sizeof steps / sizeof *steps) || strpbrk(key, ".[") ||
            !format_json_has(doc, key) || !strcmp(format_json_type(doc, key), "false"))
            continue;
        if (md_str_starts(key, "do_"))
            MD_FAIL(MD_BAD_INPUT, "%s: the step %s is not supported", name, key);
        md_warn("model", "%s: unknown key %s is ignored", name, key);
    }
    return MD_OK;
}

static md_status read_sizes(const format_json *doc, preprocess *p)
{
    const char *name = format_json_name(doc);
    int64_t width;
    if (!strcmp(format_json_type(doc, "size"), "integer")) {
        MD_TRY(format_json_int(doc, "size", 1, EDGE_MAX, &p->edge));
    } else {
        MD_TRY(format_json_int_or(doc, "size.shortest_edge", 1, EDGE_MAX, -1, &p->edge));
        if (p->edge < 0 && format_json_has(doc, "size"))
            MD_FAIL(MD_BAD_INPUT, "%s: size has no shortest_edge; that alone is supported", name);
        p->edge = p->edge < 0 ? preprocess_default().edge : p->edge;
    }
    if (!strcmp(format_json_type(doc, "crop_size"), "integer")) {
        MD_TRY(format_json_int(doc, "crop_size", 1, EDGE_MAX, &p->crop));
    } else {
        MD_TRY(format_json_int_or(doc, "crop_size.height", 1, EDGE_MAX, p->crop, &p->crop));
        MD_TRY(format_json_int_or(doc, "crop_size.width", 1, EDGE_MAX, p->crop, &width));
        if (width != p->crop)
            MD_FAIL(MD_BAD_INPUT, "%s: crop_size is %lld x %lld; supported: a square", name,
                    (long long)p->crop, (long long)width);
    }
    if (p->crop > p->edge)
        MD_FAIL(MD_BAD_INPUT, "%s: crop_size %lld is larger than size %lld; supported: no border",
                name, (long long)p->crop, (long long)p->edge);
    return MD_OK;
}

/* Three numbers lo..hi at `key`; as they are where the file has none. */
static md_status read_three(const format_json *doc, const char *key, double lo, double hi,
                            double out[3])
{
    char path[64];
    int64_t n;
    if (!format_json_has(doc, key))
        return MD_OK;
    MD_TRY(format_json_count(doc, key, &n));
    if (n != 3)
        MD_FAIL(MD_BAD_INPUT, "%s: %s has %lld entries, wanted 3", format_json_name(doc), key,
                (long long)n);
    for (int i = 0; i < 3; i++) {
        MD_TRY(md_str_printf(path, sizeof path, "%s[%d]", key, i));
        MD_TRY(format_json_float(doc, path, &out[i]));
        if (!(out[i] >= lo && out[i] <= hi))
            MD_FAIL(MD_BAD_INPUT, "%s: %s is %g, wanted %g to %g", format_json_name(doc), path,
                    out[i], lo, hi);
    }
    return MD_OK;
}

md_status preprocess_parse(const format_json *doc, preprocess *out)
{
    preprocess p = preprocess_default();
    int64_t resample;
    MD_TRY(check_keys(doc));
    MD_TRY(read_sizes(doc, &p));
    MD_TRY(format_json_int_or(doc, "resample", 0, 5, 3, &resample));
    if (resample >= N_FILTERS)
        MD_FAIL(MD_BAD_INPUT, "%s: resample is %lld (Hamming), which is not supported",
                format_json_name(doc), (long long)resample);
    p.filter = filters[resample];
    MD_TRY(format_json_float_or(doc, "rescale_factor", p.scale, &p.scale));
    if (!(p.scale > 0 && p.scale <= 1))
        MD_FAIL(MD_BAD_INPUT, "%s: rescale_factor is %g, wanted 0 to 1", format_json_name(doc),
                p.scale);
    MD_TRY(read_three(doc, "image_mean", -256, 256, p.mean));
    MD_TRY(read_three(doc, "image_std", 1e-6, 256, p.deviation));
    *out = p;
    return MD_OK;
}

md_status preprocess_read(const char *folder, preprocess *out)
{
    char path[PATH_BYTES];
    format_json *doc;
    MD_TRY(md_path_join(path, sizeof path, folder, file_name));
    if (!md_file_exists(path)) {
        *out = preprocess_default();
        return MD_OK;
    }
    MD_TRY(format_json_load(path, &doc));
    md_status status = preprocess_parse(doc, out);
    format_json_free(doc);
    return status;
}

md_status preprocess_text(md_text *t, const preprocess *p)
{
    int resample = 0;
    while (resample < N_FILTERS - 1 && filters[resample] != p->filter)
        resample++;
    MD_TRY(md_text_add(t,
                       "{\n  \"crop_size\": {\n    \"height\": %lld,\n    \"width\": %lld\n  },\n",
                       (long long)p->crop, (long long)p->crop));
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        MD_TRY(md_text_add(t, "  \"%s\": true,\n", steps[i]));
    MD_TRY(md_text_add(t, "  \"do_convert_rgb\": true,\n"));
    for (int k = 0; k < 2; k++) {
        const double *v = k ? p->deviation : p->mean;
        MD_TRY(md_text_add(t, "  \"image_%s\": [\n    %.17g,\n    %.17g,\n    %.17g\n  ],\n",
                           k ? "std" : "mean", v[0], v[1], v[2]));
    }
    return md_text_add(t,
                       "  \"image_processor_type\": \"BitImageProcessor\",\n  \"resample\": %d,\n"
                       "  \"rescale_factor\": %.17g,\n  \"size\": {\n    \"shortest_edge\": %lld\n"
                       "  }\n}\n",
                       resample, p->scale, (long long)p->edge);
}

md_status preprocess_write(const char *folder, const preprocess *p)
{
    char path[PATH_BYTES];
    md_text t = {0};
    MD_TRY(md_path_join(path, sizeof path, folder, file_name));
    md_status status = preprocess_text(&t, p);
    if (status == MD_OK)
        status = md_file_write_atomic(path, t.s, t.n);
    md_text_free(&t);
    return status;
}

md_status preprocess_cut(const preprocess *p, const image *rgb, image *out)
{
    if (rgb->c != 3 || rgb->h < 1 || rgb->w < 1)
        MD_FAIL(MD_INTERNAL, "encoder: a picture of %lld x %lld and %d channels", (long long)rgb->h,
                (long long)rgb->w, rgb->c);
    bool upright = rgb->w <= rgb->h;
    int64_t shorter = upright ? rgb->w : rgb->h, longer = upright ? rgb->h : rgb->w;
    int64_t other = (int64_t)((double)(p->edge * longer) / (double)shorter); /* cut off, as int() */
    image all = {0}, cut = {0};
    MD_TRY(
        image_resize(rgb, upright ? other : p->edge, upright ? p->edge : other, p->filter, &all));
    md_status status = image_new(&cut, p->crop, p->crop, 3);
    int64_t top = (all.h - p->crop) / 2, left = (all.w - p->crop) / 2;
    for (int64_t y = 0; y < p->crop && status == MD_OK; y++)
        memcpy(cut.px + 3 * y * p->crop, all.px + 3 * ((top + y) * all.w + left),
               (size_t)(3 * p->crop));
    image_free(&all);
    if (status == MD_OK)
        *out = cut;
    return status;
}

md_status preprocess_apply(const preprocess *p, const image *rgb, float *out)
{
    image cut;
    MD_TRY(preprocess_cut(p, rgb, &cut));
    for (int64_t i = 0; i < 3 * p->crop * p->crop; i++)
        out[i] = (float)((cut.px[i] * p->scale - p->mean[i % 3]) / p->deviation[i % 3]);
    image_free(&cut);
    return MD_OK;
}

/* See outlines.h. The XML gives each mark's two texts; then the second is read as JSON. */
#include "format/outlines.h"
#include "base/arena.h"
#include "base/file.h"
#include "base/str.h"
#include "format/json.h"

#include <expat.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 64 };

typedef struct reader {
    const char *name;
    XML_Parser xml;
    format_outlines *out;
    format_mark *mark; /* [FORMAT_OUTLINES_MARKS_MAX] */
    int depth;
    bool in_mark;
    md_text *text; /* where character data goes now; NULL: nowhere */
    md_text image, svg;
    md_status status;
} reader;

static md_status no_memory(const reader *r)
{
    MD_FAIL(MD_NOMEM, "%s: out of memory", r->name);
}

/* ---- the JSON of one mark */

static md_status read_point(const format_json *doc, int64_t i, int64_t j, double xy[2])
{
    static const char axes[] = "xy";
    char path[PATH_BYTES];
    for (int k = 0; k < 2; k++) {
        MD_TRY(md_str_printf(path, sizeof path, "[%lld].points[%lld].%c", (long long)i,
                             (long long)j, axes[k]));
        MD_TRY(format_json_float(doc, path, &xy[k]));
        if (!(fabs(xy[k]) <= FORMAT_OUTLINES_EXTENT_MAX))
            MD_FAIL(MD_BAD_INPUT, "%s: %s is %g", format_json_name(doc), path, xy[k]);
    }
    return MD_OK;
}

/* Region i as a polygon; out->n stays 0 for what marks no area. */
static md_status read_region(const reader *r, const format_json *doc, int64_t i,
                             format_polygon *out)
{
    char path[PATH_BYTES];
    const char *type;
    int64_t n;
    MD_TRY(md_str_printf(path, sizeof path, "[%lld].regionType", (long long)i));
    MD_TRY(format_json_string_or(doc, path, "freehand", &type));
    MD_TRY(md_str_printf(path, sizeof path, "[%lld].points", (long long)i));
    MD_TRY(format_json_count(doc, path, &n));
    if (!strcmp(type, "arrow") || n < 3)
        return MD_OK;
    if (n > FORMAT_OUTLINES_POINTS_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: %s has %lld points, more than %d", format_json_name(doc), path,
                (long long)n, FORMAT_OUTLINES_POINTS_MAX);
    double *xy = md_arena_alloc(r->out->arena, (size_t)n * 2 * sizeof *xy);
    if (!xy)
        return no_memory(r);
    for (int64_t j = 0; j < n; j++)
        MD_TRY(read_point(doc, i, j, xy + 2 * j));
    *out = (format_polygon){n, xy};
    return MD_OK;
}

static md_status read_regions(const reader *r, const format_json *doc, format_mark *m)
{
    int64_t n;
    MD_TRY(format_json_count(doc, "", &n));
    if (n > FORMAT_OUTLINES_REGIONS_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: %lld regions, more than %d", format_json_name(doc), (long long)n,
                FORMAT_OUTLINES_REGIONS_MAX);
    format_polygon *polygon = md_arena_alloc(r->out->arena, (size_t)(n + 1) * sizeof *polygon);
    if (!polygon)
        return no_memory(r);
    for (int64_t i = 0; i < n; i++) {
        MD_TRY(read_region(r, doc, i, &polygon[m->n_polygons]));
        m->n_polygons += polygon[m->n_polygons].n > 0;
    }
    m->polygon = polygon;
    m->n_dropped = n - m->n_polygons;
    m->why = m->n_polygons ? NULL : "no region is outlined";
    return MD_OK;
}

static bool is_blank(const char *s)
{
    return !s || s[strspn(s, " \t\r\n")] == 0;
}

/* Whatever is wrong with the outline leaves the mark without one; only memory is an error. */
static md_status read_svg(reader *r, format_mark *m)
{
    format_json *doc = NULL;
    if (is_blank(r->svg.s)) {
        m->why = "its outline is empty";
        return MD_OK;
    }
    md_status status = format_json_parse("svg", r->svg.s, r->svg.n, &doc);
    if (status == MD_OK)
        status = read_regions(r, doc, m);
    format_json_free(doc);
    if (status == MD_OK || status == MD_NOMEM)
        return status;
    m->n_polygons = m->n_dropped = 0;
    m->why = md_arena_printf(r->out->arena, "its outline is damaged (%s)", md_status_text());
    md_status_clear();
    return m->why ? MD_OK : no_memory(r);
}

/* ---- the XML */

static md_status end_mark(reader *r)
{
    unsigned long line = XML_GetCurrentLineNumber(r->xml);
    const char *s = is_blank(r->image.s) ? "" : r->image.s + strspn(r->image.s, " \t\r\n");
    char *rest;
    long long number = strtoll(s, &rest, 10);
    if (rest == s || number < 0 || number > INT32_MAX || !is_blank(rest))
        MD_FAIL(MD_BAD_INPUT, "%s:%lu: a mark without the number of its image", r->name, line);
    if (r->out->n_marks == FORMAT_OUTLINES_MARKS_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s:%lu: more than %d marks", r->name, line,
                FORMAT_OUTLINES_MARKS_MAX);
    for (int64_t i = 0; i < r->out->n_marks; i++)
        if (r->mark[i].image == number)
            MD_FAIL(MD_BAD_INPUT, "%s:%lu: a second mark of image %lld", r->name, line, number);
    format_mark *m = &r->mark[r->out->n_marks++];
    m->image = number;
    return read_svg(r, m);
}

static void fail_parse(reader *r, md_status status)
{
    r->status = status;
    (void)XML_StopParser(r->xml, XML_FALSE);
}

static void XMLCALL on_start(void *user, const XML_Char *element, const XML_Char **attributes)
{
    reader *r = user;
    (void)attributes;
    r->text = NULL;
    r->depth++;
    if (r->depth == 1 && strcmp(element, "case") != 0)
        fail_parse(r, md_fail(MD_BAD_INPUT, __FILE__, __LINE__,
                              "%s: the root is <%s>, wanted <case>", r->name, element));
    if (r->depth == 2 && !strcmp(element, "mark")) {
        r->in_mark = true;
        md_text_free(&r->image);
        md_text_free(&r->svg);
    }
    if (r->depth == 3 && r->in_mark)
        r->text = !strcmp(element, "image") ? &r->image : !strcmp(element, "svg") ? &r->svg : NULL;
}

static void XMLCALL on_end(void *user, const XML_Char *element)
{
    reader *r = user;
    (void)element;
    r->text = NULL;
    if (r->depth-- == 2 && r->in_mark) {
        r->in_mark = false;
        md_status status = end_mark(r);
        if (status != MD_OK)
            fail_parse(r, status);
    }
}

static void XMLCALL on_text(void *user, const XML_Char *s, int n)
{
    reader *r = user;
    if (r->text && md_text_add(r->text, "%.*s", n, s) != MD_OK)
        fail_parse(r, no_memory(r));
}

/* Entities could make a small file a huge text; the format has none. */
static void XMLCALL on_doctype(void *user, const XML_Char *doctype, const XML_Char *system,
                               const XML_Char *public, int internal)
{
    reader *r = user;
    (void)doctype, (void)system, (void)public, (void)internal;
    fail_parse(r, md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: a document type is not supported",
                          r->name));
}

static md_status parse(reader *r, const void *bytes, size_t n)
{
    XML_SetUserData(r->xml, r);
    XML_SetElementHandler(r->xml, on_start, on_end);
    XML_SetCharacterDataHandler(r->xml, on_text);
    XML_SetStartDoctypeDeclHandler(r->xml, on_doctype);
    if (XML_Parse(r->xml, bytes, (int)n, 1) == XML_STATUS_OK && r->status == MD_OK)
        return MD_OK;
    if (r->status != MD_OK)
        return r->status;
    MD_FAIL(MD_BAD_INPUT, "%s:%lu: %s", r->name, XML_GetCurrentLineNumber(r->xml),
            XML_ErrorString(XML_GetErrorCode(r->xml)));
}

md_status format_outlines_parse(const char *name, const void *bytes, size_t n,
                                format_outlines **out)
{
    if (n > FORMAT_OUTLINES_BYTES_MAX)
        MD_FAIL(MD_BAD_INPUT, "%s: more than %zu bytes", name, FORMAT_OUTLINES_BYTES_MAX);
    reader r = {.name = name, .xml = XML_ParserCreate(NULL)};
    md_arena *arena = md_arena_new();
    r.out = arena ? md_arena_alloc(arena, sizeof *r.out) : NULL;
    r.mark = r.out ? md_arena_alloc(arena, FORMAT_OUTLINES_MARKS_MAX * sizeof *r.mark) : NULL;
    md_status status = r.xml && r.mark ? MD_OK : no_memory(&r);
    if (status == MD_OK) {
        r.out->arena = arena;
        r.out->mark = r.mark;
        status = parse(&r, bytes, n);
    }
    md_text_free(&r.image);
    md_text_free(&r.svg);
    if (r.xml)
        XML_ParserFree(r.xml);
    if (status != MD_OK) {
        md_arena_free(arena);
        return status;
    }
    *out = r.out;
    return MD_OK;
}

md_status format_outlines_read(const char *path, format_outlines **out)
{
    void *bytes = NULL;
    size_t n = 0;
    MD_TRY(md_file_read(path, FORMAT_OUTLINES_BYTES_MAX, &bytes, &n));
    md_status status = format_outlines_parse(path, bytes, n, out);
    free(bytes);
    return status;
}

void format_outlines_free(format_outlines *o)
{
    if (o)
        md_arena_free(o->arena);
}

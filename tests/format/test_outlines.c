/* DDTI's case files: what is read, what is left out with a reason, what is refused. */
#include "support/expect.h"

#include "format/outlines.h"

static format_outlines *parse(const char *text)
{
    format_outlines *o = NULL;
    OK(format_outlines_parse("x.xml", text, strlen(text), &o));
    return o;
}

#define MARK(image, svg) "<mark><image>" image "</image><svg>" svg "</svg></mark>"
#define TRIANGLE                                                                                   \
    "{\"points\": [{\"x\": 1, \"y\": 2}, {\"x\": 5.5, \"y\": 2}, {\"x\": 3, \"y\": -7}]"

static void marks(void **state)
{
    (void)state;
    format_outlines *o =
        parse("<?xml version=\"1.0\"?><case><number>7</number><tirads/>\n" MARK(
            " 3\n", "[" TRIANGLE ", \"annotation\": {}, \"regionType\": \"freehand\"}]")
                  MARK("1", "\n  [" TRIANGLE "},\n" TRIANGLE
                            ", \"regionType\": \"arrow\"}, {\"points\": [{\"x\": 0, \"y\": 0}, "
                            "{\"x\": 9, \"y\": 9}]}, " TRIANGLE "}]  ") "</case>");
    assert_int_equal(o->n_marks, 2);
    assert_int_equal(o->mark[0].image, 3);
    assert_int_equal(o->mark[0].n_polygons, 1);
    assert_null(o->mark[0].why);
    const format_polygon *p = o->mark[0].polygon;
    assert_int_equal(p->n, 3);
    assert_true(p->xy[0] == 1 && p->xy[1] == 2 && p->xy[2] == 5.5 && p->xy[5] == -7);
    assert_int_equal(o->mark[1].image, 1);
    assert_int_equal(o->mark[1].n_polygons, 2); /* neither the arrow nor the line of two points */
    assert_true(o->mark[1].polygon[1].xy[2] == 5.5);
    format_outlines_free(o);
}

/* Marks without a polygon, and why. */
static void unknown(void **state)
{
    (void)state;
    static const struct {
        const char *svg, *why;
    } cases[] = {
        {"", "empty"},
        {"  \n ", "empty"},
        {"[]", "no region"},
        {"[{\"points\": [], \"regionType\": \"arrow\"}]", "no region"},
        {"[{\"points\": [{\"x\": 1, \"y\"", "damaged"},
        {"[" TRIANGLE "}, {\"points\": 7}]", "damaged"},
        {"[{\"points\": [{\"x\": 1, \"y\": 1}, {\"x\": 2, \"y\": 1}, {\"x\": 2}]}]",
         "[0].points[2].y"},
        {"[{\"points\": [{\"x\": 1, \"y\": 1}, {\"x\": 2, \"y\": 1e30}, {\"x\": 2, \"y\": 2}]}]",
         "damaged"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        (void)snprintf(text, sizeof text, "<case>" MARK("1", "%s") "</case>", cases[i].svg);
        format_outlines *o = parse(text);
        assert_int_equal(o->mark[0].n_polygons, 0);
        if (!o->mark[0].why || !strstr(o->mark[0].why, cases[i].why))
            fail_msg("%s: %s", cases[i].svg, o->mark[0].why ? o->mark[0].why : "no reason");
        format_outlines_free(o);
    }
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "x.xml:1"},
        {"<case>", "x.xml:1"},
        {"<case>\n\n</cases>", "x.xml:3"},
        {"<root></root>", "<root>"},
        {"<case><mark><svg>[]</svg></mark></case>", "number of its image"},
        {"<case>" MARK("1b", "[]") "</case>", "number of its image"},
        {"<case>" MARK("-1", "[]") "</case>", "number of its image"},
        {"<case>" MARK("2", "") "\n" MARK("2", "") "</case>", "x.xml:2: a second mark of image 2"},
        {"<!DOCTYPE case [<!ENTITY a \"aaaa\">]><case>&a;</case>", "document type"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        format_outlines *o = NULL;
        md_status s = format_outlines_parse("x.xml", cases[i].text, strlen(cases[i].text), &o);
        if (s != MD_BAD_INPUT || !strstr(md_status_text(), cases[i].part))
            fail_msg("%s: %s", cases[i].text, s == MD_OK ? "accepted" : md_status_text());
        md_status_clear();
    }
}

/* An element inside another than <mark>, or deeper, is not the mark's. */
static void places(void **state)
{
    (void)state;
    format_outlines *o =
        parse("<case><other><image>9</image></other><mark><more><image>8</image></more>"
              "<image>4</image><svg></svg></mark><image>5</image></case>");
    assert_int_equal(o->n_marks, 1);
    assert_int_equal(o->mark[0].image, 4);
    format_outlines_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(marks), cmocka_unit_test(unknown),
                                       cmocka_unit_test(refused), cmocka_unit_test(places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

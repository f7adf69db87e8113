/* Phantoms: pure functions of their key, a mask that is exact, one lesion of the promised size, and
   contrasts that vary. */
#include "image/phantom.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ITEMS = 60, SIDE = 128, AREA = SIDE * SIDE };

static void draw(phantom_kind kind, uint64_t item, bool lesion, image *rgb, image *mask)
{
    phantom p = {
        .kind = kind, .seed = 5, .item = item, .size = SIDE, .lesion = lesion, .spiky = item % 2};
    assert_int_equal(phantom_draw(&p, rgb, mask), MD_OK);
    assert_true(rgb->h == SIDE && rgb->w == SIDE && rgb->c == 3);
}

/* Size of the part of mask that is connected to its first pixel. */
static int first_part(const uint8_t *mask)
{
    static int stack[4 * AREA];
    uint8_t *left = malloc(AREA);
    assert_non_null(left);
    memcpy(left, mask, AREA);
    int n = 0, size = 0, start = 0;
    while (start < AREA && !left[start])
        start++;
    if (start < AREA)
        stack[n++] = start;
    while (n > 0) {
        int at = stack[--n], x = at % SIDE, y = at / SIDE;
        if (!left[at])
            continue;
        left[at] = 0;
        size++;
        if (x > 0)
            stack[n++] = at - 1;
        if (x < SIDE - 1)
            stack[n++] = at + 1;
        if (y > 0)
            stack[n++] = at - SIDE;
        if (y < SIDE - 1)
            stack[n++] = at + SIDE;
    }
    free(left);
    return size;
}

static int sum(const uint8_t *p, int n)
{
    int total = 0;
    for (int i = 0; i < n; i++)
        total += p[i];
    return total;
}

static void check_item(phantom_kind kind, uint64_t item, double *contrast)
{
    image with = {0}, without = {0}, again = {0}, mask = {0}, none = {0};
    draw(kind, item, true, &with, &mask);
    draw(kind, item, false, &without, &none);
    draw(kind, item, true, &again, NULL);
    assert_memory_equal(with.px, again.px, 3 * AREA);
    assert_int_equal(sum(none.px, AREA), 0);
    int inside = 0, changed = 0;
    double dark = 0.0;
    for (int i = 0; i < AREA; i++) {
        assert_true(mask.px[i] <= 1);
        int differs = memcmp(with.px + 3 * i, without.px + 3 * i, 3) != 0;
        if (differs && !mask.px[i])
            fail_msg("item %d changes pixel %d outside its mask", (int)item, i);
        inside += mask.px[i];
        changed += differs;
        if (mask.px[i])
            dark += without.px[3 * i + 1] - with.px[3 * i + 1];
        if (kind == PHANTOM_ULTRASOUND)
            assert_true(with.px[3 * i] == with.px[3 * i + 1] &&
                        with.px[3 * i] == with.px[3 * i + 2]);
    }
    assert_in_range(inside, AREA * 4 / 100, AREA / 4);
    assert_true(changed > inside * 7 / 10); /* the mask is no larger than what it marks */
    assert_int_equal(first_part(mask.px), inside);
    *contrast = dark / inside;
    image_free(&with);
    image_free(&without);
    image_free(&again);
    image_free(&mask);
    image_free(&none);
}

static void check_kind(phantom_kind kind)
{
    double low = 1e9, high = -1e9;
    for (uint64_t item = 0; item < ITEMS; item++) {
        double contrast = 0.0;
        check_item(kind, item, &contrast);
        assert_true(contrast > 15.0); /* gray levels: every lesion can be seen */
        low = contrast < low ? contrast : low;
        high = contrast > high ? contrast : high;
    }
    assert_true(high - low > 40.0);
}

static void test_skin(void **state)
{
    (void)state;
    check_kind(PHANTOM_SKIN);
}

static void test_ultrasound(void **state)
{
    (void)state;
    check_kind(PHANTOM_ULTRASOUND);
}

static void test_items_and_kinds_differ(void **state)
{
    (void)state;
    image a = {0}, b = {0}, c = {0}, mask_a = {0}, mask_b = {0};
    draw(PHANTOM_SKIN, 0, true, &a, &mask_a);
    draw(PHANTOM_SKIN, 2, true, &b, &mask_b);
    draw(PHANTOM_ULTRASOUND, 0, true, &c, NULL);
    assert_memory_not_equal(a.px, b.px, 3 * AREA);
    assert_memory_not_equal(mask_a.px, mask_b.px, AREA);
    assert_memory_not_equal(a.px, c.px, 3 * AREA);
    image_free(&a);
    image_free(&b);
    image_free(&c);
    image_free(&mask_a);
    image_free(&mask_b);
}

static void test_sizes(void **state)
{
    (void)state;
    static const int sizes[] = {64, 160, 512};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        for (int kind = 0; kind < 2; kind++) {
            image rgb = {0}, mask = {0};
            phantom p = {.kind = (phantom_kind)kind, .item = 3, .size = sizes[k], .lesion = true};
            assert_int_equal(phantom_draw(&p, &rgb, &mask), MD_OK);
            int area = sizes[k] * sizes[k];
            assert_in_range(sum(mask.px, area), area * 4 / 100, area / 4);
            image_free(&rgb);
            image_free(&mask);
        }
    }
    image rgb = {0};
    phantom small = {.size = 32}, large = {.size = PHANTOM_SIDE_MAX + 1},
            fewer = {.size = SIDE, .distractors = -1};
    assert_int_equal(phantom_draw(&fewer, &rgb, NULL), MD_USAGE);
    assert_int_equal(phantom_draw(&small, &rgb, NULL), MD_USAGE);
    assert_int_equal(phantom_draw(&large, &rgb, NULL), MD_USAGE);
    assert_null(rgb.px);
}

/* They move no lesion, are in some pictures and not in others, and a lesion still changes its
   inside alone. */
static void test_distractors(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        int changed = 0;
        for (uint64_t item = 0; item < ITEMS; item++) {
            image plain = {0}, rgb = {0}, healthy = {0}, mask = {0}, same = {0};
            phantom p = {
                .kind = (phantom_kind)kind, .seed = 5, .item = item, .size = SIDE, .lesion = true};
            assert_int_equal(phantom_draw(&p, &plain, &mask), MD_OK);
            p.distractors = 2;
            assert_int_equal(phantom_draw(&p, &rgb, &same), MD_OK);
            p.lesion = false;
            assert_int_equal(phantom_draw(&p, &healthy, NULL), MD_OK);
            assert_memory_equal(mask.px, same.px, AREA);
            changed += memcmp(plain.px, rgb.px, 3 * AREA) != 0;
            for (int i = 0; i < AREA; i++)
                assert_true(mask.px[i] || !memcmp(rgb.px + 3 * i, healthy.px + 3 * i, 3));
            image_free(&plain);
            image_free(&rgb);
            image_free(&healthy);
            image_free(&mask);
            image_free(&same);
        }
        assert_in_range(changed, ITEMS / 2, ITEMS * 5 / 6); /* two thirds */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distractors), cmocka_unit_test(test_skin),
        cmocka_unit_test(test_ultrasound),  cmocka_unit_test(test_items_and_kinds_differ),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

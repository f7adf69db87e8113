/* The text encoder against transformers' CLIPTextModel. */
#include "harness.h"
#include "model/clip_text.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const clip_text_config quick = {522, 77, 8, 20, 2, 2, MD_ACT_QUICK_GELU, 1e-5};

static md_status declare(nn_params *p, const void *c)
{
    return clip_text_declare(p, c);
}

static void build(model_graph *b, const void *c)
{
    expect(b, clip_text(b->m, c, feed(b, "ids")), "out", "weight");
}

static const model_case cases[] = {{"sd/text_encoder", declare, build, &quick}};

static void test_ref(void **state)
{
    (void)state;
    check_ref(&cases[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ref)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

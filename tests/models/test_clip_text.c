/* The text encoder against transformers' CLIPTextModel: quick_gelu from one file, gelu from a
   sharded set. */
#include "harness.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void build(model_graph *b, const model_config *c)
{
    expect(b, clip_text(b->m, &c->text, feed(b, "ids")), "out", "weight");
}

/* 2e-7: golden values are rounded to f32, 6e-8. bf16: 4e-3 per rounding. */
static const model_case cases[] = {
    {"sd/text_encoder", MODEL_TEXT_ENCODER, build, 2e-7, 0.03, 0.03, NULL},
    {"clip_gelu/text_encoder", MODEL_TEXT_ENCODER, build, 2e-7, 0.03, 0.03, NULL},
};

int main(void)
{
    return model_cases_run(cases, sizeof cases / sizeof cases[0]);
}

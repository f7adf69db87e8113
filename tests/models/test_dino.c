/* DINOv2 against transformers' Dinov2Model: an image of the size that its position embeddings stand
   for, and one for which they are interpolated. */
#include "harness.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static void build(model_graph *b, const model_config *c)
{
    md_tensor *image = feed(b, "image"), *positions = NULL;
    int64_t h = image->dim[1], w = image->dim[2];
    if (dino_interpolates(&c->dino, h, w)) {
        int64_t rows = h * w / (c->dino.patch_size * c->dino.patch_size);
        float *matrix = malloc((size_t)(rows * dino_positions(&c->dino)) * sizeof *matrix);
        assert_non_null(matrix);
        dino_position_matrix(&c->dino, h, w, matrix);
        positions = given(b, matrix, rows, dino_positions(&c->dino));
    }
    md_tensor *tokens = dino(b->m, &c->dino, image, positions);
    expect(b, dino_class(tokens), "class", NULL);
    expect(b, tokens, "out", "weight");
}

/* 2e-7: golden values are rounded to f32, 6e-8. bf16: 4e-3 per rounding. */
static const model_case cases[] = {
    {"dino", MODEL_DINO, build, 2e-7, 0.03, 0.03, NULL},
    {"dino", MODEL_DINO, build, 2e-7, 0.03, 0.03, "dino.wide"},
};

int main(void)
{
    return model_cases_run(cases, sizeof cases / sizeof cases[0]);
}

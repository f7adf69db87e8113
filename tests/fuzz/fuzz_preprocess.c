/* preprocessor_config.json: any bytes; what is accepted cuts a picture, and means the same when it
   is written and read again. */
#include "fuzz.h"

#include "model/preprocess.h"

#include <stdlib.h>
#include <string.h>

static md_status parse(const void *bytes, size_t n, preprocess *p)
{
    format_json *doc = NULL;
    MD_TRY(format_json_parse("fuzz", bytes, n, &doc));
    md_status status = preprocess_parse(doc, p);
    format_json_free(doc);
    return status;
}

static void write_and_read(const preprocess *p)
{
    md_text t = {0};
    preprocess again;
    memset(&again, 0, sizeof again);
    if (preprocess_text(&t, p) != MD_OK || parse(t.s, t.n, &again) != MD_OK ||
        again.edge != p->edge || again.crop != p->crop || again.filter != p->filter ||
        again.scale != p->scale || memcmp(again.mean, p->mean, sizeof p->mean) != 0 ||
        memcmp(again.deviation, p->deviation, sizeof p->deviation) != 0)
        abort();
    md_text_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    preprocess p;
    image rgb = {0}, cut;
    if (parse(data, n, &p) != MD_OK)
        return 0;
    write_and_read(&p);
    if (p.edge > 256)
        return 0;
    if (image_new(&rgb, 5, 8, 3) != MD_OK || preprocess_cut(&p, &rgb, &cut) != MD_OK ||
        cut.h != p.crop || cut.w != p.crop)
        abort();
    image_free(&cut);
    image_free(&rgb);
    return 0;
}

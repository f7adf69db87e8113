/* read_store STORE [SPLIT]: what include/meddiff_reader.h reads of a store, for export.sh to
   compare: a line of numbers and texts for each picture, with a checksum of its bytes. C11 and
   C++17 alike. */
#include "adler.h"
#include "meddiff_reader.h"

static int print(meddiff_store *s)
{
    int64_t area = s->height * s->width;
    uint8_t *image = (uint8_t *)malloc((size_t)(5 * area)), *mask = image + 3 * area,
            *guide = mask + area;
    char prompt[256] = "";
    uint64_t seed = 0;
    if (s->is_pairs && meddiff_text(s, "prompt", prompt, sizeof prompt))
        return -1;
    if (meddiff_seed(s, &seed))
        return -1;
    printf("%lld %lld %lld %llu %s\n", (long long)s->n, (long long)s->height, (long long)s->width,
           (unsigned long long)seed, prompt);
    for (int64_t i = 0; i < s->n; i++) {
        double id = 0;
        if (meddiff_read(s, i, image, mask, s->is_pairs ? guide : NULL) ||
            meddiff_number(s, s->is_pairs ? "background_id" : "group", i, &id))
            return -1;
        printf("%lld %.0f %u\n", (long long)s->row[i], id,
               adler(1, image, (s->is_pairs ? 5 : 4) * area));
    }
    free(image);
    return 0;
}

int main(int argc, char **argv)
{
    meddiff_store s;
    char small[2];
    double number;
    if (argc < 2 || meddiff_open(&s, argv[1], argc > 2 ? argv[2] : NULL) || print(&s)) {
        printf("%s\n", argc < 2 ? "read_store STORE [SPLIT]" : s.error);
        return 1;
    }
    /* what is wrong is said, and nothing is read beyond the end */
    if (!meddiff_read(&s, s.n, NULL, NULL, NULL) || !meddiff_read(&s, -1, NULL, NULL, NULL) ||
        !meddiff_text(&s, "schema", small, sizeof small) ||
        !meddiff_text(&s, "nothing", small, sizeof small) ||
        !meddiff_number(&s, "nothing", 0, &number))
        return 2;
    meddiff_close(&s);
    meddiff_close(&s);
    return 0;
}

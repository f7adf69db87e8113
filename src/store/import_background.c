#include "store/import_background.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

enum { FROM_AUTO, FROM_REAL, FROM_REPAIRED, FROM_CROPS }; /* backgrounds.from */
enum { CHOICE = 2 };                                      /* of MD_RNG_SPLIT's uses */

typedef struct drawn {
    uint32_t key;
    int64_t id;
} drawn;

static int by_key(const void *a, const void *b)
{
    const drawn *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static int by_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

md_status import_choose(uint64_t seed, int64_t n, int64_t count, int64_t *chosen)
{
    drawn *d = malloc((size_t)(n ? n : 1) * sizeof *d);
    if (!d)
        MD_FAIL(MD_NOMEM, "backgrounds: out of memory");
    for (int64_t i = 0; i < n; i++) {
        md_rng r = md_rng_at(seed, MD_RNG_SPLIT, (uint64_t)i, CHOICE);
        d[i] = (drawn){md_rng_u32(&r), i};
    }
    qsort(d, (size_t)n, sizeof *d, by_key);
    for (int64_t i = 0; i < count; i++)
        chosen[i] = d[i].id;
    qsort(chosen, (size_t)count, sizeof *chosen, by_id);
    free(d);
    return MD_OK;
}

md_status import_background_kind(const config *cfg, data_store *data, data_kind *out)
{
    int64_t *ids = NULL, healthy = 0;
    int from = config_choice(cfg, KEY_backgrounds_from);
    if (from == FROM_AUTO) {
        MD_TRY(data_select(data, DATA_HEALTHY, DATA_TRAIN, false, &ids, &healthy));
        free(ids);
    }
    *out = from == FROM_REAL || healthy ? DATA_HEALTHY
           : from == FROM_CROPS         ? DATA_CROP
                                        : DATA_REPAIRED;
    return MD_OK;
}

static md_status check(const config *cfg, data_kind wanted, data_store *backgrounds,
                       const config *then, const char *name)
{
    static const char *const kinds[] = {"", "real", "crops", "repaired"};
    data_row row;
    MD_TRY(data_read_row(backgrounds, 0, &row));
    if (row.kind != wanted)
        return config_fail(cfg, KEY_backgrounds_from,
                           "comes to \"%s\" here, %s holds \"%s\": set it so, or remove that file",
                           kinds[wanted], name, kinds[row.kind]);
    int64_t now = config_int(cfg, KEY_backgrounds_count),
            before = config_int(then, KEY_backgrounds_count);
    if (now != before)
        return config_fail(cfg, KEY_backgrounds_count,
                           "%lld, %s was made under %lld: set it so, or remove that file",
                           (long long)now, name, (long long)before);
    return MD_OK;
}

md_status import_check_backgrounds(const config *cfg, data_store *data, data_store *backgrounds,
                                   const char *name)
{
    char *text = NULL;
    config *then = NULL;
    data_kind wanted = DATA_LESION;
    MD_TRY(import_background_kind(cfg, data, &wanted));
    md_status status = data_text(backgrounds, "config", &text);
    if (status == MD_OK)
        status = config_parse(text, strlen(text), name, &then);
    if (status == MD_OK)
        status = check(cfg, wanted, backgrounds, then, name);
    config_free(then);
    free(text);
    return status == MD_OK ? MD_OK : md_frame(status, __FILE__, __LINE__);
}

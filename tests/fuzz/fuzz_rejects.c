/* rejected.csv: any bytes; lines that are read have a reason, and no more of them than there is
 * room. */
#include "fuzz.h"

#include "generate/rejects.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    enum { MOST = 8 };
    reject line[MOST];
    int64_t bad, found = rejects_parse((const char *)data, n, line, MOST, &bad);
    if (found < 0 || found > MOST || bad < 0 || bad > (int64_t)n)
        abort();
    for (int64_t i = 0; i < found; i++)
        if (line[i].slot < 0 || line[i].attempt < 0 || line[i].why <= VERDICT_GOOD ||
            line[i].why >= N_VERDICTS)
            abort();
    return 0;
}

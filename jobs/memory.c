#include "memory.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"

#include <stdint.h>
#include <stdlib.h>

static void tell(const char *what, uint64_t mine)
{
    int size = comm_size(comm_world());
    uint64_t *all = calloc((size_t)size, sizeof *all), most = 0, sum = 0;
    md_status status = comm_agree(comm_world(), all ? MD_OK : MD_NOMEM);
    if (status == MD_OK)
        status = comm_gather(comm_world(), 0, &mine, sizeof mine, all, 0);
    if (status != MD_OK)
        md_status_clear();
    for (int i = 0; i < size && all && status == MD_OK; i++) {
        most = all[i] > most ? all[i] : most;
        sum += all[i];
    }
    free(all);
    if (most > 0)
        md_info("memory", "%s: at most %.0f MiB resident in a process, %.0f MiB in all %d", what,
                (double)most / 1048576, (double)sum / 1048576, size);
}

static uint64_t largest;

void memory_tell_stage(const char *what)
{
    uint64_t mine = md_memory_peak();
    largest = mine > largest ? mine : largest;
    tell(what, mine);
    md_memory_forget();
}

void memory_tell_all(const char *what)
{
    uint64_t mine = md_memory_peak();
    tell(what, mine > largest ? mine : largest);
}

#include "backend/open.h"
#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"
#include <string.h>
#include <unistd.h>

/* `ref` ignores the threads: it is an oracle, not a way to work. */
static md_status open_ref(md_backend **out, int threads)
{
    (void)threads;
    return ref_backend_open(out);
}

/* In the order in which "auto" tries them. */
static const struct {
    const char *name;
    md_status (*open)(md_backend **out, int threads);
} rows[] = {
    {"cpu", cpu_backend_open},
    {"ref", open_ref},
};

/* At least one each. */
static int share_of_processors(int sharing)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > sharing ? (int)(n / sharing) : 1;
}

md_status backend_open(const char *device, int threads, int sharing, md_backend **out)
{
    if (threads <= 0 && sharing > 1)
        threads = share_of_processors(sharing);
    if (!strcmp(device, "auto"))
        return rows[0].open(out, threads);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(device, rows[i].name))
            return rows[i].open(out, threads);
    MD_FAIL(MD_USAGE, "device \"%s\": this build has no such backend; use \"cpu\"", device);
}

/* kill_at: preloaded into meddiff, kills it instead of its KILL_AT-th unlinkat(), which is what
   --fresh removes with; with KILL_AT=0 at the first fsync() behind one, when all is removed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int calls;

static int limit(void)
{
    const char *when = getenv("KILL_AT");
    return when && !strcmp(program_invocation_short_name, "meddiff") ? atoi(when) : -1;
}

int fsync(int fd)
{
    int (*next)(int) = 0;
    void *symbol = dlsym(RTLD_NEXT, "fsync");
    memcpy(&next, &symbol, sizeof next);
    if (limit() == 0 && calls > 0)
        (void)raise(SIGKILL);
    return next(fd);
}

int unlinkat(int dir, const char *path, int flags)
{
    int (*next)(int, const char *, int) = 0;
    void *symbol = dlsym(RTLD_NEXT, "unlinkat");
    memcpy(&next, &symbol, sizeof next);
    if (++calls == limit())
        (void)raise(SIGKILL);
    return next(dir, path, flags);
}

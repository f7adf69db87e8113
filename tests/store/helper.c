#include "helper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static char folder[256];

const char *helper_begin(void)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/meddiff-store-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
    return folder;
}

void helper_end(void)
{
    char out[64];
    if (folder[0])
        (void)helper_run(out, sizeof out, "rm -rf '%s'", folder);
}

const char *helper_path(const char *fmt, ...)
{
    static char ring[8][512];
    static int next;
    char name[256];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    char *out = ring[next++ % 8];
    (void)snprintf(out, sizeof ring[0], "%s/%s", folder, name);
    return out;
}

int helper_run(char *out, size_t bytes, const char *fmt, ...)
{
    char command[4096], text[4096 + 8];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    (void)snprintf(text, sizeof text, "%s 2>&1", command);
    FILE *f = popen(text, "r");
    if (!f)
        return -1;
    size_t n = fread(out, 1, bytes - 1, f);
    out[n] = 0;
    char rest[4096];
    while (fread(rest, 1, sizeof rest, f) > 0)
        ;
    int rc = pclose(f);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : 128 + WTERMSIG(rc);
}

int helper_has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

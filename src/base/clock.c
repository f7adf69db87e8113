#include "base/clock.h"

#include <string.h>
#include <time.h>

double md_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void md_sleep(double seconds)
{
    time_t whole = (time_t)seconds;
    struct timespec t = {whole, (long)((seconds - (double)whole) * 1e9)};
    (void)nanosleep(&t, NULL);
}

const char *md_clock_text(char buf[MD_CLOCK_TEXT_BYTES])
{
    time_t now = time(NULL);
    struct tm tm;
    if (!gmtime_r(&now, &tm) || strftime(buf, MD_CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        memcpy(buf, "?", 2);
    return buf;
}

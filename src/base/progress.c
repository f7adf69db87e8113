#include "base/progress.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/watch.h"

#include <stdio.h>
#include <string.h>

enum { BAR_CELLS = 24 };
static const double BAR_EVERY_S = 0.1, LINE_EVERY_S = 30.0;

md_progress md_progress_begin(const char *what, const char *unit, int64_t done, int64_t total)
{
    double now = md_now();
    return (md_progress){what, unit, total, done, now, now - 1, now};
}

static void duration_text(char *out, size_t size, double s)
{
    if (s < 0 || s > 1e7)
        (void)snprintf(out, size, "?");
    else if (s < 90)
        (void)snprintf(out, size, "%.0f s", s);
    else if (s < 5400)
        (void)snprintf(out, size, "%.0f min", s / 60);
    else
        (void)snprintf(out, size, "%.1f h", s / 3600);
}

static void summary(const md_progress *p, int64_t done, double now, char *out, size_t size)
{
    double seconds = now - p->began;
    double rate = seconds > 0 ? (double)(done - p->start) / seconds : 0;
    double left_s = rate > 0 ? (double)(p->total - done) / rate : -1;
    char left[24];
    duration_text(left, sizeof left, left_s);
    /* Slow work reads better as seconds per unit. */
    if (rate > 0 && rate < 1)
        (void)snprintf(out, size, "%lld/%lld %s, %.2f s each, %s left", (long long)done,
                       (long long)p->total, p->unit, 1 / rate, left);
    else
        (void)snprintf(out, size, "%lld/%lld %s, %.1f/s, %s left", (long long)done,
                       (long long)p->total, p->unit, rate, left);
}

void md_progress_at(md_progress *p, int64_t done)
{
    md_watch(p->what);
    double now = md_now();
    int terminal = md_log_is_terminal();
    char text[128];
    if (terminal && now - p->bar_at >= BAR_EVERY_S) {
        char cells[BAR_CELLS + 1], line[256];
        int64_t total = p->total > 0 ? p->total : 1;
        int64_t full = done < total ? done * BAR_CELLS / total : BAR_CELLS;
        memset(cells, '.', BAR_CELLS);
        memset(cells, '#', (size_t)(full > 0 ? full : 0));
        cells[BAR_CELLS] = '\0';
        summary(p, done, now, text, sizeof text);
        (void)snprintf(line, sizeof line, "%s [%s] %s", p->what, cells, text);
        md_log_bar(line);
        p->bar_at = now;
    }
    if (now - p->line_at >= LINE_EVERY_S) {
        summary(p, done, now, text, sizeof text);
        if (terminal)
            md_log_file_only(p->what, "%s", text);
        else
            md_info(p->what, "%s", text);
        p->line_at = now;
    }
}

void md_progress_end(md_progress *p, int64_t done)
{
    char took[24];
    double seconds = md_now() - p->began;
    duration_text(took, sizeof took, seconds);
    if (md_log_is_terminal())
        md_log_bar("");
    md_info(p->what, "%lld/%lld %s in %s", (long long)done, (long long)p->total, p->unit, took);
}

#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 4600 }; /* holds a whole status chain */

static struct {
    pthread_mutex_t lock;
    int rank, size, gpu, file;
    long step;
    bool quiet, bar;
    bool lost; /* lines of the file, which was said */
    void (*relay)(const char *line, size_t n);
    char host[65];
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .size = 1, .gpu = -1, .file = -1, .step = -1};

static bool write_all(int fd, const char *s, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, s, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        s += done;
        n -= (size_t)done;
    }
    return true;
}

static void name_host(void)
{
    if (state.host[0])
        return;
    if (gethostname(state.host, sizeof state.host - 1) != 0)
        memcpy(state.host, "?", 2);
    state.host[strcspn(state.host, ".")] = '\0';
}

md_status md_log_open(int rank, int size, const char *path)
{
    int file = -1;
    if (path) {
        file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (file < 0)
            MD_FAIL(MD_IO, "%s: cannot open the log file: %s", path, strerror(errno));
    }
    (void)pthread_mutex_lock(&state.lock);
    if (state.file >= 0)
        (void)close(state.file);
    state.file = file;
    state.lost = false;
    state.rank = rank;
    state.size = size;
    (void)pthread_mutex_unlock(&state.lock);
    return MD_OK;
}

void md_log_close(void)
{
    (void)pthread_mutex_lock(&state.lock);
    if (state.file >= 0)
        (void)close(state.file);
    state.file = -1;
    (void)pthread_mutex_unlock(&state.lock);
}

void md_log_step(long step)
{
    (void)pthread_mutex_lock(&state.lock);
    state.step = step;
    (void)pthread_mutex_unlock(&state.lock);
}

void md_log_gpu(int gpu)
{
    (void)pthread_mutex_lock(&state.lock);
    state.gpu = gpu;
    (void)pthread_mutex_unlock(&state.lock);
}

void md_log_quiet(bool quiet)
{
    (void)pthread_mutex_lock(&state.lock);
    state.quiet = quiet;
    (void)pthread_mutex_unlock(&state.lock);
}

void md_log_relay(void (*relay)(const char *line, size_t n))
{
    (void)pthread_mutex_lock(&state.lock);
    state.relay = relay;
    (void)pthread_mutex_unlock(&state.lock);
}

/* Under the lock. */
static void write_line(const char *line, size_t n, bool to_stderr)
{
    if (to_stderr) {
        if (state.bar)
            (void)write_all(STDERR_FILENO, "\r\033[K", 4);
        (void)write_all(STDERR_FILENO, line, n);
    }
    if (state.file < 0 || write_all(state.file, line, n) || state.lost)
        return;
    /* once, and only here: the work goes on */
    char text[LINE_BYTES];
    int why = errno, m = snprintf(text, sizeof text,
                                  "the log's file lacks lines from here on: %s\n", strerror(why));
    state.lost = true;
    (void)write_all(STDERR_FILENO, text, m > 0 ? (size_t)m : 0);
}

void md_log_line(const char *line, size_t n)
{
    (void)pthread_mutex_lock(&state.lock);
    write_line(line, n, !state.quiet);
    (void)pthread_mutex_unlock(&state.lock);
}

static void emit(md_log_level level, bool to_stderr, const char *room, const char *fmt,
                 va_list args)
{
    static const char *const names[] = {"INFO", "WARN", "ERROR"};
    char line[LINE_BYTES], when[MD_CLOCK_TEXT_BYTES], gpu[16] = "cpu", step[24] = "-";
    (void)pthread_mutex_lock(&state.lock);
    void (*relay)(const char *, size_t) = level == MD_LOG_INFO ? state.relay : NULL;
    if (level == MD_LOG_INFO && state.rank != 0 && !relay) {
        (void)pthread_mutex_unlock(&state.lock);
        return;
    }
    name_host();
    if (state.gpu >= 0)
        (void)snprintf(gpu, sizeof gpu, "%d", state.gpu);
    if (state.step >= 0)
        (void)snprintf(step, sizeof step, "%ld", state.step);
    int n = snprintf(line, sizeof line, "%s [%d/%d %s:%s %s] %s %s: ", md_clock_text(when),
                     state.rank, state.size, state.host, gpu, step, names[level], room);
    size_t at = n < 0 ? 0 : (size_t)n;
    n = vsnprintf(line + at, sizeof line - 1 - at, fmt, args);
    if (n > 0)
        at += (size_t)n < sizeof line - 1 - at ? (size_t)n : sizeof line - 2 - at;
    line[at++] = '\n';
    line[at] = '\0';
    if (!relay)
        write_line(line, at, to_stderr && !(state.quiet && level == MD_LOG_INFO));
    (void)pthread_mutex_unlock(&state.lock);
    if (relay)
        relay(line, at);
}

void md_info(const char *room, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    emit(MD_LOG_INFO, true, room, fmt, args);
    va_end(args);
}

void md_warn(const char *room, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    emit(MD_LOG_WARN, true, room, fmt, args);
    va_end(args);
}

void md_error(const char *room, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    emit(MD_LOG_ERROR, true, room, fmt, args);
    va_end(args);
}

void md_log_file_only(const char *room, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    emit(MD_LOG_INFO, false, room, fmt, args);
    va_end(args);
}

void md_log_bar(const char *text)
{
    (void)pthread_mutex_lock(&state.lock);
    if (state.rank == 0 && !state.quiet) {
        if (text[0] || state.bar) {
            (void)write_all(STDERR_FILENO, "\r\033[K", 4);
            (void)write_all(STDERR_FILENO, text, strlen(text));
        }
        state.bar = text[0] != '\0';
    }
    (void)pthread_mutex_unlock(&state.lock);
}

/* mpirun gives its processes a pipe for stderr and passes on what comes: where its own stderr is a
   terminal, so is ours in effect. */
static bool launcher_has_terminal(void)
{
    char path[64];
    if (!getenv("OMPI_COMM_WORLD_RANK") && !getenv("PMIX_RANK"))
        return false;
    (void)snprintf(path, sizeof path, "/proc/%ld/fd/2", (long)getppid());
    int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    bool found = fd >= 0 && isatty(fd) == 1;
    if (fd >= 0)
        (void)close(fd);
    return found;
}

bool md_log_is_terminal(void)
{
    static int known = -1; /* of the one process that shows progress */
    if (known < 0)
        known = isatty(STDERR_FILENO) == 1 || launcher_has_terminal();
    return !state.relay && known;
}

/* The thread's failure chain: one message, up to 12 contexts around it, and source frames for
   MEDDIFF_TRACE=1. All of it is static per thread, so failing needs no memory. */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE_BYTES = 1024, CONTEXTS = 12, CONTEXT_BYTES = 240, FRAMES = 24, TEXT_BYTES = 4096 };

typedef struct frame {
    const char *file;
    int line;
} frame;

typedef struct chain {
    int n_contexts, n_frames; /* n_contexts may exceed CONTEXTS: the rest was dropped */
    char message[MESSAGE_BYTES];
    char context[CONTEXTS][CONTEXT_BYTES]; /* innermost first */
    frame frames[FRAMES];
    char text[TEXT_BYTES];
} chain;

static _Thread_local chain thread_chain;

const char *md_status_name(md_status s)
{
    switch (s) {
#define X(name, code, text)                                                                        \
    case MD_##name:                                                                                \
        return text;
        MD_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

int md_status_exit_code(md_status s)
{
    switch (s) {
#define X(name, code, text)                                                                        \
    case MD_##name:                                                                                \
        return code;
        MD_STATUS_MAP(X)
#undef X
    }
    return 1;
}

/* A cut message ends in "..." so that nobody takes it for the whole one. Names out of files may
   hold anything; a message is one line and no terminal's command. */
static void format_cut(char *out, size_t size, const char *fmt, va_list args)
{
    int n = vsnprintf(out, size, fmt, args);
    if (n < 0)
        out[0] = '\0';
    else if ((size_t)n >= size)
        memcpy(out + size - 4, "...", 4);
    for (; *out; out++)
        if ((unsigned char)*out < ' ' || *out == 127)
            *out = '?';
}

static void add_frame(chain *c, const char *file, int line)
{
    if (c->n_frames < FRAMES)
        c->frames[c->n_frames++] = (frame){file, line};
}

md_status md_fail(md_status code, const char *file, int line, const char *fmt, ...)
{
    chain *c = &thread_chain;
    va_list args;
    va_start(args, fmt);
    /* The arguments may point into c->text (a wrapped older chain), never into c->message. */
    format_cut(c->message, sizeof c->message, fmt, args);
    va_end(args);
    c->n_contexts = 0;
    c->n_frames = 0;
    add_frame(c, file, line);
    return code;
}

md_status md_context(md_status code, const char *fmt, ...)
{
    chain *c = &thread_chain;
    va_list args;
    va_start(args, fmt);
    if (c->n_contexts < CONTEXTS)
        format_cut(c->context[c->n_contexts], CONTEXT_BYTES, fmt, args);
    va_end(args);
    c->n_contexts++;
    return code;
}

md_status md_frame(md_status code, const char *file, int line)
{
    add_frame(&thread_chain, file, line);
    return code;
}

static size_t append(char *out, size_t size, size_t at, const char *s)
{
    size_t n = strlen(s);
    if (n > size - 1 - at)
        n = size - 1 - at;
    memcpy(out + at, s, n);
    out[at + n] = '\0';
    return at + n;
}

const char *md_status_text(void)
{
    chain *c = &thread_chain;
    size_t at = 0;
    c->text[0] = '\0';
    int kept = c->n_contexts < CONTEXTS ? c->n_contexts : CONTEXTS;
    if (c->n_contexts > CONTEXTS)
        at = append(c->text, TEXT_BYTES, at, "...: ");
    for (int i = kept - 1; i >= 0; i--) {
        at = append(c->text, TEXT_BYTES, at, c->context[i]);
        at = append(c->text, TEXT_BYTES, at, ": ");
    }
    at = append(c->text, TEXT_BYTES, at, c->message);
    const char *trace = getenv("MEDDIFF_TRACE");
    if (trace && trace[0] == '1')
        for (int i = 0; i < c->n_frames; i++) {
            char line[256];
            (void)snprintf(line, sizeof line, "\n    at %s:%d", c->frames[i].file,
                           c->frames[i].line);
            at = append(c->text, TEXT_BYTES, at, line);
        }
    return c->text;
}

void md_status_clear(void)
{
    chain *c = &thread_chain;
    c->n_contexts = 0;
    c->n_frames = 0;
    c->message[0] = '\0';
}

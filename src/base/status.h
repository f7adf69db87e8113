/* Errors as values: every fallible function returns md_status; the message chain lives in the
   thread. MD_FAIL starts a chain, MD_TRY adds a frame and returns. Nothing here allocates, prints
   or exits. */
#ifndef MD_BASE_STATUS_H
#define MD_BASE_STATUS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* name, exit code of a job that ends with it, text */
#define MD_STATUS_MAP(X)                                                                           \
    X(OK, 0, "ok")                                                                                 \
    X(USAGE, 2, "bad usage or configuration")                                                      \
    X(BAD_INPUT, 2, "bad input file")                                                              \
    X(IO, 1, "input/output error")                                                                 \
    X(NOMEM, 1, "out of memory")                                                                   \
    X(SHAPE, 1, "shape mismatch")                                                                  \
    X(UNSUPPORTED, 1, "not supported")                                                             \
    X(NONFINITE, 1, "non-finite value")                                                            \
    X(EXHAUSTED, 1, "no attempts left")                                                            \
    X(DEVICE, 1, "device error")                                                                   \
    X(COMM, 1, "communication error")                                                              \
    X(PEER, 1, "another rank failed")                                                              \
    X(STOPPED, 0, "stopped orderly")                                                               \
    X(INTERNAL, 1, "internal error")

typedef enum md_status {
#define X(name, code, text) MD_##name,
    MD_STATUS_MAP(X)
#undef X
} md_status;

#define MD_MUST __attribute__((warn_unused_result))

const char *md_status_name(md_status s);
int md_status_exit_code(md_status s);

/* Starts a new chain (dropping the old one) with this message; returns code. */
md_status md_fail(md_status code, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Adds "while <fmt>" in front of the chain; returns code unchanged. */
md_status md_context(md_status code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds a source frame (shown only with MEDDIFF_TRACE=1); returns code. */
md_status md_frame(md_status code, const char *file, int line);

/* The chain as one line, outermost context first: "importing x: reading y.png: truncated".
   Valid until the next failure in this thread; "" when there is none. */
const char *md_status_text(void);
void md_status_clear(void);

#define MD_FAIL(code, ...) return md_fail((code), __FILE__, __LINE__, __VA_ARGS__)
#define MD_TRY(call)                                                                               \
    do {                                                                                           \
        md_status md_try_ = (call);                                                                \
        if (md_try_ != MD_OK)                                                                      \
            return md_frame(md_try_, __FILE__, __LINE__);                                          \
    } while (0)
/* As MD_TRY, for constructors that unwind: stores into a local `status` and jumps. */
#define MD_TRY_GOTO(call, label)                                                                   \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != MD_OK) {                                                                     \
            (void)md_frame(status, __FILE__, __LINE__);                                            \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif

/* A directory and a backend for tests of model folders: each program includes this once. */
#ifndef MD_TESTS_MODELS_SCRATCH_H
#define MD_TESTS_MODELS_SCRATCH_H

#include "backend/ref/ref.h"
#include "support/expect.h"
#include "support/tmp_dir.h"

#define SD "tests/golden/sd"

static char root[256];
static md_backend *be;

/* "<root>/<name>", valid until four more calls. */
static inline const char *in_root(const char *name)
{
    static char path[4][512];
    static int next;
    char *p = path[next++ & 3];
    (void)snprintf(p, sizeof path[0], "%s/%s", root, name);
    return p;
}

/* A shell command in root. */
static inline void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline void shell(const char *fmt, ...)
{
    char command[2048];
    int n = snprintf(command, sizeof command, "cd %s && ", root);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(command + n, sizeof command - (size_t)n, fmt, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("%s", command);
}

/* SD, or what is below it, as `name` in root, in place of what was there. */
static inline void copy_sd(const char *what, const char *name)
{
    char command[1200];
    (void)snprintf(command, sizeof command, "rm -rf %s && cp -r " SD "%s %s", in_root(name), what,
                   in_root(name));
    assert_int_equal(system(command), 0);
}

static inline int scratch_open(void **state)
{
    (void)state;
    return !tmp_dir_make(root) || ref_backend_open(&be) != MD_OK;
}

static inline int scratch_close(void **state)
{
    (void)state;
    be->ops->close(be);
    tmp_dir_remove(root);
    return 0;
}

#endif

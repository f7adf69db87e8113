/* HDF5's error stack folded into the status chain. */
#include "store/h5.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "store/table.h"

void store__h5_quiet(void)
{
    static bool begun;
    if (!begun)
        (void)H5dont_atexit(); /* everything is closed by hand; its own clean-up can crash after
                                  errors */
    begun = true;
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

typedef struct h5_reason {
    char text[200];
} h5_reason;

/* Walked upward, from the innermost frame, which holds the cause; the next frames only repeat it.
 */
static herr_t keep_first(unsigned n, const H5E_error2_t *frame, void *data)
{
    h5_reason *r = data;
    if (n == 0 && frame->desc)
        (void)snprintf(r->text, sizeof r->text, "%s", frame->desc);
    return 0;
}

/* What a user can do about the cause, where that is known. */
static const char *hint(const char *reason)
{
    if (strstr(reason, "file signature not found"))
        return " (this is no HDF5 file)";
    if (strstr(reason, "truncated file"))
        return " (the file is shorter than when it was made; it was cut off while being copied or "
               "stored)";
    if (strstr(reason, "already open for write"))
        return " (another program has it open for writing, or was killed so: h5clear -s FILE)";
    if (strstr(reason, "unable to lock file"))
        return " (another program has locked it)";
    return "";
}

md_status store__h5_fail(md_status code, const char *file, int line, const char *what,
                         const char *name)
{
    h5_reason r = {"no reason given"};
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &r);
    (void)H5Eclear2(H5E_DEFAULT);
    return md_fail(code, file, line, "%s %s: HDF5: %s%s", what, name, r.text, hint(r.text));
}

md_status store_library(char *text, size_t bytes)
{
    unsigned major = 0, minor = 0, release = 0;
    if (H5get_libversion(&major, &minor, &release) < 0)
        MD_FAIL(MD_UNSUPPORTED, "the HDF5 library does not tell its version");
    if (major != H5_VERS_MAJOR || minor != H5_VERS_MINOR || release != H5_VERS_RELEASE)
        MD_FAIL(MD_UNSUPPORTED,
                "HDF5 %u.%u.%u is loaded, the program was compiled with %d.%d.%d: load that one's "
                "module, mend LD_LIBRARY_PATH, or compile anew",
                major, minor, release, H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
#ifdef H5_HAVE_PARALLEL
    return md_str_printf(text, bytes, "HDF5 %u.%u.%u, parallel", major, minor, release);
#else
    MD_FAIL(MD_UNSUPPORTED,
            "HDF5 %u.%u.%u was built without MPI: compile with the parallel one (Debian: "
            "libhdf5-openmpi-dev)",
            major, minor, release);
#endif
}

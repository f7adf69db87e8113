/* HDF5 calls as md_status: its error stack becomes one line of the chain, its own printing is off.
   For the .c files of this room that include hdf5.h, and no other. */
#ifndef MD_STORE_H5_H
#define MD_STORE_H5_H

#include <hdf5.h>

#include "base/status.h"

/* Fails with `code`, the message "<what> <name>: <reason>", and the reason taken from HDF5's stack.
 */
md_status store__h5_fail(md_status code, const char *file, int line, const char *what,
                         const char *name);
/* Switches HDF5's automatic printing off; cheap, called before each group of calls. */
void store__h5_quiet(void);

/* For calls that return herr_t, htri_t or hid_t (negative = failed): */
#define H5_TRY(call, what, name)                                                                   \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            return store__h5_fail(MD_IO, __FILE__, __LINE__, (what), (name));                      \
    } while (0)
#define H5_TRY_GOTO(call, label, what, name)                                                       \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            status = store__h5_fail(MD_IO, __FILE__, __LINE__, (what), (name));                    \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

#endif

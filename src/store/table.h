/* One HDF5 file = N rows under a list of columns: the common floor of pairs.h5, data.h5,
   backgrounds.h5. Every column is one contiguous dataset /name of shape [N, dim...], allocated when
   the file is made, so that afterwards only raw data is written, at fixed offsets, and a killed
   writer harms nothing. A process uses one table from one thread at a time (HDF5 is not built
   thread-safe). */
#ifndef MD_STORE_TABLE_H
#define MD_STORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define STORE_MAX_DIMS    3
#define STORE_MAX_COLUMNS 24
#define STORE_ANY         (-1) /* a dimension that differs from file to file: taken from the file */

typedef enum store_type { STORE_U8, STORE_I32, STORE_U32, STORE_F32, STORE_TEXT } store_type;

typedef struct store_column {
    const char *name;            /* dataset name, without the slash */
    store_type type;             /* little endian in the file, native in memory */
    int width;                   /* STORE_TEXT: bytes of a value, padded with NUL; else 0 */
    int ndim;                    /* dimensions of one value */
    int64_t dim[STORE_MAX_DIMS]; /* outermost first */
    bool pixels;                 /* large: page-aligned and never filled; else filled with `fill` */
    double fill;                 /* ignored for STORE_TEXT, which starts empty */
} store_column;

/* A root attribute. Text has no length limit; numbers are arrays of n. */
typedef struct store_attr {
    const char *name;
    enum { STORE_ATTR_TEXT, STORE_ATTR_I64, STORE_ATTR_U64, STORE_ATTR_F64 } kind;
    int n; /* of numbers, at most 8; ignored for text */
    const char *text;
    union {
        int64_t i[8];
        uint64_t u[8];
        double f[8];
    } v;
} store_attr;

store_attr store_text_attr(const char *name, const char *text);

typedef enum store_mode {
    STORE_READ, /* serial driver, no lock: works while others write, and sees what they wrote */
    STORE_WRITE /* MPI-IO driver on MPI_COMM_SELF where MPI runs; raw data only, metadata is frozen
                 */
} store_mode;

typedef struct store_table store_table;

/* Makes the file `path` itself (give it a name from store_temp_name), all columns allocated,
   attributes `schema` = "meddiff.<schema>" and `schema_version` = 1 besides `attrs`, closed, its
   disk space claimed and synced; md_file_publish then names it. On failure no file is left. IO when
   the disk is full or the directory unwritable. Local. */
MD_MUST md_status store_make(const char *path, const char *schema, const store_column *columns,
                             int n_columns, int64_t rows, const store_attr *attrs, int n_attrs);
/* The same with pixels compressed, each row's by itself, and no disk space claimed for them: a copy
   that is written once, row after row, by one process, and ended by store_flush. */
MD_MUST md_status store_make_packed(const char *path, const char *schema,
                                    const store_column *columns, int n_columns, int64_t rows,
                                    const store_attr *attrs, int n_attrs);
/* "<path>.tmp" into out[bytes]. */
MD_MUST md_status store_temp_name(const char *path, char *out, size_t bytes);
/* Has `make` write a file under a temporary name, which then takes the place of `path`. On failure
   neither is touched or left. Local. */
typedef md_status (*store_maker)(const char *temp, const void *what);
MD_MUST md_status store_replace(const char *path, store_maker make, const void *what);

/* Opens and checks every column against the file: presence, type, shape. Dimensions given as
   STORE_ANY are taken from the file. BAD_INPUT for a foreign, truncated or damaged file. Local. */
MD_MUST md_status store_open(const char *path, const char *schema, const store_column *columns,
                             int n_columns, store_mode mode, store_table **out);
void store_close(store_table *t); /* NULL is fine */

int64_t store_rows(const store_table *t);
const char *store_path(const store_table *t);
/* Dimension d of column c. */
int64_t store_dim(const store_table *t, int c, int d);

/* `count` values of column c from row `first`; buf holds them in the column's type and dimensions.
   Each write is one pwrite at a fixed offset, at once and in program order. */
MD_MUST md_status store_write(store_table *t, int c, int64_t first, int64_t count, const void *buf);
MD_MUST md_status store_read(store_table *t, int c, int64_t first, int64_t count, void *buf);
/* Of a packed table: what HDF5 still holds in memory goes into the file; then store_sync. Others
   have nothing there. Local. */
MD_MUST md_status store_flush(store_table *t);
/* fdatasync on a descriptor of the table's own; STORE_WRITE only. Local. */
MD_MUST md_status store_sync(store_table *t);

/* Root attributes. Text: *out is malloced, the caller frees it. */
bool store_has_attr(store_table *t, const char *name);
MD_MUST md_status store_attr_text(store_table *t, const char *name, char **out);
MD_MUST md_status store_attr_i64(store_table *t, const char *name, int n, int64_t *out);
MD_MUST md_status store_attr_u64(store_table *t, const char *name, int n, uint64_t *out);
MD_MUST md_status store_attr_f64(store_table *t, const char *name, int n, double *out);

/* "HDF5 1.10.8, parallel" into text. MD_UNSUPPORTED where the library that is loaded is not the one
   that the program was compiled with, or not parallel: HDF5 itself would end the process. Local. */
MD_MUST md_status store_library(char *text, size_t bytes);

/* Keeps a second coordinator out of a run directory: an advisory lock on the directory itself, so
   that readers of the stores in it are not disturbed. *fd is closed by store_unlock_directory.
   MD_USAGE when it is taken. */
MD_MUST md_status store_lock_directory(const char *dir, int *fd);
void store_unlock_directory(int fd);
/* Whether it is taken, by whomever. Asks without taking it from a job that starts meanwhile: one
   waits longer than this takes. */
MD_MUST md_status store_directory_is_locked(const char *dir, bool *locked);

#ifdef __cplusplus
}
#endif
#endif

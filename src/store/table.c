/* Opening, reading and writing a table of contiguous columns. Making one is in make.c. */
#include "store/table.h"

#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/watch.h"
#include "store/h5.h"
#include "store/table_internal.h"

enum { ROOM = 1 << 19 }; /* that is left when a packed table is written to */

struct store_table {
    char *path;
    hid_t file;
    int sync_fd; /* -1 when reading */
    bool packed; /* writing chunks, which take room as they come */
    int64_t rows;
    int n_columns;
    store_column column[STORE_MAX_COLUMNS]; /* STORE_ANY resolved */
    hid_t set[STORE_MAX_COLUMNS], type[STORE_MAX_COLUMNS];
};

/* ---- shared with make.c ---- */

bool store__mpi_runs(void)
{
    int begun = 0, ended = 0;
    return MPI_Initialized(&begun) == MPI_SUCCESS && begun &&
           MPI_Finalized(&ended) == MPI_SUCCESS && !ended;
}

hid_t store__access(bool write)
{
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    if (fapl < 0)
        return fapl;
    herr_t rc = H5Pset_libver_bounds(fapl, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST);
    if (write && store__mpi_runs()) {
        /* No lock, no sieve buffer: each write is one pwrite, and readers are never shut out. */
        if (rc >= 0)
            rc = H5Pset_fapl_mpio(fapl, MPI_COMM_SELF, MPI_INFO_NULL);
    } else {
        /* The same behaviour from the serial driver. A sieve buffer would also show readers old
         * state. */
        if (rc >= 0)
            rc = H5Pset_sieve_buf_size(fapl, 0);
        if (rc >= 0)
            rc = H5Pset_cache(fapl, 0, 0, 0, 0);
        if (rc >= 0)
            rc = H5Pset_file_locking(fapl, false, true);
    }
    if (rc < 0) {
        (void)H5Pclose(fapl);
        return -1;
    }
    return fapl;
}

static hid_t number_type(store_type type, bool memory)
{
    switch (type) {
    case STORE_U8:
        return memory ? H5T_NATIVE_UINT8 : H5T_STD_U8LE;
    case STORE_I32:
        return memory ? H5T_NATIVE_INT32 : H5T_STD_I32LE;
    case STORE_U32:
        return memory ? H5T_NATIVE_UINT32 : H5T_STD_U32LE;
    case STORE_F32:
        return memory ? H5T_NATIVE_FLOAT : H5T_IEEE_F32LE;
    case STORE_TEXT:
        break;
    }
    return -1;
}

hid_t store__type(const store_column *c, bool memory)
{
    if (c->type != STORE_TEXT) {
        hid_t number = number_type(c->type, memory);
        return number < 0 ? number : H5Tcopy(number);
    }
    hid_t text = H5Tcopy(H5T_C_S1);
    if (text >= 0 &&
        (H5Tset_size(text, (size_t)c->width) < 0 || H5Tset_strpad(text, H5T_STR_NULLPAD) < 0 ||
         H5Tset_cset(text, H5T_CSET_UTF8) < 0)) {
        (void)H5Tclose(text);
        return -1;
    }
    return text;
}

size_t store__value_bytes(const store_column *c)
{
    size_t n = c->type == STORE_TEXT ? (size_t)c->width : c->type == STORE_U8 ? 1 : 4;
    for (int d = 0; d < c->ndim; d++)
        n *= (size_t)c->dim[d];
    return n;
}

/* ---- opening ---- */

static md_status shape_text(const store_table *t, const char *name, int ndim, const hsize_t *dim)
{
    char got[96] = "";
    for (int d = 0, at = 0; d < ndim && at < 80; d++)
        at += snprintf(got + at, sizeof got - (size_t)at, "%s%llu", d ? "," : "",
                       (unsigned long long)dim[d]);
    MD_FAIL(MD_BAD_INPUT, "%s: dataset /%s has the shape [%s], which is not that of its schema",
            t->path, name, got);
}

static md_status check_type(const store_table *t, int i)
{
    const store_column *c = &t->column[i];
    hid_t stored = H5Dget_type(t->set[i]), wanted = store__type(c, false);
    htri_t same = stored < 0 || wanted < 0 ? -1 : H5Tequal(stored, wanted);
    /* Another cset or padding of the same width is still readable text. */
    if (same == 0 && c->type == STORE_TEXT && H5Tget_class(stored) == H5T_STRING &&
        H5Tis_variable_str(stored) == 0 && H5Tget_size(stored) == (size_t)c->width)
        same = 1;
    if (stored >= 0)
        (void)H5Tclose(stored);
    if (wanted >= 0)
        (void)H5Tclose(wanted);
    if (same < 0)
        return store__h5_fail(MD_BAD_INPUT, __FILE__, __LINE__, "reading the types of", t->path);
    if (!same)
        MD_FAIL(MD_BAD_INPUT, "%s: dataset /%s has not the type of its schema", t->path, c->name);
    return MD_OK;
}

static bool is_packed(hid_t set)
{
    hid_t create = H5Dget_create_plist(set);
    bool packed = create >= 0 && H5Pget_layout(create) == H5D_CHUNKED;
    if (create >= 0)
        (void)H5Pclose(create);
    return packed;
}

static md_status open_column(store_table *t, int i)
{
    store_column *c = &t->column[i];
    htri_t there = H5Lexists(t->file, c->name, H5P_DEFAULT);
    if (there < 0)
        return store__h5_fail(MD_BAD_INPUT, __FILE__, __LINE__, "looking for a dataset in",
                              t->path);
    if (!there)
        MD_FAIL(MD_BAD_INPUT,
                "%s: dataset /%s is missing: damaged, or of an earlier version of "
                "meddiff, whose job has to be run again",
                t->path, c->name);
    t->set[i] = H5Dopen2(t->file, c->name, H5P_DEFAULT);
    t->type[i] = store__type(c, true);
    if (t->set[i] < 0 || t->type[i] < 0)
        return store__h5_fail(MD_BAD_INPUT, __FILE__, __LINE__, "opening a dataset of", t->path);
    hsize_t dim[1 + STORE_MAX_DIMS] = {0};
    hid_t space = H5Dget_space(t->set[i]);
    int ndim = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
    if (ndim > 0 && ndim <= 1 + STORE_MAX_DIMS)
        ndim = H5Sget_simple_extent_dims(space, dim, NULL);
    if (space >= 0)
        (void)H5Sclose(space);
    if (ndim != 1 + c->ndim)
        MD_FAIL(MD_BAD_INPUT, "%s: dataset /%s has %d dimensions, wanted %d", t->path, c->name,
                ndim, 1 + c->ndim);
    if (i == 0)
        t->rows = (int64_t)dim[0];
    bool fits = dim[0] == (hsize_t)t->rows;
    for (int d = 0; d < c->ndim; d++) {
        if (c->dim[d] == STORE_ANY)
            c->dim[d] = (int64_t)dim[1 + d];
        fits = fits && dim[1 + d] == (hsize_t)c->dim[d] && dim[1 + d] <= 1 << 16;
    }
    if (!fits)
        return shape_text(t, c->name, ndim, dim);
    return check_type(t, i);
}

static md_status check_schema(store_table *t, const char *schema)
{
    char wanted[64];
    (void)snprintf(wanted, sizeof wanted, "meddiff.%s", schema);
    if (!store_has_attr(t, "schema"))
        MD_FAIL(MD_BAD_INPUT, "%s: this HDF5 file is not one of meddiff's (no attribute schema)",
                t->path);
    char *got = NULL;
    MD_TRY(store_attr_text(t, "schema", &got));
    bool same = strcmp(got, wanted) == 0;
    md_status status = MD_OK;
    if (!same)
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: holds %.60s, wanted %s", t->path,
                         got, wanted);
    free(got);
    MD_TRY(status);
    int64_t version = 0;
    MD_TRY(store_attr_i64(t, "schema_version", 1, &version));
    if (version != STORE_SCHEMA_VERSION)
        MD_FAIL(MD_BAD_INPUT, "%s: schema version %lld, this program reads %d", t->path,
                (long long)version, STORE_SCHEMA_VERSION);
    return MD_OK;
}

/* errno's text is clearer than HDF5's for what a user gets wrong most: the path. */
static md_status check_path(const char *path, store_mode mode, int *fd)
{
    *fd = open(path, (mode == STORE_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (*fd < 0)
        MD_FAIL(errno == ENOENT ? MD_BAD_INPUT : MD_IO, "%s: cannot be opened for %s: %s", path,
                mode == STORE_WRITE ? "writing" : "reading", strerror(errno));
    return MD_OK;
}

static md_status open_file(store_table *t, const char *schema, store_mode mode)
{
    MD_TRY(check_path(t->path, mode, &t->sync_fd));
    hid_t access = store__access(mode == STORE_WRITE);
    H5_TRY(access, "preparing to open", t->path);
    t->file = H5Fopen(t->path, mode == STORE_WRITE ? H5F_ACC_RDWR : H5F_ACC_RDONLY, access);
    if (t->file < 0) {
        md_status status = store__h5_fail(MD_BAD_INPUT, __FILE__, __LINE__, "opening", t->path);
        (void)H5Pclose(access);
        return status;
    }
    (void)H5Pclose(access);
    MD_TRY(check_schema(t, schema));
    for (int i = 0; i < t->n_columns; i++) {
        MD_TRY(open_column(t, i));
        t->packed = t->packed || (mode == STORE_WRITE && is_packed(t->set[i]));
    }
    return MD_OK;
}

md_status store_open(const char *path, const char *schema, const store_column *columns,
                     int n_columns, store_mode mode, store_table **out)
{
    if (n_columns < 1 || n_columns > STORE_MAX_COLUMNS)
        MD_FAIL(MD_INTERNAL, "%s: %d columns", path, n_columns);
    store__h5_quiet();
    store_table *t = calloc(1, sizeof *t);
    char *name = t ? malloc(strlen(path) + 1) : NULL;
    if (!name) {
        free(t);
        MD_FAIL(MD_NOMEM, "%s: out of memory", path);
    }
    t->path = strcpy(name, path);
    t->file = -1;
    t->sync_fd = -1;
    t->n_columns = n_columns;
    memcpy(t->column, columns, (size_t)n_columns * sizeof *columns);
    for (int i = 0; i < n_columns; i++)
        t->set[i] = t->type[i] = -1;
    md_status status = open_file(t, schema, mode);
    if (status != MD_OK) {
        store_close(t);
        return md_frame(status, __FILE__, __LINE__);
    }
    *out = t;
    return MD_OK;
}

void store_close(store_table *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->n_columns; i++) {
        if (t->set[i] >= 0)
            (void)H5Dclose(t->set[i]);
        if (t->type[i] >= 0)
            (void)H5Tclose(t->type[i]);
    }
    if (t->file >= 0)
        (void)H5Fclose(t->file);
    if (t->sync_fd >= 0)
        (void)close(t->sync_fd);
    free(t->path);
    free(t);
}

int64_t store_rows(const store_table *t)
{
    return t->rows;
}

const char *store_path(const store_table *t)
{
    return t->path;
}

int64_t store_dim(const store_table *t, int c, int d)
{
    return t->column[c].dim[d];
}

/* ---- rows ---- */

static md_status transfer(store_table *t, int c, int64_t first, int64_t count, void *in,
                          const void *out)
{
    const store_column *col = &t->column[c];
    if (first < 0 || count < 0 || first > t->rows || count > t->rows - first)
        MD_FAIL(MD_INTERNAL, "%s: /%s: rows %lld to %lld of %lld", t->path, col->name,
                (long long)first, (long long)(first + count), (long long)t->rows);
    if (count == 0)
        return MD_OK;
    hsize_t start[1 + STORE_MAX_DIMS] = {(hsize_t)first},
                      size[1 + STORE_MAX_DIMS] = {(hsize_t)count};
    for (int d = 0; d < col->ndim; d++)
        size[1 + d] = (hsize_t)col->dim[d];
    md_status status = MD_OK;
    md_watch(out ? "writing to a store" : "reading from a store");
    hid_t memory = -1, space = H5Dget_space(t->set[c]);
    H5_TRY_GOTO(space, done, "selecting rows of", t->path);
    H5_TRY_GOTO(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL), done,
                "selecting rows of", t->path);
    H5_TRY_GOTO(memory = H5Screate_simple(1 + col->ndim, size, NULL), done, "selecting rows of",
                t->path);
    if (out)
        H5_TRY_GOTO(H5Dwrite(t->set[c], t->type[c], memory, space, H5P_DEFAULT, out), done,
                    "writing to", t->path);
    else
        H5_TRY_GOTO(H5Dread(t->set[c], t->type[c], memory, space, H5P_DEFAULT, in), done,
                    "reading from", t->path);
done:
    if (space >= 0)
        (void)H5Sclose(space);
    if (memory >= 0)
        (void)H5Sclose(memory);
    if (status != MD_OK)
        (void)md_context(status, "rows %lld to %lld of /%s", (long long)first,
                         (long long)(first + count - 1), col->name);
    return status;
}

/* HDF5 must not be the one that finds a full disk (make.c). A little more than `bytes`, for what
   does not shrink and HDF5's own books. */
static md_status find_room(const store_table *t, int64_t bytes)
{
    struct statvfs v;
    if (fstatvfs(t->sync_fd, &v) == 0 &&
        (double)v.f_bavail * (double)v.f_frsize < (double)bytes + (double)ROOM)
        MD_FAIL(MD_IO, "%s: no room for %.1f MB more: %s", t->path, (double)bytes / 1e6,
                md_file_write_reason(ENOSPC));
    return MD_OK;
}

md_status store_write(store_table *t, int c, int64_t first, int64_t count, const void *buf)
{
    if (t->packed)
        MD_TRY(find_room(t, count * (int64_t)store__value_bytes(&t->column[c])));
    MD_TRY(transfer(t, c, first, count, NULL, buf));
    return MD_OK;
}

md_status store_read(store_table *t, int c, int64_t first, int64_t count, void *buf)
{
    MD_TRY(transfer(t, c, first, count, buf, NULL));
    return MD_OK;
}

md_status store_flush(store_table *t)
{
    if (t->packed) {
        MD_TRY(find_room(t, 0));
        H5_TRY(H5Fflush(t->file, H5F_SCOPE_GLOBAL), "writing", t->path);
    }
    MD_TRY(store_sync(t));
    return MD_OK;
}

md_status store_sync(store_table *t)
{
    md_watch("syncing a store");
    if (fdatasync(t->sync_fd) != 0)
        MD_FAIL(MD_IO, "%s: cannot sync: %s", t->path, md_file_write_reason(errno));
    return MD_OK;
}

/* ---- the directory lock ---- */

md_status store_lock_directory(const char *dir, int *fd)
{
    int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d < 0)
        MD_FAIL(MD_IO, "%s: %s", dir, strerror(errno));
    if (flock(d, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        (void)close(d);
        MD_FAIL(MD_USAGE,
                "%s: another meddiff works in this run directory; wait for its end, or set run to "
                "another directory",
                dir);
    }
    /* A file system without locks cannot tell; going on is right there. */
    *fd = d;
    return MD_OK;
}

void store_unlock_directory(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

md_status store_directory_is_locked(const char *dir, bool *locked)
{
    int d = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d < 0)
        MD_FAIL(MD_IO, "%s: %s", dir, strerror(errno));
    *locked = flock(d, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    (void)close(d);
    return MD_OK;
}

hid_t store__file(store_table *t)
{
    return t->file;
}

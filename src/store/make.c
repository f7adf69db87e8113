/* Making a table: under a temporary name, everything allocated, closed, its disk space claimed,
 * synced. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "store/table_internal.h"

#define PAGE 4096

/* Of 9. A real picture of 512 x 512 took 144 kB in 27 ms at level 4, 116 kB in 83 ms at 6, 110 kB
   in 108 ms at 9. */
enum { PACKED_LEVEL = 6 };

md_status store_temp_name(const char *path, char *out, size_t bytes)
{
    int n = snprintf(out, bytes, "%s.tmp", path);
    if (n < 0 || (size_t)n >= bytes)
        MD_FAIL(MD_USAGE, "%s: this path is too long", path);
    return MD_OK;
}

/* The value that a small column starts with, in memory type. */
static md_status set_fill(hid_t create, const store_column *c, hid_t memory, const char *path)
{
    union {
        uint8_t u8;
        int32_t i32;
        uint32_t u32;
        float f32;
    } v = {0};
    switch (c->type) {
    case STORE_U8:
        v.u8 = (uint8_t)c->fill;
        break;
    case STORE_I32:
        v.i32 = (int32_t)c->fill;
        break;
    case STORE_U32:
        v.u32 = (uint32_t)c->fill;
        break;
    case STORE_F32:
        v.f32 = (float)c->fill;
        break;
    case STORE_TEXT:
        return MD_OK; /* all NUL already */
    }
    H5_TRY(H5Pset_fill_value(create, memory, &v), "setting a fill value of", path);
    return MD_OK;
}

/* Pixels on pages that are there from the start; or, packed, each row a chunk of its own. Values of
   one byte gain nothing from the shuffle filter. */
static md_status set_layout(hid_t create, const store_column *c, bool packed, const hsize_t *dim,
                            const char *path)
{
    hsize_t chunk[1 + STORE_MAX_DIMS] = {1};
    H5_TRY(H5Pset_obj_track_times(create, false), "making", path);
    H5_TRY(H5Pset_fill_time(create, c->pixels ? H5D_FILL_TIME_NEVER : H5D_FILL_TIME_ALLOC),
           "making", path);
    if (packed && c->pixels) {
        memcpy(chunk + 1, dim + 1, (size_t)c->ndim * sizeof *dim);
        H5_TRY(H5Pset_chunk(create, 1 + c->ndim, chunk), "making", path);
        H5_TRY(H5Pset_deflate(create, PACKED_LEVEL), "making", path);
        return MD_OK;
    }
    H5_TRY(H5Pset_layout(create, H5D_CONTIGUOUS), "making", path);
    H5_TRY(H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY), "making", path);
    return MD_OK;
}

static md_status make_column(hid_t file, const char *path, const store_column *c, bool packed,
                             int64_t rows)
{
    md_status status = MD_OK;
    hsize_t dim[1 + STORE_MAX_DIMS] = {(hsize_t)rows};
    for (int d = 0; d < c->ndim; d++)
        dim[1 + d] = (hsize_t)c->dim[d];
    hid_t disk = store__type(c, false), memory = store__type(c, true), space = -1, set = -1;
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5_TRY_GOTO(disk, done, "making", path);
    H5_TRY_GOTO(memory, done, "making", path);
    H5_TRY_GOTO(create, done, "making", path);
    MD_TRY_GOTO(set_layout(create, c, packed, dim, path), done);
    if (!c->pixels)
        MD_TRY_GOTO(set_fill(create, c, memory, path), done);
    H5_TRY_GOTO(space = H5Screate_simple(1 + c->ndim, dim, NULL), done, "making", path);
    H5_TRY_GOTO(set = H5Dcreate2(file, c->name, disk, space, H5P_DEFAULT, create, H5P_DEFAULT),
                done, "making a dataset of", path);
done:
    if (set >= 0)
        (void)H5Dclose(set);
    if (space >= 0)
        (void)H5Sclose(space);
    if (create >= 0)
        (void)H5Pclose(create);
    if (memory >= 0)
        (void)H5Tclose(memory);
    if (disk >= 0)
        (void)H5Tclose(disk);
    return status;
}

/* What store_make is asked for. */
typedef struct plan {
    const char *path, *schema;
    const store_column *column;
    int n_columns;
    int64_t rows;
    const store_attr *attr;
    int n_attrs;
    bool packed;
} plan;

static md_status fill_file(hid_t file, const plan *p)
{
    char name[64];
    (void)snprintf(name, sizeof name, "meddiff.%s", p->schema);
    store_attr own[2] = {
        {"schema", STORE_ATTR_TEXT, 0, name, {{0}}},
        {"schema_version", STORE_ATTR_I64, 1, NULL, {{STORE_SCHEMA_VERSION}}},
    };
    for (int i = 0; i < 2; i++)
        MD_TRY(store__write_attr(file, p->path, &own[i]));
    for (int i = 0; i < p->n_attrs; i++)
        MD_TRY(store__write_attr(file, p->path, &p->attr[i]));
    for (int i = 0; i < p->n_columns; i++)
        MD_TRY(make_column(file, p->path, &p->column[i], p->packed, p->rows));
    return MD_OK;
}

static md_status make_file(const plan *p)
{
    md_status status = MD_OK;
    const char *path = p->path;
    hid_t access = store__access(true), create = H5Pcreate(H5P_FILE_CREATE), file = -1;
    H5_TRY_GOTO(access, done, "making", path);
    H5_TRY_GOTO(create, done, "making", path);
    /* Objects of a page or more start on a page: no two writers of pixels share one. */
    if (!p->packed)
        H5_TRY_GOTO(H5Pset_alignment(access, PAGE, PAGE), done, "making", path);
    H5_TRY_GOTO(H5Pset_obj_track_times(create, false), done, "making", path);
    H5_TRY_GOTO(file = H5Fcreate(path, H5F_ACC_TRUNC, create, access), done, "making", path);
    MD_TRY_GOTO(fill_file(file, p), done);
done:
    if (file >= 0 && H5Fclose(file) < 0 && status == MD_OK)
        status = store__h5_fail(MD_IO, __FILE__, __LINE__, "closing", path);
    if (create >= 0)
        (void)H5Pclose(create);
    if (access >= 0)
        (void)H5Pclose(access);
    return status;
}

static md_status claim(const char *path, int fd, int64_t bytes)
{
    int rc = posix_fallocate(fd, 0, bytes);
    if (rc)
        MD_FAIL(MD_IO, "%s: no room for its %.1f MB: %s", path, (double)bytes / 1e6,
                md_file_write_reason(rc));
    return MD_OK;
}

/* Before HDF5: names the errno that it would hide (unwritable or missing directory), and finds a
   full disk. HDF5 must not find it: a file whose H5Fclose failed crashes the library when it ends
   (1.10.8). */
static md_status probe(const char *path, int64_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        MD_FAIL(MD_IO, "%s: cannot be made: %s", path, md_file_write_reason(errno));
    md_status status = claim(path, fd, bytes);
    (void)close(fd);
    return status;
}

/* After HDF5: the pixels were never filled, so the file is sparse; a full disk must not show
 * mid-run. */
static md_status settle(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int why = errno;
        if (fd >= 0)
            (void)close(fd);
        MD_FAIL(MD_IO, "%s: %s", path, strerror(why));
    }
    md_status status = claim(path, fd, st.st_size);
    if (status == MD_OK && fsync(fd) != 0)
        status = md_fail(MD_IO, __FILE__, __LINE__, "%s: cannot sync: %s", path,
                         md_file_write_reason(errno));
    (void)close(fd);
    return status;
}

/* A little more than the file will take, packed pixels aside. */
static int64_t estimate(const plan *p)
{
    int64_t bytes = 16 * PAGE;
    for (int i = 0; i < p->n_columns; i++)
        if (!p->packed || !p->column[i].pixels)
            bytes += p->rows * (int64_t)store__value_bytes(&p->column[i]) + PAGE;
    for (int i = 0; i < p->n_attrs; i++)
        if (p->attr[i].kind == STORE_ATTR_TEXT && p->attr[i].text)
            bytes += (int64_t)strlen(p->attr[i].text);
    return bytes;
}

store_attr store_text_attr(const char *name, const char *text)
{
    return (store_attr){name, STORE_ATTR_TEXT, 0, text, {{0}}};
}

md_status store_replace(const char *path, store_maker make, const void *what)
{
    char temp[4096];
    MD_TRY(store_temp_name(path, temp, sizeof temp));
    md_status status = make(temp, what);
    if (status == MD_OK)
        status = md_file_publish(temp, path);
    if (status != MD_OK) {
        (void)unlink(temp);
        return md_frame(status, __FILE__, __LINE__);
    }
    return MD_OK;
}

static md_status make(const plan *p)
{
    if (p->n_columns < 1 || p->n_columns > STORE_MAX_COLUMNS || p->rows < 1)
        MD_FAIL(MD_INTERNAL, "%s: %d columns, %lld rows", p->path, p->n_columns,
                (long long)p->rows);
    store__h5_quiet();
    md_status status = probe(p->path, estimate(p));
    if (status == MD_OK)
        status = make_file(p);
    if (status == MD_OK)
        status = settle(p->path);
    if (status != MD_OK) {
        (void)unlink(p->path);
        return md_frame(status, __FILE__, __LINE__);
    }
    return MD_OK;
}

md_status store_make(const char *path, const char *schema, const store_column *columns,
                     int n_columns, int64_t rows, const store_attr *attrs, int n_attrs)
{
    return make(&(plan){path, schema, columns, n_columns, rows, attrs, n_attrs, false});
}

md_status store_make_packed(const char *path, const char *schema, const store_column *columns,
                            int n_columns, int64_t rows, const store_attr *attrs, int n_attrs)
{
    return make(&(plan){path, schema, columns, n_columns, rows, attrs, n_attrs, true});
}

/* Reads the stores of meddiff from C and C++: pairs.h5 (and the compact copies of "meddiff
   export"), data.h5, backgrounds.h5. This header is all of it; it needs HDF5's C library (1.10.2 or
   newer) and nothing else. C11 and C++17; a store is used from one thread at a time, several stores
   from one thread (HDF5 is usually built without locks).

       meddiff_store s;
       if (meddiff_open(&s, "runs/mine/pairs.h5", NULL))
           fprintf(stderr, "%s\n", s.error), exit(1);
       unsigned char *image = malloc(3 * s.height * s.width), *mask = malloc(s.height * s.width);
       for (int64_t i = 0; i < s.n; i++)
           if (meddiff_read(&s, i, image, mask, NULL))
               ...
       meddiff_close(&s);

       cc main.c $(pkg-config --cflags --libs hdf5)        Debian: hdf5-serial, or hdf5-openmpi

   Each function returns 0, or -1 with the reason in s.error. A live run is not disturbed: the file
   is opened for reading and without a lock, and shows what was accepted until then. */
#ifndef MEDDIFF_READER_H
#define MEDDIFF_READER_H

#include <hdf5.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct meddiff_store {
    int64_t n;             /* pictures to read: the accepted pairs, or the rows of a split */
    int64_t height, width; /* of every picture, in pixels */
    int is_pairs;          /* 1: pairs.h5, 0: data.h5 or backgrounds.h5 */
    int64_t *row;          /* [n], ascending: slot of pairs.h5, row of the others */
    int64_t rows;          /* all rows of the file */
    hid_t file;
    hid_t images, masks, guides; /* < 0: the file has none */
    char error[256];
} meddiff_store;

/* Opens a store and lists what counts in it. split: "train", "val" or "test" for rows of data.h5
   and backgrounds.h5, NULL for all; of pairs.h5 always NULL, as its pairs are training material.
   Columns of data.h5 tell more: "kind" is 0 with a lesion and 1 without one, "used" is 1 for the
   rows that data.pairs chose to train on. After a failure there is nothing to close. */
static inline int meddiff_open(meddiff_store *s, const char *path, const char *split);

/* Picture i of 0..n-1 into the caller's buffers, each of which may be NULL.
     image [height,width,3] u8, red, green, blue in 0..255, rows from the top
     mask  [height,width]   u8, 1 in the lesion, else 0; of backgrounds.h5 all 0
     guide [height,width]   u8, the mask before its erosion; of pairs.h5 only */
static inline int meddiff_read(meddiff_store *s, int64_t i, uint8_t *image, uint8_t *mask,
                               uint8_t *guide);

/* A number of picture i by the name of its column ("similarity", "alignment", "background_id",
   "attempt", "split", "group", ...; the README lists them), NaN where it was not measured. */
static inline int meddiff_number(meddiff_store *s, const char *column, int64_t i, double *out);

/* A text attribute of the file ("prompt", "foundation", "config", "licences", "code_version",
   "schema") into out[size], NUL-ended; one that does not fit is an error, never cut. */
static inline int meddiff_text(meddiff_store *s, const char *attribute, char *out, size_t size);

/* The seed of the run. */
static inline int meddiff_seed(meddiff_store *s, uint64_t *seed);

/* Frees and closes; a store that was closed or never opened ({0} apart from file) is fine. */
static inline void meddiff_close(meddiff_store *s);

/* ---- how ---- */

static inline int meddiff__fail(meddiff_store *s, const char *what, const char *name)
{
    (void)snprintf(s->error, sizeof s->error, "%.160s: %.90s", name, what);
    return -1;
}

/* HDF5 prints its errors by itself; here they are texts. */
typedef struct meddiff__quiet {
    H5E_auto2_t print;
    void *data;
} meddiff__quiet;

static inline meddiff__quiet meddiff__hush(void)
{
    meddiff__quiet q = {NULL, NULL};
    (void)H5Eget_auto2(H5E_DEFAULT, &q.print, &q.data);
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return q;
}

static inline int meddiff__end(meddiff__quiet q, int rc)
{
    (void)H5Eset_auto2(H5E_DEFAULT, q.print, q.data);
    return rc;
}

/* The whole of a column of single numbers, into out[rows] of `type`. */
static inline int meddiff__column(meddiff_store *s, const char *name, hid_t type, void *out)
{
    int rc = -1;
    hid_t set =
        H5Lexists(s->file, name, H5P_DEFAULT) > 0 ? H5Dopen2(s->file, name, H5P_DEFAULT) : -1;
    hid_t space = set < 0 ? -1 : H5Dget_space(set);
    if (space >= 0 && H5Sget_simple_extent_npoints(space) == s->rows &&
        H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0)
        rc = 0;
    if (space >= 0)
        (void)H5Sclose(space);
    if (set >= 0)
        (void)H5Dclose(set);
    return rc ? meddiff__fail(s, "no such column of numbers, or not readable", name) : 0;
}

static inline int meddiff__read_text(meddiff_store *s, const char *name, char *out, size_t size)
{
    char *text = NULL;
    int rc = -1;
    hid_t type = -1,
          attribute = H5Aexists(s->file, name) > 0 ? H5Aopen(s->file, name, H5P_DEFAULT) : -1;
    if (attribute < 0)
        return meddiff__fail(s, "no such attribute", name);
    type = H5Aget_type(attribute);
    if (type < 0 || H5Tis_variable_str(type) <= 0 || H5Aread(attribute, type, &text) < 0)
        (void)meddiff__fail(s, "this attribute is no text", name);
    else if (strlen(text ? text : "") >= size)
        (void)meddiff__fail(s, "this text is longer than the buffer", name);
    else {
        (void)strcpy(out, text ? text : "");
        rc = 0;
    }
    if (text)
        (void)H5free_memory(text);
    if (type >= 0)
        (void)H5Tclose(type);
    (void)H5Aclose(attribute);
    return rc;
}

/* A set of pixels, if it is there and has ndim dimensions and the size of the images. */
static inline hid_t meddiff__pixels(meddiff_store *s, const char *name, int ndim)
{
    hsize_t dim[4] = {0, 0, 0, 0};
    hid_t set =
        H5Lexists(s->file, name, H5P_DEFAULT) > 0 ? H5Dopen2(s->file, name, H5P_DEFAULT) : -1;
    hid_t space = set < 0 ? -1 : H5Dget_space(set);
    int fits = space >= 0 && H5Sget_simple_extent_ndims(space) == ndim &&
               H5Sget_simple_extent_dims(space, dim, NULL) == ndim && (ndim < 4 || dim[3] == 3);
    if (fits && ndim == 4 && !s->rows) {
        s->rows = (int64_t)dim[0];
        s->height = (int64_t)dim[1];
        s->width = (int64_t)dim[2];
    }
    fits = fits && (int64_t)dim[0] == s->rows && (int64_t)dim[1] == s->height &&
           (int64_t)dim[2] == s->width;
    if (space >= 0)
        (void)H5Sclose(space);
    if (set >= 0 && !fits) {
        (void)H5Dclose(set);
        set = -1;
    }
    return set;
}

static inline hid_t meddiff__open_file(const char *path)
{
    hid_t file, access = H5Pcreate(H5P_FILE_ACCESS);
    if (access < 0)
        return -1;
#if (H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 10 && H5_VERS_RELEASE >= 7) || H5_VERSION_GE(1, 12, 1)
    (void)H5Pset_file_locking(access, 0, 1); /* a lock would shut a running writer's tools out */
#endif
    (void)H5Pset_sieve_buf_size(access, 0); /* it would show old states of a running writer */
    file = H5Fopen(path, H5F_ACC_RDONLY, access);
    (void)H5Pclose(access);
    return file;
}

/* Lists the rows whose value in `column` is `wanted`; all where column is NULL. */
static inline int meddiff__list(meddiff_store *s, const char *column, int wanted)
{
    unsigned char *value = (unsigned char *)malloc((size_t)s->rows + 1);
    s->row = (int64_t *)malloc(((size_t)s->rows + 1) * sizeof *s->row);
    int rc = value && s->row ? 0 : meddiff__fail(s, "out of memory", "meddiff_open");
    if (!rc && column)
        rc = meddiff__column(s, column, H5T_NATIVE_UINT8, value);
    for (int64_t i = 0; !rc && i < s->rows; i++)
        if (!column || value[i] == wanted)
            s->row[s->n++] = i;
    free(value);
    return rc;
}

static inline int meddiff__begin(meddiff_store *s, const char *path, const char *split)
{
    static const char *const splits[] = {"train", "val", "test"};
    enum { ACCEPTED = 2 };
    char schema[64];
    int wanted = -1;
    s->file = meddiff__open_file(path);
    if (s->file < 0)
        return meddiff__fail(s, "cannot be opened: not there, or no HDF5 file", path);
    if (meddiff__read_text(s, "schema", schema, sizeof schema))
        (void)strcpy(schema, "none");
    s->is_pairs = strcmp(schema, "meddiff.pairs") == 0;
    if (!s->is_pairs && strcmp(schema, "meddiff.data") != 0 &&
        strcmp(schema, "meddiff.backgrounds") != 0)
        return meddiff__fail(s, "this HDF5 file is no store of meddiff, or not one of pictures",
                             path);
    s->images = meddiff__pixels(s, "images", 4);
    s->masks = meddiff__pixels(s, "masks", 3);
    s->guides = meddiff__pixels(s, "guides", 3);
    if (s->images < 0 || (s->is_pairs && s->guides < 0) ||
        (s->masks < 0 && strcmp(schema, "meddiff.backgrounds") != 0))
        return meddiff__fail(s, "its images or masks are missing, or differ in size", path);
    if (s->is_pairs)
        return split ? meddiff__fail(s, "pairs have no split: pass NULL", path)
                     : meddiff__list(s, "state", ACCEPTED);
    for (int i = 0; split && i < 3; i++)
        if (!strcmp(split, splits[i]))
            wanted = i;
    if (split && wanted < 0)
        return meddiff__fail(s, "no such split; there are train, val and test", split);
    return meddiff__list(s, split ? "split" : NULL, wanted);
}

static inline int meddiff_open(meddiff_store *s, const char *path, const char *split)
{
    meddiff__quiet q = meddiff__hush();
    memset(s, 0, sizeof *s);
    s->file = s->images = s->masks = s->guides = -1;
    int rc = meddiff__begin(s, path, split);
    if (rc)
        meddiff_close(s);
    return meddiff__end(q, rc);
}

static inline int meddiff__row(meddiff_store *s, hid_t set, int ndim, int64_t row, uint8_t *out)
{
    hsize_t start[4] = {0, 0, 0, 0}, size[4] = {1, 0, 0, 3};
    start[0] = (hsize_t)row;
    size[1] = (hsize_t)s->height;
    size[2] = (hsize_t)s->width;
    hid_t space = H5Dget_space(set), memory = H5Screate_simple(ndim, size, NULL);
    int rc = -1;
    if (space >= 0 && memory >= 0 &&
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, size, NULL) >= 0 &&
        H5Dread(set, H5T_NATIVE_UINT8, memory, space, H5P_DEFAULT, out) >= 0)
        rc = 0;
    if (space >= 0)
        (void)H5Sclose(space);
    if (memory >= 0)
        (void)H5Sclose(memory);
    return rc;
}

static inline int meddiff__is_there(meddiff_store *s, int64_t i)
{
    return i >= 0 && i < s->n ? 0 : meddiff__fail(s, "no such picture", "i");
}

static inline int meddiff_read(meddiff_store *s, int64_t i, uint8_t *image, uint8_t *mask,
                               uint8_t *guide)
{
    if (meddiff__is_there(s, i))
        return -1;
    if (guide && s->guides < 0)
        return meddiff__fail(s, "only pairs.h5 has them", "guides");
    meddiff__quiet q = meddiff__hush();
    int bad = (image && meddiff__row(s, s->images, 4, s->row[i], image)) ||
              (mask && s->masks >= 0 && meddiff__row(s, s->masks, 3, s->row[i], mask)) ||
              (guide && meddiff__row(s, s->guides, 3, s->row[i], guide));
    if (mask && s->masks < 0)
        memset(mask, 0, (size_t)(s->height * s->width));
    return meddiff__end(q, bad ? meddiff__fail(s, "cannot be read: a damaged file?", "pixels") : 0);
}

static inline int meddiff_number(meddiff_store *s, const char *column, int64_t i, double *out)
{
    if (meddiff__is_there(s, i))
        return -1;
    double *all = (double *)malloc((size_t)s->rows * sizeof *all);
    if (!all)
        return meddiff__fail(s, "out of memory", column);
    meddiff__quiet q = meddiff__hush();
    int rc = meddiff__column(s, column, H5T_NATIVE_DOUBLE, all);
    if (!rc)
        *out = all[s->row[i]];
    free(all);
    return meddiff__end(q, rc);
}

static inline int meddiff_text(meddiff_store *s, const char *attribute, char *out, size_t size)
{
    meddiff__quiet q = meddiff__hush();
    return meddiff__end(q, meddiff__read_text(s, attribute, out, size));
}

static inline int meddiff_seed(meddiff_store *s, uint64_t *seed)
{
    meddiff__quiet q = meddiff__hush();
    hid_t a = H5Aexists(s->file, "seed") > 0 ? H5Aopen(s->file, "seed", H5P_DEFAULT) : -1;
    int bad = a < 0 || H5Aread(a, H5T_NATIVE_UINT64, seed) < 0;
    if (a >= 0)
        (void)H5Aclose(a);
    return meddiff__end(q, bad ? meddiff__fail(s, "no such attribute", "seed") : 0);
}

static inline void meddiff_close(meddiff_store *s)
{
    const hid_t set[3] = {s->images, s->masks, s->guides};
    for (int i = 0; i < 3; i++)
        if (set[i] > 0)
            (void)H5Dclose(set[i]);
    if (s->file > 0)
        (void)H5Fclose(s->file);
    free(s->row);
    s->row = NULL;
    s->n = 0;
    s->file = s->images = s->masks = s->guides = -1;
}

#endif

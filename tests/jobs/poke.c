/* poke FILE.h5 WORD...: damages a store, for tests of what looks at it.
     set DATASET ELEMENT VALUE   one element, counted through the whole dataset
     text DATASET ROW TEXT       a value of a text column
     seal ROW                    makes /crc of the row right again
     clear DATASET ROW           zeros
     rename DATASET NAME, drop ATTRIBUTE, attribute NAME TEXT, numbers NAME VALUE VALUE */
#include "base/crc32c.h"

#include <hdf5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int poor(const char *what)
{
    (void)fprintf(stderr, "poke: %s\n", what);
    return 1;
}

/* Elements `at` .. at+n-1 of a dataset [dims...], in the dataset's own order; write or read. */
static int transfer(hid_t file, const char *name, hsize_t at, hsize_t n, hid_t type, void *buf,
                    int write)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = set < 0 ? -1 : H5Dget_space(set);
    hsize_t dim[4], *point = malloc(4 * n * sizeof *point);
    int ndim = space < 0 ? -1 : H5Sget_simple_extent_dims(space, dim, NULL), rc = 1;
    if (ndim < 1 || !point)
        goto done;
    for (hsize_t i = 0; i < n; i++) {
        hsize_t rest = at + i;
        for (int d = ndim - 1; d >= 0; d--) {
            point[(hsize_t)ndim * i + (hsize_t)d] = rest % dim[d];
            rest /= dim[d];
        }
        if (rest)
            goto done;
    }
    hid_t memory = H5Screate_simple(1, &n, NULL);
    if (H5Sselect_elements(space, H5S_SELECT_SET, (size_t)n, point) >= 0)
        rc = (write ? H5Dwrite(set, type, memory, space, H5P_DEFAULT, buf)
                    : H5Dread(set, type, memory, space, H5P_DEFAULT, buf)) < 0;
    (void)H5Sclose(memory);
done:
    free(point);
    if (space >= 0)
        (void)H5Sclose(space);
    if (set >= 0)
        (void)H5Dclose(set);
    return rc;
}

/* How many elements a row of the dataset has; 0: there is none. */
static hsize_t row_size(hid_t file, const char *name)
{
    hsize_t dim[4], n = 1;
    if (H5Lexists(file, name, H5P_DEFAULT) <= 0)
        return 0;
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set);
    int ndim = H5Sget_simple_extent_dims(space, dim, NULL);
    for (int d = 1; d < ndim; d++)
        n *= dim[d];
    (void)H5Sclose(space);
    (void)H5Dclose(set);
    return n;
}

static int seal(hid_t file, hsize_t row)
{
    static const char *const names[] = {"images", "masks", "guides"};
    uint32_t crc = 0;
    for (int i = 0; i < 3; i++) {
        hsize_t n = row_size(file, names[i]);
        uint8_t *px = malloc(n + 1);
        if (!px || (n && transfer(file, names[i], row * n, n, H5T_NATIVE_UINT8, px, 0)))
            return poor(names[i]);
        crc = md_crc32c(crc, px, n);
        free(px);
    }
    return transfer(file, "crc", row, 1, H5T_NATIVE_UINT32, &crc, 1);
}

static int clear(hid_t file, const char *name, hsize_t row)
{
    hsize_t n = row_size(file, name);
    uint8_t *zero = calloc(n + 1, 1);
    int rc = !zero || transfer(file, name, row * n, n, H5T_NATIVE_UINT8, zero, 1);
    free(zero);
    return rc;
}

static int set_text(hid_t file, const char *name, hsize_t row, const char *text)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), type = H5Dget_type(set);
    size_t width = H5Tget_size(type);
    char *value = calloc(1, width + 1);
    if (!value)
        return poor("no memory");
    (void)snprintf(value, width, "%s", text);
    (void)H5Dclose(set);
    int rc = transfer(file, name, row, 1, type, value, 1);
    (void)H5Tclose(type);
    free(value);
    return rc;
}

static int set_attribute(hid_t file, const char *name, const char *text, const double *numbers)
{
    hid_t attr = H5Aopen(file, name, H5P_DEFAULT);
    if (attr < 0)
        return poor(name);
    hid_t type = H5Aget_type(attr);
    int rc = (text ? H5Awrite(attr, type, &text) : H5Awrite(attr, H5T_NATIVE_DOUBLE, numbers)) < 0;
    (void)H5Tclose(type);
    (void)H5Aclose(attr);
    return rc;
}

static int poke(hid_t file, int n, char **word)
{
    if (n == 4 && !strcmp(word[0], "set")) {
        double value = atof(word[3]);
        return transfer(file, word[1], strtoull(word[2], NULL, 10), 1, H5T_NATIVE_DOUBLE, &value,
                        1);
    }
    if (n == 4 && !strcmp(word[0], "text"))
        return set_text(file, word[1], strtoull(word[2], NULL, 10), word[3]);
    if (n == 2 && !strcmp(word[0], "seal"))
        return seal(file, strtoull(word[1], NULL, 10));
    if (n == 3 && !strcmp(word[0], "rename"))
        return H5Lmove(file, word[1], file, word[2], H5P_DEFAULT, H5P_DEFAULT) < 0;
    if (n == 2 && !strcmp(word[0], "drop"))
        return H5Adelete(file, word[1]) < 0;
    if (n == 3 && !strcmp(word[0], "attribute"))
        return set_attribute(file, word[1], word[2], NULL);
    if (n == 3 && !strcmp(word[0], "clear"))
        return clear(file, word[1], strtoull(word[2], NULL, 10));
    if (n >= 3 && !strcmp(word[0], "numbers")) {
        double v[4]; /* as many as a band has, the words over and over */
        for (int i = 0; i < 4; i++)
            v[i] = atof(word[2 + i % (n - 2)]);
        return set_attribute(file, word[1], NULL, v);
    }
    return poor("the words are in the head of poke.c");
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return poor("FILE.h5 WORD...");
    hid_t file = H5Fopen(argv[1], H5F_ACC_RDWR, H5P_DEFAULT);
    if (file < 0)
        return poor("cannot open it");
    int rc = poke(file, argc - 2, argv + 2);
    return H5Fclose(file) < 0 || rc;
}

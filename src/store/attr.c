/* Root attributes: what a store says about itself. Written when it is made, never after. */
#include <stdlib.h>
#include <string.h>

#include "store/table_internal.h"

/* Text is a variable-length UTF-8 string, which h5py shows as str and which has no 64 KiB limit. */
static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        (void)H5Tclose(type);
        return -1;
    }
    return type;
}

md_status store__write_attr(hid_t file, const char *path, const store_attr *a)
{
    md_status status = MD_OK;
    hid_t memory = -1, disk = -1, space = -1, attr = -1;
    const char *text = a->text ? a->text : "";
    const void *value = a->kind == STORE_ATTR_TEXT ? (const void *)&text : (const void *)&a->v;
    if (a->kind == STORE_ATTR_TEXT) {
        memory = text_type();
        disk = text_type();
    } else {
        memory = H5Tcopy(a->kind == STORE_ATTR_I64   ? H5T_NATIVE_INT64
                         : a->kind == STORE_ATTR_U64 ? H5T_NATIVE_UINT64
                                                     : H5T_NATIVE_DOUBLE);
        disk = H5Tcopy(a->kind == STORE_ATTR_I64   ? H5T_STD_I64LE
                       : a->kind == STORE_ATTR_U64 ? H5T_STD_U64LE
                                                   : H5T_IEEE_F64LE);
    }
    hsize_t n = a->kind == STORE_ATTR_TEXT ? 1 : (hsize_t)a->n;
    H5_TRY_GOTO(memory, done, a->name, path);
    H5_TRY_GOTO(disk, done, a->name, path);
    H5_TRY_GOTO(space = n == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &n, NULL), done,
                a->name, path);
    H5_TRY_GOTO(attr = H5Acreate2(file, a->name, disk, space, H5P_DEFAULT, H5P_DEFAULT), done,
                "writing an attribute of", path);
    H5_TRY_GOTO(H5Awrite(attr, memory, value), done, "writing an attribute of", path);
done:
    if (attr >= 0)
        (void)H5Aclose(attr);
    if (space >= 0)
        (void)H5Sclose(space);
    if (memory >= 0)
        (void)H5Tclose(memory);
    if (disk >= 0)
        (void)H5Tclose(disk);
    return status;
}

bool store_has_attr(store_table *t, const char *name)
{
    store__h5_quiet();
    return H5Aexists(store__file(t), name) > 0;
}

md_status store_attr_text(store_table *t, const char *name, char **out)
{
    md_status status = MD_OK;
    char *text = NULL, *copy = NULL;
    hid_t type = -1, space = -1, attr = H5Aopen(store__file(t), name, H5P_DEFAULT);
    H5_TRY_GOTO(attr, done, "reading an attribute of", store_path(t));
    H5_TRY_GOTO(type = H5Aget_type(attr), done, "reading an attribute of", store_path(t));
    H5_TRY_GOTO(space = H5Aget_space(attr), done, "reading an attribute of", store_path(t));
    if (H5Tis_variable_str(type) <= 0 || H5Sget_simple_extent_npoints(space) != 1) {
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: attribute %s is no text",
                         store_path(t), name);
        goto done;
    }
    H5_TRY_GOTO(H5Aread(attr, type, &text), done, "reading an attribute of", store_path(t));
    copy = malloc(text ? strlen(text) + 1 : 1);
    if (!copy) {
        status = md_fail(MD_NOMEM, __FILE__, __LINE__, "%s: out of memory", store_path(t));
        goto done;
    }
    (void)strcpy(copy, text ? text : "");
    *out = copy;
done:
    if (text)
        (void)H5free_memory(text);
    if (space >= 0)
        (void)H5Sclose(space);
    if (type >= 0)
        (void)H5Tclose(type);
    if (attr >= 0)
        (void)H5Aclose(attr);
    return status;
}

static md_status read_numbers(store_table *t, const char *name, hid_t memory, int n, void *out)
{
    md_status status = MD_OK;
    hid_t type = -1, space = -1, attr = H5Aopen(store__file(t), name, H5P_DEFAULT);
    H5_TRY_GOTO(attr, done, "reading an attribute of", store_path(t));
    H5_TRY_GOTO(type = H5Aget_type(attr), done, "reading an attribute of", store_path(t));
    H5_TRY_GOTO(space = H5Aget_space(attr), done, "reading an attribute of", store_path(t));
    H5T_class_t class = H5Tget_class(type);
    if ((class != H5T_INTEGER && class != H5T_FLOAT) || H5Sget_simple_extent_npoints(space) != n) {
        status = md_fail(MD_BAD_INPUT, __FILE__, __LINE__, "%s: attribute %s is not %d number%s",
                         store_path(t), name, n, n == 1 ? "" : "s");
        goto done;
    }
    H5_TRY_GOTO(H5Aread(attr, memory, out), done, "reading an attribute of", store_path(t));
done:
    if (space >= 0)
        (void)H5Sclose(space);
    if (type >= 0)
        (void)H5Tclose(type);
    if (attr >= 0)
        (void)H5Aclose(attr);
    return status;
}

md_status store_attr_i64(store_table *t, const char *name, int n, int64_t *out)
{
    MD_TRY(read_numbers(t, name, H5T_NATIVE_INT64, n, out));
    return MD_OK;
}

md_status store_attr_u64(store_table *t, const char *name, int n, uint64_t *out)
{
    MD_TRY(read_numbers(t, name, H5T_NATIVE_UINT64, n, out));
    return MD_OK;
}

md_status store_attr_f64(store_table *t, const char *name, int n, double *out)
{
    MD_TRY(read_numbers(t, name, H5T_NATIVE_DOUBLE, n, out));
    return MD_OK;
}

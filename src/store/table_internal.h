/* What make.c, attr.c and table.c of the store share. */
#ifndef MD_STORE_TABLE_INTERNAL_H
#define MD_STORE_TABLE_INTERNAL_H

#include "store/h5.h"
#include "store/table.h"

#define STORE_SCHEMA_VERSION 1

bool store__mpi_runs(void);
hid_t store__access(bool write);                       /* file access property list, or < 0 */
hid_t store__type(const store_column *c, bool memory); /* to be closed by the caller, or < 0 */
size_t store__value_bytes(const store_column *c);
hid_t store__file(store_table *t);
md_status store__write_attr(hid_t file, const char *path, const store_attr *a);

#endif

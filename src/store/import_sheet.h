/* Inside the importers: the picture that shows what was understood. */
#ifndef MD_STORE_IMPORT_SHEET_H
#define MD_STORE_IMPORT_SHEET_H

#include "store/data.h"

/* Writes a contact sheet: every pair with the outline of its mask, then every background (may be
 * NULL). */
MD_MUST md_status import__sheet(const char *path, data_store *data, data_store *backgrounds);

#endif

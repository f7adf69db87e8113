#include "store/import_sheet.h"
md_status import__sheet(const char *path, data_store *data, data_store *backgrounds)
{
    (void)path;
    (void)data;
    (void)backgrounds;
    return MD_OK;
}

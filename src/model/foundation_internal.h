/* Shared by foundation.c and foundation_save.c. */
#ifndef MD_MODEL_FOUNDATION_INTERNAL_H
#define MD_MODEL_FOUNDATION_INTERNAL_H

#include "model/foundation.h"

bool model__is_dir(const char *path);
/* "folder/part/file" into buf[FOUNDATION_PATH] */
MD_MUST md_status model__part_path(char *buf, const char *folder, const char *part,
                                   const char *file);

#endif

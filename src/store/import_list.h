/* For importers: the list they fill, and the names of files in natural order. */
#ifndef MD_STORE_IMPORT_LIST_H
#define MD_STORE_IMPORT_LIST_H

#include "store/import.h"

typedef struct import_names {
    char **name; /* one allocation, from md_dir_list, in natural order */
    size_t n;
} import_names;

/* 2 before 10, and otherwise bytewise: "benign (2)" < "benign (10)". */
int import__natural(const char *a, const char *b);
bool import__is_picture(const char *name); /* by its suffix */
/* All names in root/dir but hidden ones. */
MD_MUST md_status import__entries(const import_list *list, const char *dir, import_names *out);
/* Picture files (png jpg jpeg bmp) directly in root/dir; hidden files and others are skipped. */
MD_MUST md_status import__pictures(const import_list *list, const char *dir, import_names *out);
/* "a, b, c, ...": as many names of root/dir as fit; "nothing" where there is none. For messages. */
void import__tell_entries(const import_list *list, const char *dir, char *out, size_t bytes);
void import__names_free(import_names *names);
bool import__is_dir(const import_list *list, const char *dir);
/* Length of the name without its extension. */
size_t import__stem(const char *name);
/* The same, ASCII case ignored. */
bool import__ends(const char *name, size_t n, const char *suffix);

/* A new last item, zeroed but for image = dir/name and split; NULL and *status when out of memory.
 */
import_picture *import__add(import_list *list, const char *dir, const char *name, data_kind kind,
                            md_status *status);
MD_MUST md_status import__add_mask(import_list *list, import_picture *p, const char *dir,
                                   const char *name);
/* Notes that dir/name is left out, and why. */
MD_MUST md_status import__skip(import_list *list, const char *dir, const char *name,
                               const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Notes every entry of `dir` that is no picture and does not end in `used`; a warning when there
   are pictures of other kinds (DICOM, TIFF, ...). */
MD_MUST md_status import__skip_others(import_list *list, const char *dir, const char *used);
/* BAD_INPUT saying what there is in `dir`, a folder without a picture, unless it is empty. */
MD_MUST md_status import__refuse_others(const import_list *list, const char *dir);
/* CSV of file and reason; written also when it is empty. */
MD_MUST md_status import__write_skipped(const import_list *list, const char *path);
/* One line of the log for each reason, whatever stands in parentheses. */
void import__tell_skipped(const import_list *list);

/* root/relative with every link resolved, in out[bytes]; BAD_INPUT when it leaves the root. */
MD_MUST md_status import__resolve(const import_list *list, const char *relative, char *out,
                                  size_t bytes);

#endif

/* Shared by the files that open and save foundations. */
#ifndef MD_MODEL_FOUNDATION_INTERNAL_H
#define MD_MODEL_FOUNDATION_INTERNAL_H

#include "format/json.h"
#include "format/safetensors.h"
#include "model/foundation.h"

/* find.c: where files lie. */
bool model__is_there(const char *path); /* a link that leads nowhere is there too */
/* "folder/part/file" into buf[FOUNDATION_PATH] */
MD_MUST md_status model__part_path(char *buf, const char *folder, const char *part,
                                   const char *file);
/* "file"'s folder/name into buf[FOUNDATION_PATH]; name "": the folder alone */
MD_MUST md_status model__beside(char *buf, const char *file, const char *name);
/* What model.foundation names, into out[FOUNDATION_PATH]: a repository folder of the Hugging Face
   cache (models--owner--name) becomes its snapshot, anything else stays as it is. *file: it is a
   file, of a name that may be one. */
MD_MUST md_status model__resolve(const char *path, char *out, bool *file);
/* The same for what can only be a folder, which holds the file `index`. */
MD_MUST md_status model__resolve_folder(const char *path, const char *index, char *out);
/* The weight file `base` in `folder`: plain before variant, whole before sharded. */
MD_MUST md_status model__find_weights(const char *folder, const char *base, char *out);
/* A folder with vocab.json and merges.txt for the single file `path`. */
MD_MUST md_status model__find_tokenizer(const char *path, char *out);

/* foundation.c */
MD_MUST md_status model__declare_part(foundation *f, model_part part);
/* The digest of a weight file; of a sharded one that of its shards' in the index's order. */
MD_MUST md_status model__hash_weights(const char *path, char hex[MD_SHA256_HEX]);

/* kind.c: what a file or folder is when it is no foundation of ours. MD_BAD_INPUT names it. */
MD_MUST md_status model__check_pipeline(const format_json *index);
MD_MUST md_status model__refuse_folder(const char *folder);
MD_MUST md_status model__check_file_name(const char *path);
MD_MUST md_status model__check_tensors(const format_tensors *f);

/* foundation_file.c: configs, rules and weight file of every part of a single file, f->path. What
   the schedule's text in it says goes to *schedule, which the caller frees; NULL: nothing. */
MD_MUST md_status model__open_file(foundation *f, format_json **schedule);
/* A part's config: the one that the file carries, or what its tensors show. */
MD_MUST md_status model__file_config(const format_tensors *t, model_part part, model_config *out);

/* foundation_save.c */
MD_MUST md_status model__save_tokenizer(const foundation *f, const char *folder);

#endif

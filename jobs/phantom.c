/* meddiff phantom DIR: a drawn data set with exact masks, in a layout that an importer reads.
     skin        DIR/{train,test}/{images,masks}/N.png, DIR/train/backgrounds/N.png: data.format =
                 folder, data.root = DIR (train and test are its own splits)
     ultrasound  DIR/{train,test}/Dataset_BUSI_with_GT/{benign,malignant,normal}: data.format =
   busi, data.root = DIR/train */
#include "job.h"

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "image/image.h"
#include "image/phantom.h"
#include "store/data.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1024 };

typedef enum part { TRAIN, NORMAL, TEST } part;

/* Each part draws from items of its own, so that a larger count changes no picture. */
static const uint64_t first_item[] = {0, 1u << 24, 2u << 24};

static md_status in_folder(char path[PATH_BYTES], const char *root, const char *folder,
                           const char *file)
{
    MD_TRY(md_str_printf(path, PATH_BYTES, "%s/%s", root, folder));
    MD_TRY(md_dir_make(path));
    return md_str_printf(path, PATH_BYTES, "%s/%s/%s", root, folder, file);
}

/* The files of picture i (from 0) of a part. BUSI numbers each class from 1 and has a mask for
   every picture, for normal ones an empty one. */
static md_status name_files(phantom_kind kind, part which, int64_t i, const char *root,
                            char image_path[PATH_BYTES], char mask_path[PATH_BYTES])
{
    char folder[64], file[64];
    const char *above = which == TEST ? "test" : "train";
    mask_path[0] = '\0';
    if (kind == PHANTOM_SKIN) {
        MD_TRY(md_str_printf(folder, sizeof folder, "%s/%s", above,
                             which == NORMAL ? "backgrounds" : "images"));
        MD_TRY(md_str_printf(file, sizeof file, "skin-%s%05lld.png",
                             which == NORMAL ? "n"
                             : which == TEST ? "t"
                                             : "",
                             (long long)i));
        MD_TRY(in_folder(image_path, root, folder, file));
        if (which == NORMAL)
            return MD_OK;
        MD_TRY(md_str_printf(folder, sizeof folder, "%s/masks", above));
        return in_folder(mask_path, root, folder, file);
    }
    const char *class = which == NORMAL ? "normal" : i % 2 ? "malignant" : "benign";
    long long number = which == NORMAL ? i + 1 : i / 2 + 1;
    MD_TRY(md_str_printf(folder, sizeof folder, "%s/Dataset_BUSI_with_GT/%s", above, class));
    MD_TRY(md_str_printf(file, sizeof file, "%s (%lld).png", class, number));
    MD_TRY(in_folder(image_path, root, folder, file));
    MD_TRY(md_str_printf(file, sizeof file, "%s (%lld)_mask.png", class, number));
    return in_folder(mask_path, root, folder, file);
}

static md_status write_part(const config *cfg, part which, int64_t count, const char *root)
{
    phantom p = {.kind = (phantom_kind)config_choice(cfg, KEY_phantom_kind),
                 .seed = (uint64_t)config_int(cfg, KEY_seed),
                 .size = (int)config_int(cfg, KEY_phantom_size),
                 .distractors = (int)config_int(cfg, KEY_phantom_distractors),
                 .lesion = which != NORMAL};
    for (int64_t i = 0; i < count; i++) {
        char image_path[PATH_BYTES], mask_path[PATH_BYTES];
        image rgb = {0}, mask = {0};
        p.item = first_item[which] + (uint64_t)i;
        p.spiky = i % 2;
        MD_TRY(name_files(p.kind, which, i, root, image_path, mask_path));
        MD_TRY(phantom_draw(&p, &rgb, &mask));
        md_status status = image_write_png(image_path, &rgb, NULL, 0);
        if (status == MD_OK && mask_path[0])
            status = image_write_mask(mask_path, &mask);
        image_free(&rgb);
        image_free(&mask);
        MD_TRY(status);
    }
    return MD_OK;
}

md_status job_phantom(job *j)
{
    static const char licence[] = DATA_DRAWN_LICENCE "\n";
    if (md_file_exists(j->arg))
        MD_FAIL(MD_USAGE, "%s is there already; name a new folder, or remove it", j->arg);
    char root[PATH_BYTES], path[PATH_BYTES];
    int64_t count = config_int(j->cfg, KEY_phantom_count);
    int64_t normal = config_int(j->cfg, KEY_phantom_normal),
            test = config_int(j->cfg, KEY_phantom_test);
    bool skin = config_choice(j->cfg, KEY_phantom_kind) == PHANTOM_SKIN;
    /* Under another name until it is whole: a killed run leaves no half data set to train on. */
    MD_TRY(md_str_printf(root, sizeof root, "%s.part-%ld", j->arg, (long)getpid()));
    MD_TRY(write_part(j->cfg, TRAIN, count, root));
    MD_TRY(write_part(j->cfg, NORMAL, normal, root));
    MD_TRY(write_part(j->cfg, TEST, test, root));
    MD_TRY(md_path_join(path, sizeof path, root, "LICENSE"));
    MD_TRY(md_file_write_atomic(path, licence, strlen(licence)));
    if (rename(root, j->arg))
        MD_FAIL(MD_IO, "renaming %s to %s: %s", root, j->arg, strerror(errno));
    md_info("phantom",
            "%s: %lld pairs, %lld images without lesion, %lld held-back pairs; import with "
            "data.format = \"%s\", data.root = \"%s%s\"",
            j->arg, (long long)count, (long long)normal, (long long)test, skin ? "folder" : "busi",
            j->arg, skin ? "" : "/train");
    return MD_OK;
}

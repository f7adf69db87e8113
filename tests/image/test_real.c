/* The real samples in ../shared/data/real, when they are there: every picture reads, masks are what
   the README beside them says, sizes agree, a resize of each is sane. */
#include "support/expect.h"

#include "base/file.h"
#include "base/str.h"
#include "image/fit.h"
#include "image/mask.h"

#include <sys/stat.h>

#define ROOT "../shared/data/real"

static int n_images, n_masks, n_empty;

static void check_file(const char *path)
{
    image im, fitted;
    const bool is_mask = strstr(path, "_mask") || strstr(path, "_segmentation");
    OK(image_read(path, &im));
    OK(image_fit(&im, 128, IMAGE_LETTERBOX, IMAGE_BILINEAR, &fitted, NULL));
    image_free(&fitted);
    if (is_mask) {
        image mask, owner;
        image_mask_stats s;
        char other[1024];
        OK(image_read_mask(path, &mask));
        OK(image_mask_measure(&mask, &s));
        n_empty += s.area == 0;
        if ((s.area == 0) != (strstr(path, "/normal/") != NULL))
            fail_msg("%s: %d mask pixels", path, (int)s.area);
        assert_true(mask.h == im.h && mask.w == im.w && mask.c == 1);
        /* its image has the same size */
        OK(md_str_copy(other, sizeof other, path));
        char *cut = strstr(other, "_mask");
        if (cut) {
            strcpy(cut, ".png");
            OK(image_read(other, &owner));
            assert_true(owner.h == mask.h && owner.w == mask.w);
            image_free(&owner);
        } else {
            /* values exactly 0 and 255 */
            for (int64_t i = 0; i < im.h * im.w; i++)
                assert_true(im.px[i] == 0 || im.px[i] == 255);
        }
        image_free(&mask);
        n_masks++;
    } else {
        assert_int_equal(im.c, 3);
        if (strstr(path, "/busi/"))
            for (int64_t i = 0; i < im.h * im.w; i++)
                assert_true(im.px[3 * i] == im.px[3 * i + 1] && im.px[3 * i] == im.px[3 * i + 2]);
        if (strstr(path, "/isic2018/"))
            assert_true(im.h == 512 && im.w == 512);
        if (strstr(path, "/ddti/"))
            assert_true(im.h == 360 && im.w == 560);
        n_images++;
    }
    image_free(&im);
}

static void walk(const char *folder)
{
    char **names = NULL, path[1024];
    size_t n = 0;
    struct stat st;
    OK(md_dir_list(folder, &names, &n));
    for (size_t i = 0; i < n; i++) {
        OK(md_path_join(path, sizeof path, folder, names[i]));
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            walk(path);
        else if (md_str_ends(path, ".png") || md_str_ends(path, ".jpg"))
            check_file(path);
    }
    free(names);
}

static void every_file(void **state)
{
    (void)state;
    walk(ROOT);
    printf("%d images, %d masks, %d of them empty\n", n_images, n_masks, n_empty);
    assert_int_equal(n_images, 13 + 40 + 47 + 45);
    assert_int_equal(n_masks, 13 + 40 + 48);
    assert_int_equal(n_empty, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_file)};
    if (!md_file_exists(ROOT)) {
        printf("skipped: %s is not here\n", ROOT);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

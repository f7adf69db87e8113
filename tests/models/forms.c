#include "forms.h"
#include "base/file.h"
#include "base/str.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *read_shape(const char *text, form_tensor *t)
{
    char *end;
    assert_true(*text == '[');
    do {
        assert_true(t->ndim < 4);
        t->dim[t->ndim++] = strtoll(text + 1, &end, 10);
        text = end;
    } while (*text == ',');
    assert_true(*text == ']');
    return text + 1;
}

static const char *read_word(const char *text, const char *ends, char word[160])
{
    size_t n = strcspn(text, ends);
    assert_true(n < 160);
    memcpy(word, text, n);
    word[n] = 0;
    return text + n;
}

int form_golden(const char *name, form_line **lines)
{
    char path[160], part[160];
    void *text = NULL;
    size_t bytes;
    int n = 0, cap = 2048;
    snprintf(path, sizeof path, "tests/golden/ldm/%s.txt", name);
    if (md_file_read(path, 1 << 20, &text, &bytes) != MD_OK)
        fail_msg("%s", md_status_text());
    *lines = calloc((size_t)cap, sizeof **lines);
    for (const char *s = text; *s; s++, n++) {
        form_line *l = &(*lines)[n];
        assert_true(n < cap);
        s = read_word(s, " ", l->ldm.name);
        s = read_shape(s + 1, &l->ldm);
        s = read_word(s + 1, "/", part);
        s = read_word(s + 1, " ", l->ours);
        while (l->part < MODEL_N_PARTS && strcmp(model_registry(l->part)->folder, part) != 0)
            l->part++;
        assert_true(l->part < MODEL_N_PARTS);
        s += strcspn(s, "\n");
    }
    free(text);
    return n;
}

void form_write(const char *path, const form_tensor *t, int n, const char *meta)
{
    md_text h = {0};
    md_status status = md_text_add(&h, "{\"__metadata__\":{%s}", meta ? meta : "");
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        const char *dtype = t[i].dtype ? t[i].dtype : "F16";
        int64_t bytes = !strcmp(dtype, "F16") ? 2 : !strcmp(dtype, "I64") ? 8 : 4;
        status |= md_text_add(&h, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t[i].name, dtype);
        for (int d = 0; d < t[i].ndim; d++) {
            status |= md_text_add(&h, d ? ",%lld" : "%lld", (long long)t[i].dim[d]);
            bytes *= t[i].dim[d];
        }
        status |= md_text_add(&h, "],\"data_offsets\":[%lld,%lld]}", (long long)at,
                              (long long)(at + bytes));
        at += bytes;
    }
    status |= md_text_add(&h, "}");
    assert_int_equal(status, MD_OK);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    uint64_t length = h.n; /* little-endian, as every machine this runs on */
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &length, 8), 8);
    assert_int_equal(write(fd, h.s, h.n), (ssize_t)h.n);
    assert_int_equal(ftruncate(fd, (off_t)(8 + h.n) + at), 0);
    assert_int_equal(close(fd), 0);
    md_text_free(&h);
}

void form_write_names(const char *path, const char *names)
{
    enum { MOST = 64 };
    static form_tensor t[MOST];
    int n = 0;
    memset(t, 0, sizeof t);
    for (const char *s = names; *s; n++) {
        assert_true(n < MOST);
        s = read_word(s, " [", t[n].name);
        if (*s == '[')
            s = read_shape(s, &t[n]);
        else
            t[n].dim[t[n].ndim++] = 1;
        s += *s == ' ';
    }
    form_write(path, t, n, NULL);
}

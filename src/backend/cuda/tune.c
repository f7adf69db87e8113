/* The timed choices of a device, as lines "question<TAB>answer" in one file per device and library
   versions. Several workers may share the file: each adds its answers to what it finds there. A
   file that is damaged is ignored as a whole, once with a warning, and replaced. */
#include "backend/cuda/vendor.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ANSWERS = 4096, MAX_QUESTION = 400, MAX_FILE = 2 << 20, TRIALS = 7 };

typedef struct answer {
    char *question;
    int64_t value;
} answer;

struct cuda_tuning {
    char path[1024]; /* "": not kept on disk */
    int n;
    bool warned;
    answer answers[MAX_ANSWERS];
};

static answer *find(cuda_tuning *t, const char *question)
{
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->answers[i].question, question))
            return &t->answers[i];
    return NULL;
}

/* Adds what is not known yet. When full, the oldest quarter goes. */
static md_status add(cuda_tuning *t, const char *question, int64_t value)
{
    if (find(t, question))
        return MD_OK;
    if (t->n == MAX_ANSWERS) {
        for (int i = 0; i < MAX_ANSWERS / 4; i++)
            free(t->answers[i].question);
        t->n -= MAX_ANSWERS / 4;
        memmove(t->answers, t->answers + MAX_ANSWERS / 4, (size_t)t->n * sizeof *t->answers);
    }
    char *copy = malloc(strlen(question) + 1);
    if (!copy)
        MD_FAIL(MD_NOMEM, "out of memory");
    strcpy(copy, question);
    t->answers[t->n++] = (answer){copy, value};
    return MD_OK;
}

static bool valid_question(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > MAX_QUESTION)
        return false;
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || (unsigned char)*s > '~')
            return false;
    return true;
}

/* Digits only, at most 9. */
static bool parse_answer(const char *s, int64_t *value)
{
    *value = 0;
    size_t n = strlen(s);
    if (n == 0 || n > 9)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9')
            return false;
        *value = *value * 10 + (*s - '0');
    }
    return true;
}

/* Checks, and with `into` adds, every line of a file's text, which it cuts into pieces. */
static bool read_lines(char *text, size_t n, cuda_tuning *into, md_status *status)
{
    int lines = 0;
    if (memchr(text, 0, n) || (n > 0 && text[n - 1] != '\n'))
        return false;
    for (char *line = text; line < text + n; lines++) {
        char *end = memchr(line, '\n', (size_t)(text + n - line));
        char *tab = memchr(line, '\t', (size_t)(end - line));
        int64_t value;
        if (!tab || lines == MAX_ANSWERS)
            return false;
        *tab = *end = 0;
        bool good = valid_question(line) && parse_answer(tab + 1, &value);
        if (good && into && *status == MD_OK)
            *status = add(into, line, value);
        *tab = '\t';
        *end = '\n';
        if (!good)
            return false;
        line = end + 1;
    }
    return true;
}

static void warn_once(cuda_tuning *t, const char *what)
{
    if (!t->warned)
        md_warn("backend", "%s: %s", t->path, what);
    t->warned = true;
}

/* Adds the file's answers to those in memory. */
static md_status merge_file(cuda_tuning *t)
{
    void *data = NULL;
    size_t n = 0;
    md_status status = MD_OK;
    if (!t->path[0] || !md_file_exists(t->path))
        return MD_OK;
    if (md_file_read(t->path, MAX_FILE, &data, &n) != MD_OK) {
        warn_once(t, md_status_text());
        md_status_clear();
        return MD_OK;
    }
    if (read_lines(data, n, NULL, &status))
        (void)read_lines(data, n, t, &status);
    else
        warn_once(t, "damaged; the timed choices in it are ignored");
    free(data);
    return status;
}

static md_status write_file(cuda_tuning *t)
{
    md_text text = {0};
    md_status status = MD_OK;
    for (int i = 0; status == MD_OK && i < t->n; i++)
        status = md_text_add(&text, "%s\t%lld\n", t->answers[i].question,
                             (long long)t->answers[i].value);
    if (status == MD_OK)
        status = md_file_write_atomic(t->path, text.s, text.n);
    md_text_free(&text);
    return status;
}

/* "<cache>/<name>-sm90-cudnn91900-cublaslt130100-driver13000.txt" */
static md_status set_path(cuda_impl *d, cuda_tuning *t)
{
    char name[sizeof d->name], file[256];
    int driver = 0;
    if (!d->options.cache || !d->options.cache[0])
        return MD_OK;
    CUDA_TRY(cudaDriverGetVersion(&driver));
    MD_TRY(md_str_copy(name, sizeof name, d->name));
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c))
            *c = '_';
    MD_TRY(md_str_printf(file, sizeof file, "%s-sm%d-cudnn%zu-cublaslt%zu-driver%d.txt", name,
                         d->device.sm, cudnnGetVersion(), cublasLtGetVersion(), driver));
    MD_TRY(md_dir_make(d->options.cache));
    return md_path_join(t->path, sizeof t->path, d->options.cache, file);
}

md_status cuda__tuning_open(cuda_impl *d)
{
    md_status status;
    cuda_tuning *t = calloc(1, sizeof *t);
    if (!t)
        MD_FAIL(MD_NOMEM, "out of memory");
    d->tuning = t;
    if (set_path(d, t) != MD_OK) { /* choices are still timed, once per process */
        md_warn("backend", "timed choices are not kept: %s", md_status_text());
        md_status_clear();
        t->path[0] = 0;
    }
    MD_TRY_GOTO(merge_file(t), fail);
    return MD_OK;
fail:
    cuda__tuning_close(d);
    return status;
}

void cuda__tuning_close(cuda_impl *d)
{
    cuda_tuning *t = d->tuning;
    for (int i = 0; t && i < t->n; i++)
        free(t->answers[i].question);
    free(t);
    d->tuning = NULL;
}

int64_t cuda__tuning_find(cuda_impl *d, const char *question)
{
    const answer *a = d->tuning ? find(d->tuning, question) : NULL;
    return a ? a->value : -1;
}

void cuda__tuning_keep(cuda_impl *d, const char *question, int64_t value)
{
    cuda_tuning *t = d->tuning;
    if (!t || value < 0 || value > 999999999 || !valid_question(question))
        return;
    answer *known = find(t, question);
    if (known && known->value == value)
        return;
    md_status status = MD_OK;
    if (known)
        known->value = value;
    else
        status = add(t, question, value);
    if (status == MD_OK && t->path[0]) {
        status = merge_file(t);
        if (status == MD_OK)
            status = write_file(t);
    }
    if (status != MD_OK) {
        warn_once(t, md_status_text());
        md_status_clear();
    }
}

/* ---- timing */

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static md_status time_calls(cuda_impl *d, md_status (*run)(void *user), void *user,
                            cudaEvent_t from, cudaEvent_t to, double *ms)
{
    float t[TRIALS];
    MD_TRY(run(user));
    for (int i = 0; i < TRIALS; i++) {
        CUDA_TRY(cudaEventRecord(from, d->launch));
        MD_TRY(run(user));
        CUDA_TRY(cudaEventRecord(to, d->launch));
        CUDA_TRY(cudaEventSynchronize(to));
        CUDA_TRY(cudaEventElapsedTime(&t[i], from, to));
    }
    qsort(t, TRIALS, sizeof *t, by_size);
    *ms = t[TRIALS / 2];
    return MD_OK;
}

md_status cuda__tuning_time(cuda_impl *d, md_status (*run)(void *user), void *user, double *ms)
{
    cudaEvent_t from, to;
    CUDA_TRY(cudaEventCreateWithFlags(&from, cudaEventDefault));
    cudaError_t e = cudaEventCreateWithFlags(&to, cudaEventDefault);
    if (e != cudaSuccess) {
        (void)cudaEventDestroy(from);
        return cuda__fail(e, "cudaEventCreateWithFlags", __FILE__, __LINE__);
    }
    md_status status = time_calls(d, run, user, from, to, ms);
    (void)cudaEventDestroy(to);
    (void)cudaEventDestroy(from);
    return status;
}

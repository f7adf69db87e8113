#include "command.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define JOB(name, argument, ranks, sections, help)                                                 \
    {#name, argument, ranks, sections, help, job_##name},
#define JOB_OF(name, second, argument, ranks, sections, help)                                      \
    {#name " " #second, argument, ranks, sections, help, job_##name##_##second},
static const job_row rows[] = {
#include "jobs.def"
    {NULL, CONFIG, LOCAL, NULL, NULL, NULL}};
#undef JOB
#undef JOB_OF

/* As a line of usage has them, and what they are. */
static const struct {
    const char *word, *meaning;
} arguments[] = {
    {"CONFIG", "CONFIG: a configuration, such as configs/quickstart.cfg"},
    {"RUN", "RUN: a run directory, such as runs/quickstart"},
    {"RUN ID", "RUN ID: a run directory and the number of one of its pairs"},
    {"DIR", "DIR: a folder that is not there yet"},
    {"[train|sample] CONFIG",
     "CONFIG: a configuration, such as configs/quickstart.cfg; without train or sample: both"},
    {"[CONFIG]", "CONFIG: a configuration whose run, models and data are looked at, too"},
    {"", ""}};

void command_usage(FILE *f)
{
    (void)fprintf(f, "meddiff " MEDDIFF_VERSION ": from thirty annotated medical images to "
                     "thousands of image-mask pairs\n\n");
    for (const job_row *r = rows; r->name; r++)
        (void)fprintf(f, "  meddiff %-13s %-21s %s\n", r->name, command_argument(r), r->help);
    (void)fputs(
        "\n"
        "  --set section.name=value  a key of the configuration, as often as needed\n"
        "  --with FILE               settings laid over CONFIG's, before those of --set\n"
        "  --fresh                   start the job over: remove what it made and what was\n"
        "                            made from that, and say what\n"
        "  --help                    behind a job: the keys that it reads\n\n"
        "Without --fresh every start goes on where the last one stopped.\n"
        "On several workers: mpirun -n 3 meddiff JOB CONFIG (rank 0 coordinates).\n"
        "A first try: meddiff doctor; meddiff phantom runs/quickstart-phantoms; then\n"
        "meddiff pipeline configs/quickstart.cfg; your own images: configs/folder-tiny.cfg\n",
        f);
}

const job_row *command_rows(void)
{
    return rows;
}

const char *command_argument(const job_row *r)
{
    return arguments[r->arg].word;
}

const char *command_argument_meaning(const job_row *r)
{
    return arguments[r->arg].meaning;
}

bool command_takes_config(const job_row *r)
{
    return r->arg == CONFIG || r->arg == STEP_CONFIG || r->arg == ANY_CONFIG;
}

bool command_takes_share(const job_row *r)
{
    return !strcmp(r->sections, "export");
}

bool command_takes_fresh(const job_row *r)
{
    return r->ranks == MPI;
}

int command_job_help(const job_row *r)
{
    (void)printf("meddiff %s%s%s%s%s%s%s\n%s\n", r->name, *command_argument(r) ? " " : "",
                 command_argument(r), command_takes_config(r) ? " [--with FILE]..." : "",
                 *r->sections ? " [--set section.name=value]..." : "",
                 command_takes_fresh(r) ? " [--fresh]" : "",
                 command_takes_share(r) ? " [--share]" : "", r->help);
    if (*command_argument_meaning(r))
        (void)puts(command_argument_meaning(r));
    if (*r->sections)
        (void)putchar('\n');
    char *text;
    if (config_help(r->sections, &text) != MD_OK) {
        (void)fprintf(stderr, "meddiff: %s\n", md_status_text());
        return 1;
    }
    (void)fputs(text, stdout);
    free(text);
    return 0;
}

/* Whether argv[*i] is this option; *value then is what follows it, after a space or "=". */
static md_status take_option(const char *name, const char *wanted, int argc, char **argv, int *i,
                             const char **value)
{
    size_t n = strlen(name);
    const char *a = argv[*i];
    *value = NULL;
    if (strncmp(a, name, n) != 0 || (a[n] && a[n] != '='))
        return MD_OK;
    if (!a[n] && *i + 1 == argc)
        MD_FAIL(MD_USAGE, "%s needs %s after it", name, wanted);
    *value = a[n] ? a + n + 1 : argv[++*i];
    return MD_OK;
}

static md_status keep_option(const char *name, const char *value, const char **list, size_t *n,
                             size_t most)
{
    if (*n == most)
        MD_FAIL(MD_USAGE,
                "more than %zu times %s: put the settings into a file and give that to --with",
                most, name);
    list[(*n)++] = value;
    return MD_OK;
}

md_status command_read(const job_row *r, int argc, char **argv, command *c)
{
    c->step = "";
    for (int i = 2; i < argc; i++) {
        const char *a = argv[i], *set, *with;
        MD_TRY(take_option("--set", "section.name=value", argc, argv, &i, &set));
        MD_TRY(take_option("--with", "a configuration file", argc, argv, &i, &with));
        if (set) {
            MD_TRY(keep_option("--set", set, c->sets, &c->n_sets, COMMAND_MAX_SETS));
        } else if (with) {
            if (!command_takes_config(r))
                MD_FAIL(MD_USAGE, "%s reads no configuration, so there is nothing for --with",
                        r->name);
            MD_TRY(keep_option("--with", with, c->withs, &c->n_withs, COMMAND_MAX_WITHS));
        } else if (!strcmp(a, "--help") || !strcmp(a, "-h")) {
            c->help = true;
        } else if (!strcmp(a, "--fresh")) {
            if (!command_takes_fresh(r))
                MD_FAIL(MD_USAGE,
                        "%s leaves nothing in a run directory, so there is nothing for "
                        "--fresh",
                        r->name);
            c->fresh = true;
        } else if (!strcmp(a, "--share")) {
            if (!command_takes_share(r))
                MD_FAIL(MD_USAGE, "%s makes nothing for others, so there is nothing for --share",
                        r->name);
            MD_TRY(
                keep_option("--set", "export.share=true", c->sets, &c->n_sets, COMMAND_MAX_SETS));
        } else if (a[0] == '-') {
            MD_FAIL(MD_USAGE,
                    "unknown option %s; there are --set section.name=value, --with FILE, --fresh, "
                    "--share and --help",
                    a);
        } else if (r->arg == STEP_CONFIG && !*c->step && !c->arg &&
                   (!strcmp(a, "train") || !strcmp(a, "sample"))) {
            c->step = a;
        } else if (r->arg == NOTHING) {
            MD_FAIL(MD_USAGE, "%s takes no argument, got \"%s\"", r->name, a);
        } else if (!c->arg) {
            c->arg = a;
        } else if (r->arg == RUN_ID && !c->id) {
            c->id = a;
        } else {
            MD_FAIL(MD_USAGE, "%s takes one %s, got \"%s\" and \"%s\"; settings go behind --set",
                    r->name, command_argument(r), c->id ? c->id : c->arg, a);
        }
    }
    bool whole = c->arg || r->arg == NOTHING || r->arg == ANY_CONFIG;
    if ((!whole || (r->arg == RUN_ID && !c->id)) && !c->help)
        MD_FAIL(MD_USAGE, "%s needs its argument%s: meddiff %s %s; %s", r->name,
                r->arg == RUN_ID ? "s" : "", r->name, command_argument(r),
                command_argument_meaning(r));
    return MD_OK;
}

static const job_row *find(const char *name)
{
    for (const job_row *r = rows; r->name; r++)
        if (!strcmp(r->name, name))
            return r;
    return NULL;
}

const job_row *command_find_job(int *argc, char ***argv)
{
    char name[64];
    char **word = *argv;
    const job_row *r = NULL;
    if (*argc > 2 && md_str_printf(name, sizeof name, "%s %s", word[1], word[2]) == MD_OK)
        r = find(name);
    if (!r)
        return find(word[1]);
    --*argc;
    ++*argv;
    return r;
}

int command_unknown_job(const char *name)
{
    const char *near = NULL;
    int least = 3;
    for (const job_row *r = rows; r->name; r++) {
        int d = md_str_distance(name, r->name);
        if (d < least) {
            least = d;
            near = r->name;
        }
    }
    (void)fprintf(stderr, "meddiff: unknown job \"%s\"", name);
    if (near)
        (void)fprintf(stderr, "; did you mean \"%s\"?", near);
    (void)fprintf(stderr, "\nmeddiff --help lists the jobs.\n");
    return 2;
}

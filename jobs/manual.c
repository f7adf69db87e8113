#include "manual.h"
#include "base/str.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- pages */

/* Text in which no letter means something to troff; "-" becomes the minus that a shell knows. */
static void put(const char *s)
{
    for (bool begin = true; *s; s++, begin = false) {
        if (begin && (*s == '.' || *s == '\''))
            (void)fputs("\\&", stdout);
        if (*s == '\\')
            (void)fputs("\\e", stdout);
        else if (*s == '-')
            (void)fputs("\\-", stdout);
        else
            (void)putchar(*s);
    }
}

static void line(const char *s)
{
    put(s);
    (void)putchar('\n');
}

static void bold(const char *s)
{
    (void)fputs(".B ", stdout);
    line(s);
}

static void section(const char *name)
{
    (void)printf(".SH %s\n", name);
}

/* "bench cluster" -> "bench-cluster" */
static void page_name(const job_row *r, char out[64])
{
    (void)snprintf(out, 64, "meddiff-%s", r->name);
    for (char *c = out; *c; c++)
        *c = *c == ' ' ? '-' : *c;
}

static void head(const char *page, const char *what)
{
    (void)fputs(".TH ", stdout);
    for (const char *c = page; *c; c++)
        (void)putchar(toupper((unsigned char)*c));
    (void)printf(" 1 \"\" \"meddiff " MEDDIFF_VERSION "\" \"meddiff\"\n");
    section("NAME");
    put(page);
    (void)fputs(" \\- ", stdout);
    line(what);
    section("SYNOPSIS");
}

static void options(const job_row *r)
{
    section("OPTIONS");
    if (*r->sections)
        (void)puts(
            ".TP\n.BI \\-\\-set \\ section.name=value\nA key of the configuration, as often as "
            "needed; it goes over everything else.");
    if (command_takes_config(r))
        (void)puts(".TP\n.BI \\-\\-with \\ FILE\nA configuration whose settings are laid over "
                   "CONFIG's, before those of \\-\\-set; as often as needed.");
    if (command_takes_fresh(r))
        (void)puts(".TP\n.B \\-\\-fresh\nStarts the job over: removes what it made and what was "
                   "made from that, and says what.");
    if (command_takes_share(r))
        (void)puts(".TP\n.B \\-\\-share\nFor others: export.share=true.");
    (void)puts(".TP\n.B \\-\\-help\nThe keys that the job reads.");
}

static void keys(const char *sections)
{
    char value[CONFIG_VALUE_TEXT];
    bool any = false;
    for (int k = 0; k < KEY_N; k++) {
        if (!config_in((config_key)k, sections))
            continue;
        if (!any)
            section("KEYS");
        any = true;
        (void)puts(".TP");
        bold(config_path((config_key)k));
        line(config_meaning((config_key)k));
        (void)puts(".br");
        (void)fputs(config_type_word((config_key)k), stdout);
        (void)fputs(", default ", stdout);
        line(config_value_text((config_key)k, value));
    }
}

static void codes(void)
{
    section("EXIT STATUS");
    (void)puts(".TP\n.B 0\nDone, or stopped orderly.\n.TP\n.B 1\nFailed.\n.TP\n.B 2\nBad usage or "
               "input, found before any work.");
}

static void job_page(const job_row *r)
{
    char name[64];
    page_name(r, name);
    head(name, r->help);
    (void)printf(".B meddiff %s\n", r->name);
    if (*command_argument(r))
        (void)printf(".I %s\n", command_argument(r));
    (void)puts("[options]");
    if (*command_argument(r)) {
        section("DESCRIPTION");
        line(command_argument_meaning(r));
    }
    options(r);
    keys(r->sections);
    codes();
    section("SEE ALSO");
    (void)puts(".BR meddiff (1)");
}

static void program_page(void)
{
    head("meddiff", "from thirty annotated medical images to thousands of image-mask pairs");
    (void)puts(
        ".B meddiff\n.I JOB\n[argument] [options]\n.br\n.B mpirun \\-n\n.I N\n.B meddiff\n.I "
        "JOB CONFIG\n[options]");
    section("DESCRIPTION");
    (void)puts(
        "Fine-tunes a Stable Diffusion model on the lesions of a small annotated data set, "
        "paints new lesions\ninto lesion-free or repaired images under new masks, rejects "
        "what is too like or too unlike the real\nimages, and leaves one shared HDF5 file. "
        "Rank 0 coordinates, the other ranks work; one process alone\ndoes both. Every start "
        "goes on where the last one stopped.");
    section("JOBS");
    for (const job_row *r = command_rows(); r->name; r++) {
        char name[64];
        page_name(r, name);
        (void)printf(".TP\n.BR %s (1)\n", name);
        line(r->help);
    }
    section("FILES");
    (void)puts("A configuration is a libconfig file of the keys that the jobs' pages list. The run "
               "directory\n(\\fBrun\\fR) holds config.cfg, log.txt, the stores (data.h5, "
               "backgrounds.h5, masks.h5, pairs.h5), models/,\ncheckpoints/ and RESULT, which says "
               "how it ended where a launcher\\(aqs exit code lies.");
    section("ENVIRONMENT");
    (void)puts(".TP\n.B OMP_WAIT_POLICY\nSet it to passive where ranks share cores.\n.TP\n.B "
               "TMPDIR\nHolds MPI\\(aqs sessions; a short path on a local disk.\n.TP\n.B "
               "MEDDIFF_TRACE\n1: messages with their source lines.");
    codes();
}

int manual_page(const job_row *r)
{
    if (r)
        job_page(r);
    else
        program_page();
    return 0;
}

/* ---- completion */

static void complete_job(const job_row *r)
{
    (void)printf("%s\n--help\n", command_argument(r));
    if (*r->sections)
        (void)puts("--set");
    if (command_takes_config(r))
        (void)puts("--with");
    if (command_takes_fresh(r))
        (void)puts("--fresh");
    if (command_takes_share(r))
        (void)puts("--share");
    for (int k = 0; k < KEY_N; k++)
        if (config_in((config_key)k, r->sections))
            (void)printf("%s=\n", config_path((config_key)k));
}

/* "a|b|c", or a truth. */
static void complete_values(config_key k)
{
    for (const char *c = config_choices(k); *c; c++)
        (void)putchar(*c == '|' ? '\n' : *c);
    (void)putchar('\n');
}

int manual_complete(int n, char **word)
{
    const job_row *r = n > 0 ? command_rows() : NULL;
    while (r && r->name && strcmp(r->name, word[0]) != 0)
        r++;
    if (n == 0)
        for (const job_row *row = command_rows(); row->name; row++)
            (void)puts(row->name);
    else if (r->name && n == 1)
        complete_job(r);
    else if (r->name && config_find(word[1]) != KEY_N)
        complete_values(config_find(word[1]));
    return 0;
}

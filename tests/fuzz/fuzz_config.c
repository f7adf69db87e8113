/* Any bytes as a configuration file, and what was accepted written and read again. */
#include "config/config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    config *a = NULL, *b = NULL;
    if (config_parse(text, size, "fuzz", &a) == MD_OK) {
        md_status status;
        const char *resolved = config_text(a, &status);
        if (!resolved || config_parse(resolved, strlen(resolved), "again", &b) != MD_OK ||
            config_diff(a, b, NULL) != KEY_N)
            abort();
    }
    /* The same bytes as an override. */
    if (a || config_parse("", 0, "empty", &a) == MD_OK)
        if (strlen(text) == size)
            (void)!config_set(a, text, "--set");
    config_free(a);
    config_free(b);
    free(text);
    return 0;
}

/* UTF-8 and Unicode classes from generated tables. */
#include "format/unicode.h"

typedef struct unicode_range {
    int32_t first, last;
} unicode_range;

/* Every step-th code point from first to last moves by delta. */
typedef struct unicode_lower {
    int32_t first, last, step, delta;
} unicode_lower;

#include "format/unicode_tables.def"

#define COUNT(a) (sizeof(a) / sizeof *(a))

int32_t format__utf8_get(const char *s, size_t n, int *len)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)s;
    if (n == 0)
        return -1;
    const int length = p[0] < 0x80       ? 1
                       : p[0] >> 5 == 6  ? 2
                       : p[0] >> 4 == 14 ? 3
                       : p[0] >> 3 == 30 ? 4
                                         : 0;
    if (length == 0 || (size_t)length > n)
        return -1;
    int32_t c = length == 1 ? p[0] : p[0] & (0x7F >> length);
    for (int i = 1; i < length; i++) {
        if (p[i] >> 6 != 2)
            return -1;
        c = c << 6 | (p[i] & 0x3F);
    }
    if (c < least[length] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return -1;
    *len = length;
    return c;
}

int format__utf8_put(int32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00 >> n & 0xF0) | c);
    return n;
}

static bool in_ranges(const unicode_range *r, size_t n, int32_t c)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > r[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < n && c >= r[lo].first;
}

bool format__is_letter(int32_t c)
{
    if (c < 0x80)
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return in_ranges(letters, COUNT(letters), c);
}

bool format__is_number(int32_t c)
{
    return c < 0x80 ? c >= '0' && c <= '9' : in_ranges(numbers, COUNT(numbers), c);
}

bool format__is_space(int32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
    return in_ranges(spaces, COUNT(spaces), c);
}

int32_t format__to_lower(int32_t c)
{
    if (c < 0x80)
        return c >= 'A' && c <= 'Z' ? c + 32 : c;
    size_t lo = 0, hi = COUNT(lower_case);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > lower_case[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < COUNT(lower_case) && c >= lower_case[lo].first &&
        (c - lower_case[lo].first) % lower_case[lo].step == 0)
        return c + lower_case[lo].delta;
    return c;
}

/* UTF-8, and Unicode's classes, lower case and NFC from generated tables. */
#include "format/unicode.h"

typedef struct unicode_range {
    int32_t first, last;
} unicode_range;

/* Every step-th code point from first to last moves by delta. */
typedef struct unicode_lower {
    int32_t first, last, step, delta;
} unicode_lower;

/* Canonical combining class of a range. */
typedef struct unicode_class {
    int32_t first, last, order;
} unicode_class;

/* One canonical step: c is a, or a followed by b. */
typedef struct unicode_pair {
    int32_t c, a, b;
} unicode_pair;

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

bool format__is_other(int32_t c)
{
    return c < 0x80 ? c < ' ' || c == 0x7F : in_ranges(others, COUNT(others), c);
}

/* ---- lower case */

static int32_t to_lower(int32_t c)
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

static bool is_cased(int32_t c)
{
    return c < 0x80 ? format__is_letter(c) : in_ranges(cased, COUNT(cased), c);
}

static bool is_case_ignorable(int32_t c)
{
    if (c < 0x80)
        return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`';
    return in_ranges(case_ignorable, COUNT(case_ignorable), c);
}

/* The sigma at code[i] ends a word: a letter with case before it and none after, whatever can be
   ignored between. */
static bool ends_word(const int32_t *code, int64_t n, int64_t i)
{
    int64_t before = i - 1, after = i + 1;
    while (before >= 0 && is_case_ignorable(code[before]))
        before--;
    while (after < n && is_case_ignorable(code[after]))
        after++;
    return before >= 0 && is_cased(code[before]) && (after == n || !is_cased(code[after]));
}

int64_t format__lower(const int32_t *code, int64_t n, int32_t *out)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        out[count++] = to_lower(code[i]);
        if (code[i] == 0x3A3 && ends_word(code, n, i))
            out[count - 1] = 0x3C2;
        if (code[i] == 0x130) { /* the one letter whose lower case is two: i and a dot above */
            out[count - 1] = 'i';
            out[count++] = 0x307;
        }
    }
    return count;
}

/* ---- NFC (Unicode 3.11, UAX 15): decompose, order the marks, compose */

enum { /* Hangul syllables are computed from their letters: L and V, then perhaps a T */
       HANGUL = 0xAC00,
       HANGUL_L = 0x1100,
       HANGUL_V = 0x1161,
       HANGUL_T = 0x11A7,
       N_L = 19,
       N_V = 21,
       N_T = 28,
       N_HANGUL = N_L * N_V * N_T
};

static int32_t combining_class(int32_t c)
{
    size_t lo = 0, hi = COUNT(classes);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > classes[mid].last)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < COUNT(classes) && c >= classes[lo].first ? classes[lo].order : 0;
}

static const unicode_pair *pair_of(int32_t c)
{
    size_t lo = 0, hi = COUNT(pairs);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        if (c > pairs[mid].c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < COUNT(pairs) && pairs[lo].c == c ? &pairs[lo] : NULL;
}

/* Only a first part can have parts again (make_unicode.py asserts it). Hangul syllables stay whole:
   nothing can come between their letters, so that they would be put together as they were. */
static int decompose(int32_t c, int32_t *out)
{
    const unicode_pair *p = pair_of(c);
    if (!p) {
        out[0] = c;
        return 1;
    }
    int n = decompose(p->a, out);
    if (p->b)
        out[n++] = p->b;
    return n;
}

/* What a and b are together, or -1. */
static int32_t compose(int32_t a, int32_t b)
{
    if (a >= HANGUL_L && a < HANGUL_L + N_L && b >= HANGUL_V && b < HANGUL_V + N_V)
        return HANGUL + ((a - HANGUL_L) * N_V + b - HANGUL_V) * N_T;
    if (a >= HANGUL && a < HANGUL + N_HANGUL && (a - HANGUL) % N_T == 0 && b > HANGUL_T &&
        b < HANGUL_T + N_T)
        return a + b - HANGUL_T;
    size_t lo = 0, hi = COUNT(composites);
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const unicode_pair *p = pair_of(composites[mid]);
        if (p->a == a && p->b == b)
            return p->c;
        if (a > p->a || (a == p->a && b > p->b))
            lo = mid + 1;
        else
            hi = mid;
    }
    return -1;
}

/* Marks of a run stand by rising class, those of one class as they were. */
static void order_marks(int32_t *code, int64_t n)
{
    enum { SHIFT = 21, CODE = (1 << SHIFT) - 1 }; /* the class above the code point */
    for (int64_t i = 0; i < n; i++) {
        const int32_t keyed = combining_class(code[i]) << SHIFT | code[i];
        int64_t k = i;
        for (; keyed >> SHIFT && k > 0 && code[k - 1] >> SHIFT > keyed >> SHIFT; k--)
            code[k] = code[k - 1];
        code[k] = keyed;
    }
    for (int64_t i = 0; i < n; i++)
        code[i] &= CODE;
}

int64_t format__nfc(const int32_t *code, int64_t n, int32_t *out)
{
    int64_t count = 0, kept = 0, starter = -1;
    int32_t last = 0; /* class of out[kept - 1] */
    bool plain = true;
    for (int64_t i = 0; i < n; i++) {
        plain = plain && code[i] < 0x300; /* nothing below changes or combines */
        out[i] = code[i];
    }
    if (plain)
        return n;
    for (int64_t i = 0; i < n; i++)
        count += decompose(code[i], out + count);
    order_marks(out, count);
    for (int64_t i = 0; i < count; i++) {
        const int32_t c = out[i], order = combining_class(c);
        const bool open = starter >= 0 && (starter == kept - 1 || last < order);
        const int32_t both = open ? compose(out[starter], c) : -1;
        if (both >= 0) {
            out[starter] = both;
            continue;
        }
        if (order == 0)
            starter = kept;
        last = order;
        out[kept++] = c;
    }
    return kept;
}

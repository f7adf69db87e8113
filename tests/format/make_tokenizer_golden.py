#!/usr/bin/env python3
"""Makes tests/format/tokenizer (a small CLIP vocabulary) and golden.tsv (ids by transformers).

    pip install transformers==4.39.3
    python3 tests/format/make_tokenizer_golden.py             (rewrites tests/format/tokenizer)
    python3 tests/format/make_tokenizer_golden.py FOLDER      (golden.tsv for a tokenizer of yours)
    python3 tests/format/make_tokenizer_golden.py --large DIR (49,408 random tokens, as CLIP has)

The last two are for MEDDIFF_TOKENIZER=FOLDER build/tests/test_format_tokenizer.

golden.tsv: a line per prompt: the text (escaped), how many times it is repeated, its ids up to the first
end token that is padding. The reference is CLIPTokenizer, the class that Stable Diffusion's
model_index.json names, without ftfy (which neither transformers nor diffusers asks for); the first line
says how many of the prompts CLIPTokenizerFast encodes alike. Every text is well-formed Unicode, without
U+0000, of characters that Python 3.11 knows (Unicode 14).
"""
import collections
import json
import os
import random
import sys
import unicodedata

import transformers
from tokenizers import __version__ as tokenizers_version

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
CORPUS = """a photo of a skin lesion with an irregular border. an ultrasound image of a benign breast
tumour, malignant tissue, thyroid nodule; the patient's image wasn't there, they're dark, we've seen it
and I'll say he'd go, I'm sure. dermoscopy of melanoma on healthy skin, high quality medical photograph
texture of dead leaves, noise, stripes, dots, red green blue gray white black bright dark soft sharp
caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u00e5ngstr\u00f6m h\u1ec7 th\u1ed1ng \u03bb\u03cc\u03b3\u03bf\u03c2
\u03c3\u03bf\u03c6\u03cc\u03c2 \u043f\u0440\u0438\u0432\u0435\u0442 \u043a\u043e\u0436\u0430
\u76ae \u819a \u533b \u5b66 \u5199 \u771f \u76ae\u819a \u304f\u3059\u308a \u30ab\u30e1\u30e9
\ud53c\ubd80 \ubcd1\ubcc0 \u05e9\u05dc\u05d5\u05dd \u062c\u0644\u062f \u0935\u0947\u0926
\U0001f600 \U0001f600\U0001f600 \u2764\ufe0f \U0001f468\U0001f469 \u2014\u2014 \u2026 !!! ... ?! 100%"""
TEXTS = [
    "", "a", "a photo of a lesion", "An Ultrasound  image,\tof a BENIGN tumour.",
    "the patient's skin wasn't healthy; they're dark, we've I'll he'd I'm", "'s 'stop can't''t",
    "1234 and 5x5 mm at 3.5%", "hello!!! ...what?! (x) [y] {z} #1 @home a_b c-d e/f \\ | ~ ` ^",
    "line one\nline two\r\nline three", "caf\u00e9 na\u00efve \u00dcBER stra\u00dfe \u00c5ngstr\u00f6m",
    "\u03b1\u03b2\u03b3 \u0394elta \u043f\u0440\u0418\u0432\u0435\u0422 \u05e9\u05dc\u05d5\u05dd",
    "\u76ae \u819a photo", "\u00bd \u00b2 \u0663 \u2167 5\u00b5m",
    "emoji \U0001f600 done \u2013 dash \u201cq\u201d",
    "<|startoftext|>a lesion<|endoftext|>", "x<|endoftext|>y !<|endoftext|>! <|EndOfText|>",
    "supercalifragilisticexpialidocious", "aaaaaaaaaaaaaaaa bbbbbbbb abababab",
    "no\u00a0break\u2003em\u3000ideographic", " ".join("melanoma lesion %d" % i for i in range(40)),
    "word " * 75, "word " * 76, "lesion", "lesion lesion", "<|endoftext|>", "a<b>c|d", "\u0130stanbul",
    "\ua64a\u0521 \u1e9e\u01c5", "the \u76ae\u819a\u79d1 of \u6771\u4eac", "soft\u00adhyphen zero\u200bwidth",
    "\u039f\u0394\u039f\u03a3 \u039f\u0394\u039f\u03a3. \u03a3 \u03a3\u03a3 a\u03a3'b \u0391\u03a3\u0391",
    "it'\u017f <|\u017ftartoftext|> <|STARTOFTEXT|> <|EndofTexT|> \u212aelvin \u212bngstrom",
    "\u03b1\u0345 x\u0345y \u03b1\u0345\u0301 \u0345", "A\u030a \u00c5 \u212b e\u0323\u0302 \u1112\u1161\u11ab",
    "nul-free \x01bell\x07\x1b[0m \x7fdel \x85nel", "\u2028line\u2029paragraph\u2028", "\ufeffbom \ufffd\ufffe",
    "\ue000private\U000f0000use", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\uf900\ufa0e\U0002f800\u3400",
]


# ---- prompts

def assigned(test):
    """Code points that can stand in a prompt and pass the test."""
    return [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000 and test(chr(c))]


def pick(rng, pool, low, high):
    return "".join(rng.choice(pool) for _ in range(rng.randint(low, high)))


def make_words(rng):
    subject = "skin lesion|melanoma|thyroid nodule|breast tumour|polyp|benign mass|naevus".split("|")
    way = "a photo of|An Ultrasound image of|dermoscopy:|close-up,|CT scan (axial) of|MRI/T2 of".split("|")
    end = ", high quality|; irregular border.| 5 mm| -- dark!| on the patient's arm| #12|?".split("|")
    for _ in range(220):
        text = " ".join([rng.choice(way), rng.choice(subject)]) + rng.choice(end) + rng.choice(end)
        yield rng.choice([str, str, str.upper, str.title])(text)


def make_categories(rng):
    """Every general category of Unicode (surrogates aside), in words, beside digits and alone."""
    by_category = collections.defaultdict(list)
    for c in assigned(lambda c: unicodedata.category(c) != "Cn"):
        by_category[unicodedata.category(c)].append(c)
    for _, pool in sorted(by_category.items()):
        for _ in range(12):
            c, d = rng.choice(pool), rng.choice(pool)
            yield rng.choice(["x%sy %s%s", "%s 7%s%s", "'s%s%s.%s"]).replace("%s", "{}").format(c, d, c)


def make_cases(rng):
    upper = assigned(lambda c: c.lower() != c)
    greek = "\u03a3\u03a3\u0391\u0392\u03c3\u03c2\u03b1'.:\u00b7\u0301\u0345-1 \u02b0\u2019"
    for _ in range(90):
        yield pick(rng, upper, 1, 5)
    for _ in range(90):
        yield pick(rng, greek, 2, 9)
    for c in "\u0130\u0131\u017f\u1e9e\u01c4\u01c5\u1f88\u1fbc\u2126\u212a\u212b\u10a0\u13a0\uab70\U00010400":
        yield "a%sb %s" % (c, c)


def make_normal_forms(rng):
    marks = assigned(lambda c: unicodedata.combining(c) > 0)
    common = "\u0300\u0301\u0302\u0303\u0308\u030a\u0323\u0327\u0328\u031b\u0345\u0338"
    composed = assigned(lambda c: unicodedata.normalize("NFD", c) != c)
    excluded = [c for c in composed if unicodedata.normalize("NFC", c) != c]
    jamo = [chr(c) for c in list(range(0x1100, 0x1118)) + list(range(0x1160, 0x1178)) + list(range(0x11A6, 0x11C6))]
    hangul = [chr(c) for c in range(0xAC00, 0xD7B0)]
    for _ in range(80):
        text = pick(rng, composed, 1, 4)
        yield text
        yield unicodedata.normalize("NFD", text)
    for _ in range(60):
        yield pick(rng, "aeouAEOU\u03b1\u03b7\u0391\u0415 ", 1, 2) + pick(rng, common, 1, 5) + rng.choice(["", "x"])
    for _ in range(40):
        yield rng.choice("aOq<=1") + pick(rng, marks, 1, 4)
    for _ in range(30):
        yield pick(rng, excluded, 1, 3)
    for _ in range(50):
        yield pick(rng, jamo + [rng.choice(hangul)], 2, 5) + pick(rng, hangul, 0, 2)


def make_emoji(rng):
    faces = [chr(c) for c in range(0x1F600, 0x1F645)] + list("\u2764\u2600\u263a\u2728\u2695")
    people = "\U0001f468\U0001f469\U0001f467\U0001f466\U0001f9d1\U0001f44b\U0001f44d"
    tones = [chr(c) for c in range(0x1F3FB, 0x1F400)]
    flags = [chr(c) for c in range(0x1F1E6, 0x1F200)]
    for _ in range(40):
        yield "skin %s%s lesion%s" % (pick(rng, faces, 1, 3), rng.choice(["", "\ufe0f", "\ufe0e"]),
                                      rng.choice(faces))
    for _ in range(40):
        yield "\u200d".join(rng.choice(people) + rng.choice(tones + [""]) for _ in range(rng.randint(1, 4)))
    for _ in range(25):
        yield pick(rng, flags, 2, 6)
    for c in "0123456789#*":
        yield "key %s\ufe0f\u20e3%s" % (c, c)
    yield "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in "gbsct") + "\U000e007f"


def make_spaces(rng):
    blank = assigned(lambda c: c.isspace() or unicodedata.category(c) in ("Zs", "Zl", "Zp"))
    empty = "\u00ad\u034f\u061c\u115f\u17b4\u180e\u200b\u200c\u200d\u200e\u2060\u2063\u3164\ufeff\uffa0"
    control = [chr(c) for c in list(range(1, 32)) + list(range(127, 160))]
    for c in sorted(set(blank) | set(empty) | set(control)):
        yield "a%sb" % c
    for _ in range(40):
        yield pick(rng, blank + list(empty) + ["lesion", "x"], 2, 6)


def make_contractions(rng):
    for mark in "'\u2019\u02bc`\uff07":
        for end in ("s", "t", "re", "ve", "m", "ll", "d", "S", "RE", "x", "\u017f", "l", ""):
            yield "%s%s%s %s%s" % (rng.choice(["it", "We", "1", "\u03b1", "!", ""]), mark, end, mark, end * 2)
    for _ in range(60):
        yield pick(rng, ["'", "'", "s", "t", "re", "ve", "m", "ll", "d", "I", "_", " ", "n't"], 2, 7)


def make_signs(rng):
    ascii_signs = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    signs = assigned(lambda c: unicodedata.category(c)[0] in "PS")
    for _ in range(110):
        yield pick(rng, ascii_signs, 1, 8) + rng.choice(["", " a", "b", "7"])
    for _ in range(70):
        yield pick(rng, list(ascii_signs) + ["a", "lesion", "1", " ", "_"], 3, 9)
    for _ in range(60):
        yield pick(rng, signs, 1, 3)


def make_numbers(rng):
    digits = assigned(lambda c: unicodedata.category(c)[0] == "N")
    for _ in range(60):
        yield pick(rng, list("0123456789"), 1, 5) + rng.choice(["x5 mm", ".5%", "e-4", "th", ",000", "/7", "st"])
    for _ in range(50):
        yield pick(rng, digits, 1, 3) + rng.choice(["", "a", "-"])


def make_code(rng):
    parts = ["&amp;", "&lt;b&gt;", "&#39;", "&nbsp;", "&eacute;", "https://a.b/c?d=e&f=%20g", "<br/>",
             "C:\\dir\\file.png", "a_b_c", "__init__", "x=1;", "{\"k\": [1, null]}", "$PATH", "me@host.org",
             "(((lesion:1.3)))", "[skin|tissue]", "--no-prompt", "\\n", "%s", "</w>", "lesion</w>"]
    for _ in range(80):
        yield " ".join(rng.choice(parts) for _ in range(rng.randint(1, 3)))


def make_specials(rng):
    parts = ["<|startoftext|>", "<|endoftext|>", "<|EndOfText|>", "<|STARTOFTEXT|>", "<|endoftext|", "|endoftext|>",
             "<|", "|>", "<", " ", "lesion", "<|\u017ftartoftext|>", "<|end oftext|>", "!", "<|start", "of",
             "text|>", "<|pad|>", "\u00e9", "\u200b"]
    for _ in range(150):
        yield pick(rng, parts, 1, 5)


def make_scripts(rng):
    blocks = {"arabic": (0x620, 0x64B), "hebrew": (0x5D0, 0x5EB), "cjk": (0x4E00, 0x9FA6), "kana": (0x3041, 0x30FF),
              "thai": (0xE01, 0xE3B), "devanagari": (0x904, 0x950), "tamil": (0xB85, 0xBBA), "cyrillic": (0x400, 0x460),
              "georgian": (0x10A0, 0x1100), "cherokee": (0x13A0, 0x13F6), "ethiopic": (0x1200, 0x1249),
              "compat": (0xF900, 0xFA0E), "beyond": (0x20000, 0x20100), "wide": (0xFF01, 0xFF5F),
              "math": (0x1D400, 0x1D455), "supplement": (0x2F800, 0x2F820)}
    bidi = "\u200e\u200f\u202a\u202b\u202c\u2066\u2069"
    for name, (first, last) in blocks.items():
        pool = [chr(c) for c in range(first, last) if unicodedata.category(chr(c)) != "Cn"]
        for _ in range(14):
            text = pick(rng, pool, 1, 4)
            if name in ("arabic", "hebrew"):
                text = rng.choice(bidi) + text + rng.choice(["", bidi[4], "\u0651", "\u05b8"])
            yield text + rng.choice(["", " skin", "lesion", "\u3002", "1", " " + pick(rng, pool, 1, 2)])


def make_mixtures(rng):
    known = assigned(lambda c: unicodedata.category(c) != "Cn")
    low = assigned(lambda c: c < "\u0250")
    for _ in range(160):
        yield pick(rng, known, 1, 6)
    for _ in range(160):
        yield pick(rng, low, 2, 12)
    for _ in range(60):
        yield pick(rng, low + ["lesion ", "Skin", " a ", "'s"], 2, 6)


def make_repeats(_rng):
    """Long ones: (text, times)."""
    for text, times in [("lesion ", 5000), ("a", 3000), ("ab", 1500), ("\u00e9", 2000), ("\u76ae", 3000),
                        ("\U0001f600", 2000), ("! ", 4000), ("9", 5000), ("e\u0301", 2000), ("<|endoftext|>", 1000),
                        (" ", 10000), ("\u200b", 5000), ("skin's ", 3000), ("\u1112\u1161\u11ab", 1000), ("a ", 75),
                        ("a ", 74), ("a ", 76), ("\u03a3", 500), ("word, ", 6000), ("\u0301", 1000)]:
        yield text, times


def prompts():
    rng = random.Random(4)
    out = [(t, 1) for t in TEXTS]
    for make in (make_words, make_categories, make_cases, make_normal_forms, make_emoji, make_spaces,
                 make_contractions, make_signs, make_numbers, make_code, make_specials, make_scripts, make_mixtures):
        out += [(t, 1) for t in make(rng)]
    out += make_repeats(rng)
    return list(dict.fromkeys(out))


# ---- vocabularies

def byte_table():
    plain = list(range(33, 127)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def train(n_merges):
    """Byte-pair encoding of the corpus."""
    table = byte_table()
    words = collections.Counter()
    for w in CORPUS.lower().split():
        s = [table[b] for b in w.encode()]
        words[tuple(s[:-1] + [s[-1] + "</w>"])] += 1
    merges = []
    while len(merges) < n_merges:
        pairs = collections.Counter()
        for w, n in words.items():
            for p in zip(w, w[1:]):
                pairs[p] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        new = collections.Counter()
        for w, n in words.items():
            out, i = [], 0
            while i < len(w):
                if w[i:i + 2] == best:
                    out.append(w[i] + w[i + 1])
                    i += 2
                else:
                    out.append(w[i])
                    i += 1
            new[tuple(out)] += n
        words = new
    return merges


def draw(n_merges):
    """Merges of random short tokens, letters first."""
    rng = random.Random(5)
    left = list("abcdefghijklmnopqrstuvwxyz" * 8) + list(byte_table().values())
    right = left + [c + "</w>" for c in left]
    known, merges = set(left) | set(right), []
    while len(merges) < n_merges:
        a, b = rng.choice(left), rng.choice(right)
        if a + b in known or len(a + b) > 14:
            continue
        known.add(a + b)
        merges.append((a, b))
        right.append(a + b)
        if not b.endswith("</w>"):
            left.append(a + b)
    return merges


def write_vocabulary(folder, merges):
    table = byte_table()
    base = [table[b] for b in sorted(table, key=lambda b: ord(table[b]))]
    tokens = base + [t + "</w>" for t in base] + ["".join(m) for m in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    assert len(tokens) == len(set(tokens))
    os.makedirs(folder, exist_ok=True)
    vocab, lines = os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt")
    with open(vocab, "w") as f:
        json.dump({t: i for i, t in enumerate(tokens)}, f)
    with open(lines, "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    transformers.CLIPTokenizer(vocab, lines, model_max_length=77).save_pretrained(folder)
    if os.path.exists(os.path.join(folder, "added_tokens.json")):
        os.remove(os.path.join(folder, "added_tokens.json"))


# ---- golden ids

def shown(text):
    """Readable in an editor: what is no visible character is written by number."""
    def one(c):
        if c in "\\\t\n\r":
            return {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}[c]
        hidden = unicodedata.category(c)[0] in "CZ" and c != " "
        return "\\u{%X}" % ord(c) if hidden else c
    return "".join(map(one, text))


def write_golden(folder):
    slow = transformers.CLIPTokenizer.from_pretrained(folder)
    fast = transformers.CLIPTokenizerFast.from_pretrained(folder)
    assert slow.fix_text is None, "with ftfy: another tokenizer"
    lines, alike = [], 0
    for text, times in prompts():
        options = {"padding": "max_length", "max_length": 77, "truncation": True}
        ids = slow(text * times, **options).input_ids
        alike += ids == fast(text * times, **options).input_ids
        while len(ids) > 1 and ids[-2:] == [slow.pad_token_id] * 2:
            ids = ids[:-1]
        lines.append("%s\t%d\t%s\n" % (shown(text), times, " ".join(map(str, ids))))
    with open(os.path.join(folder, "golden.tsv"), "w", encoding="utf-8", newline="\n") as f:
        f.write("# %d prompts; CLIPTokenizer of transformers %s; %d of them alike by CLIPTokenizerFast (tokenizers %s); "
                "Unicode %s; by tests/format/make_tokenizer_golden.py\n"
                % (len(lines), transformers.__version__, alike, tokenizers_version, unicodedata.unidata_version))
        f.writelines(lines)
    print("%s: %d prompts, %d alike by the fast one" % (folder, len(lines), alike))


def main():
    transformers.logging.set_verbosity_error()
    arguments = sys.argv[1:]
    if arguments[:1] == ["--large"]:
        write_vocabulary(arguments[1], draw(49408 - 2 - 512))
    elif not arguments:
        write_vocabulary(HERE, train(300))
    write_golden(arguments[-1] if arguments else HERE)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes tests/format/tokenizer (a small CLIP vocabulary) and golden.tsv (ids by transformers).

    pip install transformers==4.39.3
    python3 tests/format/make_tokenizer_golden.py

golden.tsv: a line per text: the text (\\n, \\t escaped), a tab, its ids with spaces.
Without ftfy, transformers puts spaces around CJK characters, which the original CLIP does not; such
characters therefore stand between spaces here.
"""
import collections
import json
import os
import sys

import transformers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
CORPUS = """a photo of a skin lesion with an irregular border. an ultrasound image of a benign breast
tumour, malignant tissue, thyroid nodule; the patient's image wasn't there, they're dark, we've seen it
and I'll say he'd go, I'm sure. dermoscopy of melanoma on healthy skin, high quality medical photograph
texture of dead leaves, noise, stripes, dots, red green blue gray white black bright dark soft sharp"""
TEXTS = [
    "", "a", "a photo of a lesion", "An Ultrasound  image,\tof a BENIGN tumour.",
    "the patient's skin wasn't healthy; they're dark, we've I'll he'd I'm", "'s 'stop can't''t",
    "1234 and 5x5 mm at 3.5%", "hello!!! ...what?! (x) [y] {z} #1 @home a_b c-d e/f \\ | ~ ` ^",
    "line one\nline two\r\nline three", "caf\u00e9 na\u00efve \u00dcBER stra\u00dfe \u00c5ngstr\u00f6m",
    "\u03b1\u03b2\u03b3 \u0394elta \u043f\u0440\u0418\u0432\u0435\u0422 \u05e9\u05dc\u05d5\u05dd",
    "\u76ae \u819a photo", "\u00bd \u00b2 \u0663 \u2167 5\u00b5m", "emoji \U0001f600 done \u2013 dash \u201cq\u201d",
    "<|startoftext|>a lesion<|endoftext|>", "x<|endoftext|>y !<|endoftext|>! <|EndOfText|>",
    "supercalifragilisticexpialidocious", "aaaaaaaaaaaaaaaa bbbbbbbb abababab",
    "no\u00a0break\u2003em\u3000ideographic", " ".join("melanoma lesion %d" % i for i in range(40)),
    "word " * 75, "word " * 76, "lesion", "lesion lesion", "<|endoftext|>", "a<b>c|d",
    "\u0130stanbul".replace("\u0130", "I"), "\ua64a\u0521 \u1e9e\u01c5",
]


def byte_table():
    plain = list(range(33, 127)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def train(n_merges):
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
    base = [table[b] for b in sorted(table, key=lambda b: ord(table[b]))]
    tokens = base + [t + "</w>" for t in base] + ["".join(m) for m in merges]
    return merges, tokens + ["<|startoftext|>", "<|endoftext|>"]


merges, tokens = train(180)
assert len(tokens) == len(set(tokens))
os.makedirs(HERE, exist_ok=True)
json.dump({t: i for i, t in enumerate(tokens)}, open(os.path.join(HERE, "vocab.json"), "w"))
with open(os.path.join(HERE, "merges.txt"), "w", encoding="utf-8") as f:
    f.write("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
tok = transformers.CLIPTokenizer(os.path.join(HERE, "vocab.json"), os.path.join(HERE, "merges.txt"),
                                 model_max_length=77)
tok.save_pretrained(HERE)
if os.path.exists(os.path.join(HERE, "added_tokens.json")):
    os.remove(os.path.join(HERE, "added_tokens.json"))
tok = transformers.CLIPTokenizer.from_pretrained(HERE)
with open(os.path.join(HERE, "golden.tsv"), "w", encoding="utf-8", newline="\n") as f:
    f.write(f"# transformers {transformers.__version__}, Python {sys.version.split()[0]}, "
            "made by tests/format/make_tokenizer_golden.py\n")
    for text in TEXTS:
        ids = tok(text, padding="max_length", max_length=77, truncation=True).input_ids
        shown = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
        f.write(shown + "\t" + " ".join(map(str, ids)) + "\n")

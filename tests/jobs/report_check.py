"""Looks at a page of report.py: report_check.py PAGE [--has TEXT] [--hasnot TEXT] [--count TEXT N] [--most BYTES]
[--pictures N] checks that it is well formed HTML, complete, and asks nothing of the network.
--probe FILE WIDTH writes the page once more, with a script that tries the switches and measures, and a page around it
(FILE.frame.html) that shows it in a window of that width, whatever a browser thinks of small windows, and says in
data-probe what came out."""
import argparse
import base64
import hashlib
import os
import re
import sys
from html.parser import HTMLParser

VOID = {"meta", "img", "input", "br", "hr", "link"}
SECTIONS = ("pairs", "nearest", "journeys", "repair", "training", "similarity", "alignment", "rejected", "set",
            "masks", "data", "course", "origin", "config")
KNOWN = {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "section", "nav", "div", "p",
         "ul", "li", "a", "h1", "h2", "h3", "span", "b", "code", "pre", "label", "input", "select", "option", "button", "img",
         "figure", "figcaption", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "dialog",
         "script", "svg", "path", "line", "rect", "text", "polyline"}

PROBE = """addEventListener("load", () => {
const fail = (what) => { parent.postMessage(what, "*"); throw new Error(what); };
addEventListener("error", (e) => parent.postMessage("error: " + e.message, "*"));
const root = document.documentElement;
if (root.dataset.ready !== "yes" || root.dataset.error) fail("the page's script");
const beyond = () => [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1);
const measure = (when) => {
  if (root.scrollWidth > innerWidth)
    fail(when + " " + root.scrollWidth + " of " + innerWidth + ": " + beyond().slice(0, 3).map((e) => e.outerHTML.slice(0, 60)));
};
measure("wide");
for (const box of document.querySelectorAll("input[data-shows]")) {
  const kind = box.dataset.shows === "near" ? ".near" : ".lines ." + box.dataset.shows;
  const all = () => [...document.querySelectorAll(kind)];
  for (const on of [true, false]) {
    if (box.checked !== on) box.click();
    if (all().some((e) => (getComputedStyle(e).display !== "none") !== on)) fail(box.dataset.shows + " " + on);
  }
}
const order = document.querySelector("#order");
if (order) {
  const slots = () => [...document.querySelectorAll("#pairs-grid > *")].map((e) => Number(e.dataset.slot));
  const was = slots();
  order.value = "similarity";
  order.dispatchEvent(new Event("change"));
  const cards = [...document.querySelectorAll("#pairs-grid > *")].map((e) => Number(e.dataset.similarity));
  if (cards.some((v, i) => i && v > cards[i - 1])) fail("order " + cards);
  order.value = "slot";
  order.dispatchEvent(new Event("change"));
  if (String(slots()) !== String(was)) fail("order back");
}
const enlarge = document.querySelector("button.enlarge"), dialog = document.querySelector("dialog");
if (enlarge) {
  enlarge.click();
  if (!dialog.open || !dialog.querySelector("img")) fail("dialog");
  dialog.querySelector("button").click();
  if (dialog.open) fail("dialog stays");
}
for (const img of document.images) if (!img.complete || !img.naturalWidth) fail("broken picture " + img.alt);
for (const d of document.querySelectorAll("details")) d.open = true;
measure("wide when unfolded");
parent.postMessage("ok " + innerWidth, "*");
});"""

FRAME = """<!DOCTYPE html><html><body><script>
addEventListener("message", (e) => { document.documentElement.dataset.probe ??= e.data; });
</script><iframe src="%s" width="%d" height="900" style="border: 0"></iframe></body></html>
"""


class Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.faults, self.ids, self.links, self.heads = [], [], [], [], []
        self.text, self.pictures, self.policy, self.code = [], 0, "", {"style": "", "script": ""}

    def fault(self, what):
        self.faults.append(f"line {self.getpos()[0]}: {what}")

    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        if tag not in KNOWN:
            self.fault(f"<{tag}>, which report.py writes nowhere")
        if len(a) != len(attributes):
            self.fault(f"<{tag}> with an attribute twice")
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)
        for name, value in attributes:
            if name.startswith("on") or name == "style":
                self.fault(f"<{tag} {name}>")
            if name in ("src", "href", "action", "srcset", "poster", "data") and not re.match("data:image/|#", value):
                self.fault(f"<{tag} {name}={value[:40]!r}> leads away")
        if tag == "a":
            self.links.append(a.get("href", "")[1:])
        if "id" in a:
            self.ids.append(a["id"])
        if tag == "img":
            self.pictures += 1
            if not a.get("alt") or not a.get("width") or not a.get("height"):
                self.fault("a picture without alt, width or height")
        if tag == "svg" and a.get("aria-hidden") != "true" and not a.get("aria-label"):
            self.fault("a chart without a label")
        if re.fullmatch("h[1-6]", tag):
            self.heads.append(int(tag[1]))
        if a.get("http-equiv") == "Content-Security-Policy":
            self.policy = a["content"]

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.fault(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if self.open and self.open[-1] in self.code:
            self.code[self.open[-1]] += data
        else:
            self.text.append(data)


def look(source, given):
    page = Page()
    page.feed(source)
    page.close()
    faults = page.faults
    if page.open:
        faults.append(f"not closed: {page.open}")
    if len(set(page.ids)) != len(page.ids):
        faults.append("an id twice")
    faults += [f"no section {s}" for s in SECTIONS if s not in page.ids]
    faults += [f"#{link} leads nowhere" for link in page.links if link not in page.ids]
    if page.heads.count(1) != 1 or any(b > a + 1 for a, b in zip(page.heads, page.heads[1:])):
        faults.append(f"headings {page.heads}")
    for kind, code in page.code.items():
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        if f"'sha256-{digest}'" not in page.policy:
            faults.append(f"the policy does not know the page's own {kind}")
    code = "".join(page.code.values())
    if "default-src 'none'" not in page.policy or re.search(r"url\(|@import|https?:|fetch\(|XMLHttp", code):
        faults.append("something could be fetched")
    text = "".join(page.text)
    faults += [f"no {t!r}" for t in given.has if t not in text]
    faults += [f"there is {t!r}" for t in given.hasnot if t in text]
    faults += [f"{source.count(t)} times {t!r}, wanted {n}" for t, n in given.count if source.count(t) != int(n)]
    if len(source.encode()) > given.most:
        faults.append(f"{len(source.encode())} bytes, at most {given.most} wanted")
    if page.pictures < given.pictures:
        faults.append(f"{page.pictures} pictures, at least {given.pictures} wanted")
    return faults


def main():
    usage = argparse.ArgumentParser()
    usage.add_argument("page")
    usage.add_argument("--has", action="append", default=[])
    usage.add_argument("--hasnot", action="append", default=[])
    usage.add_argument("--count", action="append", default=[], nargs=2)
    usage.add_argument("--most", type=int, default=3000000)
    usage.add_argument("--pictures", type=int, default=0)
    usage.add_argument("--probe", nargs=2)
    given = usage.parse_args()
    with open(given.page, encoding="utf-8") as f:
        source = f.read()
    if given.probe:
        bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
        name, width = given.probe
        with open(name, "w", encoding="utf-8") as f:
            f.write(bare.replace("</body>", f"<script>{PROBE}</script></body>"))
        with open(name + ".frame.html", "w", encoding="utf-8") as f:
            f.write(FRAME % (os.path.basename(name), int(width)))
        return 0
    faults = look(source, given)
    print("\n".join(faults[:20]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""Give every page a Content-Security-Policy: it runs its own scripts, and asks no other site for anything.

A static host sends no headers of ours, so the policy is a `meta` element, the first after the encoding. It names the
page's inline scripts and styles by their SHA-256; whatever is not of this book is refused, wherever it came from.
"""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

ENCODING = re.compile('<meta charset="utf-8"(?: /)?>')


class Inline(HTMLParser):
    """The scripts, styles and event handlers that stand in a page itself."""

    def __init__(self, page):
        super().__init__()
        self.found = {"script": [], "style": [], "handler": []}
        self.inside = None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.found["handler"] += [value for name, value in attributes.items() if name.startswith("on")]
        data = attributes.get("type", "module") not in ("module", "text/javascript")    # a live figure's parts
        if tag == "style" or tag == "script" and "src" not in attributes and not data:
            self.inside = self.found[tag]
            self.inside.append("")

    def handle_data(self, data):
        if self.inside is not None:
            self.inside[-1] += data

    def handle_endtag(self, tag):
        self.inside = None


def hashes(texts):
    return sorted({f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in texts})


def policy(inline, styles, handlers):
    return "; ".join([
        "default-src 'none'",
        " ".join([
            "script-src 'self'",
            "'wasm-unsafe-eval'",    # live figures compile a WebAssembly kernel from bytes; `eval` stays forbidden
            *hashes(inline.found["script"]),
            "'unsafe-hashes'",       # the theme's buttons for print and full screen have `onclick`: these, and no other
            *hashes(handlers),
        ]),
        " ".join(["style-src 'self'", *hashes(styles)]),
        "style-src-attr 'unsafe-inline'",    # KaTeX places what it sets by `style` attributes, thousands of them
        "img-src 'self' data:",              # the icons in icons.css
        "font-src 'self'",
        "connect-src 'self'",                # the search page reads the pages that it found, to quote them
        "form-action 'self'",                # the search field
        "base-uri 'none'",
    ])  # fmt: skip


def add_policies(app, exception):
    if exception or app.builder.format != "html":
        return
    pages = {path: path.read_text(encoding="utf-8") for path in Path(app.outdir).rglob("*.html")}
    inline = {path: Inline(page) for path, page in pages.items() if ENCODING.search(page)}
    # Every page's styles and handlers on each: the search page parses the pages that it found, under its own policy.
    everywhere = [[text for one in inline.values() for text in one.found[kind]] for kind in ("style", "handler")]
    for path, found in inline.items():
        meta = f'<meta http-equiv="Content-Security-Policy" content="{policy(found, *everywhere)}" />'
        page = re.sub(r'\s*<meta http-equiv="Content-Security-Policy"[^>]*>', "", pages[path], count=1)
        page = ENCODING.sub(lambda encoding: f"{encoding[0]}\n    {meta}", page, count=1)
        path.write_text(page, encoding="utf-8", newline="\n")


def setup(app):
    app.connect("build-finished", add_policies)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Take out of a page what it needs only when it has been shown: the models of its live figures, and pictures within it.

In a notebook a figure is one piece of HTML with everything in it. On a page that would hold up the text, on a phone by
seconds. So models and pictures lie in files beside the pages, in `_figures`, and a figure asks for its model once the page
has been shown (`modelOf` in helpers/live/figure.mjs). Models are scripts, since a page that was opened from the disk may load
nothing else. What several figures of a page have in common, style and runtime, stands in it once.
"""

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import imagesize

FOLDER = "_figures"
STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
MODULE = re.compile(r'<script type="module">(.*?)((?:mountAll\("\w+"\);)+)</script>', re.DOTALL)
MODEL = re.compile(r'data-live="(\w+)"((?:(?!</figure>).)*?data-part="model")>([^<]+)<', re.DOTALL)
PICTURE = re.compile(r'<img ([^>]*)src="data:image/(\w+);base64,([^"]+)"([^>]*)>')


class Files:
    """What is written beside the pages; each text or picture once, under a name that says what is in it."""

    def __init__(self, folder, address):
        self.folder, self.address = Path(folder), address

    def add(self, name, data):
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(data)
        return self.address(f"{FOLDER}/{name}")

    def model(self, found):
        key, between, text = found.groups()
        parts = f"document.querySelectorAll('[data-live=\"{key}\"] [data-part=model]')"
        script = f"for (const part of {parts}) part.textContent = {json.dumps(text)};"
        return f'data-live="{key}"{between} data-src="{self.add(f"{key}.js", script.encode())}"><'

    def picture(self, found):
        before, kind, encoded, after = found.groups()
        data = base64.b64decode(encoded)
        address = self.add(f"{hashlib.sha256(data).hexdigest()[:16]}.{kind}", data)
        width, height = imagesize.get(io.BytesIO(data))
        size = "" if "width=" in before + after else f' style="width: {width}px; aspect-ratio: {width} / {height}"'
        return f'<img loading="lazy" {before}src="{address}"{size}{after}>'    # Firefox reads `loading` before `src` only


def shared(body):
    """The page with the runtime of its figures once, in the last row, and no style twice."""
    rows = MODULE.findall(body)
    calls = "".join(dict.fromkeys(call for _, row in rows for call in re.findall(r"mountAll\(.*?\);", row)))
    left = len(rows)

    def last(found):
        nonlocal left
        left -= 1
        return "" if left else f'<script type="module">{found[1]}{calls}</script>'

    seen = set()
    first = lambda style: "" if style[0] in seen or seen.add(style[0]) else style[0]
    return STYLE.sub(first, MODULE.sub(last, body))


def defer(app, pagename, templatename, context, doctree):
    if "body" in context:
        files = Files(Path(app.outdir, FOLDER), lambda path: context["pathto"](path, 1))
        body = MODEL.sub(files.model, shared(context["body"]))
        context["body"] = PICTURE.sub(files.picture, body)


def setup(app):
    app.connect("html-page-context", defer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

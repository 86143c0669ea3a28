"""Give the live figures stored in notebooks today's runtime and style: `python tools/renew.py book/*.ipynb`.

After a change in `helpers/live/*.mjs` or `live.css` nothing needs to be trained again: what a figure shows, its model
and its description, stays as it was executed. After a change in what is exported, run `make execute` instead.
"""

import re
import sys
from pathlib import Path

import nbformat

ROW = re.compile(
    r'(?P<head><div class="live-row">\n<style>)[^<]*(?P<figures></style>\n<figure.*?\n<script type="module">).*?'
    r'(?P<calls>(?:mountAll\("\w+"\);)+</script>\n</div>)',
    re.DOTALL,
)


def renew(html):
    """HTML with the runtime and the style of every row of live figures replaced by those of `helpers.live`."""
    from helpers.live.figure import _runtime, _style

    return ROW.sub(lambda row: row["head"] + _style() + row["figures"] + _runtime() + row["calls"], html)


def renew_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = renew(output.data["text/html"])
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        renew_notebook(Path(argument))

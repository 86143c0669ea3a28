"""Leave out of every page what the theme loads and the page does not need, and let no script hold up the text.

- Font Awesome, as a script (1.5 MB) and as fonts (340 kB): `_static/icons.css` draws the few that are in use.
- Sphinx's search index and search code: only the search page uses them.
- The theme's own measuring of every code box, at the start and again whenever something changes: it lays out each section of
  a chapter, also those far off. `accessible_html.py` measures what this book has, where it is on the screen.

Scripts are deferred, in their order: they run when the page has been read. One that others need at once is not, and none on
the search page, whose own text calls them.
"""

import re
from pathlib import Path

from sphinx.util import logging

ICONS = r'<(?:script|link) [^>]*/vendor/fontawesome/[^>]*>(?:</script>)?'
SEARCH = r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^>]*></script>'
SPY = ' data-bs-spy="scroll"'    # accessible_html.py begins with that, later
PRELOAD = r'<link rel="preload" as="script" [^>]*>'
SCRIPT = re.compile(r'<script (?=[^>]*src=)(?![^>]*(?:documentation_options|defer))')
MEASURING = re.compile(r'"complete"===document\.readyState\?(\w)\(\):window\.addEventListener\("load",\1\)')
INSTEAD = "0/* accessible_html.py measures */"


def add_filter(app, pagename, templatename, context, doctree):
    searches = pagename == "search"
    unused = re.compile("|".join([ICONS, PRELOAD, SPY, *([] if searches else [SEARCH])]))
    context["lean"] = lambda html: SCRIPT.sub("<script " if searches else "<script defer ", unused.sub("", html))


def stop_measuring(app, exception):
    if exception or app.builder.format != "html":
        return
    path = Path(app.outdir, "_static", "scripts", "pydata-sphinx-theme.js")
    script, found = MEASURING.subn(INSTEAD, path.read_text(encoding="utf-8"))
    if found != 1 and INSTEAD not in script:    # a second build finds what the first has left
        logging.getLogger(__name__).warning("the theme measures code boxes in another way: look at %s", path.name)
    path.write_text(script, encoding="utf-8", newline="\n")


def setup(app):
    app.add_css_file("icons.css")
    app.connect("html-page-context", add_filter)
    app.connect("build-finished", stop_measuring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

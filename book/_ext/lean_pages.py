"""Leave out of every page what the theme loads and the page does not need.

- Font Awesome, as a script (1.5 MB) and as fonts (340 kB): `_static/icons.css` draws the few that are in use.
- Sphinx's search index and search code: only the search page uses them.
"""

import re

ICONS = r'<(?:script|link) [^>]*/vendor/fontawesome/[^>]*>(?:</script>)?'
SEARCH = r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^>]*></script>'


def add_filter(app, pagename, templatename, context, doctree):
    unused = re.compile(ICONS if pagename == "search" else f"{ICONS}|{SEARCH}")
    context["lean"] = lambda html: unused.sub("", html)


def setup(app):
    app.add_css_file("icons.css")
    app.connect("html-page-context", add_filter)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

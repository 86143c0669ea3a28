"""Mend what others write into the pages and what a screen reader or a keyboard stumbles over."""

# Of docutils: ARIA has withdrawn the role.
REPAIRS = {'role="doc-biblioentry"': 'role="listitem"'}

# The keyboard reaches a table or a formula where it is too wide and scrolls, and skips it where it fits.
SCROLLERS = """
for (const event of ["load", "resize"])
  addEventListener(event, () => {
    for (const box of document.querySelectorAll(".formula, .pst-scrollable-table-container"))
      box.scrollWidth > box.clientWidth ? box.tabIndex = 0 : box.removeAttribute("tabindex");
  });
"""


def repair(app, pagename, templatename, context, doctree):
    for old, new in REPAIRS.items():
        if "body" in context:
            context["body"] = context["body"].replace(old, new)


def setup(app):
    app.add_js_file(None, body=SCROLLERS)
    app.connect("html-page-context", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

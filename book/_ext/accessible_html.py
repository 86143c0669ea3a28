"""Mend what others write into the pages and what a screen reader or a keyboard stumbles over."""

# Of docutils: ARIA has withdrawn the role.
REPAIRS = {'role="doc-biblioentry"': 'role="listitem"'}

# The keyboard reaches code, a table or a formula where it is too wide and scrolls, and skips it where it fits, also
# when an answer is opened and its boxes get a size. On paper answers are open, and colours are the light ones.
SCRIPT = """
addEventListener("DOMContentLoaded", () => {
  const reach = new ResizeObserver((boxes) => {
    for (const { target } of boxes)
      target.scrollWidth > target.clientWidth ? target.tabIndex = 0 : target.removeAttribute("tabindex");
  });
  for (const box of document.querySelectorAll(".formula, .pst-scrollable-table-container, .bd-article pre"))
    reach.observe(box);
});
{
  const { dataset } = document.documentElement;
  let theme, opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll(".bd-article details:not([open])")];
    [theme, dataset.theme] = [dataset.theme, "light"];
    for (const answer of opened) answer.open = true;
  });
  addEventListener("afterprint", () => {
    dataset.theme = theme;
    for (const answer of opened) answer.open = false;
  });
}
"""


def repair(app, pagename, templatename, context, doctree):
    for old, new in REPAIRS.items():
        if "body" in context:
            context["body"] = context["body"].replace(old, new)


def setup(app):
    app.add_js_file(None, body=SCRIPT)
    app.connect("html-page-context", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

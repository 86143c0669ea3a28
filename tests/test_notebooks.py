"""What every stored chapter must have. The checks are tried on a good notebook and on one broken for each of them."""

import copy
import re
from functools import cache

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
LONGEST_CELL = 25            # lines
LARGEST_FILE = 1_000_000     # bytes


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def start(cell):
    return repr(cell.source[:60])


def execution_problems(notebook):
    """Executed from top to bottom in one go, without an error."""
    cells = [cell for cell in code_cells(notebook) if cell.source.strip()]
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        yield "the cells have not been executed once each, in order: run `make execute`"
    if cells and not any(cell.outputs for cell in cells):
        yield "no cell has an output"
    for cell in cells:
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"{start(cell)} holds an error"


def noise_problems(notebook):
    """What a machine says about itself does not belong on a page."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                yield f"{start(cell)} wrote to stderr: {output.text[:60]!r}"
            if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
                yield f"{start(cell)} stores an ipywidget, which the page cannot run"


def html_figures(notebook, kind):
    """Live figures or animations, each with its cell."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for figure in BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser").select(f"figure.{kind}"):
                yield cell, figure


def size_problems(notebook):
    if (size := len(nbformat.writes(notebook).encode())) > LARGEST_FILE:
        yield f"{size / 1e6:.1f} MB is more than {LARGEST_FILE / 1e6:.0f} MB"
    for cell in code_cells(notebook):
        if (lines := len(cell.source.splitlines())) > LONGEST_CELL:
            yield f"{start(cell)} has {lines} lines, more than {LONGEST_CELL}"


def words_problems(words, caption):
    """What stands in place of a picture says what is to be seen, in a sentence, and is not the caption again."""
    words, caption = words.strip(), caption.strip()
    if len(words.split()) < 5 or not words.endswith("."):
        yield "is no sentence"
    if re.match(r"(?:an? |the )?(?:image|picture|figure|photo|plot)\b", words, re.IGNORECASE):
        yield "says that it is a picture, not what is in it"
    if re.search(r"\w_\w|\.(?:png|svg|webp|jpe?g)\b", words):
        yield "is a file name"
    if words.rstrip(".").casefold() in caption.casefold():
        yield "repeats the caption"


def figure_problems(notebook):
    """A picture has a caption and words for those who cannot see it; so have a live figure and an animation, with a still."""
    for cell in code_cells(notebook):
        options = cell.metadata.get("mystnb", {})
        for output in cell.outputs:
            data = output.get("data", {})
            if any(mime.startswith("image/") for mime in data):
                words, caption = options.get("image", {}).get("alt", ""), options.get("figure", {}).get("caption", "")
                if not words.strip():
                    yield f"{start(cell)} has a picture without alt text (cell metadata mystnb.image.alt)"
                if not caption.strip():
                    yield f"{start(cell)} has a picture without a caption (cell metadata mystnb.figure.caption)"
                yield from (f"{start(cell)}: the alt text {problem}" for problem in words_problems(words, caption))
    for kind, still in (("live", "img[src]"), ("animation", "img.still[src]")):
        for cell, figure in html_figures(notebook, kind):
            if not (caption := figure.find("figcaption")) or not caption.text.strip():
                yield f"{start(cell)} has a figure ({kind}) without a caption"
            if not (picture := figure.select_one(still)) or not (words := picture.get("alt", "").strip()):
                yield f"{start(cell)} has a figure ({kind}) without a still image and its alt text"
            elif caption:
                yield from (f"{start(cell)}: the alt text {problem}" for problem in words_problems(words, caption.text))


def live_problems(notebook):
    """A live figure brings the runtime and the style of today, and fetches nothing."""
    from helpers.live.figure import _runtime, _style

    for cell, figure in html_figures(notebook, "live"):
        row = figure.find_parent("div", class_="live-row") or figure
        script, style = row.select_one("script[type=module]"), row.find("style")
        keys = dict.fromkeys(one.get("data-live") for one in row.select("figure.live"))
        current = (_runtime() + "".join(f'mountAll("{key}");' for key in keys), _style())
        if (script and script.string, style and style.string) != current:
            yield f"{start(cell)} stores a live figure with another runtime or style than helpers.live: run make renew"
        if address := re.search(r"https?://(?!www\.w3\.org/2000/svg\b)[^\s\"'<]*", str(row)):
            yield f"{start(cell)} has a live figure that refers to {address[0]}"


def part_problems(notebook):
    """The parts of a chapter, as a reader meets them."""
    source = text(notebook)
    first = next(cell for cell in notebook.cells if cell.get("id") != "macros")
    if not re.match(r"\([a-z0-9-]+\)=\n# \S", first.source):
        yield "the first cell does not start with a label and the title"
    for part in ("You will learn", "You need", "Time"):
        if part not in source:
            yield f"the opening box does not say {part!r}"
    if "google.colab" not in "".join(cell.source for cell in code_cells(notebook)[:1]):
        yield "the first code cell is not the setup cell for Colab"
    exercises = re.findall(r"\{exercise(?:-start)?\}.*?:label: (\S+)", source, re.DOTALL)
    solutions = re.findall(r"\{solution(?:-start)?\} (\S+)", source)
    if not 3 <= len(exercises) <= 5:
        yield f"{len(exercises)} exercises, not 3 to 5"
    if sorted(exercises) != sorted(solutions):
        yield f"exercises {sorted(exercises)} and solutions {sorted(solutions)} do not match"
    if (questions := len(re.findall(r"\{dropdown\}|<summary>", source))) < 3:
        yield f"{questions} quiz questions with an answer to open, not three"
    if not re.search(r"^## Summary$", source, re.MULTILINE):
        yield "no section `## Summary`"


CHECKS = (execution_problems, noise_problems, size_problems, figure_problems, live_problems, part_problems)


def problems(notebook):
    return [problem for check in CHECKS for problem in check(notebook)]


def test_every_chapter_is_in_the_contents_and_on_the_map():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    listed = [chapter["file"] for part in contents for chapter in part["chapters"] if re.search(r"/\d\d_", chapter["file"])]
    assert listed == [f"book/{path.stem}" for path in CHAPTERS] != []
    introduction = (ROOT / "book" / "intro.md").read_text()
    for path in CHAPTERS:
        label = re.search(r"^\((.*)\)=$", text(nbformat.read(path, as_version=4)), re.MULTILINE)[1]
        assert f"| {int(path.stem[:2])} | {{ref}}`{label}` |" in introduction, f"the map in book/intro.md lacks {path.name}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_is_complete(path):
    found = problems(nbformat.read(path, as_version=4))
    assert not found, f"{path.name} is not complete:\n" + "\n".join(f"- {problem}" for problem in found)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_is_stored_as_make_execute_would(path):
    """No times, no versions and no user in the file; so running it again changes nothing but what the code prints."""
    from execute import clean

    stored = nbformat.read(path, as_version=4)
    cleaned = copy.deepcopy(stored)
    clean(cleaned)
    assert cleaned == stored


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_equations_that_code_names_exist(path):
    """A comment such as `# eq. (2.5)` cannot be a link; at least the chapter has that many numbered equations."""
    notebook = nbformat.read(path, as_version=4)
    labels = re.findall(r"\{math\}\n:label: (\S+)", text(notebook))
    numbers = {f"{int(path.stem[:2])}.{n}" for n in range(1, len(labels) + 1)}
    named = re.findall(r"# eqs?\. \(([\d.]+)\)", "\n".join(cell.source for cell in code_cells(notebook)))
    assert set(named) <= numbers


# The checks themselves.

@cache
def live_figure():
    """As `LiveFigure.html` writes it, around an empty picture and no model."""
    from helpers.live.figure import _runtime, _style

    return (
        f'<div class="live-row"><style>{_style()}</style><figure class="live" data-live="0a1b">'
        f'<img src="data:image/png;base64," alt="Codes of digits on a plane."><figcaption>Drag the point.</figcaption></figure>'
        f'<script type="module">{_runtime()}mountAll("0a1b");</script></div>'
    )


def good_notebook():
    exercises = "\n".join(
        f"```{{exercise}}\n:label: ex-{n}\nTry.\n```\n```{{solution}} ex-{n}\n:class: dropdown\nSo.\n```" for n in (1, 2, 3)
    )
    picture = new_output("display_data", {"image/png": "", "text/plain": "<Figure>"})
    live = new_output("execute_result", {"text/html": live_figure()}, execution_count=3)
    moving = '<figure class="animation"><img class="still" src="data:," alt="A grey square that grows darker."><figcaption>It darkens.</figcaption></figure>'
    moving = new_output("execute_result", {"text/html": moving}, execution_count=4)
    return new_notebook(cells=[
        new_markdown_cell("(a-topic)=\n# A topic\n\n**You will learn** much. **You need** little. **Time** short."),
        new_code_cell('if "google.colab" in sys.modules:\n    pass', execution_count=1),
        new_code_cell("plot()", execution_count=2, outputs=[picture],
                      metadata={"mystnb": {"image": {"alt": "A curve that falls and levels off."}, "figure": {"caption": "The loss."}}}),
        new_code_cell("explorer", execution_count=3, outputs=[live]),
        new_code_cell("animation", execution_count=4, outputs=[moving]),
        new_markdown_cell(exercises + "\n" + "```{dropdown} Why?\nSo.\n```\n" * 3 + "\n## Summary\n\nDone."),
    ])


def break_text(old, new):
    def breaker(notebook):
        assert any(old in cell.source for cell in notebook.cells)
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new)

    return breaker


def break_output(index, **changes):
    return lambda notebook: notebook.cells[index].outputs[0].update(changes)


def break_html(index, old, new):
    def breaker(notebook):
        data = notebook.cells[index].outputs[0].data
        assert old in data["text/html"]
        data["text/html"] = data["text/html"].replace(old, new)

    return breaker


BREAKERS = {
    "have not been executed": lambda nb: nb.cells[2].update(execution_count=None),
    "in order": lambda nb: (nb.cells[2].update(execution_count=3), nb.cells[3].update(execution_count=2)),
    "no cell has an output": lambda nb: [cell.update(outputs=[]) for cell in code_cells(nb)],
    "holds an error": lambda nb: nb.cells[3].outputs.append(new_output("error", ename="ValueError", evalue="", traceback=[])),
    "wrote to stderr": lambda nb: nb.cells[3].outputs.append(new_output("stream", name="stderr", text="oneDNN is on")),
    "stores an ipywidget": break_output(3, data={"application/vnd.jupyter.widget-view+json": {}}),
    "is more than 1 MB": lambda nb: nb.cells[2].outputs[0].data.update({"image/png": "A" * 1_100_000}),
    "lines, more than 25": lambda nb: nb.cells[2].update(source="x = 1\n" * 26),
    "picture without alt text": lambda nb: nb.cells[2].metadata.mystnb.pop("image"),
    "picture without a caption": lambda nb: nb.cells[2].metadata.mystnb.pop("figure"),
    "is no sentence": lambda nb: nb.cells[2].metadata.mystnb.image.update(alt="A curve."),
    "not what is in it": lambda nb: nb.cells[2].metadata.mystnb.image.update(alt="A picture of a curve that falls."),
    "is a file name": break_html(3, "Codes of digits on a plane.", "The codes of digits, see latent_plane.png."),
    "repeats the caption": break_html(4, "It darkens.", "A grey square that grows darker. Press Pause."),
    "figure (live) without a caption": break_html(3, "Drag the point.", ""),
    "figure (live) without a still image": break_html(3, "Codes of digits on a plane.", ""),
    "another runtime": break_html(3, 'mountAll("0a1b")', 'mountAll("2c3d")'),
    "or style": break_html(3, "<style>", "<style>p {}"),
    "refers to https://example.org/a.js": break_html(3, "Drag", "<script src='https://example.org/a.js'></script>Drag"),
    "figure (animation) without a caption": break_html(4, "It darkens.", ""),
    "figure (animation) without a still image": break_html(4, "A grey square that grows darker.", ""),
    "a label and the title": break_text("(a-topic)=\n", ""),
    "does not say 'You need'": break_text("You need", ""),
    "setup cell for Colab": break_text("google.colab", "colab"),
    "exercises, not 3 to 5": break_text("```{exercise}\n:label: ex-3", "```{note}\n"),
    "do not match": break_text("```{solution} ex-2", "```{solution} ex-9"),
    "quiz questions": break_text("{dropdown}", "{note}"),
    "no section `## Summary`": break_text("## Summary", "Summary"),
}


def test_checks_accept_a_good_notebook():
    assert problems(good_notebook()) == []


@pytest.mark.parametrize("message", BREAKERS)
def test_checks_find(message):
    notebook = good_notebook()
    BREAKERS[message](notebook)
    assert message in "\n".join(problems(notebook))


def test_execute_names_the_macros_in_use():
    """JupyterLab learns them from the first cell; a second run changes nothing, and a macro no longer used goes."""
    from execute import CONFIG, name_macros

    notebook = good_notebook()
    name_macros(notebook)
    assert len(notebook.cells) == len(good_notebook().cells)

    notebook.cells[0].source += r" $\KL{q}{p}$, $\Eta$"
    for _ in range(2):
        name_macros(notebook)
        fence, *lines, end = notebook.cells[0].source.splitlines()
        assert (fence, end) == ("```yaml", "```")
        macros = CONFIG["sphinx"]["config"]["math_macros"]
        assert yaml.safe_load("\n".join(lines)) == {"math": {r"\KL": macros[r"\KL"]}}
        assert notebook.cells[0].metadata.tags == ["remove-cell"]
        assert len(notebook.cells) == len(good_notebook().cells) + 1
    assert list(part_problems(notebook)) == []

    break_text(r"\KL", "KL")(notebook)
    name_macros(notebook)
    assert len(notebook.cells) == len(good_notebook().cells)


def test_execute_makes_pictures_smaller_and_leaves_what_they_show():
    import base64
    import io

    import numpy as np
    from execute import smaller_png
    from PIL import Image

    few = np.random.default_rng(0).integers(0, 9, (40, 40, 1), dtype=np.uint8).repeat(4, 2) * 20
    few[..., 3] = 255
    shades = np.indices((80, 80)).sum(axis=0, dtype=np.uint8)[..., None].repeat(4, 2)
    shades[..., 3] = 255
    clear = np.zeros((40, 40, 4), np.uint8)    # black, but nothing of it is seen: the ground is white
    for pixels, shown, tolerance in (few, few, 0), (shades, shades, 6), (clear, 255 + 0 * clear, 0):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png", compress_level=0)
        before = base64.b64encode(buffer.getvalue()).decode()
        after = smaller_png(before)
        image = Image.open(io.BytesIO(base64.b64decode(after))).convert("RGB")
        assert len(after) < len(before) / 2
        assert np.abs(np.asarray(image, int) - shown[..., :3]).max() <= tolerance
        assert smaller_png(after) == after

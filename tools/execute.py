"""Run notebooks and store their outputs: `python tools/execute.py book/05_vae.ipynb`.

Whatever changes from run to run without meaning (times, versions, who ran it) is left out, so that a second run
on the same machine changes nothing.
"""

import base64
import io
import re
import sys
import time
from pathlib import Path

import nbformat
import yaml
from nbclient import NotebookClient
from PIL import Image

CONFIG = yaml.safe_load((Path(__file__).parent.parent / "_config.yml").read_text())

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
VOLATILE = {"collapsed", "execution", "ExecuteTime", "scrolled", "executionInfo", "outputId"}


def smaller_png(encoded):
    """The picture in 128 colours, which the eye cannot tell from more here, and in a third of the bytes."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if image.mode == "P":    # it has been here before
        return encoded
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    palette = image.quantize(128, dither=Image.Dither.NONE)
    if image.getcolors(128) is None or palette.convert("RGB").tobytes() == image.tobytes():
        image = palette
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def name_macros(notebook):
    """Tell JupyterLab the macros of `_config.yml`: it reads those of a notebook from YAML in the first cell.

    The built page leaves that cell out, and takes the macros from `_config.yml` itself.
    """
    cells = [cell for cell in notebook.cells if cell.get("id") != "macros"]
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    macros = CONFIG["sphinx"]["config"]["math_macros"]
    used = {name: latex for name, latex in macros.items() if re.search(re.escape(name) + r"(?![a-zA-Z])", prose)}
    if used:
        source = yaml.safe_dump({"math": used}, sort_keys=False, width=1000)
        metadata = {"tags": ["remove-cell"]}
        cells.insert(0, nbformat.v4.new_markdown_cell(f"```yaml\n{source}```", id="macros", metadata=metadata))
    notebook.cells = cells


def clean(notebook):
    name_macros(notebook)
    notebook.metadata.clear()
    notebook.metadata.update(METADATA)
    for cell in notebook.cells:
        for key in VOLATILE & cell.metadata.keys():
            del cell.metadata[key]
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller_png(output.data["image/png"])


def execute(path):
    start = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    clean(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    print(f"{path}: {time.perf_counter() - start:.0f} s, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        execute(Path(argument))

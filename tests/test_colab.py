"""A chapter opened in Colab: one file, no repository around it, `helpers` from where its setup cell installs them.

The stand-in for Colab is a kernel that starts in an empty folder with a module `google.colab`, and whose `%pip` takes a
wheel of this checkout in place of the one on GitHub. Colab's own versions are left to the weekly run in its image, and
to whoever has them: COLAB_PYTHON names the Python of an environment that has Colab's packages and ipykernel, and then
COLAB_CHAPTERS (all if left out) names the chapters that run in it from top to bottom.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import nbformat
import pytest
import yaml
from conftest import ROOT
from nbclient import NotebookClient

CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
PYTHON = os.environ.get("COLAB_PYTHON", sys.executable)
EVERY = " ".join(path.name[:2] for path in CHAPTERS)
TO_THE_END = os.environ.get("COLAB_CHAPTERS", "04" if PYTHON == sys.executable else EVERY).split()

# What IPython runs before the first cell: it turns the kernel into what a chapter takes for Colab, and keeps a record.
STARTUP = """
import importlib, json, sys, types, zipfile
import google                                    # protobuf has a part of it, too
from IPython import get_ipython

def record(*what):
    with open({record!r}, "a") as file:
        print(json.dumps(what), file=file)

def pip(line):
    record("pip", line)
    zipfile.ZipFile({wheel!r}).extractall({target!r})    # which is how pip installs a wheel of pure Python
    importlib.invalidate_caches()

colab = google.colab = types.ModuleType("google.colab")
colab.output = types.SimpleNamespace(enable_custom_widget_manager=lambda: record("widgets"))
sys.modules["google.colab"] = colab
get_ipython().register_magic_function(pip, "line")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of `helpers`, built from a copy of what this checkout holds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "helpers", source / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    build = f"from setuptools.build_meta import build_wheel; build_wheel({str(out)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True, text=True)
    (found,) = out.iterdir()
    return found


@pytest.fixture
def colab(wheel, tmp_path, monkeypatch):
    """Runs a notebook there; returns what it asked `%pip` and `google.colab` for."""
    content, target, record = (tmp_path / name for name in ("content", "installed", "record"))
    content.mkdir()
    target.mkdir()
    startup = tmp_path / "ipython" / "profile_default" / "startup" / "colab.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(STARTUP.format(record=str(record), wheel=str(wheel), target=str(target)))
    kernel = tmp_path / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    command = [PYTHON, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Colab", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    environment = {**os.environ, "PYTHONPATH": str(target), "IPYTHONDIR": str(tmp_path / "ipython")}

    def run(notebook):
        where = nbformat.v4.new_code_cell("import helpers\nprint(helpers.__file__)")
        notebook.cells.append(where)
        client = NotebookClient(
            notebook, timeout=900, startup_timeout=300, kernel_name="colab",
            resources={"metadata": {"path": str(content)}},
        )  # fmt: skip
        client.execute(env=environment)
        assert where.outputs[0].text.strip() == str(target / "helpers" / "__init__.py")
        return [json.loads(line) for line in record.read_text().splitlines()]

    return run


def read(path):
    return nbformat.read(path, as_version=4)


def only_imports(notebook):
    """The chapter's setup cell, and of all others what they import, except modules that the chapter itself writes."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    own = {name for cell in cells for name in re.findall(r"^%%writefile (\w+)\.py$", cell.source, re.MULTILINE)}
    for cell in cells[1:]:
        source = "" if cell.source.startswith("%%") else re.sub(r"(?m)^(\s*)[%!]\w.*$", r"\1pass", cell.source)
        cell.source = "\n".join(ast.unparse(node) for node in ast.parse(source).body if modules(node) - own)
    notebook.cells = [cell for cell in cells if cell.source]
    return notebook


def modules(node):
    if isinstance(node, ast.ImportFrom):
        return {node.module}
    return {name.name for name in node.names} if isinstance(node, ast.Import) else set()


def expected_record():
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    return [["pip", f'install -q --no-deps "vae-course-helpers @ git+{address}"'], ["widgets"]]


def test_the_wheel_holds_what_the_checkout_holds(wheel):
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "helpers").rglob("*")
        if path.is_file() and path.suffix not in (".pyc", ".ts") and not path.name.startswith(".")
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("helpers/")}
    assert held == tracked


def test_what_chapters_import_is_there(colab):
    """All in one kernel, since each would spend its time on TensorFlow; `helpers` are imported anew for each."""
    forget = "for name in [name for name in sys.modules if name.partition('.')[0] == 'helpers']: del sys.modules[name]"
    together = nbformat.v4.new_notebook()
    for path in CHAPTERS:
        together.cells += [*only_imports(read(path)).cells, nbformat.v4.new_code_cell(forget)]
    assert colab(together) == expected_record() * len(CHAPTERS)


@pytest.mark.parametrize("number", TO_THE_END)
def test_a_chapter_runs_from_top_to_bottom(colab, number):
    (path,) = (ROOT / "book").glob(f"{number}_*.ipynb")
    record = colab(read(path))
    assert record[:2] == expected_record()
    assert number == "12" or len(record) == 2    # chapter 12 installs more where it is missing

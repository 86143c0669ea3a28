"""Figures in a live kernel: JupyterLab itself, in a real browser, with a Python kernel behind it."""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64decode

import nbformat
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

# A notebook as a reader has it: a small decoder, its figures, and what the reader then does with them.
CELLS = {
    "setup": """
        import json, os
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        import keras, numpy as np
        from keras import layers, ops
        from helpers.live import KernelExplorer, LatentExplorer

        def make_decoder(*hidden):
            keras.utils.set_random_seed(0)
            wide = keras.initializers.RandomNormal(stddev=0.7)
            body = [*hidden, layers.Dense(36, "sigmoid", kernel_initializer=wide), layers.Reshape((6, 6))]
            model = keras.Sequential([keras.Input((2,), name="z"), layers.Dense(16, "tanh"), *body])
            model.compile(keras.optimizers.SGD(1.0), "mse")
            return model

        def report(model, value):
            images = ops.convert_to_numpy(model(np.array([value["z"]], "float32")))
            print(json.dumps({"value": value, "ink": (255 * (1 - images.ravel())).tolist()}))

        def retrain(model):
            model.fit(np.random.default_rng(0).normal(size=(64, 2)), np.ones((64, 6, 6)), epochs=40, verbose=0)

        decoder = make_decoder()
    """,
    "figure": 'LatentExplorer(decoder, alt="A digit.", dtype="float32")',
    "widget": 'widget = LatentExplorer(decoder, alt="A digit.", dtype="float32").widget(); widget',
    "read": "report(decoder, widget.value)",
    "assign": 'widget.value = {"z": [1, -2]}; report(decoder, widget.value)',
    "retrain": "retrain(decoder); report(decoder, widget.value)",
    "again": 'widget = LatentExplorer(decoder, alt="A digit.", value=[1, -2], dtype="float32").widget(); widget',
    "beyond": """
        normed = make_decoder(layers.LayerNormalization())    # which the browser does not know
        explorer = KernelExplorer(normed, alt="A digit.")
        explorer
    """,
    "read explorer": "report(normed, explorer.value)",
    "assign explorer": 'explorer.value = {"z": [1, -2]}; report(normed, explorer.value)',
    "retrain explorer": "retrain(normed); report(normed, explorer.value)",
    "explorer again": "explorer",
}
PIXELS = """canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]
    .filter((_, i) => i % 4 === 0)"""
PATIENCE = 120  # seconds: a kernel that imports TensorFlow on a busy machine


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab of its own, which knows nothing of this machine's settings, and its folder."""
    folder, private = tmp_path_factory.mktemp("lab"), tmp_path_factory.mktemp("private")
    settings = private / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')  # cells stay on the page
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    places = {
        name: str(private / name)
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_WORKSPACES_DIR")
    }
    options = [
        "--no-browser", "--allow-root", "--IdentityProvider.token=", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ, **places, "JUPYTERLAB_SETTINGS_DIR": str(private / "settings"), "PYTHONPATH": python_path,
    }  # fmt: skip
    with (private / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        url = f"http://127.0.0.1:{port}"
        try:
            until = time.monotonic() + PATIENCE
            while not answers(f"{url}/api/status"):
                assert server.poll() is None and time.monotonic() < until, (private / "log").read_text()[-3000:]
                time.sleep(0.2)
            yield url, folder
        finally:
            server.terminate()    # which ends its kernels, too
            server.wait(PATIENCE)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture
def run(lab, open_page):
    """Runs a cell of CELLS in JupyterLab and returns the element that holds its output."""
    url, folder = lab
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    lines = {name: source.strip("\n").splitlines() for name, source in CELLS.items()}
    indents = {name: len(lines[name][0]) - len(lines[name][0].lstrip()) for name in CELLS}
    notebook.cells = [
        nbformat.v4.new_code_cell("\n".join(line[indents[name] :] for line in lines[name])) for name in CELLS
    ]
    nbformat.write(notebook, folder / "reader.ipynb")
    page = open_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(f"{url}/lab/tree/reader.ipynb?reset")
    page.wait_for_selector(f".jp-NotebookPanel .jp-CodeCell:nth-of-type({len(CELLS)})", state="attached")

    def run(name):
        index = list(CELLS).index(name)
        outputs = page.evaluate(
            """async index => {
              const {context, content, sessionContext} = window.jupyterapp.shell.currentWidget;
              await Promise.all([context.ready, sessionContext.ready]);
              content.activeCellIndex = index;
              await window.jupyterapp.commands.execute('notebook:run-cell');
              const {executionCount, outputs} = content.activeCell.model;
              return executionCount ? outputs.toJSON() : null;
            }""",
            index,
        )
        assert outputs is not None, f"the cell {name!r} did not run"
        assert [output for output in outputs if output["output_type"] == "error"] == []
        return page.locator(".jp-NotebookPanel .jp-CodeCell").nth(index).locator(".jp-OutputArea-output").last

    run.page = page
    return run


def report(output):
    """(value, ink) that the kernel printed."""
    printed = json.loads(output.inner_text())
    return printed["value"], np.array(printed["ink"])


def wait_for_value(run, cell, expected):
    """Waits until the reader's moves have reached Python, one message after the other; returns the ink there."""
    until = time.monotonic() + PATIENCE
    while (found := report(run(cell)))[0] != expected:
        assert time.monotonic() < until, f"the value in Python is {found[0]}"
    return found[1]


def wait_for_ink(page, read, ink):
    """Waits until the picture is the one that Keras computes in the kernel."""
    until = time.monotonic() + PATIENCE
    while np.abs(read() - ink).max() > 1:
        assert time.monotonic() < until, "the picture is not Keras's"
        page.wait_for_timeout(50)


def on_canvas(output):
    canvas = output.locator("canvas.live-image")
    canvas.wait_for()
    return lambda: np.array(canvas.evaluate(PIXELS), float)


def test_live_figure_and_widget(run):
    run("setup")
    figure = run("figure")    # HTML with a module, as on a page
    start = on_canvas(figure)()
    figure.locator("input[type=range]").first.focus()
    run.page.keyboard.press("ArrowRight")
    assert np.abs(on_canvas(figure)() - start).max() > 0

    output = run("widget")
    pixels = on_canvas(output)
    np.testing.assert_allclose(pixels(), start, atol=1)
    slider = output.locator("input[type=range]").nth(1)
    slider.focus()
    for _ in range(3):
        run.page.keyboard.press("ArrowRight")
    ink = wait_for_value(run, "read", {"z": [0, 0.15]})
    wait_for_ink(run.page, pixels, ink)

    value, ink = report(run("assign"))
    assert value == {"z": [1, -2]}
    wait_for_ink(run.page, pixels, ink)
    assert slider.input_value() == "-2"

    _, trained = report(run("retrain"))
    assert np.abs(trained - ink).max() > 20
    wait_for_ink(run.page, on_canvas(run("again")), trained)
    wait_for_ink(run.page, pixels, ink)    # the older figure keeps the weights that it was made with
    assert run.page.errors == []


def in_image(output):
    image = output.get_by_alt_text("A digit.")
    image.wait_for()

    def read():
        picture = Image.open(io.BytesIO(b64decode(image.get_attribute("src").partition("base64,")[2])))
        return np.array(picture, float).ravel()

    return read


def test_kernel_explorer(run):
    run("setup")
    output = run("beyond")
    pixels = in_image(output)
    start = pixels()
    slider = output.locator(".noUi-handle").nth(1)
    slider.focus()
    for _ in range(3):
        run.page.keyboard.press("ArrowRight")
    ink = wait_for_value(run, "read explorer", {"z": [0, 0.15]})
    assert np.abs(ink - start).max() > 1
    wait_for_ink(run.page, pixels, ink)

    value, ink = report(run("assign explorer"))
    assert value == {"z": [1, -2]}
    wait_for_ink(run.page, pixels, ink)
    assert float(slider.get_attribute("aria-valuenow")) == -2

    _, trained = report(run("retrain explorer"))
    assert np.abs(trained - ink).max() > 20
    wait_for_ink(run.page, in_image(run("explorer again")), trained)
    assert run.page.errors == []

"""Live figures in a real browser: on pages made here from known Keras models, and on the built book's own pages."""

import base64
import json
import re
import zlib

import keras
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from keras import layers, ops
from keras_reader import read

from helpers.live import LatentExplorer, LiveFigure, curves, dots, line, numbers
from helpers.live.figure import LiveWidget

PIXELS = """figure => {
  const canvas = figure.querySelector('.live-image');
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return Array.from({length: data.length / 4}, (_, i) => data[4 * i]);
}"""
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def dense_decoder():
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=0.5)
    body = [layers.Dense(64, "relu", kernel_initializer=wide), layers.Dense(196, "sigmoid", kernel_initializer=wide)]
    return keras.Sequential([keras.Input((2,), name="z"), *body, layers.Reshape((14, 14))])


def convolutional_decoder():
    keras.utils.set_random_seed(1)
    z, y = keras.Input((3,), name="z"), keras.Input((4,), name="y")
    h = layers.Dense(3 * 3 * 8, "gelu")(layers.Concatenate()([z, y]))
    h = layers.Reshape((3, 3, 8))(h)
    h = layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="gelu")(h)
    h = layers.Add()([h, layers.Conv2D(8, 3, padding="same")(h)])
    return keras.Model([z, y], layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid")(h))


def explorer(decoder, **options):
    rng = np.random.default_rng(0)
    if len(decoder.inputs) == 1:
        return LatentExplorer(
            decoder, rng.uniform(-3, 3, (500, 2)), rng.integers(0, 10, 500), limits=(-3, 3), alt="A digit.", **options
        )
    return LatentExplorer(decoder, choices={"y": ["a", "b", "c", "d"]}, alt="A digit.", **options)


def curve_figure():
    x = np.linspace(-3, 3, 61)
    mean, width = keras.Input((1,), name="mean"), keras.Input((1,), name="width")
    height = ops.exp(-0.5 * ops.square(ops.subtract(x, mean) / width)) / width
    model = keras.Model(
        [mean, width], {"height": height, "area": ops.sum(height, axis=-1, keepdims=True) * 0.1, "mean": mean + 0}
    )
    panel = curves(
        line(x, "height", "q"), dots("mean", 0, "mean"), xlim=(-3, 3), ylim=(0, 2), xlabel="z", ylabel="height"
    )
    return LiveFigure(
        model, {"mean": (-2, 2, 0), "width": (0.5, 2, 1)}, [panel, numbers({"area": "area"}, unit="")], alt="A bump."
    )


def keras_pixels(decoder, *inputs):
    """What the canvas should hold: dark ink on paper, 0 to 255."""
    feed = [np.asarray(x, "float32")[None] for x in inputs]
    return 255 * (1 - ops.convert_to_numpy(decoder(feed if len(feed) > 1 else feed[0])).ravel())


@pytest.fixture
def show(tmp_path):
    """Writes figures to a file and opens it in a page, from the disk; returns the figures' elements."""

    def show(page, *figures):
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Figures</title>'
        shown = "".join(figure if isinstance(figure, str) else figure.html() for figure in figures)
        (tmp_path / "page.html").write_text(f"{head}<main><h1>Figures</h1>{shown}</main></html>", encoding="utf-8")
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_function(
            "[...document.querySelectorAll('figure.live')].every(f => f.live || f.querySelector('.live-error'))"
        )
        return page.query_selector_all("figure.live")

    return show


def values(figure):
    return figure.evaluate("figure => figure.live.values")


def set_values(figure, new):
    figure.evaluate("(figure, values) => figure.live.set(values)", new)


# ------------------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize("wasm", [True, False])
@pytest.mark.parametrize(("dtype", "levels"), [("float16", 1), ("int8", 6)])
def test_pixels_equal_keras(page, show, wasm, dtype, levels):
    if not wasm:
        page.add_init_script("delete globalThis.WebAssembly")
    dense, conv = dense_decoder(), convolutional_decoder()
    first, second = show(page, explorer(dense, dtype=dtype), explorer(conv, dtype=dtype))
    for z in ([0, 0], [1.5, -2.25], [-3, 3]):
        set_values(first, {"z": z})
        assert np.abs(np.array(first.evaluate(PIXELS)) - keras_pixels(dense, z)).max() <= levels
    for label, z in enumerate([[0, 0, 0], [2, -1, 0.5], [-3, 3, 1], [0.1, 0.2, 0.3]]):
        set_values(second, {"z": z, "y": label})
        assert np.abs(np.array(second.evaluate(PIXELS)) - keras_pixels(conv, z, np.eye(4)[label])).max() <= levels
    assert first.evaluate("f => f.live.network.engine") == ("WebAssembly" if wasm else "JavaScript")
    assert page.errors == [] and page.requests == [page.url]


# ----------------------------------------------------------------------------------------------- handling


def test_mouse_moves_sliders_and_point(page, show):
    decoder = dense_decoder()
    (figure,) = show(page, explorer(decoder))
    box = figure.query_selector("input[type=range]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    z = values(figure)["z"]
    assert 1.2 < z[0] < 2.4 and z[1] == 0
    pad = figure.query_selector(".live-pad").bounding_box()
    page.mouse.move(pad["x"] + pad["width"] * 0.5, pad["y"] + pad["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(pad["x"] + pad["width"] * 0.25, pad["y"] + pad["height"] * 0.25, steps=4)
    assert values(figure)["z"] == pytest.approx([-1.5, 1.5], abs=0.05)
    page.mouse.move(pad["x"] - 50, pad["y"] - 50, steps=2)  # beyond the edge: stays inside
    page.mouse.up()
    assert values(figure)["z"] == [-3, 3]
    assert [s.input_value() for s in figure.query_selector_all("input[type=range]")] == ["-3", "3"]
    assert np.abs(np.array(figure.evaluate(PIXELS)) - keras_pixels(decoder, [-3, 3])).max() <= 6
    page.mouse.move(pad["x"] + 20, pad["y"] + 20)  # no button: no change
    assert values(figure)["z"] == [-3, 3]


def test_keyboard_moves_sliders_point_and_choices(page, show):
    first, second = show(page, explorer(dense_decoder()), explorer(convolutional_decoder()))
    first.query_selector(".live-pad").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown"):
        page.keyboard.press(key)
    assert values(first)["z"] == pytest.approx([0.1, 0.05 - 0.5])
    page.keyboard.press("Tab")  # on to the first slider
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert values(first)["z"] == pytest.approx([-2.95, -0.45])
    assert first.query_selector("input").get_attribute("aria-valuetext") == "\u22122.95"
    second.query_selector("input[type=radio]").focus()
    page.keyboard.press("ArrowRight")
    assert values(second)["y"] == 1
    first.query_selector("text=Reset").focus()
    page.keyboard.press("Enter")
    assert values(first)["z"] == [0, 0]


def test_touch_moves_sliders_and_point(open_page, show):
    page = open_page(**PHONE)
    first, second = show(page, explorer(dense_decoder()), explorer(convolutional_decoder()))
    pad = first.query_selector(".live-pad").bounding_box()
    page.touchscreen.tap(pad["x"] + pad["width"] * 0.75, pad["y"] + pad["height"] * 0.75)
    assert values(first)["z"] == pytest.approx([1.5, -1.5], abs=0.06)
    touch = page.context.new_cdp_session(page)
    at = lambda x, y: [{"x": pad["x"] + pad["width"] * x, "y": pad["y"] + pad["height"] * y}]  # noqa: E731
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": at(0.5, 0.5)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at(0.4, 0.3)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": at(0.25, 0.25)})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert values(first)["z"] == pytest.approx([-1.5, 1.5], abs=0.06), "a drag should follow the finger and not scroll"
    slider = second.query_selector("input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert -2 < values(second)["z"][0] < -1
    label = second.query_selector("label:has(input[value='2'])")
    label.scroll_into_view_if_needed()
    label.tap()
    assert values(second)["y"] == 2


def test_sample_draws_from_the_prior(page, show):
    (figure,) = show(page, explorer(dense_decoder()))
    draws = figure.evaluate(
        "f => Array.from({length: 4000}, () => (f.querySelector('.live-buttons').lastChild.click(), [...f.live.values.z]))"
    )
    assert np.mean(draws, axis=0) == pytest.approx([0, 0], abs=0.08)
    assert np.std(draws, axis=0) == pytest.approx([1, 1], abs=0.06)


def test_curves_and_numbers_follow_the_sliders(page, show):
    live = curve_figure()
    (figure,) = show(page, live)
    x = np.linspace(-3, 3, 61)
    for mean, width in [(0, 1), (-1.5, 0.5), (2, 2)]:
        set_values(figure, {"mean": [mean], "width": [width]})
        height = np.exp(-0.5 * ((x - mean) / width) ** 2) / width
        assert float(figure.query_selector("dd output").inner_text()) == pytest.approx(height.sum() * 0.1, abs=6e-4)
        d = figure.query_selector("path.live-line").get_attribute("d")
        drawn = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", d), float)
        np.testing.assert_allclose(drawn[:, 0], 44 + (x + 3) / 6 * 308, atol=0.06)
        np.testing.assert_allclose(drawn[:, 1], 196 - height / 2 * 188, atol=0.06)
        dot = figure.query_selector("path.live-dots").get_attribute("d")
        assert float(dot[1:].split()[0]) == pytest.approx(44 + (mean + 3) / 6 * 308, abs=0.06)
    assert page.errors == []


# ------------------------------------------------------------------------------------------ when things fail


def test_still_picture_without_javascript(open_page, tmp_path):
    page = open_page(java_script_enabled=False)
    (tmp_path / "page.html").write_text(explorer(dense_decoder()).html())
    page.goto((tmp_path / "page.html").as_uri())
    poster = page.locator(".live-poster img")
    assert poster.is_visible() and poster.get_attribute("alt") == "A digit."
    assert poster.bounding_box()["width"] > 200


def damaged(figure, change):
    """The figure's HTML with `change` applied to the exported model's bytes."""
    html = figure.html()
    model = re.search(r'data-part="model">([^<]*)<', html).group(1)
    altered = base64.b64encode(zlib.compress(change(zlib.decompress(base64.b64decode(model))))).decode()
    return html.replace(model, altered)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b[:-8], "bytes where"),
        (lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:], "its checksum is wrong"),
        (lambda b: b[:4] + b"\x09" + b[5:], "format version 9, and this page reads version 1"),
        (lambda b: b"ZIP!" + b[4:], "it is no exported model"),
    ],
)
def test_damaged_model_is_reported_in_the_figures_place(page, show, change, says):
    (figure,) = show(page, damaged(explorer(dense_decoder()), change))
    message = figure.query_selector("[role=alert]")
    assert message.is_visible() and says in message.inner_text()
    assert figure.query_selector(".live-poster img").is_visible()
    assert page.errors == []


# -------------------------------------------------------------------------------- widget in a live kernel


def test_widget_shares_values_with_its_model(page, tmp_path):
    """The module as anywidget loads it, with a stand-in for the kernel's side of the model."""
    decoder = dense_decoder()
    widget = explorer(decoder).widget()
    state = {
        "esm": str(LiveWidget._esm),
        "model": base64.b64encode(b"pad" + widget.model).decode(),
        "spec": widget.spec,
        "value": widget.value,
    }
    page.goto("about:blank")
    page.evaluate(
        """async ({esm, model, spec, value}) => {
          const bytes = Uint8Array.from(atob(model), c => c.charCodeAt(0));
          const traits = {model: new DataView(bytes.buffer, 3), spec, value}, handlers = {};
          window.saved = [];
          window.kernel = {
            get: name => traits[name],
            set: (name, x) => { traits[name] = x; },
            save_changes: () => window.saved.push(JSON.stringify(traits.value)),
            on: (event, f) => { handlers[event] = f; },
            assign: x => { traits.value = x; handlers['change:value'](); },
          };
          const url = URL.createObjectURL(new Blob([esm], {type: 'text/javascript'}));
          (await import(url)).default.render({model: window.kernel, el: document.body});
        }""",
        state,
    )
    figure = page.query_selector("figure.live")
    figure.query_selector("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    assert json.loads(page.evaluate("saved.at(-1)")) == {"z": [0.05, 0]}, "the reader's move should reach Python"
    page.evaluate("kernel.assign({z: [1, -2]})")
    assert values(figure)["z"] == [1, -2]
    assert np.abs(np.array(figure.evaluate(PIXELS)) - keras_pixels(decoder, [1, -2])).max() <= 6
    assert page.evaluate("saved.length") == 1, "what Python sets should not be sent back"
    assert page.errors == []


# ------------------------------------------------------------------------------------ how it looks and reads


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("options", [{}, PHONE], ids=["wide", "phone"])
def test_accessible_and_within_the_screen(open_page, show, scheme, options):
    page = open_page(color_scheme=scheme, **options)
    show(page, explorer(dense_decoder()), explorer(convolutional_decoder()), curve_figure())
    page.add_style_tag(content=":root { color-scheme: light dark }")
    found = Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"


# -------------------------------------------------------------------------------------------- the built book


def live_pages(site):
    return [path for path in sorted(site.html.rglob("*.html")) if 'class="live"' in path.read_text(encoding="utf-8")]


def test_every_live_figure_of_the_book(site, page):
    """Each control changes what is shown, and what is computed equals the second reader's result, anywhere."""
    paths = live_pages(site)
    assert paths, "no page of the built book holds a live figure"
    rng = np.random.default_rng(0)
    for path in paths:
        page.goto(f"{site.url}/{path.relative_to(site.html)}")
        page.wait_for_function("[...document.querySelectorAll('figure.live')].every(f => f.live)")
        for solution in page.query_selector_all(".toggle-hidden > button, .toggle-hidden .toggle-button"):
            solution.evaluate("button => button.click()")
        for figure in page.query_selector_all("figure.live"):
            assert figure.is_visible()
            exported = zlib.decompress(base64.b64decode(figure.query_selector("[data-part=model]").text_content()))
            spec = json.loads(figure.query_selector("[data-part=spec]").text_content())
            reader = read(exported)
            for control in figure.query_selector_all("input"):
                before = looks(figure)
                control.scroll_into_view_if_needed()
                if control.get_attribute("type") == "range":
                    control.focus()
                    page.keyboard.press("PageUp")
                elif not control.is_checked():
                    control.check(force=True)
                else:
                    continue
                assert looks(figure) != before, f"{path.name}: {control.get_attribute('aria-label')} changes nothing"
            for _ in range(12):
                new = {
                    item["name"]: int(rng.integers(item["size"])) if "labels" in item
                    else [float(rng.uniform(*limits)) for limits in item["limits"]]
                    for item in spec["inputs"]
                }  # fmt: skip
                set_values(figure, new)
                feed = [np.eye(i["size"])[new[i["name"]]] if "labels" in i else new[i["name"]] for i in spec["inputs"]]
                outputs = figure.evaluate("f => f.live.network.outputs.map(o => [...o.data])")
                for found, expected in zip(outputs, reader(feed), strict=True):
                    np.testing.assert_allclose(
                        found, expected.ravel(), rtol=1e-4, atol=1e-4 * max(1, np.abs(expected).max())
                    )
                if spec["views"][0]["kind"] == "image":
                    assert np.abs(np.array(figure.evaluate(PIXELS)) - 255 * (1 - np.ravel(outputs[0]))).max() <= 0.51
    assert page.errors == []


def looks(figure):
    """What a reader can see of a figure, apart from its controls."""
    return figure.evaluate(
        """f => [...f.querySelectorAll('canvas.live-image')].map(c => c.toDataURL())
          + [...f.querySelectorAll('path')].map(p => p.getAttribute('d')) + [...f.querySelectorAll('dd')].map(d => d.innerText)"""
    )


def test_figures_of_the_book_work_from_the_disk(site, page):
    for path in live_pages(site):
        page.goto(path.as_uri())
        page.wait_for_function("[...document.querySelectorAll('figure.live')].every(f => f.live)")
        figure = page.query_selector("figure.live")
        before = looks(figure)
        figure.query_selector("input").focus()
        page.keyboard.press("PageUp")
        assert looks(figure) != before


def test_figures_of_the_book_are_still_pictures_without_javascript(site, open_page):
    page = open_page(java_script_enabled=False)
    for path in live_pages(site):
        page.goto(f"{site.url}/{path.relative_to(site.html)}")
        posters = page.locator("figure.live .live-poster img")
        assert posters.count() == page.locator("figure.live").count()
        for i in range(posters.count()):
            posters.nth(i).scroll_into_view_if_needed()
            assert posters.nth(i).is_visible() and posters.nth(i).bounding_box()["width"] > 200

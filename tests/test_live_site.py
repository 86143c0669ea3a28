"""Live figures in a real browser: on pages made here from known Keras models, and on the built book's own pages."""

import base64
import hashlib
import json
import re
import zlib

import keras
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from conftest import until
from keras import layers, ops
from keras_reader import read

from helpers.data import load_mnist
from helpers.live import (
    DrawingExplorer,
    LadderExplorer,
    LatentExplorer,
    LiveFigure,
    SideBySide,
    curves,
    dots,
    image,
    line,
    numbers,
)
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


def ladder_decoder():
    keras.utils.set_random_seed(3)
    wide = {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.5)}
    z_1, z_2, z_3 = (keras.Input((2,), name=f"z_{i}") for i in (1, 2, 3))
    h = layers.Dense(16, "tanh", **wide)(z_3)
    for z in (z_2, z_1):
        h = layers.Dense(24, "tanh", **wide)(layers.Concatenate()([h, z]))
    return keras.Model([z_3, z_2, z_1], layers.Dense(196, "sigmoid", **wide)(h))


def ladder(decoder, **options):
    titles = {"z_3": "z₃: digit", "z_2": "z₂: shape", "z_1": "z₁: stroke"}
    return LadderExplorer(decoder, titles=titles, alt="A digit.", **options)


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


@pytest.fixture(scope="module")
def drawing():
    """A figure to draw in, and its networks."""
    keras.utils.set_random_seed(2)
    x = keras.Input((28, 28, 1))
    h = layers.Flatten()(layers.Conv2D(8, 4, strides=4, activation="gelu")(x))
    encoder = keras.Model(x, [layers.Dense(2)(h), layers.Dense(2)(h)])
    wide = keras.initializers.RandomNormal(stddev=0.5)
    body = [layers.Dense(64, "relu", kernel_initializer=wide), layers.Dense(784, "sigmoid", kernel_initializer=wide)]
    generator = keras.Sequential([keras.Input((2,)), *body])
    (images, labels), _ = load_mnist()
    images = images[:200].reshape(-1, 28, 28)
    codes = encoder.predict(images / 255, verbose=0)[0]
    figure = DrawingExplorer(
        encoder, generator, codes, labels[:200].astype(int), samples=images[:10], sample_labels=labels[:10], alt="A field.",
        caption="Draw.",
    )  # fmt: skip
    return figure, encoder, generator, images


def seen(figure):
    """The image that the network was given."""
    return np.array(figure.evaluate("f => [...f.live.network.inputs[0].data]")).reshape(28, 28)


def assert_shows_what_keras_says(figure, encoder, generator):
    x = seen(figure)
    mean, log_var = (ops.convert_to_numpy(y)[0] for y in encoder(x[None, ..., None].astype("float32")))
    std = np.exp(log_var / 2)
    shown = [float(node.inner_text().replace("\u2212", "-")) for node in figure.query_selector_all("dd output")]
    kl = 0.5 * (mean**2 + std**2 - log_var - 1).sum()
    np.testing.assert_allclose(shown, [*mean, *std, kl], atol=0.03)
    pixels = figure.evaluate(
        """f => [...f.querySelectorAll('.live-image')].map(canvas =>
          [...canvas.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 === 0))"""
    )
    assert np.abs(np.array(pixels[0]) - 255 * (1 - x.ravel())).max() <= 0.51
    assert np.abs(np.array(pixels[1]) - keras_pixels(generator, mean)).max() <= 6
    # in the plane: the mean as a dot, an ellipse of one standard deviation, one of two
    (low_x, high_x), (low_y, high_y) = figure.evaluate(
        "f => JSON.parse(f.querySelector('[data-part=spec]').textContent).views[2].limits"
    )
    scale = np.array([300 / (high_x - low_x), 300 / (high_y - low_y)])
    at = (mean - [low_x, low_y]) * scale * [1, -1] + [0, 300]
    paths = [p.get_attribute("d") for p in figure.query_selector_all(".live-pad path")]
    wide, ring, dot = (np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", d), float) for d in paths)
    np.testing.assert_allclose(dot[0], np.clip(at, 0, 300), atol=2)
    for points, radius in ((ring, 1), (wide, 2)):
        for axis in (0, 1):
            ends = at[axis] + radius * std[axis] * scale[axis] * np.array([-1, 1])
            np.testing.assert_allclose([points[:, axis].min(), points[:, axis].max()], np.clip(ends, 0, 300), atol=3)


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


# ----------------------------------------------------------------------------------------------- a ladder


def strips(figure):
    """What the strips show: (strip, cell, height, width), 0 to 255."""
    grey = figure.evaluate(
        """f => [...f.querySelectorAll('.live-strip canvas')].map(canvas =>
          [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data].filter((_, i) => i % 4 === 0))"""
    )
    return np.reshape(grey, (len(grey), 14, -1, 14)).swapaxes(1, 2)


def assert_strips_show_what_keras_says(figure, decoder, levels=6):
    z = values(figure)
    assert np.abs(np.array(figure.evaluate(PIXELS)) - keras_pixels(decoder, *z.values())).max() <= levels
    found = iter(strips(figure))
    for name in z:
        for i in (0, 1):
            for cell, x in zip(next(found), np.linspace(-2.5, 2.5, 9), strict=True):
                moved = z | {name: [x if k == i else v for k, v in enumerate(z[name])]}
                assert np.abs(cell.ravel() - keras_pixels(decoder, *moved.values())).max() <= levels
    assert next(found, None) is None


@pytest.mark.parametrize(("dtype", "levels", "wasm"), [("int8", 6, True), ("float16", 1, True), ("int8", 6, False)])
def test_strips_equal_keras(page, show, dtype, levels, wasm):
    if not wasm:
        page.add_init_script("delete globalThis.WebAssembly")
    decoder = ladder_decoder()
    (figure,) = show(page, ladder(decoder, dtype=dtype, value={"z_2": [0.3, -1]}))
    assert values(figure) == {"z_3": [0, 0], "z_2": [0.3, -1], "z_1": [0, 0]}
    assert_strips_show_what_keras_says(figure, decoder, levels)
    set_values(figure, {"z_3": [2.5, -0.7], "z_1": [-1.25, 0.9]})
    assert_strips_show_what_keras_says(figure, decoder, levels)
    assert figure.evaluate("f => f.live.network.engine") == ("WebAssembly" if wasm else "JavaScript")
    assert page.errors == [] and page.requests == [page.url], "works from the disk, and asks for nothing else"


def test_ladder_has_six_sliders_in_three_named_groups(page, show):
    (figure,) = show(page, ladder(ladder_decoder()))
    groups = figure.query_selector_all("fieldset")
    assert [g.query_selector("legend").inner_text() for g in groups] == ["z₃: digit", "z₂: shape", "z₁: stroke"]
    labels = [[s.get_attribute("aria-label") for s in g.query_selector_all("input")] for g in groups]
    assert labels == [["z₃₁", "z₃₂"], ["z₂₁", "z₂₂"], ["z₁₁", "z₁₂"]]
    names = [c.get_attribute("aria-label") for c in figure.query_selector_all(".live-strip [role=img]")]
    assert names[0] == "z₃₁ from \u22122.5 to 2.5" and len(set(names)) == 6
    buttons = ["Sample z₃", "Sample z₂", "Sample z₁", "Reset", "Sample z"]
    assert [b.inner_text() for b in figure.query_selector_all("button")] == buttons


def test_a_move_redraws_the_image_and_the_other_strips_at_once(page, show):
    decoder = ladder_decoder()
    (figure,) = show(page, ladder(decoder))
    figure.evaluate(
        """f => { f.drawn = []; const canvases = [...f.querySelectorAll('canvas')];
          const draw = CanvasRenderingContext2D.prototype.putImageData;
          CanvasRenderingContext2D.prototype.putImageData = function (...a) { f.drawn.push(canvases.indexOf(this.canvas)); draw.apply(this, a); } }"""
    )
    before = strips(figure)
    drawn = figure.evaluate(
        """f => { const slider = f.querySelectorAll('input')[2]; slider.value = 0.625;
          slider.dispatchEvent(new Event('input')); return f.drawn; }"""
    )
    assert [drawn.count(i) for i in range(7)] == [1, 9, 9, 0, 9, 9, 9], "all but the moved latent's own strip"
    assert values(figure)["z_2"] == [pytest.approx(0.625, abs=0.026), 0]
    assert_strips_show_what_keras_says(figure, decoder)
    after = strips(figure)
    assert [bool((a != b).any()) for a, b in zip(before, after)] == [True, True, False, True, True, True]
    set_values(figure, {"z_3": [0.625, -2.5], "z_2": [2.5, 1.25], "z_1": [0, -0.625]})
    shown = np.array(figure.evaluate(PIXELS)).reshape(14, 14)
    for strip, cell in zip(strips(figure), (5, 0, 8, 6, 4, 3), strict=True):
        np.testing.assert_array_equal(strip[cell], shown)
    drawn = figure.evaluate("f => { f.drawn = []; f.live.set({}); return f.drawn; }")
    assert drawn == [0], "nothing moved: no strip is drawn"


def test_sampling_a_level_leaves_the_others(page, show):
    (figure,) = show(page, ladder(ladder_decoder(), value={"z_1": [0.5, 1]}))
    start = values(figure)
    figure.query_selector("text=Sample z₂").click()
    second = values(figure)
    assert second["z_2"] != [0, 0] and second | {"z_2": [0, 0]} == start
    figure.query_selector("text=Sample z₁").click()
    first = values(figure)
    assert first["z_1"] != [0.5, 1] and first | {"z_1": [0.5, 1]} == second
    figure.query_selector("text=Sample z >> nth=-1").click()
    assert all(a != b for name in start for a, b in zip(first[name], values(figure)[name]))
    figure.query_selector("text=Reset").click()
    assert values(figure) == start
    draws = figure.evaluate(
        "f => Array.from({length: 4000}, () => (f.querySelector('.live-group > button').click(), [...f.live.values.z_3]))"
    )
    assert np.mean(draws, axis=0) == pytest.approx([0, 0], abs=0.08)
    assert np.std(draws, axis=0) == pytest.approx([1, 1], abs=0.06)
    assert np.abs(draws).max() == 2.5, "the prior's tails end at the limits"


def test_ladder_by_keyboard(page, show):
    decoder = ladder_decoder()
    (figure,) = show(page, ladder(decoder))
    figure.query_selector("input").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    assert values(figure)["z_3"] == [0.05, -2.5]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # Sample z₂
    assert 0 not in values(figure)["z_2"]
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    assert values(figure)["z_2"][0] == 2.5
    assert_strips_show_what_keras_says(figure, decoder)
    figure.query_selector("text=Reset").focus()
    page.keyboard.press("Space")
    assert values(figure) == {"z_3": [0, 0], "z_2": [0, 0], "z_1": [0, 0]}


@pytest.mark.parametrize("options", [{}, {**PHONE, "viewport": {"width": 375, "height": 667}}], ids=["wide", "375"])
def test_sliders_stand_above_their_cells(open_page, show, options):
    page = open_page(**options)
    (figure,) = show(page, ladder(ladder_decoder()))
    for share in (0, 0.3, 1):
        set_values(figure, {name: [5 * share - 2.5] * 2 for name in ("z_1", "z_2", "z_3")})
        for slider, strip in zip(*map(figure.query_selector_all, ("input", ".live-strip")), strict=True):
            box, cells = slider.bounding_box(), strip.query_selector("canvas").bounding_box()
            frame = strip.query_selector("i").bounding_box()
            middle = frame["x"] + frame["width"] / 2
            assert frame["width"] == pytest.approx(cells["width"] / 9, abs=0.5) == cells["height"]
            assert middle == pytest.approx(cells["x"] + cells["width"] * (0.5 + 8 * share) / 9, abs=0.5)
            assert middle == pytest.approx(box["x"] + 8 + share * (box["width"] - 16), abs=1), "below the thumb"
            assert box["y"] + box["height"] <= cells["y"]
    controls, shown = (figure.query_selector(s).bounding_box() for s in (".live-side", ".live-image"))
    if options:
        assert controls["y"] >= shown["y"] + shown["height"]
        assert figure.query_selector(".live-strip").bounding_box()["width"] > 200
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    else:
        assert controls["x"] >= shown["x"] + shown["width"] and shown["width"] > 200


def test_strips_of_a_figure_of_ones_own_follow_its_choices(page, show):
    z, y = keras.Input((2,), name="z"), keras.Input((4,), name="y")
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=0.5)
    h = layers.Concatenate()([z, y])
    model = keras.Model([z, y], {"share": ops.sum(z, axis=-1, keepdims=True), "image": layers.Dense(196, "sigmoid", kernel_initializer=wide)(h)})  # fmt: skip
    slider = {"limits": [(-1, 1), (0, 3)], "names": ["a", "b"], "value": [0, 1], "strip": {"steps": 4, "view": 1}}
    views = [numbers({"share": "share"}), image(14, 14, "image", label="decoded")]
    (figure,) = show(page, LiveFigure(model, {"z": slider}, views, choices={"y": "abcd"}, alt="x"))
    figure.query_selector("input[type=radio][value='2']").check(force=True)
    for i, (strip, limits) in enumerate(zip(strips(figure), slider["limits"], strict=True)):
        for cell, x in zip(strip, np.linspace(*limits, 4), strict=True):
            feed = [np.array([[x, 1] if i == 0 else [0, x]], "float32"), np.eye(4)[[2]].astype("float32")]
            expected = 255 * (1 - ops.convert_to_numpy(model(feed)["image"]).ravel())
            assert np.abs(cell.ravel() - expected).max() <= 0.51
    assert page.errors == []


# ------------------------------------------------------------------------------------------- draw a digit


def stroke(page, field, points, steps=6):
    """Draws a line with the mouse; points are shares of the field."""
    box = field.bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*at[0])
    page.mouse.down()
    for x, y in at[1:]:
        page.mouse.move(x, y, steps=steps)
    page.mouse.up()


def centre_of_mass(image):
    return [(image.sum(axis) * (np.arange(28) + 0.5)).sum() / image.sum() for axis in (0, 1)]


def extent(image, threshold=0.05):
    rows, columns = np.nonzero(image > threshold)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def ink_on_the_field(figure):
    """Shares of the field that are dark: in all, and in its upper left quarter."""
    return figure.evaluate(
        """f => { const canvas = f.querySelector('.live-field'), n = canvas.width;
          const dark = (w, h) => { const d = canvas.getContext('2d').getImageData(0, 0, w, h).data; let k = 0;
            for (let i = 0; i < d.length; i += 4) k += d[i + 3] > 128 && d[i] < 128; return k / (w * h); };
          return [dark(n, n), dark(n / 2, n / 2)]; }"""
    )


def test_drawing_starts_with_the_first_sample(page, show, drawing):
    live, encoder, generator, images = drawing
    (figure,) = show(page, live)
    np.testing.assert_allclose(seen(figure), images[0] / 255, atol=1e-4)
    assert values(figure) == live.value
    assert_shows_what_keras_says(figure, encoder, generator)
    assert ink_on_the_field(figure)[0] == pytest.approx((images[0] > 127).mean(), abs=0.01)
    assert figure.query_selector(".live-pad").get_attribute("aria-label") == "A field."
    assert page.errors == [] and page.requests == [page.url], "works from the disk, and asks for nothing else"


def test_samples_are_chosen_by_mouse_keyboard_and_touch(open_page, show, drawing):
    live, encoder, generator, images = drawing
    page = open_page(**PHONE)
    (figure,) = show(page, live)
    samples = figure.query_selector_all(".live-samples button")
    assert len(samples) == 10

    def chosen(i):
        np.testing.assert_allclose(seen(figure), images[i] / 255, atol=1e-4)
        assert [s.get_attribute("aria-pressed") for s in samples] == ["true" if k == i else "false" for k in range(10)]
        assert_shows_what_keras_says(figure, encoder, generator)

    chosen(0)
    samples[3].click()
    chosen(3)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    chosen(4)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    chosen(5)
    samples[7].tap()
    chosen(7)
    names = [live.spec["inputs"][0]["drawing"]["names"], [s.get_attribute("aria-label") for s in samples]]
    assert names[0] == names[1] and re.fullmatch(r"an? \d", names[0][0])
    page.keyboard.press("Tab")  # the row of samples has no trap: on to Clear and Reset
    figure.query_selector("text=Reset").focus()
    page.keyboard.press("Enter")
    chosen(0)


def test_a_stroke_is_scaled_and_centred_as_mnist_is(page, show, drawing):
    live, encoder, generator, images = drawing
    (figure,) = show(page, live)
    field = figure.query_selector(".live-field")
    stroke(page, field, [(0.2, 0.1), (0.2, 0.4)])  # a short vertical line, far from the middle
    x = seen(figure)
    assert centre_of_mass(x) == pytest.approx([14.5, 14.5], abs=0.1), "the middle of MNIST's digits"
    width, height = extent(x)
    assert 19 <= height <= 21 and 2 <= width <= 4
    assert x.sum() == pytest.approx(20 * 2.4, rel=0.06) and x.max() == pytest.approx(1, abs=0.01)
    assert_shows_what_keras_says(figure, encoder, generator)
    stroke(page, field, [(0.15, 0.25), (0.9, 0.25)])  # a second stroke: now wider than high
    x = seen(figure)
    width, height = extent(x)
    assert 19 <= width <= 21 and height < 14
    assert centre_of_mass(x) == pytest.approx([14.5, 14.5], abs=0.1)
    assert_shows_what_keras_says(figure, encoder, generator)
    all_ink, quarter = ink_on_the_field(figure)
    assert 0.05 < all_ink < 0.2 and quarter > 1.5 * all_ink, "the field shows the lines where they were drawn"
    before = ink_on_the_field(figure)
    page.mouse.move(5, 5)
    page.mouse.move(300, 300)
    assert ink_on_the_field(figure) == before, "no button: no ink"


def test_clear_reset_and_a_new_drawing(page, show, drawing):
    live, encoder, generator, images = drawing
    (figure,) = show(page, live)
    field = figure.query_selector(".live-field")
    stroke(page, field, [(0.3, 0.3), (0.7, 0.7)])
    assert np.corrcoef(seen(figure).ravel(), np.eye(28).ravel())[0, 1] > 0.4, "a stroke over a sample begins anew"
    figure.query_selector("text=Clear").click()
    assert seen(figure).max() == 0 and ink_on_the_field(figure)[0] == 0
    assert_shows_what_keras_says(figure, encoder, generator)
    stroke(page, field, [(0.5, 0.5), (0.5, 0.5)])  # a dot
    x = seen(figure)
    assert x.sum() == pytest.approx(np.pi * 1.2**2, rel=0.15) and extent(x)[0] <= 4
    figure.query_selector("text=Clear").click()
    stroke(page, field, [(0.3, 0.7), (0.7, 0.3)])
    assert np.corrcoef(seen(figure).ravel(), np.eye(28)[::-1].ravel())[0, 1] > 0.4
    figure.query_selector("text=Reset").click()
    np.testing.assert_allclose(seen(figure), images[0] / 255, atol=1e-4)
    stroke(page, field, [(0.5, 0.2), (0.5, 1.7)])  # leaves the field below: stays at its edge
    assert extent(seen(figure))[1] <= 21 and centre_of_mass(seen(figure)) == pytest.approx([14.5, 14.5], abs=0.1)


def test_a_finger_draws_and_does_not_scroll(open_page, show, drawing):
    live, encoder, generator, _ = drawing
    page = open_page(**PHONE)
    (figure,) = show(page, live, curve_figure())[:1]
    field = figure.query_selector(".live-field").bounding_box()
    touch = page.context.new_cdp_session(page)
    at = lambda x, y, i=0: {"x": field["x"] + x * field["width"], "y": field["y"] + y * field["height"], "id": i}  # noqa: E731
    seen_while_moving = []
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at(0.5, 0.9)]})
    for y in np.linspace(0.9, 0.1, 9):
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [at(0.5, y)]})
        seen_while_moving.append(seen(figure).sum())
    # a second finger must not draw
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at(0.5, 0.1), at(0.9, 0.5, 1)]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [at(0.5, 0.1), at(0.9, 0.8, 1)]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.evaluate("scrollY") == 0
    x = seen(figure)
    assert extent(x)[0] <= 4 and 19 <= extent(x)[1] <= 21
    assert centre_of_mass(x) == pytest.approx([14.5, 14.5], abs=0.1)
    assert len({round(s, 2) for s in seen_while_moving[:3]}) > 1, "what is shown should follow the finger"
    assert_shows_what_keras_says(figure, encoder, generator)


# --------------------------------------------------------------------------------------------- side by side


@pytest.mark.parametrize("options", [{}, PHONE], ids=["wide", "phone"])
def test_figures_in_a_row_are_alive_and_independent(open_page, show, options):
    page = open_page(**options)
    dense, conv = dense_decoder(), convolutional_decoder()
    first, second = show(page, SideBySide(explorer(dense, caption="One."), explorer(conv, caption="Two.")))
    left, right = first.bounding_box(), second.bounding_box()
    if options:
        assert right["y"] >= left["y"] + left["height"] and left["x"] == right["x"]
    else:
        assert right["x"] >= left["x"] + left["width"] and left["y"] == right["y"]
        assert left["width"] == pytest.approx(right["width"], abs=1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    set_values(first, {"z": [1, 2]})
    set_values(second, {"z": [-1, 0, 2], "y": 1})
    assert np.abs(np.array(first.evaluate(PIXELS)) - keras_pixels(dense, [1, 2])).max() <= 6
    assert np.abs(np.array(second.evaluate(PIXELS)) - keras_pixels(conv, [-1, 0, 2], np.eye(4)[1])).max() <= 6
    second.query_selector("text=Reset").click()
    assert (values(first)["z"], values(second)["z"]) == ([1, 2], [0, 0, 0])
    assert [f.query_selector("figcaption").inner_text() for f in (first, second)] == ["One.", "Two."]
    pad, shown = (first.query_selector(s).bounding_box() for s in (".live-pad", ".live-image"))
    assert shown["x"] >= pad["x"] + pad["width"] and abs(shown["y"] - pad["y"]) < 1, "plane and image in sight together"
    assert page.errors == [] and page.requests == [page.url]


def test_the_same_figure_twice_is_alive_twice(page, show):
    figure = explorer(dense_decoder())
    first, second = show(page, SideBySide(figure, figure))
    set_values(first, {"z": [1, 2]})
    assert (values(first)["z"], values(second)["z"]) == ([1, 2], [0, 0])


def test_series_without_the_network_are_drawn_once(page, show):
    share = keras.Input((1,), name="share")
    x = np.linspace(0, 1, 11)
    model = keras.Model(share, {"y": ops.multiply(share, x)})
    panel = curves(line(x, x, "fixed"), line(x, "y", "moved"), xlim=(0, 1), ylim=(0, 1), xlabel="x", ylabel="y")
    (figure,) = show(page, LiveFigure(model, {"share": (0, 1, 0.5)}, [panel], alt="Lines."))
    figure.evaluate(
        """f => { f.drawn = []; const paths = [...f.querySelectorAll('path.live-line')];
          for (const p of paths) p.setAttribute = (name, d) => { f.drawn.push(paths.indexOf(p)); SVGElement.prototype.setAttribute.call(p, name, d); } }"""
    )
    set_values(figure, {"share": [1]})
    assert figure.evaluate("f => f.drawn") == [1]
    fixed, moved = (p.get_attribute("d") for p in figure.query_selector_all("path.live-line"))
    assert fixed == moved and len(fixed) > 50


def test_image_of_a_figure_of_ones_own_with_a_pad(page, show):
    z, y, share = keras.Input((2,), name="z"), keras.Input((4,), name="y"), keras.Input((1,), name="log_beta")
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=0.5)
    h = layers.Concatenate()([z, y, share])
    model = keras.Model([share, z, y], {"image": layers.Dense(196, "sigmoid", kernel_initializer=wide)(h), "share": share * 1})
    sliders = {"log_beta": (-1, 1, 0), "z": {"limits": [(-3, 3)] * 2, "names": ["z₁", "z₂"], "value": [0, 0]}}
    live = LiveFigure(model, sliders, [image(14, 14, "image", label="decoded")], choices={"y": "abcd"}, pad="z", alt="x", dtype="int8")  # fmt: skip
    (figure,) = show(page, live)
    pad = figure.query_selector(".live-pad").bounding_box()
    page.mouse.click(pad["x"] + pad["width"] * 0.75, pad["y"] + pad["height"] * 0.75)
    figure.query_selector("input[type=radio][value='2']").check(force=True)
    moved = values(figure)
    assert moved["z"] == pytest.approx([1.5, -1.5], abs=0.05) and moved["y"] == 2
    found = np.array(figure.evaluate(PIXELS))
    feed = [np.array([x], "float32") for x in (moved["log_beta"], moved["z"], np.eye(4)[2])]
    assert np.abs(found - 255 * (1 - ops.convert_to_numpy(model(feed)["image"]).ravel())).max() <= 6
    assert figure.query_selector(".live-labelled").inner_text() == "decoded"


# ------------------------------------------------------------------------------------------ when things fail


@pytest.mark.parametrize("kind", ["latents", "ladder", "drawing"])
def test_still_picture_without_javascript(open_page, tmp_path, drawing, kind):
    page = open_page(java_script_enabled=False)
    figure = {"latents": explorer(dense_decoder()), "ladder": ladder(ladder_decoder()), "drawing": drawing[0]}[kind]
    (tmp_path / "page.html").write_text(figure.html(), encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    poster = page.locator(".live-poster img")
    assert poster.is_visible() and poster.get_attribute("alt") == figure.spec["alt"]
    assert poster.bounding_box()["width"] > 200


def damaged(figure, model=lambda b: b, packed=lambda text: text, spec=lambda text: text, seal=True):
    """The figure's HTML with changes to the exported model, to its packed form and to the description; sealed: with a key that fits."""
    page = figure.html()
    parts = ('data-live="(.*?)"', 'part="model">(.*?)<', 'part="spec">(.*?)<')
    key, stored, description = (re.search(part, page)[1] for part in parts)
    altered = packed(base64.b64encode(zlib.compress(model(zlib.decompress(base64.b64decode(stored))))).decode())
    page = page.replace(stored, altered).replace(description, spec(description))
    return page.replace(key, hashlib.sha256((altered + spec(description)).encode()).hexdigest()[:12]) if seal else page


def flip(at):
    return lambda b: b[:at] + bytes([b[at] ^ 1]) + b[at + 1 :]


def without(key):
    def change(text):
        spec = json.loads(text)
        del spec[key]
        return json.dumps(spec)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": lambda b: b[:-8]}, "bytes where"),
        ({"model": flip(100)}, "its checksum is wrong"),
        ({"model": lambda b: b[:4] + b"\x09" + b[5:]}, "format version 9, and this page reads version 1"),
        ({"model": lambda b: b"ZIP!" + b[4:]}, "it is no exported model"),
        ({"model": lambda b: b""}, "it is no exported model"),
        ({"model": lambda b: bytes(2**28 + 1)}, "it cannot be unpacked (too long)"),
        ({"packed": lambda t: t[:-80]}, "it cannot be unpacked"),
        ({"packed": lambda t: t[:400] + "?" + t[401:]}, "it cannot be unpacked"),
        ({"packed": lambda t: "AAAA" + t}, "it cannot be unpacked"),
        ({"packed": lambda t: ""}, "it cannot be unpacked"),
        ({"packed": lambda t: t[:-4] + "AAA=", "seal": False}, "some of its characters have changed"),
        ({"spec": lambda t: t.replace("[-3.0,3.0]", "[-3.0,4.0]"), "seal": False}, "some of its characters have changed"),
        ({"spec": lambda t: t[:-20]}, "This figure cannot be shown: "),
        ({"spec": lambda t: ""}, "This figure cannot be shown: "),
        ({"spec": without("views")}, "This figure cannot be shown: "),
        ({"spec": lambda t: t.replace('"size":2', '"size":3')}, "its description does not fit it (input z)"),
        ({"spec": lambda t: t.replace('"name":"z"', '"name":"y"')}, "its description does not fit it (input z)"),
        ({"spec": lambda t: t.replace('"value":[0.0,0.0]', '"value":[0.0,null]')}, "its description does not fit it (value of z)"),
        ({"spec": lambda t: t.replace("[-3.0,3.0]", "[3.0,-3.0]")}, "its description does not fit it (limits of z)"),
        ({"spec": lambda t: t.replace('"kind":"image"', '"kind":"movie"')}, "its description does not fit it (view movie)"),
        ({"spec": lambda t: t.replace('"height":14', '"height":140000000')}, "its description does not fit it (image)"),
        ({"spec": lambda t: t.replace('"output":0', '"output":7')}, "This figure cannot be shown: "),
    ],
)  # fmt: skip
def test_damaged_figure_is_reported_in_its_place(page, show, change, says):
    whole = explorer(dense_decoder())
    altered = damaged(whole, **change)
    assert altered != whole.html()
    (figure,) = show(page, altered)
    message = figure.query_selector("[role=alert]")
    assert message.is_visible() and says in message.inner_text()
    assert figure.query_selector(".live-poster img").is_visible()
    assert page.errors == []


def test_figure_that_is_only_packed_anew_is_alive(page, show):
    (figure,) = show(page, damaged(explorer(dense_decoder())))
    assert values(figure)["z"] == [0, 0] and page.errors == []


def test_figure_is_alive_where_the_browser_computes_no_digest(page, show):
    """Over plain http from another machine there is no `crypto.subtle`."""
    page.add_init_script("Object.defineProperty(crypto, 'subtle', {value: undefined})")
    whole = damaged(explorer(dense_decoder()), spec=lambda t: t.replace("[-3.0,3.0]", "[-3.0,4.0]"), seal=False)
    (figure,) = show(page, whole)
    assert values(figure)["z"] == [0, 0] and page.errors == []


# -------------------------------------------------------------------------------- widget in a live kernel


def render_widget(page, widget):
    """The module as anywidget loads it, with a stand-in for the kernel's side of the model."""
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
    return page.query_selector("figure.live")


def test_widget_shares_values_with_its_model(page):
    decoder = dense_decoder()
    figure = render_widget(page, explorer(decoder).widget())
    figure.query_selector("input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    assert json.loads(page.evaluate("saved.at(-1)")) == {"z": [0.05, 0]}, "the reader's move should reach Python"
    page.evaluate("kernel.assign({z: [1, -2]})")
    assert values(figure)["z"] == [1, -2]
    assert np.abs(np.array(figure.evaluate(PIXELS)) - keras_pixels(decoder, [1, -2])).max() <= 6
    assert page.evaluate("saved.length") == 1, "what Python sets should not be sent back"
    assert page.errors == []


def test_widget_of_a_ladder(page):
    decoder = ladder_decoder()
    figure = render_widget(page, ladder(decoder).widget())
    figure.query_selector_all("input")[5].focus()
    page.keyboard.press("ArrowRight")
    assert json.loads(page.evaluate("saved.at(-1)")) == {"z_3": [0, 0], "z_2": [0, 0], "z_1": [0, 0.05]}
    page.evaluate("kernel.assign({z_3: [1, -2], z_2: [0, 0.5], z_1: [0, 0]})")
    assert values(figure) == {"z_3": [1, -2], "z_2": [0, 0.5], "z_1": [0, 0]}
    assert_strips_show_what_keras_says(figure, decoder)
    assert page.evaluate("saved.length") == 1 and page.errors == []


def test_widget_to_draw_in(page, drawing):
    live, encoder, generator, images = drawing
    widget = live.widget()
    figure = render_widget(page, widget)
    stroke(page, figure.query_selector(".live-field"), [(0.4, 0.2), (0.4, 0.8)])
    saved = json.loads(page.evaluate("saved.at(-1)"))
    widget.set_state({"value": saved})  # as the kernel receives it
    np.testing.assert_allclose(np.reshape(widget.value["image"], (28, 28)), seen(figure), atol=1e-6)
    assert widget.value == saved, "nothing to send back"
    ink = ink_on_the_field(figure)
    page.evaluate("value => kernel.assign(value)", widget.value)
    assert ink_on_the_field(figure) == ink, "the reader's own lines stay"
    widget.value = {"image": images[4]}
    page.evaluate("value => kernel.assign(value)", widget.value)
    np.testing.assert_allclose(seen(figure), images[4] / 255, atol=1e-4)
    assert ink_on_the_field(figure)[0] == pytest.approx((images[4] > 127).mean(), abs=0.01)
    assert figure.query_selector_all(".live-samples button")[4].get_attribute("aria-pressed") == "true"
    box = figure.query_selector(".live-field").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.evaluate("value => kernel.assign(value)", widget.value)  # in the middle of a stroke
    page.mouse.move(box["x"] + 50, box["y"] + 150, steps=4)
    page.mouse.up()
    assert extent(seen(figure))[0] <= 4, "the stroke goes on from where it was"
    assert page.errors == []


# ------------------------------------------------------------------------------------ how it looks and reads


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("options", [{}, PHONE, {**PHONE, "viewport": {"width": 375, "height": 667}}], ids=["wide", "phone", "375"])
def test_accessible_and_within_the_screen(open_page, show, drawing, scheme, options):
    page = open_page(color_scheme=scheme, **options)
    row = SideBySide(explorer(dense_decoder()), curve_figure())
    alone = [explorer(dense_decoder()), explorer(convolutional_decoder()), curve_figure(), ladder(ladder_decoder())]
    show(page, *alone, drawing[0], row)
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
        until(page, "[...document.querySelectorAll('figure.live')].every(f => f.live)")
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
            for sample in figure.query_selector_all(".live-samples [aria-pressed=false]"):
                before = looks(figure)
                sample.click()
                assert looks(figure) != before, f"{path.name}: {sample.get_attribute('aria-label')} changes nothing"
            for _ in range(12):
                new = {
                    item["name"]: int(rng.integers(item["size"])) if "labels" in item
                    else rng.random(item["size"]).round(4).tolist() if "drawing" in item
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
                    shown = np.ravel(outputs[spec["views"][0]["output"]])
                    assert np.abs(np.array(figure.evaluate(PIXELS)) - 255 * (1 - shown)).max() <= 0.51
    assert page.errors == []


def test_pages_of_the_book_carry_no_model(site):
    """Its own file holds text, one runtime and no picture; models and pictures lie beside it, and no file is left over."""
    named = set()
    for path in sorted(site.html.glob("book/*.html")):
        text = path.read_text(encoding="utf-8")
        soup = BeautifulSoup(text, "html.parser")
        models = soup.select("figure.live [data-part=model]")
        assert all(not model.string and model["data-src"] for model in models)
        assert len(soup.select("script[type=module]")) == bool(models)
        styles = [style.string for style in soup.select("article style")]
        assert len(set(styles)) == len(styles)
        inside = [image for image in soup.select("article img") if image["src"].startswith("data:")]
        assert inside == [], "a picture within the page"
        early = [image for image in soup.select("article img") if list(image.attrs)[0] != "loading"]
        assert early == [], "a picture that holds up the page; Firefox reads `loading` before `src` only"
        named |= {(path.parent / name).resolve() for name in re.findall(r'src="([^"]*/_figures/[^"]+)"', text)}
    assert named == set(site.html.glob("_figures/*")) != set()


def test_models_are_fetched_when_the_page_is_shown(site, page):
    """None before the page has been loaded with its style and scripts; then each once, and all."""
    page.goto(f"{site.url}/book/06_cnn_vae.html")
    until(page, "[...document.querySelectorAll('figure.live')].every(f => f.live)")
    begun, fetched = page.evaluate(
        """() => [performance.getEntriesByType('navigation')[0].loadEventStart, performance.getEntriesByType('resource')
          .filter(r => /_figures.*js$/.test(r.name)).map(r => [r.name, r.startTime])]"""
    )
    assert all(start >= begun > 0 for _, start in fetched)
    assert len(dict(fetched)) == len(fetched) == page.locator("figure.live").count() == 3


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"status": 404}, "This figure's model could not be loaded. Open the page again to try once more."),
        ({"body": ""}, "some of its characters have changed"),
        ({"body": "AB"}, "some of its characters have changed"),
    ],
    ids=["missing", "empty", "of another build"],
)
def test_model_that_does_not_arrive_is_reported_in_its_place(site, page, answer, says):
    name = page.goto(f"{site.url}/book/05_vae.html") and page.locator("figure.live").first.get_attribute("data-live")
    body = answer.get("body")
    if body:
        answer = {"body": f"document.querySelector('[data-live=\"{name}\"] [data-part=model]').textContent = '{body}'"}
    page.route("**/_figures/*.js", lambda route: route.fulfill(content_type="text/javascript", **answer))
    page.reload()
    message = page.locator("figure.live [role=alert]")
    message.wait_for(state="attached", timeout=5000)
    message.scroll_into_view_if_needed()
    assert says in message.inner_text() and page.locator("figure.live .live-poster img").is_visible()


def looks(figure):
    """What a reader can see of a figure, apart from its controls."""
    return figure.evaluate(
        """f => [...f.querySelectorAll('canvas.live-image')].map(c => c.toDataURL())
          + [...f.querySelectorAll('path')].map(p => p.getAttribute('d')) + [...f.querySelectorAll('dd')].map(d => d.innerText)"""
    )


def test_figures_of_the_book_work_from_the_disk(site, page):
    for path in live_pages(site):
        page.goto(path.as_uri())
        until(page, "[...document.querySelectorAll('figure.live')].every(f => f.live)")
        figure = page.query_selector("figure.live")
        before = looks(figure)
        if control := figure.query_selector("input"):
            control.focus()
            page.keyboard.press("PageUp")
        else:
            figure.query_selector(".live-samples [aria-pressed=false]").click()
        assert looks(figure) != before


def test_figures_of_the_book_are_still_pictures_without_javascript(site, open_page):
    for options in ({}, PHONE):
        page = open_page(java_script_enabled=False, **options)
        for path in live_pages(site):
            page.goto(f"{site.url}/{path.relative_to(site.html)}")
            posters = page.locator("figure.live .live-poster img")
            assert posters.count() == page.locator("figure.live").count()
            for poster in posters.all():
                poster.scroll_into_view_if_needed()
                assert poster.is_visible() and poster.bounding_box()["width"] > 200
                shown, own = poster.evaluate(
                    """async image => {
                      await image.decode();
                      const look = getComputedStyle(image), inner = ["width", "height"].map(side => parseFloat(look[side]));
                      return [inner[0] / inner[1], image.naturalWidth / image.naturalHeight];
                    }"""
                )
                assert shown == pytest.approx(own, rel=0.02), "squeezed"


def test_what_is_read_stays_in_place_without_scroll_anchoring(site, open_page):
    """As in Safari: a figure above that comes to life changes its height."""
    page = open_page(**PHONE, bypass_csp=True)
    page.add_init_script("CSS.supports = () => false")
    held = []
    page.route("**/_figures/*.js", lambda route: held.append(route))
    page.goto(f"{site.url}/book/05_vae.html", wait_until="load")
    page.add_style_tag(content="* { overflow-anchor: none !important; content-visibility: visible !important; }")
    page.evaluate("document.querySelector('#exercises').scrollIntoView()")
    page.wait_for_timeout(500)
    seen, height = "document.querySelector('#exercises').getBoundingClientRect().top", "document.querySelector('figure.live').offsetHeight"
    before, still = page.evaluate(seen), page.evaluate(height)
    until(page, "document.querySelectorAll('script[src*=_figures]').length")
    held[0].continue_()
    until(page, "document.querySelector('figure.live').live")
    assert abs(page.evaluate(height) - still) > 10, "the figure has not changed its height"
    assert page.evaluate(seen) == pytest.approx(before, abs=2)

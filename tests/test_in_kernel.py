"""``KernelExplorer``: a decoder moved by ipywidgets, with Keras itself behind them."""

import base64
import io
import re

import ipywidgets
import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image

from helpers.live import KernelExplorer, LatentExplorer, in_kernel


def beyond_the_browser(last="sigmoid"):
    """A conditional decoder with a layer that the browser's engine does not know."""
    z, y = keras.Input((2,), name="z"), keras.Input((3,), name="y")
    h = layers.LayerNormalization(name="n")(layers.Dense(16, "relu")(layers.Concatenate()([z, y])))
    return keras.Model([z, y], layers.Reshape((4, 4))(layers.Dense(16, last)(h)))


def kernel_explorer(model=None, **options):
    return KernelExplorer(
        model or beyond_the_browser(), **{"choices": {"y": "abc"}, "alt": "A <drawn> digit.", **options}
    )


def controls(explorer, kind):
    """Widgets of one class, in the order of the page."""
    found, left = [], [explorer.box]
    while left:
        widget = left.pop(0)
        found += [widget] * isinstance(widget, kind)
        left = [*getattr(widget, "children", ()), *left]
    return found


def shown(explorer):
    """What the reader sees in the image's place: grey levels, or text."""
    text = controls(explorer, ipywidgets.HTML)[0].value
    if not text.startswith("<img "):
        return text
    assert 'alt="A &lt;drawn&gt; digit."' in text
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)', text)[1]))))


def drawn_by_keras(model, z, choice):
    image = model([np.array([z], "float32"), np.eye(3, dtype="float32")[[choice]]])[0]
    return np.rint(255 * (1 - ops.convert_to_numpy(image)))


def test_what_the_browser_refuses_is_shown_by_the_kernel():
    model = beyond_the_browser()
    with pytest.raises(ValueError, match="'n' .LayerNormalization. is not supported in the browser. .*KernelExplorer"):
        LatentExplorer(model, choices={"y": "abc"}, alt="x")
    explorer = kernel_explorer(model)
    np.testing.assert_array_equal(shown(explorer), drawn_by_keras(model, [0, 0], 0))


def test_kernel_explorer_follows_controls_and_python():
    explorer = kernel_explorer(value=[0.5, 0], limits=[(-2, 2), (-1, 1)], names=["up", "down"])
    first, second = sliders = controls(explorer, ipywidgets.FloatSlider)
    (buttons,) = controls(explorer, ipywidgets.ToggleButtons)
    assert [(s.description, s.min, s.max, s.value) for s in sliders] == [("up", -2, 2, 0.5), ("down", -1, 1, 0)]
    assert explorer.value == {"z": [0.5, 0], "y": 0}

    second.value, buttons.value = -0.1 - 0.65000000000001, 2
    assert explorer.value == {"z": [0.5, -0.75], "y": 2}
    np.testing.assert_array_equal(shown(explorer), drawn_by_keras(explorer.decoder, [0.5, -0.75], 2))

    seen = []
    explorer.observe(lambda change: seen.append(change.new), "value")
    explorer.value = {"z": np.array([1, -3]), "y": 1}  # -3: beyond the slider's end
    assert (first.value, second.value, buttons.value) == (1, -1, 1)
    assert seen == [{"z": [1, -3], "y": 1}], "several controls that follow are one change"
    np.testing.assert_array_equal(shown(explorer), drawn_by_keras(explorer.decoder, [1, -3], 1))
    for bad in ({"z": [0]}, {"y": 3}, {"w": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            explorer.value = bad


def test_kernel_explorer_resets_and_samples():
    explorer = kernel_explorer(value=[0.5, 0], limits=(-0.25, 0.75))
    reset, sample = controls(explorer, ipywidgets.Button)
    sample.click()
    moved = explorer.value
    assert moved["z"] != [0.5, 0] and all(-0.25 <= x <= 0.75 for x in moved["z"])
    sample.click()
    assert explorer.value != moved
    reset.click()
    assert explorer.value == {"z": [0.5, 0], "y": 0}
    assert len(controls(kernel_explorer(prior=False), ipywidgets.Button)) == 1


def test_kernel_explorer_shows_itself_with_the_weights_of_the_moment(monkeypatch):
    explorer, displayed = kernel_explorer(), []
    before = shown(explorer)
    explorer.decoder.set_weights([w + 0.5 for w in explorer.decoder.get_weights()])
    monkeypatch.setattr(in_kernel, "display", displayed.append)
    explorer._ipython_display_()  # as for the last expression of a cell
    assert displayed == [explorer.box]
    assert np.any(shown(explorer) != before)
    np.testing.assert_array_equal(shown(explorer), drawn_by_keras(explorer.decoder, [0, 0], 0))


def test_kernel_explorer_says_what_goes_wrong_in_the_images_place():
    explorer = kernel_explorer()
    explorer.decoder.set_weights([np.full_like(w, np.nan) for w in explorer.decoder.get_weights()])
    controls(explorer, ipywidgets.FloatSlider)[0].value = 1
    assert 'role="alert"' in shown(explorer) and "must lie in [0, 1]" in shown(explorer)


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: kernel_explorer(alt=None), ValueError, "needs alt"),
        (lambda: kernel_explorer(beyond_the_browser(last=None)), ValueError, "A decoder of logits needs a sigmoid"),
        (lambda: kernel_explorer(choices={}), ValueError, "one vector of latents, beside choices"),
        (lambda: kernel_explorer(choices={"y": "abc", "w": "d"}), ValueError, "the model does not have: w"),
        (lambda: kernel_explorer(limits=(1, -1)), ValueError, "low < high"),
        (lambda: kernel_explorer(type("Own", (keras.Model,), {})()), TypeError, "whose inputs are known"),
    ],
)
def test_kernel_explorer_says_what_does_not_fit(build, error, says):
    with pytest.raises(error, match=re.escape(says)):
        build()


def test_kernel_explorer_takes_colours_and_the_limits_of_codes():
    z = keras.Input((2,), name="z")
    pixels = layers.Reshape((2, 2, 3))(layers.Dense(12, "sigmoid")(z))
    codes = np.random.default_rng(0).normal(size=(500, 2))
    explorer = KernelExplorer(keras.Model(z, pixels), codes, alt="A <drawn> digit.", caption="a < b")
    expected = LatentExplorer(keras.Model(z, pixels), codes, alt="x").spec["inputs"][0]
    assert [[s.min, s.max] for s in controls(explorer, ipywidgets.FloatSlider)] == expected["limits"]
    colours = ops.convert_to_numpy(explorer.decoder(np.zeros((1, 2), "float32")))[0]
    np.testing.assert_array_equal(shown(explorer), np.rint(255 * colours))
    assert controls(explorer, ipywidgets.HTML)[1].value == "a &lt; b"

"""``KernelExplorer``: a decoder moved by ipywidgets in a live kernel, where Keras itself computes the image."""

import base64
import contextlib
import html
import io

import ipywidgets
import keras
import numpy as np
import traitlets
from IPython.display import display
from PIL import Image

from helpers.live.explorer import check_codes, check_range, image_size, latents_of, sliders_of
from helpers.live.figure import check_value, read_inputs

WIDTH = 224  # of the image on the screen, in pixels


class KernelExplorer(traitlets.HasTraits):
    """What `LatentExplorer` does, for a decoder with layers that the browser cannot run: Python computes every image.

    It needs a live kernel: on a published page its sliders do nothing. As the last expression of a cell it shows
    itself, with the weights that the decoder has then. ``value`` follows the sliders; set it, and sliders and image
    follow. ``box`` is the ipywidget that holds them, to be placed in others.

    Parameters
    ----------
    decoder : keras.Model
        As for `LatentExplorer`, with layers of any kind.
    codes : (N, 2), optional
        Codes of images, from which the limits are taken where `limits` is left out.
    choices, value, limits, names, prior, alt, caption
        As for `LatentExplorer`.

    Raises
    ------
    ValueError
        Shapes, limits, values or an image range that do not fit.
    TypeError
        `decoder` is a subclassed model, whose inputs are unknown.
    """

    value = traitlets.Dict()

    def __init__(
        self, decoder, codes=None, *, choices=None, value=None, limits=None, names=None,
        prior=True, alt=None, caption="",
    ):  # fmt: skip
        if not getattr(decoder, "inputs", None):
            raise TypeError(
                "KernelExplorer needs a model whose inputs are known: a Functional one, or a built Sequential."
            )
        if not alt:
            raise ValueError("KernelExplorer needs alt: a sentence that says what the figure shows.")
        name, size = latents_of(decoder, choices)
        codes, _ = check_codes(codes, None, size)
        self.decoder, self._alt = decoder, alt
        self._inputs = read_inputs(decoder, {name: sliders_of(size, codes, value, limits, names)}, choices)
        self._size = image_size(decoder)
        self._moving = False
        self._image = ipywidgets.HTML()
        self._controls = {item["name"]: _controls(item) for item in self._inputs}
        controls = [control for group in self._controls.values() for control in group]
        for control in controls:
            control.observe(self._move, "value")
        start = {item["name"]: item["value"] for item in self._inputs}
        buttons = [_button("Reset", lambda: self._set(start))]
        if prior:
            buttons.append(_button("Sample z", lambda: self._set(self._sample(name))))
        left = ipywidgets.VBox([*controls, ipywidgets.HBox(buttons)])
        self.box = ipywidgets.VBox([ipywidgets.HBox([left, self._image]), ipywidgets.HTML(html.escape(caption))])
        super().__init__(value=start)

    def draw(self):
        """Compute the image again, with the weights that the decoder has now."""
        feed = []
        for item in self._inputs:
            x = self.value[item["name"]]
            feed.append(np.eye(item["size"])[[x]] if "labels" in item else np.reshape(x, (1, -1)))
        feed = [x.astype("float32") for x in feed]
        (pixels,) = keras.tree.flatten(self.decoder(feed if len(feed) > 1 else feed[0], training=False))
        pixels = keras.ops.convert_to_numpy(pixels).astype("float32")
        check_range(pixels)
        self._image.value = _img(pixels.reshape(*self._size, -1), self._alt)

    def _ipython_display_(self):
        self.draw()
        display(self.box)

    def __repr__(self):
        return f"{type(self).__name__}(value={self.value})"

    @traitlets.validate("value")
    def _validate(self, proposal):
        return check_value(self._inputs, dict(proposal["value"]))

    @traitlets.observe("value")
    def _follow(self, change):
        if not self._moving:
            with self._still():
                for name, controls in self._controls.items():
                    for control, x in zip(controls, np.ravel(self.value[name])):
                        control.value = x.item()
        self.draw()

    def _move(self, change):
        """A control was moved. It is not written to in turn: a late answer would take it back to an earlier place."""
        if not self._moving:
            with self._still():
                self._set({item["name"]: self._read(item) for item in self._inputs})

    @contextlib.contextmanager
    def _still(self):
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    def _read(self, item):
        values = [control.value for control in self._controls[item["name"]]]
        return values[0] if "labels" in item else [round(x, 6) for x in values]  # sliders add up their steps

    def _set(self, value):
        """From a control. What goes wrong is said in the image's place: a callback has no cell to say it in."""
        try:
            self.value = value
        except Exception as error:
            self._image.value = f'<p role="alert">{html.escape(str(error))}</p>'

    def _sample(self, name):
        (item,) = (item for item in self._inputs if item["name"] == name)
        low, high = np.transpose(item["limits"])
        return {**self.value, name: np.clip(np.random.default_rng().normal(size=item["size"]), low, high)}


def _controls(item):
    """One slider for each latent, or a row of buttons for a choice."""
    if "labels" in item:
        options = [(label, i) for i, label in enumerate(item["labels"])]
        layout = {"button_width": "auto"}
        return [ipywidgets.ToggleButtons(options=options, value=0, description=item["name"], style=layout)]
    return [
        ipywidgets.FloatSlider(value=x, min=low, max=high, step=item["step"], description=name)
        for x, (low, high), name in zip(item["value"], item["limits"], item["names"])
    ]


def _button(text, action):
    button = ipywidgets.Button(description=text)
    button.on_click(lambda _: action())
    return button


def _img(pixels, alt):
    """HTML of an image (height, width, 1 or 3) in [0, 1]; grey ones are dark ink on paper."""
    levels = np.rint(255 * (1 - pixels if pixels.shape[-1] == 1 else pixels)).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(levels.squeeze(-1) if levels.shape[-1] == 1 else levels).save(buffer, "png")
    data = base64.b64encode(buffer.getvalue()).decode()
    style = f"width: {WIDTH}px; image-rendering: pixelated"
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}" style="{style}">'

"""``DrawingExplorer``: a trained autoencoder that looks at what the reader draws."""

import keras
import numpy as np
from keras import ops

from helpers.live.explorer import SUBSCRIPTS, check_codes, limits_of_codes, plane_of_codes
from helpers.live.figure import LiveFigure, dots, image, line, numbers, read_samples
from helpers.plots import plot_reconstructions

INK = "#000000"


class DrawingExplorer(LiveFigure):
    """A live figure of an encoder and a generator: draw a digit, see where it is encoded and what is decoded there.

    The reader draws, with mouse, pen or finger, or chooses a sample. The drawing is prepared as MNIST was: its ink fits
    20 of 28 pixels, and its centre of mass is the middle. The plane shows the posterior's mean and its ellipses at one
    and two standard deviations; the reconstruction is decoded at the mean; the KL is in nats.

    Parameters
    ----------
    encoder : keras.Model
        Images, (height, width), (height, width, 1) or a square number of pixels in a row, with values in [0, 1] ->
        [mean, log_var], two latents each.
    generator : keras.Model
        Two latents -> an image of the same size with values in [0, 1] (probabilities, not logits).
    codes, labels, limits
        As for `LatentExplorer`: drawn behind the ellipse, on a plane with these limits.
    alt, caption, dtype
        As for `LiveFigure`.
    samples : uint8 (n, height, width)
        Digits to choose from, at most 24; the figure starts with the first.
    sample_labels : (n,), optional
        Classes of the samples, which name their buttons.

    Raises
    ------
    ValueError
        Shapes, labels, samples or limits that do not fit, an image outside [0, 1], or a layer that the browser cannot
        run.
    """

    def __init__(
        self, encoder, generator, codes=None, labels=None, *, samples, sample_labels=None, limits=None, alt=None,
        caption="", dtype="int8",
    ):  # fmt: skip
        side = _check_networks(encoder, generator)
        codes, labels = check_codes(codes, labels, 2)
        limits = limits_of_codes(limits, codes, 2)
        if sample_labels is None:
            names = [f"sample digit {i}" for i in range(1, len(samples) + 1)]
        elif len(sample_labels) == len(samples):
            names = [f"{'an' if str(label) == '8' else 'a'} {label}" for label in sample_labels]
        else:
            raise ValueError(f"sample_labels must be {len(samples)} labels, one for each; got {len(sample_labels)}.")
        self._generator, self._codes = generator, codes
        self._limits = np.transpose(limits)
        if not (np.isfinite(self._limits).all() and (self._limits[0] < self._limits[1]).all()):
            raise ValueError(f"limits must be (low, high) with low < high; got {limits}.")
        latents = [f"z{i}".translate(SUBSCRIPTS) for i in (1, 2)]
        plane = {
            "kind": "plane", "limits": limits, "names": latents, **plane_of_codes(codes, labels, limits),
            "series": [
                {**make(x, y, ""), "colour": INK}
                for make, x, y in [(line, "wide_x", "wide_y"), (line, "x", "y"), (dots, "mean_1", "mean_2")]
            ],
        }  # fmt: skip
        rows = {"μ₁": "mean_1", "μ₂": "mean_2", "σ₁": "std_1", "σ₂": "std_2", "KL": "kl"}
        shown = numbers(rows, unit="", digits=2)
        shown["rows"][-1]["unit"] = "nats"
        views = [
            image(side, side, "image", label="what the encoder sees"),
            image(side, side, "reconstruction", label="decoded at the mean"),
            plane,
            shown,
        ]
        drawings = {"image": {"samples": samples, "names": names}}
        super().__init__(
            _graph(encoder, generator), {}, views, drawings=drawings, alt=alt, caption=caption, dtype=dtype
        )  # fmt: skip

    def _typical_inputs(self, n=1024):
        """Variations of the samples, and what the generator draws all over the plane."""
        (drawn,) = super()._typical_inputs(n // 4)
        rng = np.random.default_rng(0)
        m = n - len(drawn)
        if self._codes is None:
            z = rng.uniform(*self._limits, (m, 2))
        else:
            z = self._codes[rng.integers(len(self._codes), size=m)]
        generated = self._generator.predict(z.astype("float32"), verbose=0)
        return [np.concatenate([drawn, generated.reshape(m, *drawn.shape[1:])])]

    def _draw_poster(self):
        """The still picture: the samples, and below each its reconstruction."""
        (item,) = self.spec["inputs"]
        images = read_samples(item)
        outputs = self._outputs({"image": images.reshape(len(images), -1)}, len(images))
        found = outputs[self.spec["views"][1]["output"]].reshape(images.shape)
        if not all(np.isfinite(y).all() for y in outputs):
            raise ValueError("The encoder's or the generator's outputs for the samples are not finite.")
        if not (found.min() >= 0 and found.max() <= 1):
            raise ValueError(
                f"The generator's output must lie in [0, 1]; it spans [{found.min():.3g}, {found.max():.3g}]. "
                "A decoder of logits needs a sigmoid behind it, as in `vae.generator`."
            )
        return plot_reconstructions(images, found, labels=("drawn", "decoded"))


def _check_networks(encoder, generator):
    """The side of the square images that both networks are for."""
    given = [tuple(x.shape[1:]) for x in encoder.inputs]
    side = round(np.prod(given[0]) ** 0.5) if len(given) == 1 and None not in given[0] else 0
    if not side or given[0] not in [(side, side), (side, side, 1), (side * side,)]:
        raise ValueError(
            "The encoder must take one square grey image: (n, n), (n, n, 1), or a square number of pixels in a row; it "
            f"takes {given}."
        )
    latents = [tuple(x.shape[1:]) for x in keras.tree.flatten(encoder.outputs)]
    if latents != [(2,), (2,)]:
        raise ValueError(f"The encoder must give [mean, log_var] of two latents each; its outputs are {latents}.")
    taken = [tuple(x.shape[1:]) for x in generator.inputs]
    drawn = [tuple(x.shape[1:]) for x in keras.tree.flatten(generator.outputs)]
    if taken != [(2,)] or len(drawn) != 1:
        raise ValueError(f"The generator must turn two latents into one image; it turns {taken} into {drawn}.")
    if drawn[0] not in [(side, side), (side, side, 1), (side * side,)]:
        raise ValueError(f"The encoder takes images of {side} x {side}, but the generator's have the shape {drawn[0]}.")
    return side


def _graph(encoder, generator):
    """One network from the image to everything that the figure shows."""
    x = keras.Input(encoder.inputs[0].shape[1:], name="image")
    mean, log_var = keras.tree.flatten(encoder(x))
    std = ops.exp(log_var * 0.5)
    angle = np.linspace(0, 2 * np.pi, 49, dtype="float32")
    circle = np.cos(angle), np.sin(angle)
    outputs = {"image": x, "reconstruction": generator(mean)}
    # Not `kl_standard_normal`: its expm1 is none of the operations that the browser runs.
    outputs["kl"] = ops.sum(ops.square(mean) + ops.exp(log_var) - log_var - 1, axis=-1, keepdims=True) * 0.5
    for i in (0, 1):
        m, s = mean[:, i : i + 1], std[:, i : i + 1]
        outputs |= {f"mean_{i + 1}": m, f"std_{i + 1}": s}
        outputs |= {"xy"[i]: m + s * circle[i], "wide_" + "xy"[i]: m + s * (2 * circle[i])}
    return keras.Model(x, outputs)

"""``LatentExplorer`` and ``LadderExplorer``: trained decoders that the reader moves."""

import base64
import math
import re

import keras
import numpy as np

from helpers.live.figure import LiveFigure, image
from helpers.plots import PALETTE, new_figure

MOST_CODES = 2000  # drawn behind the point; more would add weight to the page and no shape
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class _Explorer(LiveFigure):
    """What explorers of a decoder share."""

    def _mosaic(self, value, view, rows, columns):
        """The images that `value` decodes to, in rows and columns, as one; raises unless they are images."""
        (images,) = self._outputs(value, rows * columns)
        check_range(images)
        height, width = view["height"], view["width"]
        images = images.reshape(rows, columns, height, width, -1).swapaxes(1, 2)
        return images.reshape(rows * height, columns * width, -1).squeeze()


class LatentExplorer(_Explorer):
    """A live figure of a decoder: latents to move, and the image that they decode to.

    Parameters
    ----------
    decoder : keras.Model
        A built Functional or Sequential model. Each input is a vector: the latents, and, when named in `choices`, one-hot
        vectors. Its one output is an image with values in [0, 1] (Bernoulli means, not logits): (height, width),
        (height, width, 1 or 3), or height x height numbers in a row.
    codes : (N, 2), optional
        Codes of images, drawn behind the point, for decoders with two latents.
    labels : (N,) integers in 0..9, optional
        Classes of the codes, which give them their colours.
    choices : dict, optional
        {input name: list of labels} for one-hot inputs, shown as buttons.
    value : sequence of float, optional
        Where the latents start; zeros if left out.
    limits : (low, high), or one such pair for each latent, optional
        If left out: what holds 99.8 % of the codes along each axis, or (-3, 3) where there are no codes.
    names : sequence of str, optional
        Labels of the latents; z₁, z₂, ... if left out.
    prior : bool
        Whether to offer a button that draws the latents from N(0, I).
    alt, caption, dtype
        As for `LiveFigure`.

    Raises
    ------
    ValueError
        Shapes, labels, limits or an image range that do not fit, or a layer that the browser cannot run.
    """

    def __init__(
        self, decoder, codes=None, labels=None, *, choices=None, value=None, limits=None, names=None,
        prior=True, alt=None, caption="", dtype="int8",
    ):  # fmt: skip
        self._name, size = latents_of(decoder, choices)
        codes, labels = check_codes(codes, labels, size)
        slider = sliders_of(size, codes, value, limits, names)
        view = image(*image_size(decoder))
        super().__init__(
            decoder, {self._name: slider}, [view], choices=choices, alt=alt, caption=caption, dtype=dtype
        )  # fmt: skip
        self.spec["prior"] = prior
        if size == 2:
            self.spec["pad"] = {"input": self._name, **plane_of_codes(codes, labels, slider["limits"])}

    def _export(self, dtype):
        try:
            return super()._export(dtype)
        except (TypeError, ValueError) as error:
            advice = "In a live kernel, KernelExplorer shows a decoder with any layers."
            raise type(error)(f"{error} {advice}") from error

    def _draw_poster(self):
        """The still picture: decoded images with the first two latents (or the first alone) varied."""
        (item,) = (item for item in self.spec["inputs"] if item["name"] == self._name)
        (view,) = self.spec["views"]
        columns, rows = 10, 10 if item["size"] > 1 else 1
        z = np.tile(item["value"], (rows * columns, 1))
        z[:, 0] = np.tile(np.linspace(*item["limits"][0], columns), rows)
        if rows > 1:
            z[:, 1] = np.repeat(np.linspace(*reversed(item["limits"][1]), rows), columns)
        mosaic = self._mosaic({**self.value, self._name: z}, view, rows, columns)
        figure, axes = new_figure(4.2, 0.6 + 0.38 * rows)
        extent = (*item["limits"][0], *item["limits"][min(1, item["size"] - 1)])
        axes.imshow(mosaic, cmap="gray_r", vmin=0, vmax=1, extent=extent, aspect="auto")
        axes.set_xlabel(item["names"][0])
        axes.set_ylabel(item["names"][1]) if rows > 1 else axes.set_yticks([])
        return figure


class LadderExplorer(_Explorer):
    """A live figure of a decoder with several levels of latents, each in a frame of its own.

    Below each slider stands its traversal: what the image becomes where that latent alone runs over its limits. All
    traversals but the moved latent's own are decoded anew at every move.

    Parameters
    ----------
    decoder : keras.Model
        A built Functional model. Each input is a vector of latents, one level of the ladder, and the figure shows the
        levels in the order of the inputs. Its one output is an image, as for `LatentExplorer`.
    titles : dict, optional
        {input name: title of the level}; the input's name if left out, z₁ for an input `z_1`.
    limits : (low, high)
        Of every latent.
    value : dict, optional
        {input name: sequence of float}: where the latents start; zeros where left out.
    steps : int
        Images in each traversal.
    alt, caption, dtype
        As for `LiveFigure`.

    Raises
    ------
    ValueError
        Shapes, titles, limits, steps, values or an image range that do not fit, or a layer that the browser cannot run.
    """

    def __init__(
        self, decoder, *, titles=None, limits=(-2.5, 2.5), value=None, steps=9, alt=None, caption="", dtype="int8"
    ):
        titles, value = titles or {}, value or {}
        shapes = {x.name: tuple(x.shape[1:]) for x in decoder.inputs}
        if any(len(shape) != 1 or None in shape for shape in shapes.values()):
            raise ValueError(f"Each input of the decoder must be a vector of latents; it has {shapes}.")
        for argument, given in (("titles", titles), ("value", value)):
            if not isinstance(given, dict) or not set(given) <= set(shapes):
                raise ValueError(f"{argument} must be a dictionary for the inputs {', '.join(shapes)}; got {given!r}.")
        if np.shape(limits) != (2,) or not -np.inf < limits[0] < limits[1] < np.inf:
            raise ValueError(f"limits must be (low, high) with low < high; got {limits!r}.")
        sliders = {}
        for key, (size,) in shapes.items():
            name = re.sub("_?([0-9]+)$", lambda number: number[1].translate(SUBSCRIPTS), key)
            sliders[key] = {
                "limits": [limits] * size,
                "names": _numbered(name, size) if size > 1 else [name],
                "value": value.get(key, np.zeros(size)),
                "title": titles.get(key, name),
                "sample": name,
                "strip": {"steps": steps, "view": 0},
            }
        views = [image(*image_size(decoder))]
        super().__init__(decoder, sliders, views, alt=alt, caption=caption, dtype=dtype)
        self.spec["prior"] = True

    def _draw_poster(self):
        """The still picture: every latent's traversal, from where the figure starts."""
        (view,), inputs = self.spec["views"], self.spec["inputs"]
        steps = inputs[0]["strip"]["steps"]
        sizes = [item["size"] for item in inputs]
        cell = 4.6 / steps, 4.6 / steps * view["height"] / view["width"]
        figure, axes = new_figure(
            5.4, 0.3 + 0.45 * len(sizes) + cell[1] * sum(sizes), nrows=len(sizes), squeeze=False,
            sharex=True, height_ratios=sizes,
        )  # fmt: skip
        for ax, item in zip(axes.flat, inputs):
            z = np.tile(item["value"], (item["size"], steps, 1))
            for i, limits in enumerate(item["limits"]):
                z[i, :, i] = np.linspace(*limits, steps)
            mosaic = self._mosaic({**self.value, item["name"]: z.reshape(-1, item["size"])}, view, item["size"], steps)
            (low, high), n = item["limits"][0], item["size"]
            half = (high - low) / (steps - 1) / 2
            ax.imshow(
                mosaic, cmap="gray_r", vmin=0, vmax=1, extent=(low - half, high + half, n - 0.5, -0.5), aspect="auto"
            )
            ax.set_yticks(range(n), item["names"])
            ax.set_title(item["title"], fontsize="medium", loc="left")
        return figure


def latents_of(decoder, choices):
    """Name and size of the decoder's one vector of latents."""
    latents = [x for x in decoder.inputs if x.name not in (choices or {})]
    if len(latents) != 1 or len(latents[0].shape) != 2:
        shapes = {x.name: tuple(x.shape[1:]) for x in latents}
        raise ValueError(f"The decoder must have one vector of latents, beside choices; it has {shapes}.")
    return latents[0].name, latents[0].shape[1]


def sliders_of(size, codes, value, limits, names):
    """The sliders of `size` latents, as `LiveFigure` takes them."""
    return {
        "limits": limits_of_codes(limits, codes, size),
        "names": list(names or _numbered("z", size)),
        "value": np.zeros(size) if value is None else value,
    }


def check_codes(codes, labels, size):
    if codes is None:
        if labels is not None:
            raise ValueError("labels colour the codes; give codes, too.")
        return None, None
    codes = np.asarray(codes, "float64")
    if size != 2 or codes.ndim != 2 or codes.shape[1] != 2:
        raise ValueError(f"codes must have shape (N, 2), for a decoder with two latents; got {codes.shape} and {size}.")
    if not np.isfinite(codes).all():
        raise ValueError("codes must be finite.")
    labels = np.zeros(len(codes), int) if labels is None else np.asarray(labels)
    integers = labels.shape == (len(codes),) and np.issubdtype(labels.dtype, np.integer)
    if not integers or not 0 <= labels.min() <= labels.max() < len(PALETTE):
        raise ValueError(f"labels must be {len(codes)} integers in 0..{len(PALETTE) - 1}.")
    return codes, labels


def limits_of_codes(limits, codes, size):
    if limits is None and codes is not None:
        low, high = np.quantile(codes, (0.001, 0.999), axis=0)
        limits = np.transpose([np.floor(10 * low) / 10, np.ceil(10 * high) / 10])
    return np.broadcast_to((-3.0, 3.0) if limits is None else limits, (size, 2)).tolist()


def _numbered(name, size):
    return [name + str(i).translate(SUBSCRIPTS) for i in range(1, size + 1)]


def image_size(decoder):
    """(height, width) of the decoder's one output."""
    shapes = [tuple(x.shape[1:]) for x in keras.tree.flatten(decoder.outputs)]
    if len(shapes) == 1:
        shape = shapes[0]
        if len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0]:
            return math.isqrt(shape[0]), math.isqrt(shape[0])
        if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
            return shape[:2]
    raise ValueError(
        "The decoder must have one output, an image: (height, width), (height, width, 1 or 3), or a square number of "
        f"pixels in a row; it has {shapes}."
    )


def check_range(images):
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            f"The decoder's output must lie in [0, 1]; it spans [{images.min():.3g}, {images.max():.3g}]. "
            "A decoder of logits needs a sigmoid behind it, as in `vae.generator`."
        )


def plane_of_codes(codes, labels, limits):
    """The plane of codes: at most MOST_CODES points as 16-bit fractions of the limits, and each class's median."""
    if codes is None:
        return {"centres": []}
    low, high = np.transpose(limits)
    pick = np.linspace(0, len(codes) - 1, min(MOST_CODES, len(codes))).astype(int)
    share = (codes[pick] - low) / (high - low)
    inside = ((share >= 0) & (share <= 1)).all(axis=1)
    kinds = np.unique(labels)
    medians = [np.median(codes[labels == k], axis=0).round(4).tolist() for k in kinds]
    return {
        "points": base64.b64encode(np.rint(share[inside] * 65535).astype("<u2").tobytes()).decode(),
        "labels": base64.b64encode(labels[pick][inside].astype("u1").tobytes()).decode(),
        "colours": PALETTE,
        "centres": [[str(k), *centre] for k, centre in zip(kinds, medians)] if len(kinds) > 1 else [],
    }

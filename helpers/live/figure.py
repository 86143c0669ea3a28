"""``LiveFigure``: a Keras graph with sliders in front of it and pictures behind it, alive on a page and in a kernel.

``SideBySide`` puts several in one row.
"""

import base64
import hashlib
import html
import io
import itertools
import json
import math
import re
import zlib
from functools import cache
from pathlib import Path

import anywidget
import keras
import numpy as np
import traitlets
from PIL import Image

from helpers.live.exporter import export
from helpers.plots import CYCLE, new_figure

FILES = Path(__file__).parent
STYLES = ("line", "area", "dots", "bars")
MOST_DIGITS = 24  # images to choose from: a page carries each of them, and a reader looks at each


@cache
def _module(name):
    """A JavaScript module without whole-line comments, indentation, imports and exports."""
    text = (FILES / name).read_text(encoding="utf-8")
    text = re.sub(r"^\s*(//.*|/?\*.*|import .*|export default .*)?\n", "", text, flags=re.M)
    return re.sub(r"^\s+|^export ", "", text, flags=re.M)


def _runtime():
    """What a page carries: the engine and the figure as one module."""
    return _module("engine.mjs") + _module("figure.mjs")


@cache
def _style():
    return re.sub(r"\s*/\*.*?\*/\s*|\s+", " ", (FILES / "live.css").read_text(encoding="utf-8"), flags=re.S).strip()


class LiveFigure:
    """A Keras graph from sliders to curves, dots, bars, numbers or images, computed anew in the browser at every move.

    As the last expression of a cell it shows itself, as HTML that needs neither a kernel nor a server: the graph runs in
    the browser, exported with `helpers.live.export`. `widget()` gives the same figure bound to Python.

    Parameters
    ----------
    model : keras.Model
        A built Functional model. Every input has a name and is a vector, usually of one number, or an image to draw;
        outputs that `views` refer to are entries of a dictionary.
    sliders : dict
        {input name: (low, high, start)} for inputs of one number, {input name: {"limits": [(low, high), ...], "names": [...],
        "value": [...]}} for longer ones. Such a dictionary may also hold "title", which puts the sliders in a frame,
        "sample", the text of a button in it that draws them from N(0, I), and "strip": {"steps": n, "view": number of an
        image among `views`}, which shows below each slider how that image changes over its limits.
    views : list
        What to draw with the model's outputs: `image`, `curves` and `numbers`.
    choices : dict, optional
        {input name: list of labels} for one-hot inputs, shown as buttons.
    drawings : dict, optional
        {input name: {"samples": uint8 (n, height, width), "names": [...]}} for one grey image, drawn by the reader, or
        chosen among the samples; the figure starts with the first. What the model gets lies in [0, 1].
    pad : str, optional
        Name of an input of two numbers that is to be moved in a plane, too.
    alt : str
        What the figure shows, for readers who do not see it.
    caption : str
        Text below the figure.
    dtype : str
        How the weights are stored; see `export`.

    Raises
    ------
    ValueError
        Names, shapes or limits that do not fit, or a layer that the browser cannot run.
    """

    def __init__(
        self, model, sliders, views, *, choices=None, drawings=None, pad=None, alt=None, caption="", dtype="float32"
    ):
        if not alt:
            raise ValueError(f"{type(self).__name__} needs alt: a sentence that says what the figure shows.")
        self.caption = caption
        self._keras_model = model
        inputs = read_inputs(model, sliders, choices, drawings)
        self.spec = {"alt": alt, "inputs": inputs, "views": _resolve(views, model)}
        if pad is not None:
            if not any(item["name"] == pad and len(item.get("limits", ())) == 2 for item in inputs):
                raise ValueError(f"pad must name an input of two numbers with sliders; got {pad!r}.")
            self.spec["pad"] = {"input": pad, "centres": []}
        for item in inputs:
            _check_strip(item, self.spec["views"])
        self.model = self._export(dtype)
        self.poster = _small_webp(self._draw_poster())

    @property
    def value(self):
        """Where the figure starts: {input name: list of numbers (of pixels, for a drawing), or index of the chosen label}."""
        return {item["name"]: item["value"] for item in self.spec["inputs"]}

    def widget(self):
        """The figure as an ipywidget (anywidget) for a live kernel: its `value` follows the reader, and may be set."""
        return LiveWidget(model=self.model, spec=self.spec, value=self.value)

    def html(self):
        """The figure as self-contained HTML: style, still picture, model and runtime; no reference to anything else."""
        return _page([self])

    def _parts(self):
        """The figure's key and its HTML without style and runtime."""
        model = base64.b64encode(zlib.compress(self.model, 9)).decode()
        spec = json.dumps(self.spec, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        key = hashlib.sha256((model + spec).encode()).hexdigest()[:12]
        poster = base64.b64encode(self.poster).decode()
        alt, caption = html.escape(self.spec["alt"]), html.escape(self.caption)
        return key, (
            f'<figure class="live" data-live="{key}">\n'
            f'<div class="live-poster"><img src="data:image/webp;base64,{poster}" alt="{alt}"></div>\n'
            f"<figcaption>{caption}</figcaption>\n"
            f'<script type="application/json" data-part="spec">{spec}</script>\n'
            f'<script type="text/plain" data-part="model">{model}</script>\n</figure>'
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html(), "text/plain": repr(self)}

    def __repr__(self):
        shown = ", ".join(item["name"] for item in self.spec["inputs"])
        return f"{type(self).__name__}({shown}; {len(self.model) / 1000:.0f} kB)"

    def _outputs(self, value, repeat=1):
        """Keras's outputs for `value`, of which entries may already be arrays with a batch axis."""
        feed = []
        for item, tensor in zip(self.spec["inputs"], self._keras_model.inputs):
            x = np.eye(item["size"])[value[item["name"]]] if "labels" in item else np.asarray(value[item["name"]])
            x = np.broadcast_to(x, (repeat, item["size"])).astype("float32")
            feed.append(x.reshape(repeat, *tensor.shape[1:]))
        model = self._keras_model
        alone = isinstance(model, keras.Sequential) or not isinstance(model.input, (list, tuple))
        outputs = model(feed[0] if alone else feed)
        return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]

    def _export(self, dtype):
        return export(self._keras_model, dtype, None if dtype == "float32" else self._typical_inputs())

    def _draw_poster(self):
        """The still picture: every view where the figure starts."""
        outputs = [y[0] for y in self._outputs(self.value)]
        panels = [view for view in self.spec["views"] if view["kind"] in ("image", "curves")]
        figure, axes = new_figure(3.9 * max(1, len(panels)), 2.9, ncols=max(1, len(panels)), squeeze=False)
        if not panels:
            axes[0, 0].set_axis_off()
        for ax, view in zip(axes.flat, panels):
            if view["kind"] == "image":
                pixels = outputs[view["output"]].reshape(view["height"], view["width"], -1)
                ax.imshow(np.clip(pixels, 0, 1).squeeze(), cmap="gray_r", vmin=0, vmax=1)
                ax.set_axis_off()
                ax.set_title(view["label"], fontsize="medium")
                continue
            for series in view["series"]:
                x, y, base = np.broadcast_arrays(
                    *(
                        np.ravel(outputs[s["output"]]) if isinstance(s, dict) else s
                        for s in map(series.get, ("x", "y", "base"))
                    )
                )
                look = {"color": series["colour"], "label": series["label"]}
                if series["style"] == "area":
                    ax.fill_between(x, y, base, alpha=0.35, **look)
                elif series["style"] == "bars":
                    ax.bar(x, y - base, 0.6, base, **look)
                else:
                    ax.plot(x, y, "o" if series["style"] == "dots" else "-", ms=4, **look)
            ax.set(xlim=view["xlim"], ylim=view["ylim"], xlabel=view["xlabel"], ylabel=view["ylabel"])
            ax.legend(fontsize="small")
        shown = [row for view in self.spec["views"] if view["kind"] == "numbers" for row in view["rows"]]
        lines = (f"{row['label']}: {outputs[row['output']].item():.{row['digits']}f} {row['unit']}" for row in shown)
        figure.suptitle("\n".join(lines), fontsize="medium")
        return figure

    def _typical_inputs(self, n=1024):
        """Positions that the controls can reach, evenly spread: what the exporter fits its rounding to."""
        rng, typical = np.random.default_rng(0), []
        for item, tensor in zip(self.spec["inputs"], self._keras_model.inputs):
            if "labels" in item:
                x = np.eye(item["size"])[rng.integers(item["size"], size=n)]
            elif "limits" in item:
                x = rng.uniform(*np.transpose(item["limits"]), size=(n, item["size"]))
            else:
                x = _variations(read_samples(item), n, rng)
            typical.append(x.reshape(n, *tensor.shape[1:]))
        return typical


class SideBySide:
    """Live figures in one row, or one below the other where the page is too narrow; each keeps its own caption.

    Parameters
    ----------
    *figures : LiveFigure
        Two or more.
    """

    def __init__(self, *figures):
        for figure in figures:
            if not isinstance(figure, LiveFigure):
                raise TypeError(f"SideBySide takes live figures; got {type(figure).__name__}.")
        if len(figures) < 2:
            raise ValueError(f"SideBySide takes two or more figures; got {len(figures)}.")
        self.figures = figures

    def html(self):
        """The figures as self-contained HTML; they share one style and one runtime."""
        return _page(self.figures)

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html(), "text/plain": repr(self)}

    def __repr__(self):
        return f"SideBySide({', '.join(map(repr, self.figures))})"


def _page(figures):
    keys, parts = zip(*(figure._parts() for figure in figures))
    calls = "".join(f'mountAll("{key}");' for key in dict.fromkeys(keys))
    lines = [
        '<div class="live-row">',
        f"<style>{_style()}</style>",
        *parts,
        f'<script type="module">{_runtime()}{calls}</script>',
        "</div>",
    ]
    return "\n".join(lines)


def image(height, width, output=None, label=""):
    """An image with values in [0, 1], grey (dark ink on paper) or of three channels.

    `output` names the model's output, and may be left out where there is only one; `label` stands below the image.
    """
    return {"kind": "image", "height": int(height), "width": int(width), "output": output, "label": label}


def curves(*series, xlim, ylim, xlabel, ylabel):
    """A panel with axes. Each of `series` is made with `line`, `area`, `dots` or `bars`; limits are (low, high)."""
    for name, limits in (("xlim", xlim), ("ylim", ylim)):
        if not -np.inf < limits[0] < limits[1] < np.inf:
            raise ValueError(f"{name} must be (low, high) with low < high; got {limits}.")
    return {
        "kind": "curves", "series": list(series), "xlim": [float(v) for v in xlim], "ylim": [float(v) for v in ylim],
        "xlabel": xlabel, "ylabel": ylabel, "xticks": _ticks(*xlim), "yticks": _ticks(*ylim),
    }  # fmt: skip


def _series(style):
    def make(x, y, label, base=0.0):
        return {"style": style, "x": x, "y": y, "base": base, "label": label}

    make.__name__ = style
    make.__doc__ = f"""A series drawn as {style}. `x`, `y` and `base` (where an area or bar starts) are numbers, arrays, or
    names of the model's outputs; `label` says what the series is."""
    return make


line, area, dots, bars = map(_series, STYLES)


def numbers(rows, unit="nats", digits=3):
    """Outputs of one number each, as text: {label: name of the output}."""
    return {
        "kind": "numbers",
        "rows": [{"label": k, "output": v, "unit": unit, "digits": digits} for k, v in rows.items()],
    }


class LiveWidget(anywidget.AnyWidget):
    """A `LiveFigure` in a live kernel.

    `value`: {input name: list of numbers, or index of the chosen label}. For a drawing it may be set to an image, too:
    uint8, or floats in [0, 1].
    """

    _esm = _runtime() + "export default { render };"
    _css = _style()
    model = traitlets.Bytes().tag(sync=True)
    spec = traitlets.Dict().tag(sync=True)
    value = traitlets.Dict().tag(sync=True)

    @traitlets.validate("value")
    def _validate(self, proposal):
        return check_value(self.spec["inputs"], dict(proposal["value"]))

    def __repr__(self):
        return f"{type(self).__name__}(value={self.value})"


def check_value(inputs, value):
    """`value` with what it leaves out taken from `inputs`, as plain numbers; raises ValueError where it does not fit."""
    checked = {}
    for item in inputs:
        name = item["name"]
        given = value.pop(name) if name in value else item["value"]
        if "labels" in item:
            if given not in range(item["size"]):
                raise ValueError(f"value[{name!r}] must be 0 to {item['size'] - 1}; got {given!r}.")
            checked[name] = int(given)
        elif "drawing" in item:
            pixels = np.asarray(given)
            if pixels.size != item["size"] or pixels.dtype.kind not in "uif":
                raise ValueError(f"value[{name!r}] must be {item['size']} pixels; got {pixels.dtype} {pixels.shape}.")
            pixels = pixels / 255 if pixels.dtype == np.uint8 else pixels
            if not (pixels.min() >= 0 and pixels.max() <= 1):
                spans = f"{pixels.min()} to {pixels.max()}"
                raise ValueError(f"value[{name!r}] must be uint8 or lie in [0, 1]; got {spans}.")
            checked[name] = [round(float(x), 4) for x in pixels.ravel()]
        else:
            if np.shape(given) != (item["size"],) or not np.isfinite(given).all():
                raise ValueError(f"value[{name!r}] must be {item['size']} finite numbers; got {given!r}.")
            checked[name] = [float(x) for x in given]
    if value:
        raise ValueError(f"value names inputs that the model does not have: {', '.join(value)}.")
    return checked


def read_inputs(model, sliders, choices=None, drawings=None):
    """The model's inputs as a figure's spec lists them; raises ValueError where their controls do not fit them."""
    given = {"sliders": dict(sliders), "choices": dict(choices or {}), "drawings": dict(drawings or {})}
    if len(given["drawings"]) > 1:
        raise ValueError(f"A figure has one drawing field; drawings name {', '.join(given['drawings'])}.")
    inputs = [_read_input(tensor, **given) for tensor in model.inputs]
    for argument, left in given.items():
        if left:
            raise ValueError(f"{argument} name inputs that the model does not have: {', '.join(left)}.")
    return inputs


def _read_input(tensor, sliders, choices, drawings):
    name, shape = tensor.name, tuple(tensor.shape[1:])
    if name in drawings:
        return _read_drawing(name, shape, **drawings.pop(name))
    if len(shape) != 1:
        raise ValueError(f"Input {name!r} must be a vector; its shape is {shape}.")
    (size,) = shape
    if name in choices:
        labels = [str(label) for label in choices.pop(name)]
        if len(labels) != size:
            raise ValueError(f"Input {name!r} has {size} entries, and choices give it {len(labels)} labels.")
        return {"name": name, "size": size, "labels": labels, "value": 0}
    if name not in sliders:
        raise ValueError(f"Input {name!r} has neither a slider nor choices.")
    given = sliders.pop(name)
    if not isinstance(given, dict):
        low, high, start = given
        given = {"limits": [(low, high)], "value": [start], "names": [name]}
    limits = np.asarray(given["limits"], "float64")
    if limits.shape != (size, 2) or not (np.isfinite(limits).all() and (limits[:, 0] < limits[:, 1]).all()):
        raise ValueError(f"limits of {name!r} must be {size} pairs (low, high) with low < high; got {limits.tolist()}.")
    if len(given["names"]) != size:
        raise ValueError(f"names of {name!r} must be {size} labels; got {len(given['names'])}.")
    item = {"name": name, "size": size, "names": list(given["names"]), "limits": limits.tolist(), "step": _step(limits)}
    item |= {key: given[key] for key in ("title", "sample", "strip") if key in given}
    return item | {"value": check_value([item], {name: given["value"]})[name]}


def _check_strip(item, views):
    if "strip" not in item:
        return
    steps, view = (item["strip"].get(key) for key in ("steps", "view"))
    if not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps of a strip must be a whole number, 2 or more; got {steps!r}.")
    images = [i for i, shown in enumerate(views) if shown["kind"] == "image"]
    if view not in images:
        raise ValueError(
            f"The strip of {item['name']!r} must name an image among views, by number: {images}; got {view!r}."
        )


def _read_drawing(name, shape, samples, names=None):
    samples = np.asarray(samples)
    if samples.ndim == 4 and samples.shape[-1] == 1:
        samples = samples[..., 0]
    if samples.dtype != np.uint8 or samples.ndim != 3 or not 1 <= len(samples) <= MOST_DIGITS:
        raise ValueError(
            f"samples must be 1 to {MOST_DIGITS} images, uint8 (n, height, width); got {samples.dtype} {samples.shape}."
        )
    n, height, width = samples.shape
    if shape not in [(height, width), (height, width, 1), (height * width,)]:
        raise ValueError(f"samples of {height} x {width} pixels do not fit the input {name!r}, whose shape is {shape}.")
    if not samples.any(axis=(1, 2)).all():
        raise ValueError("samples hold an image without ink.")
    names = [f"sample {i}" for i in range(1, n + 1)] if names is None else [str(label) for label in names]
    if len(names) != n:
        raise ValueError(f"names of {name!r} must be {n} labels, one for each sample; got {len(names)}.")
    packed = base64.b64encode(samples.tobytes()).decode()
    drawing = {"height": height, "width": width, "names": names, "samples": packed}
    item = {"name": name, "size": height * width, "drawing": drawing}
    return item | {"value": check_value([item], {name: samples[0]})[name]}


def read_samples(item):
    """The sample images of an input that is drawn: (n, height, width) in [0, 1]."""
    pixels = np.frombuffer(base64.b64decode(item["drawing"]["samples"]), "u1")
    return pixels.reshape(-1, item["drawing"]["height"], item["drawing"]["width"]) / np.float32(255)


def _variations(images, n, rng):
    """`n` images made of a few: some shifted by a pixel, some with thinner or thicker ink."""
    varied = []
    for one in images[np.arange(n) % len(images)]:
        near = [np.roll(one, shift, (0, 1)) for shift in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))]
        pen = (one, np.max(near, axis=0), np.min(near, axis=0))[rng.integers(3)]
        varied.append(np.roll(pen, rng.integers(-1, 2, size=2), (0, 1)))
    return np.stack(varied)


def _step(limits):
    """A hundredth of the widest range, rounded down to 1, 2 or 5 times a power of ten: what a key press moves."""
    hundredth = float(np.ptp(limits, axis=1).max()) / 100
    power = 10 ** math.floor(math.log10(hundredth))
    return round(max(n * power for n in (1, 2, 5) if n * power <= hundredth * (1 + 1e-9)), 12)


def _ticks(low, high):
    """Three to seven round numbers within [low, high]."""
    step = 10 ** math.floor(math.log10(high - low))
    step = next(step * n for n in (0.1, 0.2, 0.25, 0.5, 1, 2) if (high - low) / (step * n) <= 6.001)
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _resolve(views, model):
    """Replaces names of outputs by their numbers, arrays by lists; checks that lengths agree."""
    struct = model.outputs if isinstance(model, keras.Sequential) else model.output
    names = struct if isinstance(struct, dict) else {x.name: x for x in model.outputs}
    number = {id(x): i for i, x in enumerate(model.outputs)}
    flat = {name: (number[id(x)], math.prod(x.shape[1:])) for name, x in names.items()}

    def find(what):
        if isinstance(what, str):
            if what not in flat:
                raise ValueError(f"views name the output {what!r}; the model has {', '.join(flat)}.")
            index, size = flat[what]
            return {"output": index}, size
        values = np.asarray(what, "float64").ravel()
        return (float(values[0]), 1) if np.ndim(what) == 0 else ([float(f"{v:.6g}") for v in values], len(values))

    resolved = []
    for view in views:
        colours = itertools.cycle(CYCLE)
        if view["kind"] == "image":
            name = view.get("output")
            if name is None and len(flat) > 1:
                raise ValueError(f"An image must name its output; the model has {', '.join(flat)}.")
            output, size = find(next(iter(flat)) if name is None else name)
            pixels = view["height"] * view["width"]
            if size not in (pixels, 3 * pixels):
                raise ValueError(
                    f"An image of {view['height']} x {view['width']} has {pixels} or {3 * pixels} numbers; output "
                    f"{name or next(iter(flat))!r} has {size}."
                )
            resolved.append({"label": "", **view, **output})
        elif view["kind"] == "numbers":
            rows = []
            for row in view["rows"]:
                output, size = find(row["output"])
                if size != 1:
                    raise ValueError(
                        f"The number {row['label']!r} must be one number; output {row['output']!r} has {size}."
                    )
                rows.append(row | output)
            resolved.append(view | {"rows": rows})
        else:
            series = []
            for item in view["series"]:
                (x, n), (y, m), (base, k) = (find(item[key]) for key in ("x", "y", "base"))
                if any(not isinstance(v, dict) and not np.isfinite(v).all() for v in (x, y, base)):
                    raise ValueError(f"Series {item['label']!r} holds values that are not finite.")
                if len({n, m, k} - {1}) > 1:
                    raise ValueError(f"Series {item['label']!r} has {n} values of x, {m} of y and {k} of base.")
                series.append(item | {"x": x, "y": y, "base": base, "colour": item.get("colour") or next(colours)})
            resolved.append(view | {"series": series})
    return resolved


def _small_webp(figure):
    """A Matplotlib figure as WebP: in 32 colours without loss, or in all with a little, whichever is smaller."""
    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    picture = Image.open(raw).convert("RGB")
    exact, near = io.BytesIO(), io.BytesIO()
    picture.quantize(32).convert("RGB").save(exact, "webp", lossless=True, quality=80, method=6)
    picture.save(near, "webp", quality=80, method=6)
    return min(exact.getvalue(), near.getvalue(), key=len)

"""``LiveFigure``: a Keras graph with sliders in front of it and pictures behind it, alive on a page and in a kernel."""

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
    """A Keras graph from sliders to curves, dots, bars, numbers or an image, computed anew in the browser at every move.

    As the last expression of a cell it shows itself, as HTML that needs neither a kernel nor a server: the graph runs in
    the browser, exported with `helpers.live.export`. `widget()` gives the same figure bound to Python.

    Parameters
    ----------
    model : keras.Model
        A built Functional model. Every input is a vector, usually of one number, and has a name; outputs that `views`
        refer to are entries of a dictionary.
    sliders : dict
        {input name: (low, high, start)} for inputs of one number, {input name: {"limits": [(low, high), ...], "names": [...],
        "value": [...]}} for longer ones.
    views : list
        What to draw with the model's outputs: `curves` and `numbers`.
    choices : dict, optional
        {input name: list of labels} for one-hot inputs, shown as buttons.
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

    def __init__(self, model, sliders, views, *, choices=None, alt=None, caption="", dtype="float32"):
        if not alt:
            raise ValueError(f"{type(self).__name__} needs alt: a sentence that says what the figure shows.")
        self.caption = caption
        self._keras_model = model
        sliders, choices = dict(sliders), dict(choices or {})
        inputs = [_read_input(tensor, sliders, choices) for tensor in model.inputs]
        for argument, left in (("sliders", sliders), ("choices", choices)):
            if left:
                raise ValueError(f"{argument} name inputs that the model does not have: {', '.join(left)}.")
        self.model = export(model, dtype, _samples(inputs))
        self.spec = {"alt": alt, "inputs": inputs, "views": _resolve(views, model)}
        self.poster = _small_png(self._draw_poster())

    @property
    def value(self):
        """Where the figure starts: {input name: list of numbers, or index of the chosen label}."""
        return {item["name"]: item["value"] for item in self.spec["inputs"]}

    def widget(self):
        """The figure as an ipywidget (anywidget) for a live kernel: its `value` follows the reader, and may be set."""
        return LiveWidget(model=self.model, spec=self.spec, value=self.value)

    def html(self):
        """The figure as self-contained HTML: style, still picture, model and runtime; no reference to anything else."""
        model = base64.b64encode(zlib.compress(self.model, 9)).decode()
        spec = json.dumps(self.spec, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        key = hashlib.sha256((model + spec).encode()).hexdigest()[:12]
        poster = base64.b64encode(self.poster).decode()
        alt, caption = html.escape(self.spec["alt"]), html.escape(self.caption)
        return (
            f'<figure class="live" data-live="{key}">\n<style>{_style()}</style>\n'
            f'<div class="live-poster"><img src="data:image/png;base64,{poster}" alt="{alt}"></div>\n'
            f"<figcaption>{caption}</figcaption>\n"
            f'<script type="application/json" data-part="spec">{spec}</script>\n'
            f'<script type="text/plain" data-part="model">{model}</script>\n'
            f'<script type="module">{_runtime()}mountAll("{key}");</script>\n</figure>'
        )

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html(), "text/plain": repr(self)}

    def __repr__(self):
        shown = ", ".join(item["name"] for item in self.spec["inputs"])
        return f"{type(self).__name__}({shown}; {len(self.model) / 1000:.0f} kB)"

    def _outputs(self, value, repeat=1):
        """Keras's outputs for `value`, of which entries may already be arrays with a batch axis."""
        feed = []
        for item in self.spec["inputs"]:
            x = np.eye(item["size"])[value[item["name"]]] if "labels" in item else np.asarray(value[item["name"]])
            feed.append(np.broadcast_to(x, (repeat, item["size"])).astype("float32"))
        outputs = self._keras_model(feed if len(feed) > 1 else feed[0])
        return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(outputs)]

    def _draw_poster(self):
        """The still picture: every view where the figure starts."""
        outputs = [y[0] for y in self._outputs(self.value)]
        panels = [view for view in self.spec["views"] if view["kind"] == "curves"]
        figure, axes = new_figure(3.9 * max(1, len(panels)), 2.9, ncols=max(1, len(panels)), squeeze=False)
        if not panels:
            axes[0, 0].set_axis_off()
        for ax, view in zip(axes.flat, panels):
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
    """A `LiveFigure` in a live kernel. `value`: {input name: list of numbers, or index of the chosen label}."""

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
        else:
            if np.shape(given) != (item["size"],) or not np.isfinite(given).all():
                raise ValueError(f"value[{name!r}] must be {item['size']} finite numbers; got {given!r}.")
            checked[name] = [float(x) for x in given]
    if value:
        raise ValueError(f"value names inputs that the model does not have: {', '.join(value)}.")
    return checked


def _read_input(tensor, sliders, choices):
    name, shape = tensor.name, tuple(tensor.shape[1:])
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
    return item | {"value": check_value([item], {name: given["value"]})[name]}


def _samples(inputs, n=2048):
    """Positions that the controls can reach, evenly spread: what the exporter fits its rounding to."""
    rng = np.random.default_rng(0)
    return [
        np.eye(item["size"])[rng.integers(item["size"], size=n)]
        if "labels" in item
        else rng.uniform(*np.transpose(item["limits"]), size=(n, item["size"]))
        for item in inputs
    ]


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
        if view["kind"] == "numbers":
            rows = []
            for row in view["rows"]:
                output, size = find(row["output"])
                if size != 1:
                    raise ValueError(
                        f"The number {row['label']!r} must be one number; output {row['output']!r} has {size}."
                    )
                rows.append(row | output)
            resolved.append(view | {"rows": rows})
        elif view["kind"] == "curves":
            series = []
            for item in view["series"]:
                (x, n), (y, m), (base, k) = (find(item[key]) for key in ("x", "y", "base"))
                if any(not isinstance(v, dict) and not np.isfinite(v).all() for v in (x, y, base)):
                    raise ValueError(f"Series {item['label']!r} holds values that are not finite.")
                if len({n, m, k} - {1}) > 1:
                    raise ValueError(f"Series {item['label']!r} has {n} values of x, {m} of y and {k} of base.")
                series.append(item | {"x": x, "y": y, "base": base, "colour": next(colours)})
            resolved.append(view | {"series": series})
        else:
            resolved.append(view)
    return resolved


def _small_png(figure):
    """A Matplotlib figure as a PNG with 32 colours."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png")
    Image.open(raw).convert("RGB").quantize(32).save(small, format="png", optimize=True)
    return small.getvalue()

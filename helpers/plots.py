"""The book's one visual style. Every function returns a matplotlib Figure, which a notebook shows once.

Figures belong to no global state (pyplot is not used), have an opaque white ground, and are meant for the screen at 100
dots per inch. The colours of `PALETTE` are told apart by colour-blind readers; where colour carries a class, its name
is written as well.
"""

import base64
import hashlib
import html
import io
from pathlib import Path
from statistics import NormalDist

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

# One colour for each of ten classes: Paul Tol's "muted" scheme, and nearly black in place of its pale grey. (A middle
# grey is the rose of this scheme to eyes without red cones.)
PALETTE = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#222222",
)  # fmt: skip

# The order in which series take their colours: those that stand out from white, the most different first.
CYCLE = tuple(PALETTE[i] for i in (0, 6, 3, 9, 8, 7, 4))

MOST_POINTS = 4000  # of a scatter: more would add weight to the page and no shape

_STYLE = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=CYCLE),
    "axes.labelsize": 10,
    "font.size": 10,
    "legend.frameon": False,
    "image.cmap": "gray_r",
    "image.interpolation": "nearest",
    "lines.linewidth": 1.6,
}


class ShownFigure(Figure):
    """A figure that a notebook shows without pyplot, in the size in which it was drawn."""

    def _repr_png_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width, height, **kwargs):
    """An empty figure in the book's style, `width` by `height` inches, and its axes; `kwargs` as for `Figure.subplots`."""
    with mpl.rc_context(_STYLE):
        figure = ShownFigure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(**kwargs)


def _mosaic(images, rows, columns):
    """(rows * columns, height, width) -> (rows * height, columns * width)."""
    _, height, width = images.shape
    return images.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def _as_images(images, name="images"):
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.ndim != 3 or not len(images):
        raise ValueError(f"{name} must have the shape (N, height, width), N at least 1; got {images.shape}")
    return images / 255 if images.dtype == np.uint8 else images


def _show(ax, mosaic, **kwargs):
    levels = np.round(15 * np.clip(mosaic, 0, 1)) / 15  # sixteen greys look the same and make a third of the file
    ax.imshow(levels, vmin=0, vmax=1, cmap="gray_r", **kwargs)


def plot_images(images, columns=10, title=None):
    """Images (N, height, width), in rows of `columns`; ink is dark."""
    images = _as_images(images)
    rows = -(-len(images) // columns)
    blank = np.zeros((rows * columns - len(images), *images.shape[1:]))
    figure, ax = new_figure(0.55 * columns, 0.55 * rows + 0.3 * bool(title))
    _show(ax, _mosaic(np.concatenate([images, blank]), rows, columns))
    ax.set_axis_off()
    ax.set_title(title)
    return figure


def plot_reconstructions(images, *reconstructions, labels=("image", "reconstruction")):
    """A row of images, and below it a row for each set of reconstructions of them, named by `labels`."""
    sets = [_as_images(images)] + [_as_images(other, "reconstructions") for other in reconstructions]
    if any(other.shape != sets[0].shape for other in sets):
        raise ValueError(f"images and reconstructions differ in shape: {[other.shape for other in sets]}")
    if len(labels) != len(sets):
        raise ValueError(f"labels must name {len(sets)} rows; got {len(labels)}")
    n, height, width = sets[0].shape
    figure, ax = new_figure(0.55 * n + 0.2 + 0.09 * max(map(len, labels)), 0.55 * len(sets))
    _show(ax, _mosaic(np.concatenate(sets), len(sets), n))
    ax.set_yticks([height * (row + 0.5) - 0.5 for row in range(len(sets))], labels)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def plot_manifold(generator, n=20):
    """What a generator of two latents draws on an n by n grid of Gaussian quantiles, which share the prior equally.

    `generator` takes (N, 2) and returns images: a `keras.Model`, or any function of arrays.
    """
    z = gaussian_quantiles(n)
    predict = getattr(generator, "predict_on_batch", generator)
    images = _as_images(predict(np.array([(z1, z2) for z2 in z[::-1] for z1 in z], np.float32)))
    side = 0.28 * n  # inches: an MNIST tile is drawn pixel for pixel
    width, height = side + 0.8, side + 0.65
    figure, ax = new_figure(width, height)
    figure.set_layout_engine("none")
    ax.set_position([0.7 / width, 0.55 / height, side / width, side / height])
    _show(ax, _mosaic(images, n, n), extent=(0, n, 0, n))
    ticks = [i + 0.5 for i in range(0, n, max(1, n // 5))]
    names = [f"{z[int(tick)]:.1f}" for tick in ticks]
    ax.set_xticks(ticks, names)
    ax.set_yticks(ticks, names)
    ax.set_xlabel("$z_1$ (prior standard deviations)")
    ax.set_ylabel("$z_2$ (prior standard deviations)")
    return figure


def gaussian_quantiles(n):
    """The middles of n slices of N(0, 1) with equal probability."""
    return np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])


def plot_latent(codes, labels, title=None, limit=None):
    """Codes (N, 2), coloured by class (0 to 9), with each class written at the median of its codes."""
    return plot_latents([codes], labels, titles=[title], limits=[limit])


def plot_latents(codes, labels, titles, limits=None):
    """Several `plot_latent` side by side: a list of codes, one title for each, and the same labels."""
    labels = np.asarray(labels)
    figure, axes = new_figure(4.6 * len(codes), 4.4, ncols=len(codes), squeeze=False)
    for ax, points, title, limit in zip(axes[0], codes, titles, limits or [None] * len(codes)):
        points = np.asarray(points)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) != len(labels):
            raise ValueError(f"codes must have the shape ({len(labels)}, 2), a row for each label; got {points.shape}")
        shown = np.linspace(0, len(points) - 1, min(MOST_POINTS, len(points))).astype(int)
        ax.scatter(*points[shown].T, c=[PALETTE[label] for label in labels[shown]], s=4, linewidths=0, antialiased=False)
        for label in np.unique(labels):
            centre = np.median(points[labels == label], axis=0)
            ax.text(*centre, str(label), ha="center", va="center", weight="bold",
                    bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "ec": PALETTE[label], "lw": 1.5})  # fmt: skip
        if limit:
            ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
        ax.set(xlabel="$z_1$", ylabel="$z_2$", title=title)
        ax.set_aspect("equal", adjustable="box" if limit else "datalim")
    return figure


def plot_history(history, skip=0):
    """The two halves of the loss against the epoch, each on its own scale: reconstruction and KL, in nats per image.

    `history` is what `fit` returns, or its dictionary; `skip` leaves the first epochs out. Validation, where there is
    any, is dashed.
    """
    history = getattr(history, "history", history)
    figure, axes = new_figure(7, 2.8, ncols=2)
    for ax, name, title in zip(axes, ("reconstruction", "kl"), ("reconstruction", "KL")):
        epochs = np.arange(1, len(history[name]) + 1)
        ax.plot(epochs[skip:], history[name][skip:], label="training")
        if f"val_{name}" in history:
            ax.plot(epochs[skip:], history[f"val_{name}"][skip:], "--", label="held out")
            ax.legend()
        ax.set(xlabel="epoch", ylabel=f"{title} (nats per image)")
    return figure


def plot_curve(x, *ys, xlabel, ylabel, labels=None, marker=None, logx=False, title=None):
    """One or more curves over `x`; with several, `labels` names them in a legend."""
    if labels is not None and len(labels) != len(ys):
        raise ValueError(f"labels must name {len(ys)} curves; got {len(labels)}")
    figure, ax = new_figure(5.4, 3.2)
    for y, style, label in zip(ys, ("-", "--", "-.", ":") * len(ys), labels or [None] * len(ys)):
        ax.plot(x, y, style, marker=marker, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if logx:
        ax.set_xscale("log")
        if len(x) <= 10:
            ax.set_xticks(x, [f"{value:g}" for value in x])
            ax.minorticks_off()
    if labels:
        ax.legend()
    return figure


class Animation:
    """Figures shown one after the other, over and over: an animated WebP, with a still and a box that pauses it.

    No script takes part. Readers who asked their system for less motion see the still, and the box starts the animation;
    in print there is the still alone.

    Parameters
    ----------
    frames : sequence of at least two figures, of one size
    alt : str
        What the animation shows, for readers who do not see it.
    caption : str
        Text below it.
    milliseconds : int
        How long each frame is shown.
    still : int
        Which of the frames stands still; the last if left out.
    """

    def __init__(self, frames, *, alt, caption, milliseconds=800, still=-1):
        if len(frames) < 2:
            raise ValueError(f"frames must be at least 2 figures; got {len(frames)}")
        if not alt or not caption:
            raise ValueError("Animation needs alt, a sentence that says what it shows, and a caption")
        if milliseconds < 100:
            raise ValueError(f"milliseconds must be at least 100; got {milliseconds}")
        pictures = [Image.open(io.BytesIO(figure._repr_png_())).convert("RGB") for figure in frames]
        if len({picture.size for picture in pictures}) > 1:
            raise ValueError(f"frames must have one size; got {sorted({picture.size for picture in pictures})} (pixels)")
        self.alt, self.caption, self.size = alt, caption, pictures[0].size
        options = {"save_all": True, "append_images": pictures[1:], "duration": milliseconds, "loop": 0}
        self.webp, self.still = _webp(pictures[0], **options), _webp(pictures[still])

    def save(self, path):
        """Writes the animation to a .webp file, and the still beside it, as `name-still.webp`."""
        path = Path(path)
        if path.suffix != ".webp":
            raise ValueError(f"path must end in .webp; got {str(path)!r}")
        path.write_bytes(self.webp)
        path.with_name(f"{path.stem}-still.webp").write_bytes(self.still)

    def _repr_html_(self):
        moving, still = (f"data:image/webp;base64,{base64.b64encode(data).decode()}" for data in (self.webp, self.still))
        key = "animation-" + hashlib.sha256(self.webp).hexdigest()[:8]
        width, height = self.size
        alt, size = html.escape(self.alt), f'width="{width}" height="{height}"'
        return (
            f'<figure class="animation">\n<style>{_ANIMATION_STYLE}</style>\n'
            f'<input type="checkbox" id="{key}" aria-label="Pause or play"> <label for="{key}"></label>\n'
            f'<img class="moving" src="{moving}" alt="{alt}" {size}>\n'
            f'<img class="still" src="{still}" alt="{alt}" {size}>\n'
            f"<figcaption>{html.escape(self.caption)}</figcaption>\n</figure>"
        )

    def __repr__(self):
        return f"Animation({self.size[0]} x {self.size[1]} pixels, {len(self.webp) / 1000:.0f} kB)"


def _webp(picture, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format="webp", quality=70, method=6, **options)
    return buffer.getvalue()


_ANIMATION_STYLE = (
    ".animation .moving { display: block } "
    ".animation .still, .animation input:checked ~ .moving { display: none } "
    ".animation input:checked ~ .still { display: block } "
    '.animation label::before { content: "Pause" } '
    "@media (prefers-reduced-motion: reduce) { "
    ".animation .moving, .animation input:checked ~ .still { display: none } "
    ".animation .still, .animation input:checked ~ .moving { display: block } "
    '.animation label::before { content: "Play" } } '
    "@media print { .animation .still { display: block !important } "
    ".animation .moving, .animation input, .animation label { display: none !important } } "
    ".animation img { max-width: 100%; height: auto; margin: 0.25rem auto }"
)

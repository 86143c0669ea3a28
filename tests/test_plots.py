import io
import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from helpers import plots

rng = np.random.default_rng(0)
images = rng.random((7, 28, 28))
labels = np.arange(200) % 10
codes = rng.normal(size=(200, 2)) + labels[:, None]

FIGURES = {
    "images": lambda: plots.plot_images(images, columns=5, title="seven"),
    "one image": lambda: plots.plot_images((images[:1] * 255).astype(np.uint8)),
    "reconstructions": lambda: plots.plot_reconstructions(images, images, 1 - images, labels=("a", "b", "c")),
    "manifold": lambda: plots.plot_manifold(lambda z: np.broadcast_to(z[:, :1, None], (len(z), 4, 4)), n=5),
    "latent": lambda: plots.plot_latent(codes, labels),
    "latents": lambda: plots.plot_latents([codes, -codes], labels, titles=["a", "b"], limits=[None, 5]),
    "history": lambda: plots.plot_history({"reconstruction": [3, 2], "kl": [0, 1], "val_reconstruction": [4, 3], "val_kl": [1, 1]}),
    "curve": lambda: plots.plot_curve([1, 2, 5], [3, 2, 1], [1, 2, 3], xlabel="x (m)", ylabel="y (nats)", labels=("a", "b"), logx=True),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_opaque_small_and_leaves_no_trace(name):
    import matplotlib.pyplot as plt

    style = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    assert isinstance(figure, Figure) and plt.get_fignums() == []  # so that no notebook shows it twice
    png = figure._repr_png_()  # what a notebook shows
    assert dict(matplotlib.rcParams) == style
    pixels = plt.imread(io.BytesIO(png))
    assert pixels.shape[1] <= 1000 and len(png) < 150_000
    assert pixels.shape[2] == 3 or (pixels[..., 3] == 1).all()
    assert (pixels[0, 0, :3] == 1).all() and pixels[..., :3].min() < 0.5
    for ax in figure.axes:
        if ax.axison and name != "reconstructions":
            assert ax.get_xlabel() and ax.get_ylabel()


def test_a_mosaic_keeps_its_order():
    tiles = np.arange(6)[:, None, None] * np.ones((6, 2, 3))
    mosaic = plots._mosaic(tiles, rows=2, columns=3)
    np.testing.assert_array_equal(mosaic[::2, ::3], [[0, 1, 2], [3, 4, 5]])


def test_gaussian_quantiles():
    z = plots.gaussian_quantiles(4)
    np.testing.assert_allclose(z, [-1.15034938, -0.31863936, 0.31863936, 1.15034938])  # of 1/8, 3/8, 5/8, 7/8


def test_the_manifold_has_z1_to_the_right_and_z2_upwards():
    figure = plots.plot_manifold(lambda z: np.broadcast_to(z[:, :1, None], (len(z), 1, 1)), n=3)
    picture = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(picture[1], [0, 0, 1], atol=0.04)  # black is 1, and below 0 is white
    figure = plots.plot_manifold(lambda z: np.broadcast_to(z[:, 1:, None], (len(z), 1, 1)), n=3)
    picture = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(picture[:, 1], [1, 0, 0], atol=0.04)  # row 0 is the top


def test_mnist_tiles_are_drawn_pixel_for_pixel():
    tile = rng.integers(0, 2, size=(28, 28)) * 1.0
    figure = plots.plot_manifold(lambda z: np.broadcast_to(tile, (len(z), 28, 28)), n=10)
    import matplotlib.pyplot as plt

    pixels = plt.imread(io.BytesIO(figure._repr_png_()))[:, :, 0]
    rows, columns = (slice(start + 29, start + 29 + 200) for start in (10, 70))
    assert len(np.unique(pixels[rows, columns])) <= 3
    assert (pixels[rows, columns][28:] == pixels[rows, columns][:-28]).mean() > 0.99


def test_every_class_is_written_at_its_centre():
    figure = plots.plot_latent(codes, labels)
    texts = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert set(texts) == set("0123456789")
    np.testing.assert_allclose(texts["7"], np.median(codes[labels == 7], axis=0))


# How eyes see linear RGB that lack one kind of cone: Machado, Oliveira and Fernandes, "A Physiologically-based Model for
# Simulation of Color Vision Deficiency", 2009, doi:10.1109/TVCG.2009.113, at full severity.
EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(colour):
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    """Linear RGB to coordinates in which equal distances look equal: B. Ottosson, 2020."""
    cones = [[0.412221, 0.536333, 0.051446], [0.211903, 0.680700, 0.107397], [0.088302, 0.281719, 0.629979]]
    lab = [[0.210454, 0.793618, -0.004072], [1.977998, -2.428592, 0.450594], [0.025904, 0.782772, -0.808676]]
    return np.array(lab) @ np.cbrt(np.array(cones) @ np.clip(rgb, 0, 1))


def smallest_difference(colours, eye):
    seen = [oklab(np.array(EYES[eye]) @ linear(colour)) for colour in colours]
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))


def contrast(colour, ground):
    """As WCAG 2 defines it: 1 is none, 21 is black on white, and 3 is asked of what is no text."""
    low, high = sorted(linear(one) @ [0.2126, 0.7152, 0.0722] for one in (colour, ground))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("eye", EYES)
def test_colours_differ_to_every_eye(eye):
    """0.02 is seen where two colours touch. Names stand beside the ten; a series has its dashes, too."""
    assert len(plots.PALETTE) == 10
    assert smallest_difference(plots.PALETTE, eye) > 0.05
    assert smallest_difference(plots.CYCLE, eye) > 0.08


def test_differences_are_measured():
    rose_and_grey = "#CC6677", "#777777"
    assert smallest_difference(rose_and_grey, "protanopia") < 0.01 and smallest_difference(rose_and_grey, "all cones") > 0.1
    assert contrast("black", "white") == pytest.approx(21) and contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)


def test_lines_stand_out_from_their_ground():
    assert min(contrast(colour, "white") for colour in plots.CYCLE) >= 3    # figures are white on dark pages, too
    style = (Path(plots.__file__).parent / "live" / "live.css").read_text(encoding="utf-8")
    for colour in "#4477aa", "#8a8a8a":    # a live figure's sliders and the keyboard's place; its frames
        assert colour in style
        assert min(contrast(colour, page) for page in ("white", "#14181e")) >= 3


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: plots.plot_images(images[0]), "height, width"),
        (lambda: plots.plot_images(images[:0]), "height, width"),
        (lambda: plots.plot_reconstructions(images, images[:3]), "differ in shape"),
        (lambda: plots.plot_reconstructions(images, images, labels=("a",)), "labels"),
        (lambda: plots.plot_latent(codes[:, :1], labels), "codes must have the shape"),
        (lambda: plots.plot_latent(codes[:9], labels), "codes must have the shape"),
        (lambda: plots.plot_curve([1], [1], xlabel="", ylabel="", labels=("a", "b")), "labels"),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.filterwarnings("error")
def test_latent_keeps_to_its_limit():
    figure = plots.plot_latents([codes, codes], labels, titles=["a", "b"], limits=[5, None])
    figure._repr_png_()
    held, free = figure.axes
    assert held.get_xlim() == held.get_ylim() == (-5, 5)
    for ax in figure.axes:  # a unit is as long across as it is up
        box = ax.get_window_extent()
        assert np.ptp(ax.get_xlim()) / box.width == pytest.approx(np.ptp(ax.get_ylim()) / box.height, rel=1e-3)
    assert free.get_xlim()[1] > codes[:, 0].max()


# -- animations ----------------------------------------------------------------------------------------------------


def frames(n=3, width=2):
    return [plots.plot_images(np.full((1, 28, 28), i / n), title=f"{i}") for i in range(n)]


def test_animation_is_a_real_webp_of_its_frames(tmp_path):
    animation = plots.Animation(frames(), alt="It <grows> darker.", caption="Darker & darker.", milliseconds=500, still=0)
    animation.save(tmp_path / "grey.webp")
    with Image.open(tmp_path / "grey.webp") as moving, Image.open(tmp_path / "grey-still.webp") as still:
        assert moving.format == still.format == "WEBP"
        assert moving.n_frames == 3 and not getattr(still, "is_animated", False)
        shades = []
        for i in range(3):
            moving.seek(i)
            moving.load()
            assert moving.info["duration"] == 500
            shades.append(np.asarray(moving.convert("L"), float)[-moving.height // 2 :].mean())
        assert shades[0] > shades[1] > shades[2]
        first = np.asarray(Image.open(io.BytesIO(frames()[0]._repr_png_())).convert("RGB"), float)
        assert np.abs(np.asarray(still.convert("RGB"), float) - first).mean() < 2
    html = animation._repr_html_()
    assert "http" not in html and "<script" not in html
    assert html.count('alt="It &lt;grows&gt; darker."') == 2 and "Darker &amp; darker." in html


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"frames": frames(1)}, "at least 2 figures; got 1"),
        ({"frames": [plots.plot_images(images[:2]), plots.plot_images(images, columns=1)]}, "frames must have one size"),
        ({"alt": ""}, "needs alt"),
        ({"caption": ""}, "needs alt"),
        ({"milliseconds": 0}, "milliseconds must be at least 100; got 0"),
    ],
)
def test_animations_that_cannot_be(arguments, says):
    with pytest.raises(ValueError, match=says):
        plots.Animation(**{"frames": frames(2), "alt": "a", "caption": "b", **arguments})
    with pytest.raises(ValueError, match="path must end in .webp"):
        plots.Animation(frames(2), alt="a", caption="b").save("a.gif")


def test_animation_pauses_and_keeps_still_for_whoever_asks(open_page):
    animation = plots.Animation(frames(), alt="a", caption="b")

    def shown(page):
        return [page.locator(f".animation .{name}").is_visible() for name in ("moving", "still")]

    for motion, label, at_first in ("no-preference", "Pause", [True, False]), ("reduce", "Play", [False, True]):
        page = open_page(reduced_motion=motion)
        page.set_content(animation._repr_html_())
        assert shown(page) == at_first
        content = page.locator(".animation label").evaluate("node => getComputedStyle(node, '::before').content")
        assert content == f'"{label}"'
        page.keyboard.press("Tab")
        page.keyboard.press("Space")
        assert shown(page) == at_first[::-1]
        page.locator(".animation label").click()
        assert shown(page) == at_first
        page.emulate_media(media="print", reduced_motion=motion)
        assert shown(page) == [False, True] and not page.locator(".animation input").is_visible()
        assert page.errors == []

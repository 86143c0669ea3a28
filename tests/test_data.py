import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import binarise, load_mnist


def test_mnist_is_the_known_one():
    (x_train, y_train), (x_test, y_test) = load_mnist()
    assert x_train.shape == (60000, 28, 28) and x_test.shape == (10000, 28, 28)
    assert x_train.dtype == y_train.dtype == x_test.dtype == y_test.dtype == np.uint8
    assert y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_the_file_can_be_made_again_byte_for_byte(tmp_path):
    (x_train, y_train), (x_test, y_test) = load_mnist()
    again = tmp_path / "mnist.npz"
    np.savez_compressed(again, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    with np.load(again) as archive, np.load(data.MNIST) as shipped:
        assert archive.files == shipped.files
    if again.stat().st_size == data.MNIST.stat().st_size:  # the same zlib
        assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(data.MNIST.read_bytes()).digest()


def altered_pixel(path):
    arrays = dict(np.load(data.MNIST))
    arrays["x_test"][17, 3, 3] ^= 1
    np.savez_compressed(path, **arrays)


def wrong_dtype(path):
    arrays = dict(np.load(data.MNIST))
    np.savez_compressed(path, **{**arrays, "y_test": arrays["y_test"].astype(np.int64)})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(data.MNIST.read_bytes()[:5_000_000]), "cannot be read"),
        (lambda path: path.write_bytes(data.MNIST.read_bytes().replace(b"x_test", b"y_best")), "cannot be read"),
        (lambda path: path.write_bytes(data.MNIST.read_bytes()[:100_000] + bytes(2000)
                                       + data.MNIST.read_bytes()[102_000:]), "cannot be read"),
        (lambda path: np.savez(path, x_train=np.zeros(3)), "cannot be read"),
        (altered_pixel, "altered: expected x_test"),
        (wrong_dtype, "altered: expected y_test"),
    ],
)  # fmt: skip
def test_a_damaged_file_says_what_is_wrong_and_how_to_restore_it(tmp_path, monkeypatch, damage, expected):
    path = tmp_path / "mnist.npz"
    damage(path)
    monkeypatch.setattr(data, "MNIST", path)
    with pytest.raises(OSError) as error:  # FileNotFoundError is one
        load_mnist()
    for text in (str(path), expected, "git checkout"):
        assert text in str(error.value)


def test_loading_leaves_the_caller_free_to_change_the_arrays():
    (x_train, _), _ = load_mnist()
    x_train[:] = 0
    assert load_mnist()[0][0].any()


def test_binarise_draws_each_pixel_with_its_own_probability():
    images = np.tile(np.array([0, 51, 128, 204, 255], np.uint8), (40_000, 1))
    draws = binarise(images, np.random.default_rng(0))
    assert draws.dtype == np.float32 and set(np.unique(draws)) == {0.0, 1.0}
    expected = images[0] / 255
    error = np.sqrt(expected * (1 - expected) / len(images))
    assert (np.abs(draws.mean(axis=0) - expected) <= 4 * error).all()  # black and white are exact
    correlation = np.corrcoef(draws[:, 1:4].T)[np.triu_indices(3, 1)]
    assert (np.abs(correlation) < 4 / np.sqrt(len(images))).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=50), st.integers(0, 2**32 - 1))
def test_uint8_and_floats_mean_the_same(values, seed):
    grey = np.array(values, np.uint8)
    from_bytes = binarise(grey, np.random.default_rng(seed))
    from_floats = binarise(grey / np.float32(255), np.random.default_rng(seed))
    np.testing.assert_array_equal(from_bytes, from_floats)
    assert (from_bytes[grey == 0] == 0).all() and (from_bytes[grey == 255] == 1).all()


@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (np.array([0.0, 1.5]), ValueError, "from 0 to 1.5"),
        (np.array([-0.1, 0.5]), ValueError, "from -0.1"),
        (np.array([np.nan, 0.5]), ValueError, "nan"),
        (np.array([0, 255]), TypeError, "int64"),
        (np.array([True]), TypeError, "bool"),
    ],
)
def test_binarise_refuses_what_is_not_an_image(images, error, text):
    with pytest.raises(error, match="images must") as caught:
        binarise(images, np.random.default_rng(0))
    assert text in str(caught.value)


@pytest.mark.parametrize("rng", [None, 0, np.random])
def test_binarise_wants_a_generator(rng):
    with pytest.raises(TypeError, match="default_rng"):
        binarise(np.zeros(3), rng)

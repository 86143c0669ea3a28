import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import SPRITE_FACTORS, binarise, check_labels, load_mnist, load_sprites


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


def test_damage_anywhere_in_the_archive_is_said_or_harmless(tmp_path, monkeypatch):
    """The directory of the archive says how each array is stored: there a changed bit may ask for anything."""
    whole = data.MNIST.read_bytes()
    directory = whole.index(b"PK\1\2")
    method, flags = directory + 10, directory + 8
    places = [(method, 99), (flags, 1), *((at, 0x10) for at in range(directory + 12, len(whole), 23))]
    path = tmp_path / "mnist.npz"
    monkeypatch.setattr(data, "MNIST", path)
    said = 0
    for at, bits in places:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ bits]) + whole[at + 1 :])
        try:
            (x_train, _), (_, y_test) = load_mnist()
        except OSError as error:
            assert str(path) in str(error) and "git checkout" in str(error)
            said += 1
        else:
            assert x_train.shape == (60000, 28, 28) and len(y_test) == 10_000
    assert said >= 5


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


# -- sprites -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, 64])
def test_sprites_are_where_and_as_large_as_their_factors_say(size):
    images, factors = load_sprites(size)
    assert images.shape == (9216, size, size) and images.dtype == np.uint8
    assert np.array_equal(np.unique(factors, axis=0), factors)  # each combination once, in order
    assert (factors.max(axis=0) + 1).tolist() == list(SPRITE_FACTORS.values()) == [3, 4, 12, 8, 8]

    ink = images / 255
    area = ink.sum(axis=(1, 2)) / (size / 32) ** 2
    sides = np.linspace(0.55, 1, 4) * 7
    np.testing.assert_allclose(area, sides[factors[:, 1]] ** 2, rtol=0.03)  # whatever the shape and its rotation
    middle = (size - 1) / 2 + size / 16 * (factors[:, 3:] - 3.5)
    rows, columns = np.mgrid[:size, :size]
    for axis, place in enumerate((columns, rows)):
        found = (ink * place).sum(axis=(1, 2)) / ink.sum(axis=(1, 2))
        np.testing.assert_allclose(found, middle[:, axis], atol=0.05)


def test_every_sprite_is_different_whole_and_smooth_at_its_edge():
    images, _ = load_sprites()
    flat = images.reshape(len(images), -1).astype(np.float32)
    assert len(np.unique(flat, axis=0)) == len(flat)
    assert not (images[:, [0, -1]].any() or images[:, :, [0, -1]].any())  # nothing is cut off
    assert len(np.unique(images)) > 30


def test_sprites_turn_by_15_degrees_a_step_anticlockwise():
    images, factors = load_sprites(64)
    rows, columns = np.mgrid[:64, :64]
    triangles = images[(factors[:, 0] == 1) & (factors[:, 1] == 3) & (factors[:, 3] == 4) & (factors[:, 4] == 4)] / 255.0
    angles = []
    for ink in triangles:  # the tip is what lies farthest from the centre of mass
        x, y = ((ink * place).sum() / ink.sum() for place in (columns, rows))
        far = np.hypot(columns - x, rows - y) * (ink > 0.3)
        row, column = np.unravel_index(far.argmax(), far.shape)
        angles.append(np.degrees(np.arctan2(y - row, column - x)))
    np.testing.assert_allclose(angles, 90 - 82.5 + 15 * np.arange(12), atol=6)


@pytest.mark.parametrize("size", [0, 16, 48, 32.0, "32"])
def test_sprites_of_no_size(size):
    with pytest.raises(ValueError, match="size must be a multiple of 32"):
        load_sprites(size)


@pytest.mark.parametrize(
    ("labels", "error", "says"),
    [
        ([0, 1], ValueError, r"shape \(3,\), one for each image; got \(2,\)"),
        ([[0, 1, 2]], ValueError, "shape"),
        ([0.0, 1.0, 2.0], TypeError, "integers; got dtype float64"),
        ([0, 1, 10], ValueError, r"0\.\.9; got values from 0 to 10"),
        ([-1, 1, 2], ValueError, "from -1 to 2"),
    ],
)
def test_labels_that_are_not(labels, error, says):
    with pytest.raises(error, match=says):
        check_labels(labels, 3, 10)

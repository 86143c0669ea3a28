import keras
import numpy as np
import pytest
from keras import ops

from helpers.layers import Sampling

zeros = ops.zeros((50_000, 2))


def test_moments():
    mean = ops.ones((50_000, 1)) * ops.convert_to_tensor([[1.0, -2.0]])
    log_var = ops.ones((50_000, 1)) * ops.convert_to_tensor([[0.0, float(np.log(9))]])
    z = ops.convert_to_numpy(Sampling(seed=0)([mean, log_var]))
    np.testing.assert_allclose(z.mean(axis=0), [1, -2], atol=4 * 3 / np.sqrt(50_000))
    np.testing.assert_allclose(z.std(axis=0), [1, 3], rtol=0.02)
    assert abs(np.corrcoef(z.T)[0, 1]) < 4 / np.sqrt(50_000)


def test_log_var_is_the_log_of_the_variance():
    """Taking it for the log of the standard deviation gives 7.4 here, in place of 2.7."""
    z = ops.convert_to_numpy(Sampling(seed=0)([zeros, zeros + 2.0]))
    assert z.std() == pytest.approx(np.e, rel=0.02)


def test_seeds():
    draw = lambda seed: ops.convert_to_numpy(Sampling(seed)([zeros, zeros]))  # noqa: E731
    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))
    layer = Sampling(1)
    assert not np.array_equal(*(ops.convert_to_numpy(layer([zeros, zeros])) for _ in range(2)))


def test_no_noise_without_variance():
    mean = ops.reshape(ops.arange(6, dtype="float32"), (3, 2))
    np.testing.assert_array_equal(Sampling(0)([mean, ops.full((3, 2), -200.0)]), mean)


def test_gradients_reach_the_parameters():
    """Fitting q to N(3, 2²) by its samples alone: only the pathwise gradient can do it."""
    x = keras.Input((1,))
    mean, log_var = keras.layers.Dense(1, name="mean")(x), keras.layers.Dense(1, name="log_var")(x)
    model = keras.Model(x, Sampling(seed=0)([mean, log_var]))

    def moments(_, z):
        return ops.square(ops.mean(z) - 3) + ops.square(ops.std(z) - 2)

    model.compile(keras.optimizers.Adam(0.05), loss=moments)
    model.fit(np.ones((4096, 1)), np.ones((4096, 1)), batch_size=512, epochs=40, verbose=0)
    sample = model.predict(np.ones((4096, 1)), verbose=0)
    assert sample.mean() == pytest.approx(3, abs=0.2) and sample.std() == pytest.approx(2, abs=0.2)


def test_saved_with_its_seed(tmp_path):
    mean, log_var = keras.Input((2,)), keras.Input((2,))
    model = keras.Model([mean, log_var], Sampling(seed=7)([mean, log_var]))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[-1].seed == 7
    inputs = [np.zeros((4, 2), np.float32)] * 2
    np.testing.assert_array_equal(again.predict_on_batch(inputs), model.predict_on_batch(inputs))


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([zeros, zeros[:, :1]], "log_var has the shape"),
        ([zeros, zeros[:1]], "log_var has the shape"),
        ([zeros, zeros, zeros], "pair"),
    ],
)
def test_wrong_inputs(inputs, text):
    with pytest.raises(ValueError, match=text):
        Sampling()(inputs)
    layer = Sampling()
    layer([zeros, zeros])
    with pytest.raises(ValueError, match=text):  # not only at the first call
        layer(inputs)

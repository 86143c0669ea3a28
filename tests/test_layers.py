import keras
import numpy as np
import pytest
from keras import ops

from helpers.divergences import imq_kernel, kl_standard_normal, rbf_kernel
from helpers.layers import NormalVariational, Sampling

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


# -- NormalVariational ---------------------------------------------------------------------------------------------


def model_with(layer, features=3):
    h = keras.Input((features,))
    model = keras.Model(h, layer(h))
    model.compile(keras.optimizers.SGD(0.0), loss=lambda y, z: 0 * ops.sum(z, axis=-1))
    return model


def with_moments(layer, mean, log_var, features=3):
    """The layer with weights such that every input has this mean and raw log variance."""
    model = model_with(layer, features)
    for dense, value in ((layer.mean, mean), (layer.log_var, log_var)):
        dense.set_weights([np.zeros((features, layer.size)), np.full(layer.size, value)])
    return model


x = np.random.default_rng(0).normal(size=(256, 3)).astype("float32")


@pytest.mark.parametrize("coef", [0.0, 1.0, 2.5])
def test_kl_is_the_loss_and_the_metric(coef):
    model = with_moments(NormalVariational(2, coef_kl=coef, name="z_1_latent"), 0.7, -1.2)
    report = model.evaluate(x, x, batch_size=100, verbose=0, return_dict=True)
    expected = coef * kl_standard_normal([[0.7, 0.7]], [[-1.2, -1.2]])[0]
    assert report["z_1_latent"] == pytest.approx(expected, rel=1e-5) == pytest.approx(report["loss"], rel=1e-5)


@pytest.mark.parametrize("kernel", [rbf_kernel, imq_kernel, 4.0, (1.0, 8.0)])
def test_mmd_is_the_loss(kernel):
    layer = NormalVariational(2, add_kl=False, add_mmd=True, lambda_mmd=3.0, kernel=kernel, seed=0)
    values = {}
    for mean in (0.0, 3.0):
        model = with_moments(layer, mean, 0.0)
        runs = [model.evaluate(x, x, batch_size=256, verbose=0, return_dict=True) for _ in range(30)]
        assert all(run["loss"] == pytest.approx(run[layer.name], rel=1e-5) for run in runs)
        values[mean] = np.mean([run["loss"] for run in runs])
    if callable(kernel):  # the V-statistic's bias, and not nothing
        inside = np.random.default_rng(1).normal(size=(2, 3000, 2))
        bias = 3 * 2 / 256 * (1 - kernel(*inside).mean())
        assert values[0.0] == pytest.approx(bias, rel=0.15)
    else:
        assert abs(values[0.0]) < 0.01
    assert values[3.0] > 0.5


def test_both_together_are_added_and_variables_change_them():
    layer = NormalVariational(2, add_mmd=True, lambda_mmd=10.0, kernel=4.0)
    model = with_moments(layer, 2.0, 0.0)
    parts = []
    for coef, scale in ((1.0, 0.0), (0.0, 10.0), (1.0, 10.0)):
        layer.coef_kl.assign(coef)
        layer.lambda_mmd.assign(scale)
        parts.append(np.mean([model.evaluate(x, x, batch_size=256, verbose=0, return_dict=True)["loss"] for _ in range(20)]))
    assert parts[0] == pytest.approx(4.0, rel=1e-4) and parts[1] > 1
    assert parts[2] == pytest.approx(parts[0] + parts[1], rel=0.05)


def test_draws_have_the_moments_and_encoders_can_read_them():
    layer = NormalVariational(1, seed=0)
    model = with_moments(layer, 0.7, -1.2)
    z = model.predict(np.zeros((20_000, 3)), verbose=0)
    assert abs(z.mean() - 0.7) < 4 * np.exp(-0.6) / np.sqrt(20_000) and np.log(z.var()) == pytest.approx(-1.2, abs=0.05)
    encoder = keras.Model(model.inputs, layer.moments(model.inputs[0]))
    np.testing.assert_allclose(encoder.predict(x[:2], verbose=0), [[[0.7]] * 2, [[-1.2]] * 2], rtol=1e-6)


def test_initial_std():
    layer = NormalVariational(2, initial_std=0.15)
    with_moments(layer, 0.0, 0.0)
    np.testing.assert_allclose(np.exp(layer.moments(x)[1] / 2), 0.15, rtol=1e-5)
    with_moments(layer, 0.0, 1e3)
    assert np.max(layer.moments(x)[1]) <= 0
    with_moments(layer, 0.0, -1e3)
    np.testing.assert_allclose(layer.moments(x)[1], 0, atol=1e-6)  # 1 at most


def test_gradients_reach_the_network_before_it():
    h = keras.Input((3,))
    z = NormalVariational(2, add_kl=False, add_mmd=True, lambda_mmd=100.0, kernel=4.0, seed=0)(keras.layers.Dense(8)(h))
    model = keras.Model(h, z)
    model.compile(keras.optimizers.Adam(0.02))
    shifted = x + np.float32([4, 0, 0])
    losses = model.fit(shifted, batch_size=128, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < losses[0] / 5


def test_parameters_are_those_of_the_public_implementation():
    layer = NormalVariational(2, add_kl=False, add_mmd=True, name="z_1_latent")
    assert model_with(layer, 9216).count_params() == 36_869


def test_a_gate_scales_what_is_heard_and_then_its_kl_but_not_the_mmd():
    layer = NormalVariational(2, add_mmd=True, lambda_mmd=10.0, kernel=4.0, gated=True, seed=0)
    model = with_moments(layer, 2.0, 0.0)
    kl, losses = kl_standard_normal([[2.0, 2.0]], [[0.0, 0.0]])[0], {}
    for gate, heard, charged in ((0.0, 0.0, 0.0), (0.25, 0.5, 0.0), (0.5, 1.0, 0.0), (0.75, 1.0, 0.5), (1.0, 1.0, 1.0)):
        layer.gate.assign(gate)
        z = model.predict(x, batch_size=256, verbose=0)
        np.testing.assert_allclose(z.mean(axis=0), heard * 2, atol=0.3 * heard)
        np.testing.assert_allclose(z.std(axis=0), heard, rtol=0.15)
        losses[gate] = model.evaluate(x, x, batch_size=256, verbose=0, return_dict=True)["loss"] - charged * kl
    assert np.ptp(list(losses.values())) < 1.2 < 4 < min(losses.values())


@pytest.mark.parametrize("kernel", [imq_kernel, [1.0, 8.0]])
def test_normal_variational_survives_saving(tmp_path, kernel):
    settings = {"add_mmd": True, "lambda_mmd": 5.0, "kernel": kernel, "initial_std": 0.2, "gated": True, "seed": 3}
    layer = NormalVariational(2, **settings, name="z_2_latent")
    model = model_with(layer)
    layer.lambda_mmd.assign(7.0)
    layer.gate.assign(0.5)
    model = keras.Model(model.input, model.output)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").get_layer("z_2_latent")
    assert float(again.lambda_mmd) == 7 and again.initial_std == 0.2 and again.seed == 3
    assert again.kernel == kernel and float(again.gate) == 0.5
    np.testing.assert_array_equal(again.moments(x)[0], layer.moments(x)[0])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"size": 0}, "size must be an integer of at least 1; got 0"),
        ({"size": 1.5}, "size must be"),
        ({"coef_kl": -1}, "coef_kl must be at least 0; got -1"),
        ({"lambda_mmd": 0}, "lambda_mmd must be above 0; got 0"),
        ({"lambda_mmd": float("nan")}, "lambda_mmd must be above 0"),
        ({"kernel": 0.0}, "kernel must be a function, or scales above 0; got 0.0"),
        ({"kernel": ()}, "kernel must be"),
        ({"initial_std": 1.0}, "initial_std must be between 0 and 1; got 1.0"),
    ],
)
def test_normal_variational_out_of_range(arguments, says):
    with pytest.raises(ValueError, match=says):
        NormalVariational(**{"size": 2, **arguments})


def test_one_row_has_no_unbiased_mmd():
    model = model_with(NormalVariational(2, add_kl=False, add_mmd=True, kernel=4.0))
    with pytest.raises(ValueError, match="x must have at least 2 rows; got 1"):
        model(x[:1])

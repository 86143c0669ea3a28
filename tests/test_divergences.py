import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import ops
from scipy import integrate, stats

from helpers.divergences import (
    imq_kernel,
    kl_normal,
    kl_standard_normal,
    mmd2,
    mmd2_standard_normal,
    multi_scale,
    rbf_kernel,
)

shapes = st.tuples(st.integers(1, 4), st.integers(1, 5))
means = st.floats(-30, 30, width=32)
log_vars = st.floats(-80, 80, width=32)


def one(mean, log_var):
    return kl_standard_normal([[mean]], [[log_var]])[0]


@pytest.mark.parametrize(
    ("mean", "log_var", "expected"),
    [
        (0.0, 0.0, 0.0),
        (1.0, 0.0, 0.5),
        (-3.0, 0.0, 4.5),
        (0.0, np.log(4.0), 0.5 * (4 - np.log(4) - 1)),
        (2.0, -80.0, 0.5 * (4 + 80 - 1)),  # exp(-80) is nothing
    ],
)
def test_known_values(mean, log_var, expected):
    assert one(mean, log_var) == pytest.approx(expected, rel=1e-14, abs=1e-14)


@pytest.mark.parametrize(("mean", "log_var"), [(0.0, -1.0), (0.7, 0.4), (-2.0, 1.5)])
def test_quadrature(mean, log_var):
    q, p = stats.norm(mean, np.exp(log_var / 2)), stats.norm()
    integral, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), *q.interval(1 - 1e-15))
    assert one(mean, log_var) == pytest.approx(integral, rel=1e-7)


def test_general_case_against_quadrature():
    q, p = stats.norm(0.3, np.exp(-0.4)), stats.norm(-1.1, np.exp(0.25))
    integral, _ = integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), *q.interval(1 - 1e-15))
    assert kl_normal([[0.3]], [[-0.8]], [[-1.1]], [[0.5]])[0] == pytest.approx(integral, rel=1e-7)


def test_latents_are_summed_and_images_kept_apart():
    mean, log_var = [[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]
    np.testing.assert_allclose(kl_standard_normal(mean, log_var), [2.5, 0.5 * (np.e - 2)], rtol=1e-14)


@settings(max_examples=60, deadline=None)
@given(st.data(), shapes)
def test_properties_of_a_divergence(data, shape):
    draw = lambda elements: data.draw(arrays(np.float64, shape, elements=elements))  # noqa: E731
    mean_q, log_var_q, mean_p, log_var_p = (draw(kind) for kind in (means, log_vars, means, log_vars))
    kl = kl_normal(mean_q, log_var_q, mean_p, log_var_p)
    assert kl.shape == shape[:1] and kl.dtype == np.float64
    assert (kl >= 0).all()
    np.testing.assert_allclose(kl_normal(mean_q, log_var_q, mean_q, log_var_q), 0, atol=1e-12)
    zero = np.zeros(shape)
    np.testing.assert_allclose(kl_normal(mean_q, log_var_q, zero, zero), kl_standard_normal(mean_q, log_var_q))
    # the same affine change of variables in both leaves it alone
    moved = kl_normal(2 * mean_q + 1, log_var_q + np.log(4), 2 * mean_p + 1, log_var_p + np.log(4))
    np.testing.assert_allclose(moved, kl, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, shapes, elements=means), st.data())
def test_float32_is_finite_and_right_over_the_whole_range(mean, data):
    log_var = data.draw(arrays(np.float32, mean.shape, elements=log_vars))
    exact = kl_standard_normal(mean.astype(float), log_var.astype(float))
    for kl in (
        kl_standard_normal(mean, log_var),
        ops.convert_to_numpy(kl_standard_normal(ops.convert_to_tensor(mean), ops.convert_to_tensor(log_var))),
    ):
        assert kl.dtype == np.float32
        np.testing.assert_allclose(kl, exact, rtol=2e-5, atol=1e-6)


def test_float32_general_case_wherever_the_value_is_representable():
    grid = np.linspace(-80, 80, 33)
    log_var_q, log_var_p = (a.reshape(-1, 1) for a in np.meshgrid(grid, grid))
    mean_q, mean_p = np.full_like(log_var_q, 5.0), np.full_like(log_var_p, -5.0)
    exact = kl_normal(mean_q, log_var_q, mean_p, log_var_p)
    fits = exact < 1e38
    assert fits.sum() > 900
    single = [a[fits].astype(np.float32) for a in (mean_q, log_var_q, mean_p, log_var_p)]
    np.testing.assert_allclose(kl_normal(*single), exact[fits], rtol=1e-4)
    tensors = [ops.convert_to_tensor(a) for a in single]
    np.testing.assert_allclose(ops.convert_to_numpy(kl_normal(*tensors)), exact[fits], rtol=1e-4)


def test_close_to_the_prior_nothing_is_lost():
    """KL is log_var² / 4 near 0: exp(l) - 1 - l in float32 would be rounding error."""
    log_var = np.full((1, 1), 1e-3, np.float32)
    assert kl_standard_normal(0 * log_var, log_var)[0] == pytest.approx(0.25e-6, rel=1e-2)


def test_lists_and_arrays_stay_in_numpy_and_tensors_stay_tensors():
    assert kl_standard_normal([[1]], [[0]]).dtype == np.float64
    assert kl_standard_normal(np.float32([[1]]), np.float32([[0]])).dtype == np.float32
    mixed = kl_standard_normal(ops.ones((1, 1)), np.zeros((1, 1), np.float32))
    assert keras.ops.is_tensor(mixed)


def test_inside_a_keras_graph():
    mean, log_var = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([mean, log_var], kl_standard_normal(mean, log_var))
    m, v = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(model.predict_on_batch([m, v]), kl_standard_normal(m, v), rtol=1e-5)


good = np.zeros((2, 3))
bad_values = [
    (np.zeros((2, 4)), "shape"),
    (np.zeros((1, 3)), "shape"),
    (np.zeros(3), "batch, latents"),
    (np.zeros((2, 3, 1)), "batch, latents"),
    (np.full((2, 3), np.nan), "not finite"),
    (np.full((2, 3), -np.inf), "not finite"),
]


@pytest.mark.parametrize(("bad", "text"), bad_values)
@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("as_tensor", [False, True])
def test_bad_arguments_are_named(bad, text, position, as_tensor):
    names = ("mean_q", "log_var_q", "mean_p", "log_var_p")
    arguments = [good] * 4
    arguments[position] = bad
    if as_tensor:
        arguments = [ops.convert_to_tensor(a.astype("float32")) for a in arguments]
    with pytest.raises(ValueError, match=text) as error:
        kl_normal(*arguments)
    assert names[position] in str(error.value)
    if position < 2:
        with pytest.raises(ValueError, match=text):
            kl_standard_normal(*arguments[:2])


BACKENDS = [name for name, module in (("tensorflow", "tensorflow"), ("jax", "jax"), ("torch", "torch"))
            if __import__("importlib.util").util.find_spec(module)]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_numerics_on_every_installed_backend(backend):
    """`numerics.py` fits, scores, saves and loads a small VAE, and asserts known answers."""
    script = os.path.join(os.path.dirname(__file__), "numerics.py")
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == f"{backend} ok"


# -- maximum mean discrepancy --------------------------------------------------------------------------------------

samples = np.random.default_rng(0)
KERNELS = {"rbf": rbf_kernel, "imq": imq_kernel, "multi": multi_scale(rbf_kernel, (0.5, 2, 8))}


def test_kernels_are_their_formulas():
    x, y = samples.normal(size=(5, 3)), samples.normal(size=(4, 3))
    square = ((x[:, None] - y) ** 2).sum(axis=2)
    np.testing.assert_allclose(rbf_kernel(x, y), np.exp(-square / 9), rtol=1e-12)
    np.testing.assert_allclose(rbf_kernel(x, y), np.exp(-((x[:, None] - y) ** 2).mean(axis=2) / 3), rtol=1e-12)
    np.testing.assert_allclose(rbf_kernel(x, y, scale=0.3), np.exp(-square / 0.3), rtol=1e-11)
    np.testing.assert_allclose(imq_kernel(x, y), 6 / (6 + square), rtol=1e-12)
    expected = (np.exp(-square / 0.5) + np.exp(-square / 2) + np.exp(-square / 8)) / 3
    np.testing.assert_allclose(KERNELS["multi"](x, y), expected, rtol=1e-11)


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_kernels_are_symmetric_positive_definite_and_one_at_zero(kernel):
    x = samples.normal(size=(60, 4)) * 3 + 100  # far from the origin, where squares would lose digits
    k = kernel(x, x)
    np.testing.assert_allclose(k, k.T, rtol=1e-9)
    np.testing.assert_allclose(np.diag(k), 1, atol=1e-9)
    assert np.linalg.eigvalsh(k).min() > -1e-9
    assert kernel(x, x[:7]).shape == (60, 7)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_mmd_is_its_double_sum(kernel, unbiased):
    x, y = samples.normal(size=(6, 2)), samples.normal(size=(9, 2)) + 1

    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and unbiased and i == j)]
        return np.mean([kernel(a[i : i + 1], b[j : j + 1])[0, 0] for i, j in pairs])

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert mmd2(x, y, kernel, unbiased) == pytest.approx(expected, rel=1e-10)
    found = mmd2(ops.convert_to_tensor(x, "float32"), ops.convert_to_tensor(y, "float32"), kernel, unbiased)
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_biases_under_the_null():
    """The V-statistic's mean is (1 - E k) (1/n + 1/m), the U-statistic's is 0."""
    n, m, d, runs = 20, 30, 2, 4000
    draws = [(samples.normal(size=(n, d)), samples.normal(size=(m, d))) for _ in range(runs)]
    bias = (1 - (4 / (4 + 4)) ** (d / 2)) * (1 / n + 1 / m)
    for unbiased, expected in ((False, bias), (True, 0)):
        values = [mmd2(x, y, unbiased=unbiased) for x, y in draws]
        assert abs(np.mean(values) - expected) < 4 * np.std(values) / np.sqrt(runs)
    assert bias > 20 * np.std(values) / np.sqrt(runs)  # the two could be told apart


@pytest.mark.parametrize("scale", [None, 0.5, (0.5, 2, 8)])
@pytest.mark.parametrize("unbiased", [False, True])
def test_closed_form_against_the_standard_normal(scale, unbiased):
    x = samples.normal(size=(300, 3)) * 0.6 + 0.4
    kernel = rbf_kernel if scale is None else multi_scale(rbf_kernel, np.atleast_1d(scale))
    estimates = [mmd2(x, samples.normal(size=(4000, 3)), kernel, unbiased) for _ in range(5)]
    if not unbiased:  # 4000 prior samples have a bias of their own, which the closed form has not
        estimates = np.array(estimates) - (1 - np.mean([(s / (s + 4)) ** 1.5 for s in np.atleast_1d(scale or 9)])) / 4000
    found = mmd2_standard_normal(x, scale, unbiased)
    assert abs(found - np.mean(estimates)) < 5 * np.std(estimates, ddof=1) / np.sqrt(5)
    assert float(mmd2_standard_normal(ops.convert_to_tensor(x, "float32"), scale, unbiased)) == pytest.approx(found, rel=1e-3)


def test_mmd_inside_a_keras_graph_of_unknown_batch():
    z = keras.Input((2,))
    discrepancies = [
        ops.reshape(value, (1,))
        for value in (mmd2_standard_normal(z, unbiased=True), mmd2(z, z + 1.0, unbiased=True), mmd2(z, z * 2.0, imq_kernel))
    ]
    model = keras.Model(z, discrepancies)
    x = samples.normal(size=(50, 2)).astype("float32")
    expected = [mmd2_standard_normal(x, unbiased=True), mmd2(x, x + 1, unbiased=True), mmd2(x, x * 2, imq_kernel)]
    np.testing.assert_allclose([float(v[0]) for v in model(x)], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: rbf_kernel(x, x, scale=0), "scale must be a number above 0; got 0"),
        (lambda x: imq_kernel(x, x, scale=-1.0), "scale must be a number above 0; got -1.0"),
        (lambda x: rbf_kernel(x, x, scale=np.nan), "scale must be"),
        (lambda x: multi_scale(rbf_kernel, [1, 0]), "scale must be"),
        (lambda x: multi_scale(rbf_kernel, []), "scales is empty"),
        (lambda x: rbf_kernel(x, x[:, :1]), "y has 1 features, but x has 2"),
        (lambda x: mmd2(x, x[0]), r"y must have the shape \(samples, features\); got \(2,\)"),
        (lambda x: mmd2(x[:1], x, unbiased=True), "x must have at least 2 rows; got 1"),
        (lambda x: mmd2(x, x[:0]), "y must have at least 1 rows; got 0"),
        (lambda x: mmd2(x, x + np.inf), "y holds values that are not finite"),
        (lambda x: mmd2_standard_normal(x, scale=0.0), "scale must be"),
        (lambda x: mmd2_standard_normal(x[:1], unbiased=True), "x must have at least 2 rows"),
    ],
)
def test_samples_and_scales_that_are_not(call, says):
    with pytest.raises(ValueError, match=says):
        call(np.arange(8.0).reshape(4, 2))

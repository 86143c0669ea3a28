"""Divergences between distributions: KL, in nats, and maximum mean discrepancy, which has no unit.

NumPy arrays and lists are computed by NumPy in their own precision (float64 for lists) and give NumPy arrays;
backend tensors are computed by Keras and give backend tensors.
"""

import keras
import numpy as np
from keras import ops


def kl_standard_normal(mean, log_var):
    r"""KL divergence from a diagonal Gaussian to the standard normal, N(mean, diag exp(log_var)) to N(0, I).

    .. math:: \tfrac12 \sum_j \left( \mu_j^2 + \sigma_j^2 - \log \sigma_j^2 - 1 \right)

    Parameters
    ----------
    mean, log_var : (batch, latents)
        The logarithm is natural, and of the *variance*.

    Returns
    -------
    (batch,), in nats, summed over the latents.

    Raises
    ------
    ValueError
        An argument is not of rank 2, is not shaped like `mean`, or holds values that are not finite. (Values are
        looked at wherever they are known: always, except while a graph is being traced.)

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, Appendix B.
    """
    xp, (mean, log_var) = _arguments(mean=mean, log_var=log_var)
    return 0.5 * xp.sum(mean * mean + (xp.expm1(log_var) - log_var), axis=-1)


def kl_normal(mean_q, log_var_q, mean_p, log_var_p):
    r"""KL divergence from q = N(mean_q, diag exp(log_var_q)) to p = N(mean_p, diag exp(log_var_p)).

    .. math:: \tfrac12 \sum_j \left( \frac{(\mu_{q,j} - \mu_{p,j})^2}{\sigma_{p,j}^2}
              + \frac{\sigma_{q,j}^2}{\sigma_{p,j}^2} - \log \frac{\sigma_{q,j}^2}{\sigma_{p,j}^2} - 1 \right)

    Parameters, result and errors are those of `kl_standard_normal`, which is the case ``mean_p = log_var_p = 0``;
    all four arguments have the shape (batch, latents).
    """
    xp, (mean_q, log_var_q, mean_p, log_var_p) = _arguments(
        mean_q=mean_q, log_var_q=log_var_q, mean_p=mean_p, log_var_p=log_var_p
    )
    shift = (mean_q - mean_p) * xp.exp(-log_var_p / 2)  # squared last, so that no factor overflows alone
    log_ratio = log_var_q - log_var_p
    return 0.5 * xp.sum(shift * shift + (xp.expm1(log_ratio) - log_ratio), axis=-1)


@keras.saving.register_keras_serializable("helpers")
def rbf_kernel(x, y, scale=None):
    r"""k(x, y) = exp(-|x - y|^2 / scale), for every row of `x` with every row of `y`.

    Parameters
    ----------
    x : (n, d)
    y : (m, d)
    scale : float above 0, in units of x squared
        Twice the square of the bandwidth. d^2 if left out, the choice of the public ladder implementation by Michedev.

    Returns
    -------
    (n, m), between 0 and 1.

    Raises
    ------
    ValueError
        `scale` is not above 0; x and y are not of rank 2, differ in d, or hold values that are not finite.

    References
    ----------
    Gretton, Borgwardt, Rasch, Schölkopf and Smola, A Kernel Two-Sample Test, 2012.
    """
    xp, (x, y) = _rows(x=x, y=y)
    return xp.exp(-_squared_distances(xp, x, y) / _scale(scale, x.shape[1] ** 2))


@keras.saving.register_keras_serializable("helpers")
def imq_kernel(x, y, scale=None):
    """The inverse multiquadric, scale / (scale + |x - y|^2): its tail is heavy, so far samples still pull on each other.

    `scale` is 2 d if left out, the choice of Tolstikhin, Bousquet, Gelly and Schölkopf, Wasserstein Auto-Encoders, 2018, for
    a standard normal prior. Parameters, result and errors are those of `rbf_kernel`.
    """
    xp, (x, y) = _rows(x=x, y=y)
    scale = _scale(scale, 2 * x.shape[1])
    return scale / (scale + _squared_distances(xp, x, y))


def multi_scale(kernel, scales):
    """The mean of `kernel` over several scales, as a kernel: sensitive to differences of every such size at once."""
    scales = [_scale(scale, None) for scale in scales]
    if not scales:
        raise ValueError("scales is empty")

    def mean_kernel(x, y):
        return sum(kernel(x, y, scale) for scale in scales) / len(scales)

    return mean_kernel


def mmd2(x, y, kernel=rbf_kernel, unbiased=False):
    r"""The squared maximum mean discrepancy between two samples.

    .. math:: \frac{1}{n^2} \sum_{i,j} k(x_i, x_j) + \frac{1}{m^2} \sum_{i,j} k(y_i, y_j)
              - \frac{2}{nm} \sum_{i,j} k(x_i, y_j)

    This is the V-statistic: never negative, and too large by (1 - E k) (1/n + 1/m) if both samples come from one
    distribution and k(x, x) = 1. With `unbiased` the pairs i = j are left out of the first two sums, which are divided by
    n (n - 1) and m (m - 1): the U-statistic, whose mean is the squared MMD itself, and which may be negative.

    Parameters
    ----------
    x : (n, d)
    y : (m, d)
    kernel : function (x, y) -> (n, m)
    unbiased : bool

    Returns
    -------
    A scalar.

    Raises
    ------
    ValueError
        As for `rbf_kernel`; or a sample is empty, or has one row where `unbiased` needs two.

    References
    ----------
    Gretton, Borgwardt, Rasch, Schölkopf and Smola, A Kernel Two-Sample Test, 2012, Equations 3 and 5.
    """
    xp, (x, y) = _rows(1 + unbiased, x=x, y=y)
    within = [_mean_within(xp, kernel(sample, sample), unbiased) for sample in (x, y)]
    return sum(within) - 2 * xp.mean(kernel(x, y))


def mmd2_standard_normal(x, scale=None, unbiased=False):
    r"""The squared MMD between a sample and N(0, I) for the RBF kernel, with nothing drawn from N(0, I).

    With s the scale, the means over y, y' from N(0, I) are E k(x, y) = (s / (s + 2))^{d/2} exp(-|x|^2 / (s + 2)) and
    E k(y, y') = (s / (s + 4))^{d/2}, by completing the square.

    Parameters
    ----------
    x : (n, d)
    scale : float or sequence of floats, above 0
        As for `rbf_kernel`; of several, the mean is taken, as with `multi_scale`.
    unbiased : bool
        As for `mmd2`.

    Returns
    -------
    A scalar.
    """
    xp, (x,) = _rows(1 + unbiased, x=x)
    d = x.shape[1]
    scales = [_scale(s, d**2) for s in (scale if np.ndim(scale) else [scale])]
    within, norms = _mean_rbf(xp, x, scales, unbiased), xp.sum(x * x, axis=1)
    total = 0.0
    for s in scales:
        across = (s / (s + 2)) ** (d / 2) * xp.mean(xp.exp(-norms / (s + 2)))
        total = total - 2 * across + (s / (s + 4)) ** (d / 2)
    return within + total / len(scales)


def _mean_rbf(xp, x, scales, unbiased):
    """The mean over pairs of rows and over `scales` of the RBF kernel.

    Training calls this at each step, on matrices so small that a step costs by the operation, not by the number. So the
    exponents of all scales are one matrix product, (scales n, d + 2) by (d + 2, n): with x centred,
    -|x_i - x_j|^2 = (2 x_i, -|x_i|^2, -1) . (x_j, 1, |x_j|^2).
    """
    x = x - xp.mean(x, axis=0)
    squares = xp.sum(x * x, axis=1, keepdims=True)
    ones = xp.ones_like(squares)
    left, right = xp.concatenate([2 * x, -squares, -ones], axis=1), xp.concatenate([x, ones, squares], axis=1)
    left = xp.concatenate([left / s for s in scales], axis=0)
    total = xp.sum(xp.exp(xp.matmul(left, xp.transpose(right)))) / len(scales)
    n = x.shape[0] or xp.sum(ones)  # in a symbolic graph the batch is not known yet
    return (total - n) / (n * (n - 1)) if unbiased else total / (n * n)  # k(x, x) = 1


def _mean_within(xp, k, unbiased):
    """The mean of a sample's (n, n) kernel matrix; without its diagonal, if `unbiased`."""
    if not unbiased:
        return xp.mean(k)
    diagonal = xp.diagonal(k)
    n = k.shape[0] or xp.sum(xp.ones_like(diagonal))  # in a symbolic graph the batch is not known yet
    return (xp.sum(k) - xp.sum(diagonal)) / (n * (n - 1))


def _squared_distances(xp, x, y):
    """(n, m), by |x|^2 + |y|^2 - 2 xy around the mean of y, which costs no (n, m, d) array and loses few digits."""
    centre = xp.mean(y, axis=0)
    x, y = x - centre, y - centre
    squares = xp.sum(x * x, axis=1)[:, None] + xp.sum(y * y, axis=1) - 2 * xp.matmul(x, xp.transpose(y))
    return xp.maximum(squares, 0)


def _scale(scale, default):
    scale = default if scale is None else scale
    if not 0 < scale < np.inf:
        raise ValueError(f"scale must be a number above 0; got {scale}")
    return float(scale)


def _rows(least=0, /, **arguments):
    """As `_arguments`, for samples: of rank 2, equally wide, each at least so long."""
    xp, arrays = _as_arrays(arguments)
    first, like = next(iter(arrays.items()))
    for name, array in arrays.items():
        if len(array.shape) != 2:
            raise ValueError(f"{name} must have the shape (samples, features); got {tuple(array.shape)}")
        if array.shape[1] != like.shape[1]:
            raise ValueError(f"{name} has {array.shape[1]} features, but {first} has {like.shape[1]}")
        if array.shape[0] is not None and array.shape[0] < least:
            raise ValueError(f"{name} must have at least {least} rows; got {array.shape[0]}")
        _check_finite(name, array)
    return xp, list(arrays.values())


def _arguments(**arguments):
    """The module to compute with (NumPy or `keras.ops`) and the arguments as its arrays, checked."""
    xp, arrays = _as_arrays(arguments)
    first, like = next(iter(arrays.items()))
    for name, array in arrays.items():
        if len(array.shape) != 2:
            raise ValueError(f"{name} must have the shape (batch, latents); got {tuple(array.shape)}")
        if not same_shape(array.shape, like.shape):
            raise ValueError(f"{name} has the shape {tuple(array.shape)}, but {first} has {tuple(like.shape)}")
        _check_finite(name, array)
    return xp, list(arrays.values())


def _check_finite(name, array):
    values = known_values(array)
    if values is not None and not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")


def _as_arrays(arguments):
    """NumPy and floats if every argument is plain; else `keras.ops` and its tensors."""
    if all(isinstance(value, (np.ndarray, np.generic, list, tuple, int, float)) for value in arguments.values()):
        xp, arrays = np, {name: np.asarray(value) for name, value in arguments.items()}
        arrays = {name: a if np.issubdtype(a.dtype, np.floating) else a.astype(float) for name, a in arrays.items()}
    else:
        xp, arrays = ops, {name: ops.convert_to_tensor(value) for name, value in arguments.items()}
    return xp, arrays


def same_shape(a, b):
    """Whether two static shapes agree; None (not yet known) agrees with anything."""
    return len(a) == len(b) and all(m == n or m is None or n is None for m, n in zip(a, b))


def known_values(tensor):
    """The values of a tensor as NumPy, or None where it has none yet: symbolic, or being traced into a graph."""
    try:
        return ops.convert_to_numpy(tensor)
    except Exception:  # each backend raises its own
        return None

"""Divergences between distributions, in nats.

NumPy arrays and lists are computed by NumPy in their own precision (float64 for lists) and give NumPy arrays;
backend tensors are computed by Keras and give backend tensors.
"""

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


def _arguments(**arguments):
    """The module to compute with (NumPy or `keras.ops`) and the arguments as its arrays, checked."""
    if all(isinstance(value, (np.ndarray, np.generic, list, tuple, int, float)) for value in arguments.values()):
        xp, arrays = np, {name: np.asarray(value) for name, value in arguments.items()}
        arrays = {name: a if np.issubdtype(a.dtype, np.floating) else a.astype(float) for name, a in arrays.items()}
    else:
        xp, arrays = ops, {name: ops.convert_to_tensor(value) for name, value in arguments.items()}
    first, like = next(iter(arrays.items()))
    for name, array in arrays.items():
        if len(array.shape) != 2:
            raise ValueError(f"{name} must have the shape (batch, latents); got {tuple(array.shape)}")
        if not same_shape(array.shape, like.shape):
            raise ValueError(f"{name} has the shape {tuple(array.shape)}, but {first} has {tuple(like.shape)}")
        values = known_values(array)
        if values is not None and not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are not finite (NaN or infinity)")
    return xp, list(arrays.values())


def same_shape(a, b):
    """Whether two static shapes agree; None (not yet known) agrees with anything."""
    return len(a) == len(b) and all(m == n or m is None or n is None for m, n in zip(a, b))


def known_values(tensor):
    """The values of a tensor as NumPy, or None where it has none yet: symbolic, or being traced into a graph."""
    try:
        return ops.convert_to_numpy(tensor)
    except Exception:  # each backend raises its own
        return None

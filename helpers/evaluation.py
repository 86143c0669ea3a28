"""Estimators and scores. Everything here takes and returns NumPy arrays, and never trains.

Images are compared as they are passed (uint8 is scaled to [0, 1]); nothing is binarised here, whatever the model does
when it trains. For a log-likelihood pass 0/1 images, from `helpers.data.binarise`.
"""

from statistics import NormalDist

import keras
import numpy as np
from keras import ops

from helpers.data import check_images
from helpers.divergences import kl_standard_normal, same_shape
from helpers.models import bernoulli_nll

_ROWS = 4096  # images x samples decoded at a time: bounds memory, and keeps the pixels of one step in the cache


def elbo(model, images, samples=1, batch_size=500, seed=0):
    """The evidence lower bound of each image: reconstruction by sampling, minus the KL in closed form.

    Parameters
    ----------
    model
        Anything with an ``encoder`` (images -> [mean, log_var]) and a ``decoder`` (z -> logits of Bernoulli pixels).
        Its own beta plays no part.
    images : (N, ...)
        uint8, or floats in [0, 1].
    samples : int, at least 1
        Draws of z for each image, averaged.
    batch_size, seed : int
        Equal seeds and batch sizes give equal results.

    Returns
    -------
    (N,) float64, nats per image. Its mean over the test images is what the book quotes.

    Raises
    ------
    TypeError, ValueError
        The model has no encoder or decoder, or gives values that are not finite; `samples` is below 1; the images are
        empty, or of the wrong shape, dtype or range.
    """
    reconstruction, kl = elbo_terms(model, images, samples, batch_size, seed)
    return reconstruction - kl


def elbo_terms(model, images, samples=1, batch_size=500, seed=0):
    """The two halves of `elbo`, (N,) each: E log p(x|z), and KL(q(z|x) || p(z)). ELBO = reconstruction - KL."""
    parts = []
    for draws in _draws(model, images, samples, batch_size, seed):
        total = 0.0
        for log_p_x, _, kl in draws:
            total = total + log_p_x.sum(axis=1)
        parts.append((total / samples, kl))
    return tuple(np.concatenate(part) for part in zip(*parts))


def log_likelihood(model, images, samples=1000, batch_size=100, seed=0):
    """log p(x) of each image, estimated by importance sampling with q(z|x) as the proposal.

    log 1/K sum_k p(x, z_k) / q(z_k|x), with z_k from q. Its mean over draws is below log p(x) and rises towards it with
    K = `samples`; at K = 1 it is the ELBO. The sum runs over chunks in the logarithm, so neither memory nor range
    depends on K. Parameters, result and errors are those of `elbo`.

    References
    ----------
    Rezende, Mohamed and Wierstra, Stochastic Backpropagation, 2014; Burda, Grosse and Salakhutdinov, Importance Weighted
    Autoencoders, 2016.
    """
    parts = []
    for draws in _draws(model, images, samples, batch_size, seed):
        total = -np.inf
        for log_p_x, log_ratio, _ in draws:
            total = np.logaddexp(total, np.logaddexp.reduce(log_p_x + log_ratio, axis=1))
        parts.append(total - np.log(samples))
    return np.concatenate(parts)


def _draws(model, images, samples, batch_size, seed):
    """For each batch of images an iterator over chunks of its draws of z: log p(x|z), log p(z)/q(z|x), and the KL."""
    for part in ("encoder", "decoder"):
        if not hasattr(model, part):
            raise TypeError(f"model must have an encoder and a decoder; {model!r} has no {part}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1; got {samples}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    images, shape = check_images(images), model.encoder.inputs[0].shape
    if not same_shape(images.shape, shape):
        raise ValueError(f"images have the shape {images.shape}, but the encoder takes {tuple(shape)}")
    if not len(images):
        raise ValueError("images is empty")

    chunk = min(samples, max(1, _ROWS // batch_size))
    weigh = _Weights(model, chunk, seed)

    def chunks(batch):
        for start in range(0, samples, chunk):
            log_p_x, log_ratio, kl = (array.astype(float) for array in weigh.predict_on_batch(batch))
            if not (np.isfinite(log_p_x).all() and np.isfinite(log_ratio).all()):
                raise ValueError("the model's outputs are not finite: look for NaN in its weights")
            yield log_p_x[:, : samples - start], log_ratio[:, : samples - start], kl

    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    for start in range(0, len(images), batch_size):
        yield chunks(images[start : start + batch_size].astype(np.float32) / scale)


class _Weights(keras.Model):
    """images -> log p(x|z) and log p(z) - log q(z|x), each (batch, chunk), for draws z of q; and KL(q || p)."""

    def __init__(self, model, chunk, seed):
        super().__init__(name="importance_weights")
        self.encoder, self.decoder, self.chunk = model.encoder, model.decoder, chunk
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images):
        mean, log_var = self.encoder(images)
        kl = kl_standard_normal(mean, log_var)
        mean, log_var = mean[:, None], log_var[:, None]
        batch, _, latents = ops.shape(mean)
        eps = keras.random.normal((batch, self.chunk, latents), seed=self.seed_generator)
        z = mean + ops.exp(log_var / 2) * eps
        log_ratio = 0.5 * ops.sum(eps * eps + log_var - z * z, axis=-1)
        logits = self.decoder(ops.reshape(z, (-1, latents)))
        log_p_x = -bernoulli_nll(ops.repeat(images, self.chunk, axis=0), logits)
        return ops.reshape(log_p_x, (-1, self.chunk)), log_ratio, kl


def active_units(mean, threshold=0.01):
    """How many latents the encoder uses: those whose posterior mean varies over the images by more than `threshold`.

    Parameters
    ----------
    mean : (N, latents)
        Posterior means of N images.
    threshold : float
        Variance over the images, in units of z squared.

    References
    ----------
    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, 2016, Section 5.
    """
    mean = np.asarray(mean)
    if mean.ndim != 2 or len(mean) < 2:
        raise ValueError(f"mean must have the shape (N, latents) with N at least 2; got {mean.shape}")
    if not np.isfinite(mean).all():
        raise ValueError("mean holds values that are not finite (NaN or infinity)")
    return int((mean.var(axis=0) > threshold).sum())


def hole_fraction(codes, cells=20, share=0.1):
    """How much of a two-dimensional code space that one would sample from holds (almost) no image.

    A Gaussian is fitted to the codes: the distribution one would sample from if nothing better were known. It is cut
    into `cells` x `cells` cells of equal probability, as the tiles of `helpers.plots.plot_manifold` are. A cell is a hole
    if it holds less than `share` of the codes that it would hold if the Gaussian were right. The result, between 0 and
    1, does not change when the codes are shifted or scaled, so it compares an autoencoder with a VAE.

    It looks at codes and not at decoded images on purpose. Over the empty parts of an autoencoder's code space the decoded
    images, blurs and bold strokes, are as near to some training image (in pixels) as test images are: that shows no holes.

    Parameters
    ----------
    codes : (N, 2)
        Codes of N images (for a VAE the posterior means), N at least 10 for each cell.
    """
    codes = np.asarray(codes, float)
    if codes.ndim != 2 or codes.shape[1] != 2 or len(codes) < 10 * cells**2:
        raise ValueError(f"codes must have the shape (N, 2), N at least {10 * cells**2}; got {codes.shape}")
    if not np.isfinite(codes).all():
        raise ValueError("codes holds values that are not finite (NaN or infinity)")
    white = np.linalg.solve(np.linalg.cholesky(np.cov(codes.T)), (codes - codes.mean(axis=0)).T)
    edges = [NormalDist().inv_cdf(i / cells) for i in range(1, cells)]
    column, row = np.searchsorted(edges, white)
    counts = np.bincount(cells * row + column, minlength=cells**2)
    return float((counts < share * len(codes) / cells**2).mean())

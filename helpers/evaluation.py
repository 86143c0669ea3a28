"""Estimators and scores. Everything here takes and returns NumPy arrays, and never trains.

Images are compared as they are passed (uint8 is scaled to [0, 1]); nothing is binarised here, whatever the model does
when it trains. For a log-likelihood pass 0/1 images, from `helpers.data.binarise`.
"""

import math
from statistics import NormalDist

import keras
import numpy as np
from keras import ops
from scipy.spatial import KDTree

from helpers.data import check_images, check_labels
from helpers.divergences import kl_standard_normal, same_shape

_ROWS = 4096  # images x samples decoded at a time: bounds memory, and keeps the pixels of one step in the cache


def elbo(model, images, samples=1, batch_size=500, seed=0, labels=None):
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
    labels : (N,) integers, for a conditional model only
        Its encoder and decoder take them as one-hot vectors in second place; the result is a bound of log p(x|y).

    Returns
    -------
    (N,) float64, nats per image. Its mean over the test images is what the book quotes.

    Raises
    ------
    TypeError, ValueError
        The model has no encoder or decoder, or gives values that are not finite; `samples` is below 1; the images are
        empty, or of the wrong shape, dtype or range; labels are out of range, missing, or not asked for.
    """
    reconstruction, kl = elbo_terms(model, images, samples, batch_size, seed, labels)
    return reconstruction - kl


def elbo_terms(model, images, samples=1, batch_size=500, seed=0, labels=None):
    """The two halves of `elbo`, (N,) each: E log p(x|z), and KL(q(z|x) || p(z)). ELBO = reconstruction - KL."""
    parts = []
    for draws in _draws(model, images, samples, batch_size, seed, labels):
        total = 0.0
        for log_p_x, _, kl in draws:
            total = total + log_p_x.sum(axis=1)
        parts.append((total / samples, kl))
    return tuple(np.concatenate(part) for part in zip(*parts))


def log_likelihood(model, images, samples=1000, batch_size=100, seed=0, labels=None):
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
    for draws in _draws(model, images, samples, batch_size, seed, labels):
        total = -np.inf
        for log_p_x, log_ratio, _ in draws:
            total = np.logaddexp(total, np.logaddexp.reduce(log_p_x + log_ratio, axis=1))
        parts.append(total - np.log(samples))
    return np.concatenate(parts)


def _draws(model, images, samples, batch_size, seed, labels):
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
    condition = _condition(model, labels, len(images))

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
        rows = slice(start, start + batch_size)
        yield chunks([images[rows].astype(np.float32) / scale, *(y[rows] for y in condition)])


def _condition(model, labels, n):
    """[] or [one-hot labels (n, classes)], as the encoder asks."""
    if len(model.encoder.inputs) == 1:
        if labels is not None:
            raise ValueError("labels were given, but the encoder takes images alone")
        return []
    if labels is None:
        raise ValueError("labels are missing: the encoder takes images and their class")
    classes = model.encoder.inputs[1].shape[1]
    return [np.eye(classes, dtype=np.float32)[check_labels(labels, n, classes)]]


class _Weights(keras.Model):
    """[images] or [images, y] -> log p(x|z) and log p(z) - log q(z|x), each (batch, chunk), for draws z of q; KL(q || p)."""

    def __init__(self, model, chunk, seed):
        super().__init__(name="importance_weights")
        self.encoder, self.decoder, self.chunk = model.encoder, model.decoder, chunk
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        images, *condition = inputs
        mean, log_var = (ops.cast(part, "float32") for part in self.encoder(inputs if condition else images))
        kl = kl_standard_normal(mean, log_var)
        mean, log_var = mean[:, None], log_var[:, None]
        batch, _, latents = ops.shape(mean)
        eps = keras.random.normal((batch, self.chunk, latents), seed=self.seed_generator)
        z = mean + ops.exp(log_var / 2) * eps
        log_ratio = 0.5 * ops.sum(eps * eps + log_var - z * z, axis=-1)
        z = [ops.reshape(z, (-1, latents)), *(ops.repeat(y, self.chunk, axis=0) for y in condition)]
        logits = ops.cast(self.decoder(z if condition else z[0]), "float32")
        # -bernoulli_nll of each draw. As a matrix product x . logits needs no copy of the image for every draw.
        pixels = math.prod(logits.shape[1:])
        logits = ops.reshape(logits, (-1, self.chunk, pixels))
        products = ops.matmul(logits, ops.reshape(images, (-1, pixels, 1)))[..., 0]
        return products - ops.sum(ops.softplus(logits), axis=-1), log_ratio, kl


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


def mutual_information(codes, factors, bins=20):
    """I(z_j; v_k) in nats between every latent and every factor: (latents, factors), from counts.

    Each latent is cut into `bins` parts of equal width, so shifting or scaling it changes nothing. Counting N pairs
    puts the result too high, by about (bins - 1) (values of the factor - 1) / 2 N.

    Parameters
    ----------
    codes : (N, latents)
        Posterior means of N images.
    factors : (N, factors) integers
        What the images were made from, as `helpers.data.load_sprites` returns it.

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite, factors that are not integers, or `bins` below 2.
    """
    codes, factors = _check_codes(codes, factors)
    if bins < 2:
        raise ValueError(f"bins must be at least 2; got {bins}")
    low, width = codes.min(axis=0), np.ptp(codes, axis=0)
    cells = np.minimum((codes - low) / np.where(width > 0, width, 1) * bins, bins - 1).astype(int)
    result = np.empty((codes.shape[1], factors.shape[1]))
    for (j, k), _ in np.ndenumerate(result):
        joint = np.zeros((bins, factors[:, k].max() + 1))
        np.add.at(joint, (cells[:, j], factors[:, k]), 1 / len(codes))
        result[j, k] = _entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1)) - _entropy(joint)
    return np.maximum(result, 0)


def mutual_information_gap(codes, factors, bins=20):
    """MIG: by how much the latent that knows most of a factor is ahead of the next, as a share of the factor's entropy.

    The mean over the factors of (I of the first latent - I of the second) / H(factor): 1 if each factor has a latent
    to itself, 0 if every factor is spread over two latents or known to none. Parameters and errors are those of
    `mutual_information`; at least two latents are needed, and no factor may be constant.

    References
    ----------
    Chen, Li, Grosse and Duvenaud, Isolating Sources of Disentanglement in Variational Autoencoders, 2018, Section 4.
    """
    information = mutual_information(codes, factors, bins)
    if len(information) < 2:
        raise ValueError("codes must have at least 2 latents: the gap is between the first and the second")
    entropy = np.array([_entropy(np.bincount(column) / len(column)) for column in np.asarray(factors).T])
    if not entropy.all():
        raise ValueError(f"factors must vary; column {int(np.argmin(entropy))} is constant")
    second, first = np.sort(information, axis=0)[-2:]
    return float(np.mean((first - second) / entropy))


def factor_vae_score(codes, factors, draws=2000, batch=64, seed=0):
    """How well one guesses which factor was held fixed from which latent then varies least.

    A draw picks a factor, a value of it, and `batch` images with that value; its vote is the latent whose variance over
    them, divided by its variance over all images, is smallest. Half of the draws teach which factor each latent votes
    for most, the other half are guessed; the score is the share guessed right. Latents that are constant over all
    images do not vote; if none is left the score is 0. A second latent for the same factor costs nothing.

    Parameters
    ----------
    codes : (N, latents)
    factors : (N, factors) integers
    draws, batch : int, at least 2
    seed : int

    References
    ----------
    Kim and Mnih, Disentangling by Factorising, 2018, Section 4.
    """
    codes, factors = _check_codes(codes, factors)
    for name, value in (("draws", draws), ("batch", batch)):
        if value < 2:
            raise ValueError(f"{name} must be at least 2; got {value}")
    codes = codes[:, np.ptp(codes, axis=0) > 0]
    if not codes.shape[1]:
        return 0.0
    codes = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    rng = np.random.default_rng(seed)
    fixed = rng.integers(factors.shape[1], size=draws)
    votes = np.empty(draws, int)
    for i, k in enumerate(fixed):
        rows = np.flatnonzero(factors[:, k] == rng.choice(np.unique(factors[:, k])))
        votes[i] = codes[rng.choice(rows, batch)].var(axis=0).argmin()
    half = draws // 2
    counts = np.zeros((codes.shape[1], factors.shape[1]), int)
    np.add.at(counts, (votes[:half], fixed[:half]), 1)
    return float(np.mean(counts.argmax(axis=1)[votes[half:]] == fixed[half:]))


def probe(codes, targets, test_codes, test_targets, neighbours=15):
    """How much the codes tell of a property, as a vote of the nearest codes whose property is known.

    Parameters
    ----------
    codes : (N, latents)
        Codes with known targets.
    targets : (N,)
        Integers (classes), for which the neighbours vote; or floats, of which they give the mean.
    test_codes, test_targets : (M, latents), (M,)
        What to predict from, and the truth, which serves for the score alone.
    neighbours : int, from 1 to N

    Returns
    -------
    Of classes, the share predicted right. Of floats, R^2 = 1 - mean squared error / variance: 1 if they are predicted
    exactly, 0 or a little below if no better than by their mean.

    Raises
    ------
    ValueError
        Shapes or types that do not fit, values that are not finite, or `neighbours` out of range.
    """
    codes, targets = _check_targets(codes, targets)
    test_codes, test_targets = _check_targets(test_codes, test_targets)
    if test_codes.shape[1] != codes.shape[1]:
        raise ValueError(f"test_codes have {test_codes.shape[1]} latents, but codes have {codes.shape[1]}")
    classes = np.issubdtype(targets.dtype, np.integer)
    if classes != np.issubdtype(test_targets.dtype, np.integer):
        raise ValueError(f"targets are {targets.dtype}, but test_targets are {test_targets.dtype}")
    if not 1 <= neighbours <= len(codes):
        raise ValueError(f"neighbours must be from 1 to {len(codes)}, the number of codes; got {neighbours}")
    labels, values = np.unique(targets, return_inverse=True) if classes else (None, targets)
    _, near = KDTree(codes).query(test_codes, np.arange(1, neighbours + 1))
    if classes:
        votes = np.eye(len(labels))[values[near]].sum(axis=1)
        return float(np.mean(labels[votes.argmax(axis=1)] == test_targets))
    predicted = values[near].mean(axis=1)
    if not np.ptp(test_targets):
        raise ValueError("test_targets must vary: R^2 is a share of their variance")
    return float(1 - np.mean((predicted - test_targets) ** 2) / test_targets.var())


def stroke_measures(images):
    """Thickness, slant and width of the strokes of each image, measured on its ink: {name: (N,) float64}.

    thickness, in pixels
        Twice the ink by its total variation. A stroke of thickness t and length l has the ink t l, and two edges of length
        l, across each of which the ink rises from 0 to 1. (Strokes under two pixels come out too thick, by up to 0.8.)
    slant
        By how many columns the ink moves to the right for each row upwards: minus the regression of columns on rows.
    width, in pixels
        Standard deviation of the columns that is left when the slant is taken out.

    Parameters
    ----------
    images : (N, height, width)
        uint8, or floats in [0, 1]; dark ink is 1, and no image may be empty.

    Raises
    ------
    ValueError
        The shape does not fit, or an image has no ink, or all of it in one row.
    """
    images = check_images(images)
    if images.ndim != 3:
        raise ValueError(f"images must have the shape (N, height, width); got {images.shape}")
    x = np.asarray(images, float) / (255 if images.dtype == np.uint8 else 1)
    ink = x.sum(axis=(1, 2))
    if not ink.all():
        raise ValueError(f"images must have ink; image {int(np.argmin(ink))} has none")
    by_row, by_column = x.sum(axis=2), x.sum(axis=1)
    # Places, from the centre of the ink.
    rows, columns = (k - (part @ k / ink)[:, None] for part in (by_row, by_column) for k in [np.arange(part.shape[1])])
    rr, cc = (np.sum(part * k**2, axis=1) / ink for part, k in ((by_row, rows), (by_column, columns)))
    rc = np.einsum("nr,nrc,nc->n", rows, x, columns, optimize=True) / ink
    if not rr.all():
        raise ValueError(f"images must have ink in two rows or more; image {int(np.argmin(rr))} has it in one")
    variation = np.concatenate([_total_variation(x[i : i + _ROWS // 4]) for i in range(0, len(x), _ROWS // 4)])
    return {
        "thickness": 2 * ink / variation,
        "slant": -rc / rr,
        "width": np.sqrt(np.maximum(cc - rc**2 / rr, 0)),
    }


def _total_variation(images):
    a = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    down = (a[:, 1:, :-1] + a[:, 1:, 1:] - a[:, :-1, :-1] - a[:, :-1, 1:]) / 2
    right = (a[:, :-1, 1:] + a[:, 1:, 1:] - a[:, :-1, :-1] - a[:, 1:, :-1]) / 2
    return np.hypot(down, right).sum(axis=(1, 2))


def level_effects(generator, codes, measures, seed=0):
    """What changes in the images when the latents of one level are drawn anew from N(0, I) and the others stay.

    Parameters
    ----------
    generator : keras.Model
        [z_1, z_2, ...] -> images, one input for each level.
    codes : list of (N, size)
        What the levels hold before; from the prior, or codes of images, if these follow the prior.
    measures : dict {name: function}
        Each takes images and returns (N,): integers, such as the classes that a classifier reads, or floats.
    seed : int

    Returns
    -------
    {name: (levels,) float64}. Of integers, the share of images whose value changes (of a class: the flip rate). Of floats,
    the total effect: mean squared change / twice the variance, which is the share of the variance that is left when all
    other levels are known. The effects of all levels add up to 1 if they do not interact, and to more if they do.

    Raises
    ------
    ValueError
        `codes` do not fit the generator's inputs or each other.

    References
    ----------
    Jansen, Analysis of variance designs for model output, 1999 (the total effect).
    """
    shapes = [tuple(tensor.shape) for tensor in generator.inputs]
    codes = [np.asarray(z, np.float32) for z in codes]
    if len(codes) != len(shapes) or not all(same_shape(z.shape, shape) for z, shape in zip(codes, shapes)):
        raise ValueError(f"codes have the shapes {[z.shape for z in codes]}, but {generator.name} takes {shapes}")
    if len({len(z) for z in codes}) != 1 or not len(codes[0]):
        raise ValueError(f"codes must be equally many for each level, at least one; got {[len(z) for z in codes]}")
    # A stream of its own: codes drawn with the same small seed must not be drawn again.
    rng = np.random.default_rng([seed, 0x1ADDE2])

    def measured(codes):
        images = generator.predict(codes, batch_size=500, verbose=0)
        values = {name: np.asarray(measure(images)) for name, measure in measures.items()}
        return {name: v if np.issubdtype(v.dtype, np.integer) else v.astype(float) for name, v in values.items()}

    before, effects = measured(codes), {name: [] for name in measures}
    for level, z in enumerate(codes):
        after = measured([*codes[:level], rng.normal(size=z.shape).astype(np.float32), *codes[level + 1 :]])
        for name, value in before.items():
            if np.issubdtype(value.dtype, np.integer):
                effects[name].append(np.mean(after[name] != value))
            else:
                effects[name].append(np.mean((after[name] - value) ** 2) / (2 * value.var()))
    return {name: np.array(values) for name, values in effects.items()}


def _entropy(p):
    p = p[p > 0]
    return -np.sum(p * np.log(p))


def _check_codes(codes, factors):
    codes, factors = np.asarray(codes, float), np.asarray(factors)
    if codes.ndim != 2 or not len(codes):
        raise ValueError(f"codes must have the shape (N, latents); got {codes.shape}")
    if not np.isfinite(codes).all():
        raise ValueError("codes holds values that are not finite (NaN or infinity)")
    if factors.ndim != 2 or len(factors) != len(codes):
        raise ValueError(f"factors must have the shape ({len(codes)}, factors), a row for each code; got {factors.shape}")
    if not np.issubdtype(factors.dtype, np.integer) or factors.min() < 0:
        raise ValueError("factors must be integers, 0 or above")
    return codes, factors


def _check_targets(codes, targets):
    codes, targets = np.asarray(codes, float), np.asarray(targets)
    if codes.ndim != 2 or not len(codes) or targets.shape != (len(codes),):
        raise ValueError(f"codes must have the shape (N, latents), and targets (N,); got {codes.shape} and {targets.shape}")
    if not (np.isfinite(codes).all() and np.isfinite(targets).all()):
        raise ValueError("codes or targets hold values that are not finite (NaN or infinity)")
    return codes, targets

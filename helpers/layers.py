"""Stochastic layers."""

import keras
import numpy as np
from keras import ops

from helpers.divergences import kl_standard_normal, mmd2, mmd2_standard_normal, rbf_kernel, same_shape


@keras.saving.register_keras_serializable("helpers")
class Sampling(keras.layers.Layer):
    """A draw z = mean + exp(log_var / 2) * eps, with eps from N(0, I): gradients reach mean and log_var.

    Called on ``[mean, log_var]``, two tensors of one shape; returns z of that shape.

    Parameters
    ----------
    seed : int, optional
        Equal seeds give equal sequences of draws. None takes one from `keras.utils.set_random_seed`.

    Raises
    ------
    ValueError
        The input is not a pair, or the shapes of the pair differ.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014, Section 2.4.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        self.compute_output_shape([tensor.shape for tensor in inputs])
        mean, log_var = inputs
        eps = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed_generator)
        return mean + ops.exp(log_var / 2) * eps

    def compute_output_shape(self, input_shape):
        try:
            mean, log_var = map(tuple, input_shape)
        except (TypeError, ValueError):
            raise ValueError(f"Sampling takes a pair [mean, log_var]; got the shape {input_shape}") from None
        if not same_shape(mean, log_var):
            raise ValueError(f"log_var has the shape {log_var}, but mean has {mean}")
        return mean

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("helpers")
class NormalVariational(keras.layers.Layer):
    """A Gaussian latent in a functional model: h -> z, drawn from N(mean(h), exp(log_var(h))), with its price as a loss.

    Two Dense layers read mean and log variance from h (batch, features). What z costs is added to the model's loss through
    `add_loss`, and reported as a metric under the layer's name:

        coef_kl KL(q(z|x) || N(0, I)), mean over the batch, if `add_kl`;  lambda_mmd MMD^2(z, N(0, I)), if `add_mmd`.

    Parameters
    ----------
    size : int, at least 1
        Number of latents.
    add_kl, add_mmd : bool
    coef_kl, lambda_mmd : float, at least 0 and above 0
        Variables of the layer: a callback may change them by ``layer.lambda_mmd.assign(...)``.
    kernel : function (x, y) -> (n, m), or one or more numbers above 0
        A kernel compares the batch with as many draws of N(0, I), by the V-statistic. Numbers are scales of the RBF kernel;
        for it the prior's terms are computed in closed form, and the unbiased statistic is used.
    gated : bool
        Gives the layer a variable ``gate``, 1 at first. At 0 nothing of z is passed on, and its KL costs nothing; at 1/2 z is
        passed on in full, and its KL still costs nothing; at 1 the KL is charged in full; between these, in straight lines.
        `helpers.callbacks.FadeIn` moves it.
    initial_std : float between 0 and 1, optional
        If given, log_var = -softplus(Dense(h) + c) with c such that a Dense output of 0 means this standard deviation; it
        then stays below 1. If left out, log_var = Dense(h), and the layer starts near 1.
    seed : int, optional
        As for `Sampling`.

    Raises
    ------
    ValueError
        Any of these is out of range.

    References
    ----------
    Zhao, Song and Ermon, Learning Hierarchical Features from Deep Generative Models, 2017, and InfoVAE, 2019. Names after the
    public implementation by Michedev.
    """

    def __init__(
        self, size, add_kl=True, coef_kl=1.0, add_mmd=False, lambda_mmd=1.0, kernel=rbf_kernel, initial_std=None,
        gated=False, seed=None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        if size < 1 or size != int(size):
            raise ValueError(f"size must be an integer of at least 1; got {size}")
        if not 0 <= coef_kl < np.inf:
            raise ValueError(f"coef_kl must be at least 0; got {coef_kl}")
        if not 0 < lambda_mmd < np.inf:
            raise ValueError(f"lambda_mmd must be above 0; got {lambda_mmd}")
        if initial_std is not None and not 0 < initial_std < 1:
            raise ValueError(f"initial_std must be between 0 and 1; got {initial_std}")
        if not callable(kernel) and not (np.size(kernel) and np.all(np.asarray(kernel, float) > 0)):
            raise ValueError(f"kernel must be a function, or scales above 0; got {kernel}")
        self.size, self.add_kl, self.add_mmd, self.gated = int(size), bool(add_kl), bool(add_mmd), bool(gated)
        self.kernel, self.initial_std, self.seed = kernel, initial_std, seed
        self._start = float(coef_kl), float(lambda_mmd)
        # Names of their own: several of these layers meet in one functional encoder.
        self.mean, self.log_var = (keras.layers.Dense(self.size, name=f"{self.name}_{part}") for part in ("mean", "log_var"))
        self.sampling = Sampling(seed)
        self.tracker = keras.metrics.Mean(name=self.name)

    def build(self, input_shape):
        self.mean.build(input_shape)
        self.log_var.build(input_shape)
        for name, wanted, value in zip(("coef_kl", "lambda_mmd"), (self.add_kl, self.add_mmd), self._start):
            if wanted:
                constant = keras.initializers.Constant(value)
                setattr(self, name, self.add_weight(initializer=constant, trainable=False, name=name))
        self.gate = self.add_weight(initializer="ones", trainable=False, name="gate") if self.gated else 1.0

    def moments(self, h):
        """mean and log variance of z, (batch, size) each; of symbolic tensors, for a model of the encoder alone."""
        log_var = self.log_var(h)
        if self.initial_std is not None:
            log_var = -ops.softplus(log_var + float(np.log(self.initial_std**-2 - 1)))
        return self.mean(h), log_var

    def call(self, h):
        mean, log_var = self.moments(h)
        z = self.sampling([mean, log_var])
        heard, charged = ops.minimum(2 * self.gate, 1), ops.maximum(2 * self.gate - 1, 0)
        loss = 0.0
        if self.add_kl:
            loss = loss + charged * self.coef_kl * ops.mean(kl_standard_normal(mean, log_var))
        if self.add_mmd:
            loss = loss + self.lambda_mmd * self._mmd2(z)
        if self.add_kl or self.add_mmd:
            self.add_loss(loss)
            self.tracker.update_state(loss, sample_weight=ops.shape(z)[0])
        return heard * z

    def _mmd2(self, z):
        if not callable(self.kernel):
            return mmd2_standard_normal(z, self.kernel, unbiased=True)
        prior = keras.random.normal(ops.shape(z), dtype=z.dtype, seed=self.sampling.seed_generator)
        return mmd2(z, prior, self.kernel)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.size)

    def get_config(self):
        coef_kl, lambda_mmd = (
            float(ops.convert_to_numpy(getattr(self, name, start)))
            for name, start in zip(("coef_kl", "lambda_mmd"), self._start)
        )
        kernel = keras.saving.serialize_keras_object(self.kernel) if callable(self.kernel) else self.kernel
        return {
            **super().get_config(), "size": self.size, "add_kl": self.add_kl, "coef_kl": coef_kl, "add_mmd": self.add_mmd,
            "lambda_mmd": lambda_mmd, "kernel": kernel, "initial_std": self.initial_std, "gated": self.gated,
            "seed": self.seed,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config):
        kernel = config["kernel"]
        return cls(**{**config, "kernel": keras.saving.deserialize_keras_object(kernel) if isinstance(kernel, dict) else kernel})

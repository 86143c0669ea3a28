"""Stochastic layers."""

import keras
from keras import ops

from helpers.divergences import same_shape


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

"""Training objectives over an encoder and a decoder that the chapter writes."""

from functools import cached_property

import keras
from keras import ops

import helpers._tuning  # noqa: F401  (for its effect)
from helpers.data import check_images, check_labels
from helpers.divergences import kl_standard_normal, known_values, same_shape
from helpers.layers import NormalVariational, Sampling


@keras.saving.register_keras_serializable("helpers")
def bernoulli_nll(images, logits):
    """-log p(x|z) of independent Bernoulli pixels: (batch,), in nats, summed over everything but the batch.

    Takes logits, not probabilities: with l the logit, -x log p - (1 - x) log(1 - p) is softplus(l) - x l, which is
    finite for every l. For grey `images` (x between 0 and 1) it is a cross-entropy, not a likelihood.
    """
    return ops.sum(ops.softplus(logits) - images * logits, axis=tuple(range(1, len(logits.shape))))


@keras.saving.register_keras_serializable("helpers")
class VAE(keras.Model):
    """A variational autoencoder with a Gaussian posterior, a standard normal prior and Bernoulli pixels.

    `fit`, `evaluate` and `predict` take images alone: uint8 (0 to 255, scaled here) or floats in [0, 1], shaped as the
    encoder's input. `fit` and `evaluate` report ``loss`` = ``reconstruction`` + beta ``kl``, in nats per image: summed
    over pixels and latents, averaged over images, one sample of z for each image. At beta = 1 the loss is -ELBO.
    `predict` returns a dictionary of arrays: ``images`` (as compared with), ``mean``, ``log_var``, ``logits``.

    Parameters
    ----------
    encoder : keras.Model
        images -> [mean, log_var], each (batch, latents).
    decoder : keras.Model
        z -> **logits** of the pixels, shaped as the images.
    beta : float, at least 0
        Weight of the KL. It is a variable: a callback may change it during training by ``vae.beta.assign(...)``. So is
        ``vae.free_bits`` (nats, 0 at first): what the training loss charges for each latent at least; see
        `helpers.callbacks.FreeBits`.
    binarise : bool
        Draw 0/1 images from the grey ones anew at each step (dynamic binarisation), as input and target alike.
    seed : int, optional
        Of the draws; see `Sampling`.

    References
    ----------
    Kingma and Welling, Auto-Encoding Variational Bayes, 2014.
    """

    def __init__(self, encoder, decoder, beta=1.0, binarise=False, seed=None, name="vae", **kwargs):
        super().__init__(name=name, **kwargs)
        if not beta >= 0:
            raise ValueError(f"beta must be at least 0; got {beta}")
        _check_networks(encoder, decoder)
        self.encoder, self.decoder = encoder, decoder
        self.beta = self.add_weight(initializer=keras.initializers.Constant(beta), trainable=False, name="beta")
        self.free_bits = self.add_weight(initializer="zeros", trainable=False, name="free_bits")
        self.binarise = bool(binarise)
        self.seed = seed
        self.sampling = Sampling(seed)
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction")
        self.kl_tracker = keras.metrics.Mean(name="kl")
        self.built = True

    @cached_property
    def generator(self):
        """z -> probabilities of the pixels: the decoder, its weights shared, and a sigmoid."""
        probabilities = keras.layers.Activation("sigmoid")(self.decoder.outputs[0])
        return keras.Model(self.decoder.inputs, probabilities, name="generator")

    def call(self, images, condition=None):
        images = self.prepare(images)
        mean, log_var = self.encoder(images if condition is None else [images, condition])
        z = self.sampling([mean, log_var])
        logits = self.decoder(z if condition is None else [z, condition])
        return {"images": images, "mean": mean, "log_var": log_var, "logits": logits}

    def prepare(self, images):
        """The images as the networks see them: float, scaled from uint8, drawn as 0/1 when `binarise` is set."""
        self._check_shape(images)
        dtype = keras.backend.standardize_dtype(images.dtype)
        if dtype == "uint8":
            images = ops.cast(images, self.compute_dtype) / 255
        elif "float" not in dtype:
            raise TypeError(f"images must be uint8 (0 to 255) or floats in [0, 1]; got dtype {dtype}")
        if self.binarise:
            draws = keras.random.uniform(ops.shape(images), dtype=images.dtype, seed=self.sampling.seed_generator)
            images = ops.cast(draws < images, images.dtype)
        return images

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        images, mean, log_var, logits = (
            ops.cast(y_pred[name], "float32") for name in ("images", "mean", "log_var", "logits")
        )
        reconstruction = ops.mean(bernoulli_nll(images, logits))
        rows = [ops.reshape(tensor, (-1, 1)) for tensor in (mean, log_var)]
        kl = ops.mean(ops.reshape(kl_standard_normal(*rows), ops.shape(mean)), axis=0)  # of each latent
        self.reconstruction_tracker.update_state(reconstruction, sample_weight=ops.shape(images)[0])
        self.kl_tracker.update_state(ops.sum(kl), sample_weight=ops.shape(images)[0])
        if training:
            kl = ops.maximum(kl, self.free_bits)
        return reconstruction + self.beta * ops.sum(kl)

    def fit(self, x=None, *args, **kwargs):
        self._check_images(x)
        return super().fit(x, *args, **kwargs)

    def make_train_function(self, force=False):
        # Left to itself, Keras makes the optimiser's variables while it traces the first step, and traces it again.
        if self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def evaluate(self, x=None, *args, **kwargs):
        self._check_images(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        self._check_images(x)
        return super().predict(x, *args, **kwargs)

    def _check_images(self, x):
        """Arrays and tensors are checked before any work; datasets and generators as far as a graph can."""
        images = x[0] if isinstance(x, (list, tuple)) else x
        values = known_values(images) if hasattr(images, "dtype") else None
        if values is not None:
            if not len(check_images(values)):
                raise ValueError("images is empty")
            self._check_shape(values)

    def _check_shape(self, images):
        shape = self.encoder.inputs[0].shape
        if not same_shape(images.shape, shape):
            raise ValueError(f"images have the shape {tuple(images.shape)}, but the encoder takes {tuple(shape)}")

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "beta": float(ops.convert_to_numpy(self.beta)),
            "binarise": self.binarise,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        networks = {name: deserialize(config[name]) for name in ("encoder", "decoder")}
        return cls(**{**config, **networks})


@keras.saving.register_keras_serializable("helpers")
class ConditionalVAE(VAE):
    """A VAE of images given their class: p(x|z, y) and q(z|x, y), with the prior N(0, I) for z whatever the class.

    `fit`, `evaluate` and `predict` take a pair ``[images, labels]``: the images as for `VAE`, and labels (N,), integers
    from 0 to classes - 1. The networks see each label as a one-hot vector. The loss is `VAE`'s; at beta = 1 it is
    -ELBO of log p(x|y).

    Parameters
    ----------
    encoder : keras.Model
        [images, y] -> [mean, log_var], y one-hot (batch, classes).
    decoder : keras.Model
        [z, y] -> logits of the pixels. ``generator`` takes the same and returns probabilities.
    beta, binarise, seed
        As for `VAE`.

    Raises
    ------
    ValueError, TypeError
        The networks do not fit each other; labels are not integers in range, or not one for each image.

    References
    ----------
    Kingma, Rezende, Mohamed and Welling, Semi-supervised Learning with Deep Generative Models, 2014, model M2; Sohn, Lee
    and Yan, Learning Structured Output Representation using Deep Conditional Generative Models, 2015.
    """

    def __init__(self, encoder, decoder, beta=1.0, binarise=False, seed=None, name="conditional_vae", **kwargs):
        for network, what in ((encoder, "images"), (decoder, "z")):
            if len(network.inputs) != 2 or len(network.inputs[1].shape) != 2:
                shapes = [tuple(tensor.shape) for tensor in network.inputs]
                raise ValueError(f"{network.name} must take [{what}, y], y (batch, classes); it takes {shapes}")
        classes = [network.inputs[1].shape[1] for network in (encoder, decoder)]
        if classes[0] != classes[1]:
            raise ValueError(f"decoder takes {classes[1]} classes, but the encoder takes {classes[0]}")
        self.classes = classes[0]
        super().__init__(encoder, decoder, beta, binarise, seed, name=name, **kwargs)

    def call(self, inputs):
        images, labels = inputs
        return super().call(images, ops.one_hot(ops.cast(labels, "int32"), self.classes, dtype=self.compute_dtype))

    def _check_images(self, x):
        """As far as the values are known; see `VAE`."""
        if isinstance(x, (list, tuple)) or hasattr(x, "dtype"):
            if not isinstance(x, (list, tuple)) or len(x) != 2:
                raise ValueError(f"{self.name} takes a pair [images, labels]; got {type(x).__name__}")
            super()._check_images(x)
            images, labels = (known_values(part) for part in x)
            if images is not None and labels is not None:
                check_labels(labels, len(images), self.classes)


def make_vlae(latent_size, make_encoder, make_decoder, lambda_mmd=(1.0, 1.0, 10.0), coef_kl=None, seed=None, **kwargs):
    """A variational ladder autoencoder: a plain functional model `vlae`, images -> what the decoder returns.

    Each output h_l of the encoder gets its `NormalVariational`, named z_1_latent, z_2_latent, ...; their prices reach the
    model's loss by themselves. Compile the model with a reconstruction loss such as `bernoulli_nll`, and fit it to
    (images, images), scaled to [0, 1].

    Parameters
    ----------
    latent_size : int
        Latents of each level.
    make_encoder : function (latent_size) -> keras.Model
        images -> [h_1, h_2, ...], each (batch, features).
    make_decoder : function (size_1, size_2, ...) -> keras.Model
        [z_1, z_2, ...] -> images or logits.
    lambda_mmd, coef_kl : sequences of float
        The weights of each level's MMD^2 and KL, from the lowest level to the highest. Without `coef_kl`, no KL.
    seed : int, optional
        Level l draws with the seed `seed` + l: with one seed for all they would draw the same noise.
    **kwargs
        For each `NormalVariational`.

    Raises
    ------
    ValueError
        The networks and the weights are not of equally many levels; and as for `NormalVariational`.

    References
    ----------
    Zhao, Song and Ermon, Learning Hierarchical Features from Deep Generative Models, 2017. Names after the public
    implementation by Michedev.
    """
    encoder, decoder = make_encoder(latent_size), make_decoder(*[latent_size] * len(lambda_mmd))
    counts = {"encoder": len(encoder.outputs), "decoder": len(decoder.inputs), "lambda_mmd": len(lambda_mmd)}
    prices = [{"add_kl": False, "add_mmd": True, "lambda_mmd": weight} for weight in lambda_mmd]
    if coef_kl is not None:
        counts["coef_kl"] = len(coef_kl)
        prices = [{**price, "add_kl": True, "coef_kl": weight} for price, weight in zip(prices, coef_kl)]
    if len(set(counts.values())) > 1:
        raise ValueError(f"the numbers of levels must agree; got {counts}")
    images = keras.Input(encoder.inputs[0].shape[1:])
    z = []
    for level, (h, price) in enumerate(zip(keras.tree.flatten(encoder(images)), prices), 1):
        own = {"name": f"z_{level}_latent", "seed": None if seed is None else seed + level}
        z.append(NormalVariational(latent_size, **price, **own, **kwargs)(h))
    return keras.Model(images, decoder(z), name="vlae")


def ladder_posterior(vlae):
    """The encoder of a ladder with its heads: images -> [mean_1, log_var_1, mean_2, log_var_2, ...]."""
    images = keras.Input(vlae.inputs[0].shape[1:])
    levels = [layer for layer in vlae.layers if isinstance(layer, NormalVariational)]
    h = keras.tree.flatten(vlae.get_layer("encoder")(images))
    moments = [part for level, layer in enumerate(levels) for part in layer.moments(h[level])]
    return keras.Model(images, moments, name="posterior")


def _check_networks(encoder, decoder):
    """Compares the first input of each network; further inputs are conditions, and the subclass's business."""
    if len(encoder.outputs) != 2 or any(len(output.shape) != 2 for output in encoder.outputs):
        raise ValueError(
            "encoder must return [mean, log_var], each (batch, latents); "
            f"it returns {[tuple(output.shape) for output in encoder.outputs]}"
        )
    mean, log_var = encoder.outputs
    for this, that, text in (
        (log_var, mean, "encoder's log_var is {}, but its mean is {}"),
        (decoder.inputs[0], mean, "decoder takes {}, but the encoder's mean is {}"),
        (decoder.outputs[0], encoder.inputs[0], "decoder returns {}, but the encoder takes {}"),
    ):
        if not same_shape(this.shape, that.shape):
            raise ValueError(text.format(tuple(this.shape), tuple(that.shape)))

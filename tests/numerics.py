"""Known answers on one Keras backend: run by test_divergences.py with KERAS_BACKEND set. Prints '<backend> ok'."""

import os
import tempfile

import keras
import numpy as np
from keras import layers, ops

from helpers.callbacks import FreeBits, KLWarmUp
from helpers.divergences import kl_normal, kl_standard_normal
from helpers.evaluation import elbo, log_likelihood
from helpers.layers import Sampling
from helpers.models import VAE, ConditionalVAE

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)

# The KL of tensors is that of arrays.
arguments = [rng.normal(size=(4, 3)).astype(np.float32) for _ in range(4)]
tensors = [ops.convert_to_tensor(a) for a in arguments]
for function, n in ((kl_standard_normal, 2), (kl_normal, 4)):
    result = ops.convert_to_numpy(function(*tensors[:n]))
    np.testing.assert_allclose(result, function(*arguments[:n]), rtol=1e-5)

# Equal seeds draw alike; the draws have the moments asked for.
mean, log_var = ops.full((20_000, 1), 1.5), ops.full((20_000, 1), float(np.log(0.25)))
draw, same, other = (ops.convert_to_numpy(Sampling(seed)([mean, log_var])) for seed in (3, 3, 4))
np.testing.assert_array_equal(draw, same)
assert not np.array_equal(draw, other)
assert abs(draw.mean() - 1.5) < 4 * 0.5 / np.sqrt(20_000) and abs(draw.std() - 0.5) < 0.01


def networks():
    x = keras.Input((3, 3))
    h = layers.Dense(16, "tanh")(layers.Flatten()(x))
    z = keras.Input((2,))
    logits = layers.Reshape((3, 3))(layers.Dense(9)(layers.Dense(16, "tanh")(z)))
    return keras.Model(x, [layers.Dense(2)(h), layers.Dense(2)(h)]), keras.Model(z, logits)


# A VAE trains, reports consistent losses, and survives saving.
images = (np.arange(9).reshape(3, 3) < rng.integers(0, 10, size=(512, 1, 1))).astype(np.uint8) * np.uint8(255)
vae = VAE(*networks(), beta=0.5, binarise=True, seed=0)
vae.compile(keras.optimizers.Adam(1e-2))
history = vae.fit(images, batch_size=64, epochs=8, verbose=0).history
np.testing.assert_allclose(history["loss"], np.add(history["reconstruction"], 0.5 * np.array(history["kl"])), rtol=1e-5)
assert history["loss"][-1] < history["loss"][0] - 1

bound = elbo(vae, images, samples=16, batch_size=128)
assert abs(bound.mean() - elbo(vae, images, batch_size=128, seed=1).mean()) < 0.3
assert log_likelihood(vae, images, samples=64, batch_size=128).mean() > bound.mean()

with tempfile.TemporaryDirectory() as folder:
    vae.save(os.path.join(folder, "vae.keras"))
    again = keras.models.load_model(os.path.join(folder, "vae.keras"))
np.testing.assert_allclose(elbo(again, images, samples=16, batch_size=128), bound, rtol=1e-5)
z = rng.normal(size=(5, 2)).astype(np.float32)
np.testing.assert_allclose(again.generator.predict_on_batch(z), vae.generator.predict_on_batch(z), rtol=1e-5)

# So does a conditional one; callbacks reach the loss in the middle of an epoch.
x, y, z, c = keras.Input((3, 3)), keras.Input((2,)), keras.Input((2,)), keras.Input((2,))
h = layers.Concatenate()([layers.Flatten()(x), y])
encoder = keras.Model([x, y], [layers.Dense(2)(h), layers.Dense(2)(h)])
decoder = keras.Model([z, c], layers.Reshape((3, 3))(layers.Dense(9)(layers.Concatenate()([z, c]))))
cvae, labels = ConditionalVAE(encoder, decoder, seed=0), np.arange(512) % 2
cvae.compile(keras.optimizers.SGD(0.0))
losses = {}
for name, callbacks in ("beta 1", []), ("warm-up", [KLWarmUp(1)]), ("free bits", [FreeBits(5.0)]):
    history = cvae.fit([images, labels], batch_size=64, epochs=1, verbose=0, callbacks=callbacks).history
    losses[name] = history["loss"][0] - history["reconstruction"][0]
    kl = history["kl"][0]
np.testing.assert_allclose(losses["beta 1"], kl, rtol=1e-4)
np.testing.assert_allclose(losses["warm-up"], kl * 3.5 / 8, rtol=0.1)  # the mean of 0, 1/8, ..., 7/8
np.testing.assert_allclose(losses["free bits"], 10, rtol=1e-4)
elbo(cvae, images, labels=labels)

print(keras.backend.backend(), "ok")

"""Images per second in training, for each network of the book, and their share of what the machine can multiply.

A network of a new chapter needs one more line in NETWORKS.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from statistics import median
from time import perf_counter

import keras
import numpy as np
from keras import layers

from benchmarks.chapters import definitions
from benchmarks.report import Unavailable, table
from benchmarks.stopwatch import Stopwatch
from helpers.data import load_mnist, load_sprites
from helpers.layers import NormalVariational
from helpers.models import bernoulli_nll

ROUNDS, SECONDS, STEPS = 2, 4.0, 16


def grey():
    (images, _), _ = load_mnist()
    return {"x": images / np.float32(255)}


def grey_to_itself(shape=(28, 28)):
    images = grey()["x"].reshape(-1, *shape)
    return {"x": images, "y": images}


def raw():
    (images, _), _ = load_mnist()
    return {"x": images}


def raw_with_labels():
    (images, labels), _ = load_mnist()
    return {"x": [images, labels]}


@dataclass
class Network:
    """One row: a model of a chapter, its data and batch size there.

    `model` makes it from the chapter's definitions; `names` are the assignments of the chapter that it needs. `xla`:
    the chapter compiles it with XLA, and trains it on whole batches alone, as we do here.
    """

    chapter: str
    title: str
    batch: int
    model: Callable
    names: tuple = ()
    data: Callable = raw
    compile: Callable = field(default=lambda chapter: {})
    xla: bool = False


def autoencoder(chapter):
    return keras.Model(chapter["encoder"].input, chapter["decoder"](chapter["encoder"].output))


NETWORKS = (
    Network("01", "autoencoder, MLP 784-512-2", 250, autoencoder, ("encoder", "decoder"), grey_to_itself,
            lambda chapter: {"loss": chapter["cross_entropy"]}),
    Network("05", "VAE, MLP 784-512-2", 256, lambda chapter: chapter["vae"], ("vae",), grey, xla=True),
    Network("06", "classic convolutions, 2 latents", 128, lambda chapter: chapter["classic"], ("classic",)),
    Network("06", "residual, 2 latents", 128, lambda chapter: chapter["small"], ("small",)),
    Network("06", "residual, 20 latents", 256, lambda chapter: chapter["twenty"],
            ("wide_encoder", "wide_decoder", "twenty")),
    Network("07", "conditional, MLP 794-384-128-2", 256, lambda chapter: chapter["cvae"], ("cvae",), raw_with_labels),
    Network("08", "conditional, MLP 794-512-2", 256, lambda chapter: chapter["cvae"], ("cvae",), raw_with_labels),
    Network("08", "deep, MLP 784-200-200-200-20", 256, lambda chapter: chapter["make_deep_vae"]()),
    Network("08", "sprites, MLP 1024-256-128-64-6", 64, lambda chapter: chapter["make_sprite_vae"](beta=4.0, seed=0),
            data=lambda: {"x": load_sprites()[0]}),
    Network("09", "MMD-VAE, MLP 784-256-2", 256, lambda chapter: chapter["PricedAutoencoder"](),
            data=grey, xla=True),
    Network("10", "known ladder, convolutions, 3 × 2 latents", 64, lambda chapter: chapter["known"], ("known",),
            lambda: grey_to_itself((28, 28, 1)), lambda chapter: {"loss": chapter["ten_times_mean"]}),
    Network("10", "repaired ladder, MLP, 3 × 2 latents", 256, lambda chapter: chapter["make_vlae"](2),
            data=grey_to_itself, compile=lambda chapter: {"loss": bernoulli_nll}, xla=True),
)  # fmt: skip


def matrix_limit(n=2048, repeats=12):
    """Operations per second, two for each multiplication, of the best of several products of n x n float32 matrices."""
    a, b = np.random.default_rng(0).random((2, n, n), dtype=np.float32)
    times = []
    for _ in range(repeats):
        start = perf_counter()
        a @ b
        times.append(perf_counter() - start)
    return 2 * n**3 / min(times)


def flops(model):
    """Operations of a training step for each image: those of the products and convolutions, forwards, times three.

    Backwards takes two products for each one forwards, by the weights and by the inputs. (The first layer needs no
    gradient by its inputs, so this is a little too high.) Activations, normalisation and the optimiser are not counted.
    """
    return 3 * sum(2 * _products(layer) for layer in _leaves(model))


def weights(model):
    return sum(prod(weight.shape) for layer in _leaves(model) for weight in layer.weights)


def _leaves(layer):
    parts = layer.layers if hasattr(layer, "layers") else ()
    if isinstance(layer, NormalVariational):
        parts = layer.mean, layer.log_var
    if not parts:
        yield layer
    for part in parts:
        yield from _leaves(part)


def _products(layer):
    if isinstance(layer, layers.Dense):
        return prod(layer.kernel.shape)
    if isinstance(layer, layers.Conv2DTranspose):    # before Conv2D, whose adjoint it is: each place of its input
        return prod(layer.input.shape[1:-1]) * prod(layer.kernel.shape)
    if isinstance(layer, layers.Conv2D):
        return prod(layer.output.shape[1:-1]) * prod(layer.kernel.shape)
    return 0


def _whole(images, batch):
    return images[: len(images) // batch * batch]


def prepare(network):
    chapter = definitions(network.chapter, *network.names)
    model = network.model(chapter)
    model.compile(keras.optimizers.Adam(1e-4), steps_per_execution=STEPS, jit_compile=network.xla,
                  **network.compile(chapter))
    return model


def images_per_second(model, network):
    watch = Stopwatch([SECONDS])
    data = {name: _whole(part, network.batch) if network.xla else part for name, part in network.data().items()}
    model.fit(**data, batch_size=network.batch, epochs=10_000, verbose=0, callbacks=[watch])
    return STEPS * network.batch / median(np.diff(watch.ticks))


def speed(options):
    limit, rates, models, notes = 0.0, {}, {}, []
    for i, network in enumerate(NETWORKS):
        try:
            models[i] = prepare(network)
        except (LookupError, NameError) as reason:
            notes.append(f"Left out: chapter {network.chapter}, {network.title} ({' '.join(map(str, reason.args))}).")
            print(notes[-1], flush=True)
    if not models:
        raise Unavailable("no network of the book was found")
    for _ in range(ROUNDS):
        for i, model in models.items():
            limit = max(limit, matrix_limit())
            rate = images_per_second(model, NETWORKS[i])
            rates[i] = max(rate, rates.get(i, 0))
            print(f"{NETWORKS[i].chapter} {NETWORKS[i].title}: {rate:,.0f} images/s", flush=True)
    rows = []
    for i, rate in rates.items():
        network, work = NETWORKS[i], flops(models[i])
        rows.append([
            network.title, network.chapter, f"{weights(models[i]):,}", network.batch, "yes" if network.xla else "",
            f"{work / 1e6:.2f}", f"{rate:,.0f}", f"{rate * work / limit:.0%}",
        ])  # fmt: skip
    method = (
        f"The limit, measured in the same run: {limit / 1e9:.0f} GFLOP/s, the best of many float32 products of 2048 × "
        "2048 matrices in NumPy. MFLOP per image: two for each multiplication of the dense layers, convolutions and "
        "transposed convolutions, times three for forwards and backwards; nothing else is counted. Each network is the "
        f"chapter's, with its batch size and data, compiled by XLA where it is so there; {STEPS} steps to a call. "
        f"Images/s in training: the median over {SECONDS:.0f} s, the better of {ROUNDS} rounds."
    )
    columns = ["network", "chapter", "weights", "batch", "XLA", "MFLOP per image", "images/s", "of the limit"]
    return "\n\n".join([method, table(columns, rows), *notes])

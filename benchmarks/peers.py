"""Other people's variational autoencoders, re-created in our own words from their published descriptions.

Networks, optimiser, learning rate and batch size are theirs. So that one evaluation fits all, every peer trains on the
60 000 training images of MNIST, binarised anew at each step, whatever the original does with them.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from helpers.data import MNIST
from helpers.models import VAE, bernoulli_nll

ROOT = Path(__file__).parent.parent
ENVIRONMENT = ROOT / ".venv" / "peers"    # PyTorch shares no environment with the course; `make clean` removes it
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
UV = shutil.which("uv")


class SampledVAE(VAE):
    """A VAE whose loss takes the KL by the same sample as the reconstruction: log q(z|x) - log p(z)."""

    def call(self, images):
        images = self.prepare(images)
        mean, log_var = self.encoder(images)
        z = self.sampling([mean, log_var])
        return {"images": images, "mean": mean, "log_var": log_var, "z": z, "logits": self.decoder(z)}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        mean, log_var, z = (y_pred[name] for name in ("mean", "log_var", "z"))
        log_ratio = 0.5 * ops.sum(z**2 - (z - mean) ** 2 * ops.exp(-log_var) - log_var, axis=1)
        return ops.mean(bernoulli_nll(y_pred["images"], y_pred["logits"]) + log_ratio)


def convolutional(latents, padding, hidden, channels):
    """Two convolutions of stride 2 and two transposed ones; `hidden` units before the latents, or none."""
    images = keras.Input((28, 28))
    h = layers.Reshape((28, 28, 1))(images)
    for filters in (32, 64):
        h = layers.Conv2D(filters, 3, 2, padding, activation="relu")(h)
    h = layers.Flatten()(h)
    if hidden:
        h = layers.Dense(hidden, "relu")(h)
    z = keras.Input((latents,))
    g = layers.Reshape((7, 7, channels))(layers.Dense(49 * channels, "relu")(z))
    for filters in (64, 32):
        g = layers.Conv2DTranspose(filters, 3, 2, "same", activation="relu")(g)
    logits = layers.Reshape((28, 28))(layers.Conv2DTranspose(1, 3, 1, "same")(g))
    return keras.Model(images, [layers.Dense(latents)(h), layers.Dense(latents)(h)]), keras.Model(z, logits)


def dense(latents, hidden):
    """One hidden layer on each side."""
    images, z = keras.Input((28, 28)), keras.Input((latents,))
    h = layers.Dense(hidden, "relu")(layers.Flatten()(images))
    logits = layers.Reshape((28, 28))(layers.Dense(784)(layers.Dense(hidden, "relu")(z)))
    return keras.Model(images, [layers.Dense(latents)(h), layers.Dense(latents)(h)]), keras.Model(z, logits)


@dataclass
class Peer:
    """`networks(latents)` makes encoder and decoder in Keras; `torch` is its name in torch_peers.py, if it has one."""

    name: str
    address: str
    published: int    # latents
    latents: int
    networks: Callable
    rate: float
    batch: int
    objective: type = VAE
    torch: str | None = None

    @property
    def title(self):
        return self.name if self.latents == self.published else f"{self.name}, {self.latents} latents"

    def model(self):
        return self.objective(*self.networks(self.latents), binarise=True, seed=0)


def peers(latents):
    """Every peer as published and, where that has another number of latents, with `latents` in their place."""
    keras_example = dict(
        name="Keras example", address="https://keras.io/examples/generative/vae/", published=2, rate=1e-3, batch=128,
        networks=partial(convolutional, padding="same", hidden=16, channels=64),
    )  # fmt: skip
    tensorflow_tutorial = dict(
        name="TensorFlow tutorial", address="https://www.tensorflow.org/tutorials/generative/cvae", published=2,
        rate=1e-4, batch=32, networks=partial(convolutional, padding="valid", hidden=0, channels=32),
        objective=SampledVAE,
    )  # fmt: skip
    pytorch_example = dict(
        name="PyTorch example", address="https://github.com/pytorch/examples/tree/main/vae", published=20, rate=1e-3,
        batch=128, networks=partial(dense, hidden=400), torch="example",
    )  # fmt: skip
    pythae = dict(
        name="pythae, default MLP", address="https://pythae.readthedocs.io/", published=10, rate=1e-4, batch=64,
        networks=partial(dense, hidden=512), torch="pythae",
    )  # fmt: skip
    for settings in (keras_example, tensorflow_tutorial, pytorch_example, pythae):
        for size in dict.fromkeys((settings["published"], latents)):
            yield Peer(latents=size, **settings)


def torch_environment():
    """(its Python, "") where PyTorch and pythae run, installing them at the first call; else (None, why not)."""
    python, mark = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "installed"
    if not mark.exists() or mark.read_text() != REQUIREMENTS.read_text():
        print("Installing PyTorch and pythae into .venv/peers, once: up to 6 GB, some minutes ...", flush=True)
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        make = [UV, "venv", "--quiet", "--python", sys.executable] if UV else [sys.executable, "-m", "venv"]
        pip = [UV, "pip", "install", "--python", python] if UV else [python, "-m", "pip", "install"]
        for command in ([*make, ENVIRONMENT], [*pip, "--quiet", "--requirement", REQUIREMENTS]):
            try:
                status = subprocess.run(command, check=False, timeout=1200).returncode
            except subprocess.TimeoutExpired:
                return None, "the packages could not be installed within 20 minutes"
            if status:
                return None, "the packages could not be installed; the installer's message stands above the results"
        mark.write_text(REQUIREMENTS.read_text())
    if subprocess.run([python, "-c", "import torch, pythae"], check=False, stdout=subprocess.DEVNULL).returncode:
        return None, "the packages were installed but cannot be imported"
    return python, ""


def train_in_torch(python, peer, seconds):
    """Readings (seconds, steps, weights of the two networks), the seconds of the first steps, and the versions used."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(__file__).with_name("torch_peers.py")
        settings = {"peer": peer.torch, "seconds": seconds}
        settings |= {name: getattr(peer, name) for name in ("latents", "rate", "batch")}
        subprocess.run([python, "-P", script, json.dumps(settings), MNIST, folder], check=True)
        report = json.loads(Path(folder, "report.json").read_text())
        readings = []
        for i, (elapsed, steps) in enumerate(report["readings"]):
            with np.load(Path(folder, f"{i}.npz")) as arrays:
                values = [arrays[name] for name in arrays.files]
            readings.append((elapsed, steps, (values[:6], values[6:])))    # kernel and bias of three layers, and of two
    return readings, report["first_steps"], report["versions"]

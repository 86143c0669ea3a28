"""Trains a PyTorch peer and stores its weights: run by peers.py with the Python of .venv/peers, which has no Keras.

Images come from memory and are binarised by whole batches, which is faster than the loaders of the originals.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from pythae.models import VAE, VAEConfig
from pythae.trainers import BaseTrainerConfig
from torch import nn
from torch.nn import functional

UNTIMED = 16    # steps before the clock starts, as for the peers in Keras


class Example(nn.Module):
    """The PyTorch example: one hidden layer of 400 on each side; binary cross-entropy and KL, summed over the batch."""

    def __init__(self, latents):
        super().__init__()
        self.hidden, self.mean, self.log_var = nn.Linear(784, 400), nn.Linear(400, latents), nn.Linear(400, latents)
        self.back, self.pixels = nn.Linear(latents, 400), nn.Linear(400, 784)

    def forward(self, images):
        h = torch.relu(self.hidden(images.flatten(1)))
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + torch.exp(log_var / 2) * torch.randn_like(mean)
        probabilities = torch.sigmoid(self.pixels(torch.relu(self.back(z))))
        kl = 0.5 * torch.sum(mean**2 + log_var.exp() - log_var - 1)
        return functional.binary_cross_entropy(probabilities, images.flatten(1), reduction="sum") + kl

    def dense_layers(self):
        return self.hidden, self.mean, self.log_var, self.back, self.pixels


class Pythae(nn.Module):
    """pythae's own VAE with its default networks. Its default loss is a squared error; an ELBO in nats needs "bce"."""

    def __init__(self, latents):
        super().__init__()
        self.vae = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=latents, reconstruction_loss="bce"))

    def forward(self, images):
        return self.vae({"data": images}).loss

    def dense_layers(self):
        encoder, decoder = self.vae.encoder, self.vae.decoder
        return encoder.layers[0][0], encoder.embedding, encoder.log_var, decoder.layers[0][0], decoder.layers[1][0]


def batches(images, size):
    """Forever: shuffled, scaled, and drawn as 0/1 anew each time."""
    while True:
        for rows in torch.randperm(len(images)).split(size):
            grey = images[rows].float() / 255
            yield (torch.rand_like(grey) < grey).float()


def arrays(model):
    """Kernels and biases in Keras's order and layout."""
    pairs = [(layer.weight.T, layer.bias) for layer in model.dense_layers()]
    return [tensor.detach().numpy().copy() for pair in pairs for tensor in pair]


def main(settings, mnist, folder):
    torch.manual_seed(0)
    images = torch.from_numpy(np.load(mnist)["x_train"])
    model = {"example": Example, "pythae": Pythae}[settings["peer"]](settings["latents"])
    defaults = BaseTrainerConfig()
    if settings["peer"] == "pythae":
        assert (settings["rate"], settings["batch"]) == (defaults.learning_rate, defaults.per_device_train_batch_size)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings["rate"])
    due, readings, paused, begin = sorted(settings["seconds"]), [], 0.0, perf_counter()
    for step, batch in enumerate(batches(images, settings["batch"]), 1):
        optimiser.zero_grad()
        model(batch).backward()
        optimiser.step()
        now = perf_counter()
        if step == UNTIMED:
            start = now
        if step > UNTIMED and now - start - paused >= due[0]:
            readings.append((now - start - paused, step - UNTIMED))
            np.savez(Path(folder, f"{len(readings) - 1}.npz"), *arrays(model))
            due.pop(0)
            if not due:
                break
            paused += perf_counter() - now
    versions = {"PyTorch": version("torch").partition("+")[0], "pythae": version("pythae")}
    report = {"readings": readings, "first_steps": start - begin, "versions": versions}
    Path(folder, "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), *sys.argv[2:])

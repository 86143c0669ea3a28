"""Test ELBO against seconds of training: the network of chapter 06 and its peers, on one machine, by one evaluation."""

import keras
import numpy as np

from benchmarks.chapters import definitions, keywords
from benchmarks.limits import STEPS, matrix_limit, weights
from benchmarks.peers import peers, torch_environment, train_in_torch
from benchmarks.report import nats, table
from benchmarks.stopwatch import Stopwatch
from helpers.data import binarise, load_mnist
from helpers.evaluation import elbo

FLOOR_SECONDS, FLOOR_NATS = 60, 5    # what the course promises: ours is ahead of every peer by so much
OURS = "wide_encoder", "wide_decoder", "twenty"    # what chapter 06 calls them
LAST_OF_VARIANTS = 60    # seconds: rows with another number of latents than published are not followed further
MARGIN = 0.96    # of the steps that the speed of the run before allows: ours shall not take longer than its peers


class Row:
    """One line of the table, judged through `model`, whose weights it sets."""

    def __init__(self, title, model, batch, rate, trained_in="Keras"):
        self.title, self.model, self.batch, self.rate, self.trained_in = title, model, batch, rate, trained_in
        self.bounds, self.times = {}, {}

    @property
    def latents(self):
        return self.model.decoder.inputs[0].shape[1]

    def judge(self, at, reading, first_steps, images):
        elapsed, steps, (encoder, decoder) = reading
        self.model.encoder.set_weights(encoder)
        self.model.decoder.set_weights(decoder)
        self.bounds[at], self.times[at] = elbo(self.model, images).mean(), elapsed
        self.speed, self.first_steps = steps * self.batch / elapsed, first_steps
        print(f"{self.title}: {steps} steps in {elapsed:.1f} s, test ELBO {self.bounds[at]:.2f} nats", flush=True)

    def cells(self, seconds):
        size = sum(weights(network) for network in (self.model.encoder, self.model.decoder))
        late = {at: f" ({took:.1f} s)" * (abs(took / at - 1) > 0.01) for at, took in self.times.items()}
        return [
            self.title, self.latents, f"{size:,}", self.batch, self.rate, self.trained_in, f"{self.speed:,.0f}",
            f"{self.first_steps:.1f}", *(nats(self.bounds[at]) + late[at] if at in late else "" for at in seconds),
        ]  # fmt: skip


def take(model):
    return model.encoder.get_weights(), model.decoder.get_weights()


def train_ours(images, steps, peak, batch):
    """Chapter 06's own `train`, for about so many steps, on the clock: (model, reading, seconds of the first steps).

    `train` counts in whole epochs, so it is given the share of the images that makes the number of epochs whole.
    """
    chapter, watch = definitions("06", *OURS), Stopwatch()
    chapter["ProgressBar"] = lambda label: watch    # the only callback that `train` takes by name
    epochs = -(-steps * batch // len(images))
    chapter["train"](chapter["twenty"], images[: steps * batch // epochs], epochs, peak=peak, batch=batch)
    return chapter["twenty"], (watch.elapsed, watch.steps, take(chapter["twenty"])), watch.first_steps


def ours(seconds, images, b_test):
    """One run for each time, as the learning rate falls to zero; the speed of a run sets the steps of the next."""
    peak, batch = (keywords("06", "train", "twenty")[name] for name in ("peak", "batch"))
    row = None
    _, (elapsed, steps, _), _ = train_ours(images, 20 * STEPS, peak, batch)
    for at in seconds:
        wanted = STEPS + int(MARGIN * at * steps / elapsed)
        model, reading, first_steps = train_ours(images, max(2 * STEPS, wanted), peak, batch)
        elapsed, steps, _ = reading
        row = row or Row("ours (chapter 06)", model, batch, f"{peak:g}, cosine")
        row.judge(at, reading, first_steps, b_test)
    return row


def run_peer(peer, python, seconds, images, b_test):
    """A constant learning rate: one run, read at each time."""
    keras.utils.set_random_seed(0)
    model, trained_in = peer.model(), "Keras"
    if peer.latents != peer.published:
        seconds = [at for at in seconds if at <= LAST_OF_VARIANTS] or seconds[:1]
    if peer.torch and python:
        readings, first_steps, versions = train_in_torch(python, peer, seconds)
        trained_in = "pythae" if peer.torch == "pythae" else "PyTorch"
        trained_in = f"{trained_in} {versions[trained_in]}"
    else:
        watch = Stopwatch(seconds, take)
        model.compile(keras.optimizers.Adam(peer.rate), steps_per_execution=STEPS)
        model.fit(images, batch_size=peer.batch, epochs=100_000, verbose=0, callbacks=[watch])
        readings, first_steps = watch.readings, watch.first_steps
    row = Row(peer.title, model, peer.batch, f"{peer.rate:g}", trained_in)
    for at, reading in zip(seconds, readings):
        row.judge(at, reading, first_steps, b_test)
    return row


def verdict(rows, seconds):
    """How far ours is ahead of each peer at the promised time, in words."""
    mine, *others = rows
    best = {at: max((row for row in others if at in row.bounds), key=lambda row: row.bounds[at]) for at in seconds}
    lead = {at: mine.bounds[at] - row.bounds[at] for at, row in best.items()}
    text = "Ours minus the best peer: " + "; ".join(
        f"{at:g} s {nats(lead[at])} nats ({best[at].title})" for at in seconds
    ) + "."  # fmt: skip
    if FLOOR_SECONDS in seconds:
        held = "holds" if lead[FLOOR_SECONDS] >= FLOOR_NATS else "does NOT hold"
        text += f" The floor, {FLOOR_NATS} nats ahead of every peer at {FLOOR_SECONDS} s, {held} in this run."
    return text


def training(options):
    (images, _), (x_test, _) = load_mnist()
    b_test = binarise(x_test, np.random.default_rng(0))
    python, reason = torch_environment()
    limits, rows = [matrix_limit()], [ours(options.seconds, images, b_test)]
    others = list(peers(rows[0].latents))
    for peer in others:
        limits.append(matrix_limit())
        rows.append(run_peer(peer, python, options.seconds, images, b_test))
    addresses = {peer.name: peer.address for peer in others}
    links = "; ".join(f"[{name}]({address})" for name, address in addresses.items())
    judged = (
        "Test ELBO in nats per image, higher is better: dynamic binarisation in training, judged for every row by "
        "`helpers.evaluation.elbo` on one fixed binarised draw of all 10 000 test images, one sample of z for each "
        "(standard error about 0.25). One run of each, one after the other; the machine's matrix limit before each run "
        f"was {min(limits) / 1e9:.0f} to {max(limits) / 1e9:.0f} GFLOP/s."
    )
    timed = (
        f"Seconds are of training alone. For every row the clock starts after the first {STEPS} steps, which compile "
        "the graph where there is one and have a column of their own, and it stands still while weights are copied; "
        "judging comes after. Ours has one run for each time, as its learning rate falls to zero at the end; the "
        "number of steps comes from the speed of the run before, and where the time came out more than 1 % different "
        "it stands beside the nats. Peers have one run, read at each time."
    )
    theirs = (
        f"Peers are re-created from their descriptions: {links}. Architecture, optimiser, learning rate and batch size "
        "are theirs; those with another number of latents have a second row in which only that is changed to ours, "
        f"for {LAST_OF_VARIANTS} s. Not theirs: the binarised images; {STEPS} steps to a call in Keras, and in PyTorch a plain loop over images in "
        'memory, both faster than the originals; and pythae\'s loss, "bce" in place of its default squared error, '
        "which is no ELBO in nats."
    )
    columns = ["", "latents", "weights", "batch", "rate of Adam", "trained in", "images/s", f"first {STEPS} steps, s"]
    results = table(columns + [f"{at:g} s" for at in options.seconds], [row.cells(options.seconds) for row in rows])
    parts = [judged, results, verdict(rows, options.seconds), timed, theirs]
    if not python:
        parts.append(f"The networks of the PyTorch example and of pythae were trained in Keras here: {reason}.")
    return "\n\n".join(parts)

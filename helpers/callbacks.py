"""Keras callbacks."""

import sys
import time

import keras

import helpers._tuning  # noqa: F401  (for its effect)


class ProgressBar(keras.callbacks.Callback):
    """One line for a whole `fit`: a bar, the epoch, nats per image and the time left; at the end, the nats alone.

    The final line holds no timings, so that the same machine stores the same notebook again. Use it with verbose=0:

        vae.fit(x_train, epochs=30, verbose=0, callbacks=[ProgressBar()])

    Parameters
    ----------
    label : str
        Put before the line; useful where several models are trained in turn.
    interval : float
        Seconds between two updates.
    """

    def __init__(self, label="", interval=0.5):
        super().__init__()
        self.label = f"{label}: " if label else ""
        self.interval = interval

    def on_train_begin(self, logs=None):
        self.epochs, self.steps = self.params["epochs"], self.params.get("steps")
        self.epoch, self.start, self.shown, self.logs = 0, time.monotonic(), 0.0, {}
        self.line = _Line()
        self._update(0)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self.shown > self.interval:
            self.logs = logs or self.logs
            self._update(self.epoch + (batch + 1) / self.steps if self.steps else self.epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.logs = logs or {}
        self._update(epoch + 1)

    def on_train_end(self, logs=None):
        epochs = f"{self.epoch + 1} epoch" + "s" * (self.epoch > 0)
        self.line.write(f"{self.label}{epochs}{_nats(self.logs)}", last=True)

    def _update(self, done):
        """`done`: epochs finished, a fraction."""
        self.shown = time.monotonic()
        share = min(done / self.epochs, 1.0)
        left = f", {(self.shown - self.start) * (1 - share) / share:.0f} s left" if share else ""
        bar = "█" * round(20 * share) + "░" * (20 - round(20 * share))
        self.line.write(f"{self.label}{bar} epoch {min(self.epoch + 1, self.epochs)}/{self.epochs}{_nats(self.logs)}{left}")


def _nats(logs):
    """`", loss 149.9 nats (reconstruction 143.2, kl 6.7), val_loss 150.6"`, as far as `logs` has them."""
    loss = f", loss {logs['loss']:.1f} nats" if "loss" in logs else ""
    parts = ", ".join(f"{name} {logs[name]:.1f}" for name in ("reconstruction", "kl") if name in logs)
    held_out = f", held out {logs['val_loss']:.1f}" if "val_loss" in logs else ""
    return loss + (f" ({parts})" if parts else "") + held_out


class _BetaSchedule(keras.callbacks.Callback):
    """Sets ``model.beta`` before each step (or group of `steps_per_execution` steps), and to `beta` at the end of `fit`."""

    def __init__(self, beta):
        super().__init__()
        if not 0 <= beta < float("inf"):
            raise ValueError(f"beta must be a number of at least 0; got {beta}")
        self.beta = beta

    def share(self, epochs):
        """The share of `beta` that is in force after so many epochs, a fraction."""
        raise NotImplementedError

    def on_train_begin(self, logs=None):
        _check_variable(self, "beta")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        steps = self.params.get("steps")
        _assign(self.model, "beta", self.beta * self.share(self.epoch + (batch / steps if steps else 0)))

    def on_train_end(self, logs=None):
        _assign(self.model, "beta", self.beta)


class KLWarmUp(_BetaSchedule):
    """Raises the weight of the KL from 0 to `beta` in a straight line over the first `epochs`, and keeps it there.

    Parameters
    ----------
    epochs : float, above 0
    beta : float, at least 0

    References
    ----------
    Bowman et al., Generating Sentences from a Continuous Space, 2016; Sønderby et al., Ladder Variational Autoencoders,
    2016.
    """

    def __init__(self, epochs, beta=1.0):
        super().__init__(beta)
        if not epochs > 0:
            raise ValueError(f"epochs must be above 0; got {epochs}")
        self.epochs = epochs

    def share(self, epochs):
        return min(epochs / self.epochs, 1.0)


class CyclicAnnealing(_BetaSchedule):
    """Repeats the warm-up: the epochs of `fit` are cut into `cycles` equal parts; in each the weight of the KL rises from
    0 to `beta` over the first `share` of the part, and stays at `beta` for the rest.

    Parameters
    ----------
    cycles : int, at least 1
    beta : float, at least 0
    share : float, above 0 and at most 1

    References
    ----------
    Fu et al., Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing, 2019.
    """

    def __init__(self, cycles=4, beta=1.0, share=0.5):
        super().__init__(beta)
        if cycles < 1 or cycles != int(cycles):
            raise ValueError(f"cycles must be an integer of at least 1; got {cycles}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1; got {share}")
        self.cycles, self.rising = cycles, share

    def share(self, epochs):
        position = epochs / self.params["epochs"] * self.cycles
        return min(position % 1 / self.rising, 1.0)


class FreeBits(keras.callbacks.Callback):
    """Charges every latent for at least `nats`, whether it uses them or not: below that, shrinking its KL gains nothing.

    The training loss becomes reconstruction + beta sum_j max(nats, KL_j), with KL_j averaged over the batch. After `fit`
    the loss is as before; the metrics ``reconstruction`` and ``kl``, and `evaluate`, are not touched.

    References
    ----------
    Kingma et al., Improving Variational Inference with Inverse Autoregressive Flow, 2016.
    """

    def __init__(self, nats):
        super().__init__()
        if not 0 <= nats < float("inf"):
            raise ValueError(f"nats must be a number of at least 0; got {nats}")
        self.nats = nats

    def on_train_begin(self, logs=None):
        _check_variable(self, "free_bits")
        _assign(self.model, "free_bits", self.nats)

    def on_train_end(self, logs=None):
        _assign(self.model, "free_bits", 0.0)


class FadeIn(keras.callbacks.Callback):
    """Opens the gates of a ladder's levels one after the other: each rises from 0 to 1 between two shares of the training.

    In the first half of that time a level comes to be heard, in the second its KL comes to be charged.

    Parameters
    ----------
    **levels : (start, end), 0 <= start < end <= 1
        By the name of a `helpers.layers.NormalVariational` with a gate: ``FadeIn(z_2_latent=(0.4, 0.5))`` keeps that level
        shut for the first 40 % of the steps of `fit`, and open from half of them on. After `fit` all gates are open.

    Raises
    ------
    ValueError
        Shares out of range; or, at the start of `fit`, a name that is no gated layer of the model.

    References
    ----------
    Li et al., Progressive Learning and Disentanglement of Hierarchical Representations, 2020.
    """

    def __init__(self, **levels):
        super().__init__()
        for name, (start, end) in levels.items():
            if not 0 <= start < end <= 1:
                raise ValueError(f"{name} must fade in from start to end, 0 <= start < end <= 1; got {start} and {end}")
        self.levels = levels

    def on_train_begin(self, logs=None):
        gated = [layer.name for layer in self.model.layers if getattr(layer, "gated", False)]
        for name in self.levels:
            if name not in gated:
                raise ValueError(f"FadeIn names {name}; the model's layers with a gate are {', '.join(gated) or 'none'}")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        steps = self.params.get("steps")
        share = (self.epoch + (batch / steps if steps else 0)) / self.params["epochs"]
        self._set({name: (share - start) / (end - start) for name, (start, end) in self.levels.items()})

    def on_train_end(self, logs=None):
        self._set(dict.fromkeys(self.levels, 1.0))

    def _set(self, gates):
        for name, gate in gates.items():
            _assign(self.model, lambda model: model.get_layer(name).gate, min(max(gate, 0.0), 1.0))


def _check_variable(callback, name):
    if not hasattr(getattr(callback.model, name, None), "assign"):
        raise TypeError(f"{type(callback).__name__} needs a model with a variable {name}, such as helpers.models.VAE")


def _assign(model, variable, value):
    """`variable`: a name, or a function of the model."""
    if hasattr(model, "jax_state_sync"):  # JAX keeps the variables elsewhere while it trains
        model.jax_state_sync()
    (variable(model) if callable(variable) else getattr(model, variable)).assign(value)


class _Line:
    """A line of output that can be rewritten: a display that updates in a notebook, carriage returns elsewhere."""

    def __init__(self):
        self.handle = None
        ipython = sys.modules.get("IPython")
        self.notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")

    def write(self, text, last=False):
        if self.notebook:
            from IPython.display import display

            content = {"text/plain": text}
            if self.handle is None:
                self.handle = display(content, raw=True, display_id=True)
            else:
                self.handle.update(content, raw=True)
        elif sys.stdout.isatty():
            print(f"\r\x1b[K{text}", end="\n" if last else "", flush=True)
        elif last:
            print(text)

"""Keras callbacks."""

import sys
import time

import keras


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

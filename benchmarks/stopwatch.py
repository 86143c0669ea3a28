"""One clock for every `fit` that is measured."""

from time import perf_counter

import keras
import numpy as np


class Stopwatch(keras.callbacks.Callback):
    """Seconds of training. The clock starts when the first group of steps is done: that one also compiles the graph.

    Parameters
    ----------
    seconds : sequence of float
        When to take a reading: (seconds, steps, take(model)). Taking it stops the clock; the last one ends `fit`.
        Without any, `fit` runs to its own end.
    take : function of the model
    """

    def __init__(self, seconds=(), take=lambda model: None):
        super().__init__()
        self.due, self.take = sorted(seconds), take
        self.ticks, self.readings, self.paused = [], [], 0.0

    def on_train_begin(self, logs=None):
        self.begin = perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = perf_counter()
        self.ticks.append(now - self.paused)
        if len(self.ticks) == 1:
            self.first_steps, self.untimed = now - self.begin, self._steps()
        if self.due and self.elapsed >= self.due[0]:
            self.due.pop(0)
            self.readings.append((self.elapsed, self.steps, self.take(self.model)))
            self.model.stop_training = not self.due
            self.paused += perf_counter() - now

    def _steps(self):
        return int(np.asarray(self.model.optimizer.iterations))

    @property
    def elapsed(self):
        return self.ticks[-1] - self.ticks[0]

    @property
    def steps(self):
        """Steps in the `elapsed` seconds."""
        return self._steps() - self.untimed

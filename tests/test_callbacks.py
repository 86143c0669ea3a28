import io
import sys

import keras
import nbformat
import numpy as np
from nbclient import NotebookClient

from helpers.callbacks import ProgressBar


def fit(**kwargs):
    x = keras.Input((2,))
    model = keras.Model(x, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    data = np.ones((64, 2)), np.full((64, 1), 10.0)
    model.fit(*data, batch_size=8, verbose=0, **kwargs)


def test_outside_a_terminal_one_line_without_timings(capsys):
    fit(epochs=3, callbacks=[ProgressBar(label="tiny", interval=0)])
    out = capsys.readouterr().out
    assert out.startswith("tiny: 3 epochs, loss ") and out.endswith(" nats\n") and out.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_in_a_terminal_it_counts_and_ends_on_the_clean_line(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    fit(epochs=2, callbacks=[ProgressBar(interval=0)], validation_data=(np.ones((8, 2)), np.ones((8, 1))))
    *updates, final = screen.getvalue().split("\r\x1b[K")
    assert "epoch 1/2" in updates[1] and "epoch 2/2" in updates[-1]
    assert "s left" in updates[-1] and "nats" in updates[-1]
    assert final.startswith("2 epochs, loss ") and "held out" in final and "left" not in final
    assert final.endswith("\n") and "\n" not in "".join(updates)


def test_updates_are_rare(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    fit(epochs=4, callbacks=[ProgressBar(interval=1000)])
    assert screen.getvalue().count("\r") == 1 + 4 + 1  # begin, each epoch, end


def test_reports_the_halves_of_the_loss(capsys):
    bar = ProgressBar()
    bar.set_params({"epochs": 1, "steps": 1})
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.on_epoch_end(0, {"loss": 150.04, "reconstruction": 143.26, "kl": 6.78, "val_loss": 151.0})
    bar.on_train_end()
    expected = "1 epoch, loss 150.0 nats (reconstruction 143.3, kl 6.8), held out 151.0\n"
    assert capsys.readouterr().out == expected


def test_without_a_number_of_steps(capsys):
    bar = ProgressBar(interval=0)
    bar.set_params({"epochs": 2, "steps": None})
    bar.on_train_begin()
    bar.on_epoch_begin(0)
    bar.on_train_batch_end(5, {"loss": 1.0})
    bar.on_train_end()
    assert capsys.readouterr().out == "1 epoch, loss 1.0 nats\n"


def test_a_notebook_stores_only_the_last_line():
    code = """
from helpers.callbacks import ProgressBar
bar = ProgressBar(interval=0)
bar.set_params({"epochs": 2, "steps": 4})
bar.on_train_begin()
for epoch in range(2):
    bar.on_epoch_begin(epoch)
    for batch in range(4):
        bar.on_train_batch_end(batch, {"loss": 2.0})
    bar.on_epoch_end(epoch, {"loss": 1.0})
bar.on_train_end()
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert output.data == {"text/plain": "2 epochs, loss 1.0 nats"}

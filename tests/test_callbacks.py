import io
import sys

import keras
import nbformat
import numpy as np
import pytest
from keras import layers
from nbclient import NotebookClient

from helpers.callbacks import CyclicAnnealing, FadeIn, FreeBits, KLWarmUp, ProgressBar
from helpers.layers import NormalVariational
from helpers.models import VAE


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


# -- schedules of the KL -------------------------------------------------------------------------------------------

images = np.random.default_rng(0).random((80, 6)).astype(np.float32)


def small_vae(beta=1.0):
    keras.utils.set_random_seed(0)
    x, z = keras.Input((6,)), keras.Input((2,))
    vae = VAE(
        keras.Model(x, [layers.Dense(2)(x), layers.Dense(2)(x)]), keras.Model(z, layers.Dense(6)(z)), beta=beta, seed=0
    )
    vae.compile(keras.optimizers.Adam(1e-2))
    return vae


class Record(keras.callbacks.Callback):
    def __init__(self, name="beta"):
        super().__init__()
        self.name, self.values = name, []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(getattr(self.model, self.name)))


def betas(callback, **kwargs):
    vae, record = small_vae(), Record()
    vae.fit(images, batch_size=8, verbose=0, callbacks=[callback, record], **kwargs)  # ten steps an epoch
    assert float(vae.beta) == pytest.approx(callback.beta)
    return record.values


def test_warm_up_rises_step_by_step_and_stays():
    expected = [*np.arange(15) * 4 / 15, *[4] * 15]
    np.testing.assert_allclose(betas(KLWarmUp(1.5, beta=4.0), epochs=3), expected, rtol=1e-6)
    np.testing.assert_allclose(betas(KLWarmUp(2), epochs=3, initial_epoch=1), [*0.5 + np.arange(10) / 20, *[1] * 10], rtol=1e-6)


def test_cyclic_annealing_starts_again():
    cycle = [*np.arange(5) / 5, *[1] * 5]
    np.testing.assert_allclose(betas(CyclicAnnealing(cycles=3), epochs=3), cycle * 3, rtol=1e-6, atol=1e-6)
    slow = [*np.arange(15) / 15]
    np.testing.assert_allclose(betas(CyclicAnnealing(cycles=2, share=1), epochs=3), slow * 2, rtol=1e-6, atol=1e-6)


def test_warm_up_is_what_the_loss_sees():
    vae = small_vae()
    history = vae.fit(images, batch_size=80, epochs=4, verbose=0, callbacks=[KLWarmUp(4, beta=2.0)]).history
    weights = (np.array(history["loss"]) - history["reconstruction"]) / history["kl"]
    np.testing.assert_allclose(weights, [0, 0.5, 1, 1.5], atol=1e-3)


def test_free_bits_keep_the_latents_alive():
    kl = {}
    for nats in (0.0, 0.3):
        vae = small_vae(beta=50.0)  # enough to close every latent
        vae.compile(keras.optimizers.Adam(3e-2))
        vae.fit(images, batch_size=8, epochs=60, verbose=0, callbacks=[FreeBits(nats)])
        kl[nats] = vae.evaluate(images, verbose=0, return_dict=True)["kl"]
    assert kl[0.0] < 0.02 and kl[0.3] > 0.2


def test_free_bits_charge_each_latent_at_least_so_much_while_training_only():
    vae, record = small_vae(beta=2.0), Record("free_bits")
    report = vae.fit(images, batch_size=80, epochs=1, verbose=0, callbacks=[FreeBits(7.0), record]).history
    assert record.values == [7.0] and float(vae.free_bits) == 0
    assert report["kl"][0] < 14
    assert report["loss"][0] == pytest.approx(report["reconstruction"][0] + 2 * (7 + 7), rel=1e-5)
    report = vae.evaluate(images, verbose=0, return_dict=True)
    assert report["loss"] == pytest.approx(report["reconstruction"] + 2 * report["kl"], rel=1e-5)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: KLWarmUp(0), "epochs must be above 0; got 0"),
        (lambda: KLWarmUp(2, beta=-1), "beta must be a number of at least 0; got -1"),
        (lambda: KLWarmUp(2, beta=float("nan")), "beta must be"),
        (lambda: CyclicAnnealing(0), "cycles must be an integer of at least 1; got 0"),
        (lambda: CyclicAnnealing(1.5), "cycles must be an integer"),
        (lambda: CyclicAnnealing(share=0), "share must be above 0 and at most 1; got 0"),
        (lambda: FreeBits(-0.1), "nats must be a number of at least 0; got -0.1"),
    ],
)
def test_schedules_that_cannot_be(build, says):
    with pytest.raises(ValueError, match=says):
        build()


@pytest.mark.parametrize("callback", [KLWarmUp(1), CyclicAnnealing(), FreeBits(0.1)], ids=lambda c: type(c).__name__)
def test_schedules_need_a_vae(callback):
    with pytest.raises(TypeError, match=f"{type(callback).__name__} needs a model with a variable"):
        fit(epochs=1, callbacks=[callback])


def gated_model(**kwargs):
    h = keras.Input((3,))
    z = [NormalVariational(2, gated=True, name=f"z_{level}_latent", **kwargs)(h) for level in (1, 2)]
    model = keras.Model(h, layers.Concatenate()(z))
    model.compile("sgd", "mse")
    return model


def test_fade_in_opens_gates_in_turn():
    model, seen = gated_model(), []

    class Gates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append([float(model.get_layer(f"z_{level}_latent").gate) for level in (1, 2)])

    fade = FadeIn(z_2_latent=(0.0, 0.5), z_1_latent=(0.5, 0.8))
    model.fit(np.ones((20, 3)), np.ones((20, 4)), batch_size=2, epochs=2, verbose=0, callbacks=[fade, Gates()])
    share = np.arange(20) / 20
    expected = np.clip([(share - 0.5) / 0.3, share / 0.5], 0, 1)
    np.testing.assert_allclose(np.transpose(seen), expected, atol=1e-6)


def test_fade_in_leaves_gates_open():
    model = gated_model()
    model.fit(np.ones((4, 3)), np.ones((4, 4)), verbose=0, callbacks=[FadeIn(z_1_latent=(0.2, 1.0))])
    assert float(model.get_layer("z_1_latent").gate) == 1


@pytest.mark.parametrize("share", [(-0.1, 0.5), (0.5, 0.5), (0.6, 0.4), (0.5, 1.1), (float("nan"), 1)])
def test_fades_that_cannot_be(share):
    with pytest.raises(ValueError, match="z_1_latent must fade in from start to end"):
        FadeIn(z_1_latent=share)


def test_fade_in_names_layers_with_a_gate():
    with pytest.raises(ValueError, match="names z_3; the model's layers with a gate are z_1_latent, z_2_latent"):
        gated_model().fit(np.ones((4, 3)), np.ones((4, 4)), verbose=0, callbacks=[FadeIn(z_3=(0.1, 0.2))])
    with pytest.raises(ValueError, match="gate are none"):
        fit(epochs=1, callbacks=[FadeIn(z_3=(0.1, 0.2))])

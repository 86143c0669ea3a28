import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from helpers.models import VAE, bernoulli_nll

rng = np.random.default_rng(0)
grey = rng.random((96, 4, 4)).astype(np.float32)


def make_encoder(latents=2, shape=(4, 4), outputs=2):
    x = keras.Input(shape)
    h = layers.Dense(8, "tanh")(layers.Flatten()(x))
    return keras.Model(x, [layers.Dense(latents)(h) for _ in range(outputs)])


def make_decoder(latents=2, shape=(4, 4)):
    z = keras.Input((latents,))
    return keras.Model(z, layers.Reshape(shape)(layers.Dense(int(np.prod(shape)))(layers.Dense(8, "tanh")(z))))


def make_vae(**kwargs):
    keras.utils.set_random_seed(0)
    vae = VAE(make_encoder(), make_decoder(), **{"seed": 0, **kwargs})
    vae.compile(keras.optimizers.Adam(1e-2))
    return vae


# -- the loss ------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1, width=32), st.floats(-15, 15, width=32))
def test_bernoulli_nll_is_the_textbook_formula(x, logit):
    p = 1 / (1 + np.exp(-np.float64(logit)))
    expected = -x * np.log(p) - (1 - x) * np.log1p(-p)
    nll = bernoulli_nll(np.full((1, 2, 3), x, np.float32), np.full((1, 2, 3), logit, np.float32))
    np.testing.assert_allclose(nll, [6 * expected], rtol=1e-4, atol=1e-5)


def test_bernoulli_nll_survives_certainty():
    """log(sigmoid) of such logits would be -inf, and the loss NaN."""
    x, logits = np.float32([[0, 1, 0, 1]]), np.float32([[-200, 200, 200, -200]])
    np.testing.assert_allclose(bernoulli_nll(x, logits), [400.0])


def test_losses_are_nats_per_image_whatever_the_batches():
    """Sums over pixels and latents, mean over images; 96 images in batches of 40 leave a short one."""
    vae = make_vae(beta=3.0)
    for layer in vae.encoder.layers[-2:] + vae.decoder.layers[-2:-1]:
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    vae.encoder.layers[-2].set_weights([np.zeros((8, 2)), np.array([1.0, 2.0])])  # mean
    vae.encoder.layers[-1].set_weights([np.zeros((8, 2)), np.array([0.0, 1.0])])  # log variance
    for batch_size in (40, 96, 1):
        report = vae.evaluate(grey, batch_size=batch_size, verbose=0, return_dict=True)
        assert report["reconstruction"] == pytest.approx(16 * np.log(2), rel=1e-5)
        assert report["kl"] == pytest.approx(0.5 * (1 + 4 + np.e - 2), rel=1e-5)
        assert report["loss"] == pytest.approx(report["reconstruction"] + 3 * report["kl"], rel=1e-5)


def test_short_batches_weigh_less():
    images = np.concatenate([np.zeros((90, 4, 4)), np.ones((6, 4, 4))]).astype(np.float32)
    vae = make_vae()
    layer = vae.decoder.layers[-2]
    layer.set_weights([np.zeros((8, 16)), np.full(16, -3.0)])
    expected = np.mean(ops.convert_to_numpy(bernoulli_nll(images, np.full_like(images, -3.0))))
    report = vae.evaluate(images, batch_size=90, verbose=0, return_dict=True)
    assert report["reconstruction"] == pytest.approx(expected, rel=1e-5)


def test_training_lowers_the_loss_and_beta_zero_lets_the_kl_go():
    images = (np.arange(16).reshape(4, 4) < rng.integers(0, 17, size=(512, 1, 1))).astype(np.float32)
    kl = {}
    for beta in (0.0, 1.0, 20.0):
        vae = make_vae(beta=beta)
        history = vae.fit(images, batch_size=64, epochs=15, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        kl[beta] = history["kl"][-1]
    assert kl[0.0] > kl[1.0] + 1 and kl[20.0] < 0.2 < kl[1.0]


def test_beta_can_change_during_training():
    vae = make_vae(beta=0.0)
    set_beta = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: vae.beta.assign(epoch))
    history = vae.fit(grey, epochs=3, verbose=0, callbacks=[set_beta]).history
    weights = (np.array(history["loss"]) - history["reconstruction"]) / history["kl"]
    np.testing.assert_allclose(weights, [0, 1, 2], atol=1e-4)


def test_uint8_is_scaled():
    images = rng.integers(0, 256, size=(32, 4, 4), dtype=np.uint8)
    report = [make_vae().evaluate(x, verbose=0) for x in (images, images / np.float32(255))]
    np.testing.assert_allclose(*report, rtol=1e-6)
    np.testing.assert_allclose(make_vae().predict(images, verbose=0)["images"], images / 255, rtol=1e-6)


def test_binarise_draws_anew_each_time_with_the_grey_value_as_probability():
    vae = make_vae(binarise=True)
    images = np.repeat(grey[:1], 20_000, axis=0)
    first, second = (vae.predict(images, verbose=0, batch_size=4000)["images"] for _ in range(2))
    assert set(np.unique(first)) == {0, 1}
    assert not np.array_equal(first, second) and not np.array_equal(first[:4000], first[4000:8000])
    np.testing.assert_allclose(first.mean(axis=0), grey[0], atol=0.02)


# -- the three models of one network -------------------------------------------------------------------------------


def test_predict_and_generator_share_the_decoder():
    vae = make_vae()
    out = vae.predict(grey, verbose=0)
    assert {name: array.shape for name, array in out.items()} == {
        "images": (96, 4, 4), "mean": (96, 2), "log_var": (96, 2), "logits": (96, 4, 4),
    }  # fmt: skip
    np.testing.assert_allclose(out["mean"], vae.encoder.predict(grey, verbose=0)[0], rtol=1e-5, atol=1e-6)
    z = rng.normal(size=(3, 2)).astype(np.float32)
    expected = 1 / (1 + np.exp(-vae.decoder.predict(z, verbose=0)))
    np.testing.assert_allclose(vae.generator.predict(z, verbose=0), expected, rtol=1e-5)
    before = vae.generator.predict(z, verbose=0)
    vae.fit(grey, epochs=1, verbose=0)
    assert np.abs(vae.generator.predict(z, verbose=0) - before).max() > 1e-3
    assert vae.count_params() == vae.encoder.count_params() + vae.decoder.count_params() + 1  # beta


def test_equal_seeds_train_alike():
    runs = [make_vae(binarise=True).fit(grey, epochs=2, verbose=0).history["loss"] for _ in range(2)]
    np.testing.assert_allclose(*runs, rtol=1e-6)


@pytest.mark.parametrize("trained", [False, True])
def test_save_and_load(tmp_path, trained):
    vae = make_vae(beta=2.5, binarise=True)
    if trained:
        vae.fit(grey, epochs=2, verbose=0)
    vae.beta.assign(4.0)
    vae.save(tmp_path / "vae.keras")
    again = keras.models.load_model(tmp_path / "vae.keras")
    assert isinstance(again, VAE) and again.binarise and again.seed == 0
    assert float(ops.convert_to_numpy(again.beta)) == 4.0
    assert len(again.weights) == len(vae.weights)
    for a, b in zip(vae.weights, again.weights):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
    z = np.zeros((1, 2), np.float32)
    np.testing.assert_array_equal(vae.generator.predict_on_batch(z), again.generator.predict_on_batch(z))
    if trained:  # goes on from where it was
        assert int(again.optimizer.iterations) == int(vae.optimizer.iterations) > 0
        again.fit(grey, epochs=1, verbose=0)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [-1.0, float("nan")])
def test_beta_below_zero(beta):
    with pytest.raises(ValueError, match="beta must be at least 0"):
        VAE(make_encoder(), make_decoder(), beta=beta)


@pytest.mark.parametrize(
    ("encoder", "decoder", "text"),
    [
        (make_encoder(2), make_decoder(3), r"decoder takes \(None, 3\), but the encoder's mean is \(None, 2\)"),
        (make_encoder(), make_decoder(shape=(4, 4, 1)), "decoder returns .*, but the encoder takes"),
        (make_encoder(), make_decoder(shape=(2, 8)), "decoder returns"),
        (make_encoder(outputs=1), make_decoder(), r"\[mean, log_var\]"),
        (make_encoder(outputs=3), make_decoder(), r"\[mean, log_var\]"),
    ],
)
def test_networks_that_do_not_fit(encoder, decoder, text):
    with pytest.raises(ValueError, match=text):
        VAE(encoder, decoder)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize(
    ("images", "error", "text"),
    [
        (grey * 255, ValueError, r"\[0, 1\]"),
        (grey - 0.5, ValueError, r"\[0, 1\]"),
        (np.where(grey > 0.9, np.nan, grey), ValueError, r"\[0, 1\]"),
        ((grey * 255).astype(int), TypeError, "dtype int64"),
        (grey[..., None], ValueError, r"the encoder takes \(None, 4, 4\)"),
        (grey[:, :3], ValueError, "the encoder takes"),
    ],
)
def test_images_that_are_not(method, images, error, text):
    vae = make_vae()
    vae.evaluate(grey, verbose=0)  # a traced graph must not hide the check
    with pytest.raises(error, match=text):
        getattr(vae, method)(images, verbose=0)

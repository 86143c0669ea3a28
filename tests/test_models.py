from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from helpers.evaluation import elbo_terms
from helpers.models import VAE, ConditionalVAE, bernoulli_nll, ladder_posterior, make_vlae

BOOK = Path(__file__).parent.parent / "book"

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
    assert vae.count_params() == vae.encoder.count_params() + vae.decoder.count_params() + 2  # beta, free_bits


def test_equal_seeds_train_alike():
    runs = [make_vae(binarise=True).fit(grey, epochs=2, verbose=0).history["loss"] for _ in range(2)]
    np.testing.assert_allclose(*runs, rtol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data feeds TensorFlow alone")
def test_pipelines_are_not_tuned_and_give_the_same_batches():
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    class Halves(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return grey[index::2], grey[index::2]

    for make in (
        lambda: ArrayDataAdapter(grey, batch_size=40, shuffle=True),
        lambda: PyDatasetAdapter(Halves(), shuffle=False),
    ):
        adapter = make()
        keras.utils.set_random_seed(0)
        ours = adapter.get_tf_dataset()
        seen = [np.array(batch[0]) for batch in ours]
        adapter = make()
        keras.utils.set_random_seed(0)
        theirs = type(adapter).get_tf_dataset.__wrapped__(adapter)
        assert ours.options().autotune.enabled is False and theirs.options().autotune.enabled is None
        for batch, other in zip(seen, theirs, strict=True):
            np.testing.assert_array_equal(batch, other[0])


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
        (grey[:0], ValueError, "images is empty"),
    ],
)
def test_images_that_are_not(method, images, error, text):
    vae = make_vae()
    vae.evaluate(grey, verbose=0)  # a traced graph must not hide the check
    with pytest.raises(error, match=text):
        getattr(vae, method)(images, verbose=0)


# -- conditional ---------------------------------------------------------------------------------------------------

labels = np.arange(96) % 3


def make_conditional(classes=3, **kwargs):
    keras.utils.set_random_seed(0)
    x, y = keras.Input((4, 4)), keras.Input((classes,), name="y")
    h = layers.Dense(8, "tanh")(layers.Concatenate()([layers.Flatten()(x), y]))
    encoder = keras.Model([x, y], [layers.Dense(2)(h), layers.Dense(2)(h)])
    z, y = keras.Input((2,), name="z"), keras.Input((classes,), name="y")
    h = layers.Dense(8, "tanh")(layers.Concatenate()([z, y]))
    decoder = keras.Model([z, y], layers.Reshape((4, 4))(layers.Dense(16)(h)))
    cvae = ConditionalVAE(encoder, decoder, **{"seed": 0, **kwargs})
    cvae.compile(keras.optimizers.Adam(2e-2))
    return cvae


def test_conditional_losses_are_those_of_the_networks_given_the_one_hot_label():
    cvae = make_conditional(beta=3.0)
    report = cvae.evaluate([grey, labels], batch_size=40, verbose=0, return_dict=True)
    mean, log_var = cvae.encoder([grey, np.eye(3)[labels]])
    kl = 0.5 * np.sum(mean**2 + np.exp(log_var) - log_var - 1, axis=1).mean()
    reconstruction, same = elbo_terms(cvae, grey, samples=200, labels=labels)
    assert report["kl"] == pytest.approx(kl, rel=1e-5) == pytest.approx(same.mean(), rel=1e-5)
    assert report["reconstruction"] == pytest.approx(-reconstruction.mean(), abs=0.15)
    assert report["loss"] == pytest.approx(report["reconstruction"] + 3 * report["kl"], rel=1e-5)


def test_conditional_vae_draws_what_it_is_asked_for():
    """Three classes, each with one picture: the label alone tells the picture, so z need not."""
    pictures = (np.random.default_rng(3).random((3, 4, 4)) < 0.5).astype(np.uint8) * np.uint8(255)
    cvae = make_conditional()
    cvae.fit([pictures[labels], labels], batch_size=16, epochs=60, verbose=0)
    assert cvae.evaluate([pictures[labels], labels], verbose=0, return_dict=True)["kl"] < 0.1
    drawn = cvae.generator.predict([rng.normal(size=(3, 2)), np.eye(3)], verbose=0)
    np.testing.assert_array_equal(drawn > 0.5, pictures > 0)
    out = cvae.predict([pictures, np.arange(3)], verbose=0)
    np.testing.assert_array_equal(out["logits"] > 0, pictures > 0)


def test_conditional_save_and_load(tmp_path):
    cvae = make_conditional(beta=2.5, binarise=True)
    cvae.fit([grey, labels], validation_data=([grey, labels],), epochs=1, verbose=0)
    cvae.save(tmp_path / "cvae.keras")
    again = keras.models.load_model(tmp_path / "cvae.keras")
    assert isinstance(again, ConditionalVAE) and again.classes == 3 and again.binarise
    inputs = [np.zeros((3, 2), np.float32), np.eye(3, dtype=np.float32)]
    np.testing.assert_array_equal(cvae.generator.predict_on_batch(inputs), again.generator.predict_on_batch(inputs))


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (grey, ValueError, r"takes a pair \[images, labels\]; got ndarray"),
        ([grey], ValueError, r"takes a pair \[images, labels\]"),
        ([grey, labels + 1], ValueError, r"labels must lie in 0\.\.2; got values from 1 to 3"),
        ([grey, labels - 1], ValueError, "from -1 to 1"),
        ([grey, labels[:-1]], ValueError, r"labels must have the shape \(96,\)"),
        ([grey, np.eye(3)[labels]], ValueError, "labels must have the shape"),
        ([grey, labels / 1], TypeError, "labels must be integers"),
        ([grey * 255, labels], ValueError, r"\[0, 1\]"),
        ([grey[:0], labels[:0]], ValueError, "images is empty"),
    ],
)
def test_images_and_labels_that_are_not(method, x, error, text):
    with pytest.raises(error, match=text):
        getattr(make_conditional(), method)(x, verbose=0)


def test_conditional_networks_that_do_not_fit():
    good, other = make_conditional(), make_conditional(classes=4)
    with pytest.raises(ValueError, match=r"encoder|functional"):
        ConditionalVAE(make_encoder(), good.decoder)
    with pytest.raises(ValueError, match=r"must take \[z, y\]"):
        ConditionalVAE(good.encoder, make_decoder())
    with pytest.raises(ValueError, match="decoder takes 4 classes, but the encoder takes 3"):
        ConditionalVAE(good.encoder, other.decoder)


# -- the ladder ----------------------------------------------------------------------------------------------------


def ladder_encoder(latent_size):
    x = keras.Input((4, 4))
    h_1 = layers.Dense(6, "tanh")(layers.Flatten()(x))
    return keras.Model(x, [h_1, layers.Dense(5, "tanh")(h_1)], name="encoder")


def ladder_decoder(size_1, size_2):
    z_1, z_2 = keras.Input((size_1,), name="z_1"), keras.Input((size_2,), name="z_2")
    h = layers.Concatenate()([z_1, layers.Dense(5, "tanh")(z_2)])
    return keras.Model([z_1, z_2], layers.Reshape((4, 4))(layers.Dense(16)(h)), name="decoder")


def ladder(**kwargs):
    keras.utils.set_random_seed(0)
    vlae = make_vlae(2, ladder_encoder, ladder_decoder, **{"lambda_mmd": (1.0, 10.0), **kwargs})
    vlae.compile(keras.optimizers.Adam(1e-2), bernoulli_nll)
    return vlae


def test_a_ladder_is_a_plain_model_with_the_names_of_the_paper():
    vlae = ladder()
    assert isinstance(vlae, keras.Model) and type(vlae).__module__.startswith("keras.") and vlae.name == "vlae"
    assert [layer.name for layer in vlae.layers[1:]] == ["encoder", "z_1_latent", "z_2_latent", "decoder"]
    assert [float(vlae.get_layer(f"z_{level}_latent").lambda_mmd) for level in (1, 2)] == [1, 10]
    assert not vlae.get_layer("z_1_latent").add_kl


def test_a_ladders_loss_is_reconstruction_and_the_prices_of_its_levels():
    vlae = ladder(coef_kl=(0.5, 0.5), kernel=4.0, seed=1)
    report = vlae.evaluate(grey, grey, verbose=0, batch_size=96, return_dict=True)
    logits = ladder(coef_kl=(0.5, 0.5), kernel=4.0, seed=1).predict(grey, batch_size=96, verbose=0)
    reconstruction = float(ops.mean(bernoulli_nll(grey, logits)))
    assert report["loss"] == pytest.approx(reconstruction + report["z_1_latent"] + report["z_2_latent"], abs=0.3)
    first = vlae.fit(grey, grey, epochs=30, verbose=0).history["loss"]
    assert first[-1] < first[0] - 0.5


def test_levels_of_a_ladder_draw_different_noise():
    vlae = ladder(seed=5)
    seeds = [vlae.get_layer(f"z_{level}_latent").seed for level in (1, 2)]
    assert seeds == [6, 7]


def test_ladder_posterior_is_what_the_levels_draw_from(tmp_path):
    vlae = ladder(initial_std=0.2)
    moments = ladder_posterior(vlae).predict(grey, verbose=0)
    h = vlae.get_layer("encoder")(grey)
    expected = [part for level in (1, 2) for part in vlae.get_layer(f"z_{level}_latent").moments(h[level - 1])]
    for found, wanted in zip(moments, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    vlae.save(tmp_path / "vlae.keras")
    again = ladder_posterior(keras.models.load_model(tmp_path / "vlae.keras"))
    np.testing.assert_allclose(again.predict(grey, verbose=0)[2], moments[2], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"lambda_mmd": (1.0, -1.0)}, "lambda_mmd must be above 0; got -1.0"),
        ({"kernel": 0.0}, "kernel must be a function, or scales above 0; got 0.0"),
        ({"coef_kl": (1.0, -1.0)}, "coef_kl must be at least 0; got -1.0"),
        ({"coef_kl": (1.0,)}, "'lambda_mmd': 2, 'coef_kl': 1"),
    ],
)
def test_ladders_that_cannot_be(arguments, says):
    with pytest.raises(ValueError, match=says):
        ladder(**arguments)


def test_a_ladders_networks_must_agree():
    with pytest.raises(ValueError, match="'encoder': 1, 'decoder': 2, 'lambda_mmd': 2"):
        make_vlae(2, make_encoder_of_one_level, ladder_decoder, lambda_mmd=(1.0, 1.0))


def make_encoder_of_one_level(latent_size):
    x = keras.Input((4, 4))
    return keras.Model(x, layers.Flatten()(x), name="encoder")


@pytest.fixture(scope="module")
def known_ladder():
    """The networks of chapter 10's known ladder, as its cells define them."""
    notebook = nbformat.read(BOOK / "10_vlae.ipynb", as_version=4)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    first = next(i for i, source in enumerate(sources) if source.startswith("def make_encoder"))
    names = {"keras": keras, "layers": layers, "ops": ops}
    for source in sources[first : first + 3]:
        exec(source, names)
    return names


@pytest.mark.parametrize("latent_size, total", [(2, 1_351_520), (3, None)])
def test_the_known_ladder_has_the_parameters_of_the_public_implementation(known_ladder, latent_size, total):
    vlae = known_ladder["make_vlae"](latent_size)
    same = make_vlae(latent_size, known_ladder["make_encoder"], known_ladder["make_decoder"])
    found = {layer.name: layer.count_params() for layer in vlae.layers[1:]}
    assert found == {layer.name: layer.count_params() for layer in same.layers[1:]}
    heads = {f"z_{level}_latent": 2 * (h + 1) * latent_size + 1 for level, h in enumerate((9216, 6400, 4096), 1)}
    decoder = 1_261_777 + (latent_size - 2) * (1024 + 128 + 128)
    assert found == {"encoder": 10_880, **heads, "decoder": decoder}
    assert total is None or vlae.count_params() == same.count_params() == total
    assert vlae.name == "vlae" and vlae.output_shape == (None, 28, 28, 1)

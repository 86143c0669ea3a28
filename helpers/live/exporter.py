"""From a Keras model to bytes that ``engine.mjs`` runs in a browser.

The layers of a Functional or Sequential model are lowered to a handful of operations (matrix product, convolution,
element-wise functions, copies), in the order in which they run. Layers that only rename numbers (Reshape, Flatten,
Dropout at inference) leave no trace, and a batch normalisation that follows a linear layer is folded into its weights.

File format, version 1, little endian::

    b"LIVE" | version u32 | bytes in the file u32 | Adler-32 of all that follows u32 | bytes in the header u32
    header: JSON, padded with blanks to a multiple of 4
      inputs, outputs   [{id, shape}], inputs named  tensors by number, shapes without the batch axis
      shapes            [[...], ...]                the shape of every tensor
      ops               [{op, in: [...], out, ...}] in running order; engine.mjs documents each
      weights           [{shape, dtype, at}]        `at`: where it starts in the payload
    payload: float32 (all small arrays), float16, or int8 with one float32 scale per column in front
"""

import json
import math
import struct
import zlib
from dataclasses import dataclass

import keras
import numpy as np

Functional = keras.src.models.functional.Functional
GRAPHS = (Functional, keras.Sequential)  # models whose layers, and how they are joined, are known

VERSION = 1
DTYPES = ("float32", "float16", "int8")
FLOAT32 = float(np.finfo("float32").max)
EXACT = 4096  # arrays of up to so many numbers, which weigh little, are stored as float32
ROWS = 4096  # most sample rows that the rounding of one matrix looks at


@dataclass(eq=False)
class Tensor:
    """A tensor of the exported graph: its number, its shape without the batch axis, and what it holds for the samples."""

    id: int
    shape: tuple
    sample: np.ndarray = None


def export(model, dtype="float16", samples=None):
    """A Keras model as bytes for the browser, in the format of this module's docstring.

    Parameters
    ----------
    model : keras.Model
        A built Functional or Sequential model, nested to any depth. Only the batch axis may be unknown.
    dtype : {"float16", "int8", "float32"}
        How matrices are stored (small arrays are always float32). A layer in ``"float16"`` comes within 1e-3 of Keras, as
        a share of its output's range; in ``"int8"``, one scale for each column, within 2e-2 in half the bytes; in
        ``"float32"`` within rounding error.
    samples : list of arrays, optional
        Typical inputs, one array (n, ...) for each input of the model. A trained network adds up hundreds of large terms
        that nearly cancel, and rounding errors do not. With samples, each row of a matrix is rounded so as to make up for
        the errors of the rows before it; on a trained 2-512-784 decoder in int8 the largest error of a pixel falls from
        0.2 to 0.01.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        A layer, activation, option or shape that the browser's engine does not know, or weights that are not finite. The
        message names the layer.
    TypeError
        `model` is not a Keras model whose graph is known.

    References
    ----------
    Frantar, Ashkboos, Hoefler and Alistarh, GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers, 2023, Algorithm 1: how rounding errors are made up for.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}.")
    _check_model(model)
    graph = _Graph()
    inputs = [graph.input(tensor) for tensor in model.inputs]
    if samples is not None:
        for x, sample in zip(inputs, samples, strict=True):
            x.sample = np.asarray(sample, "float32")
            if x.sample.shape[1:] != x.shape:
                raise ValueError(f"samples must have the shapes (n, *{x.shape}), ...; got {x.sample.shape}.")
    outputs = keras.tree.flatten(graph.lower(model, inputs))
    return graph.encode(inputs, outputs, model, dtype)


def _check_model(model):
    """Raise unless `model` is built and its graph is known."""
    if not isinstance(model, (keras.Sequential, keras.Model)):
        raise TypeError(f"export needs a Keras model; got {type(model).__name__}.")
    name = f"Model {model.name!r}"
    kind = next((kind for kind in GRAPHS if isinstance(model, kind)), None)
    if kind is None or type(model).call is not kind.call:
        raise TypeError(f"{name} is a subclassed model, whose graph is unknown; export its Functional parts instead.")
    if not model.built:
        raise ValueError(f"{name} is not built: begin it with keras.Input(shape), or call it once.")


class _Graph:
    """Collects operations while a model's layers are lowered one after the other."""

    def __init__(self):
        self.shapes, self.ops, self.weights = [], [], []
        self.rows = {}  # for a weight by number: sample rows that it is multiplied with

    # -- building blocks

    def tensor(self, shape):
        self.shapes.append([int(n) for n in shape])
        return Tensor(len(self.shapes) - 1, tuple(self.shapes[-1]))

    def input(self, tensor):
        if None in tensor.shape[1:]:
            raise ValueError(f"Input {tensor.name!r} has shape {tensor.shape}: only the batch axis may be unknown.")
        if not keras.backend.is_float_dtype(tensor.dtype):
            raise ValueError(f"Input {tensor.name!r} has dtype {tensor.dtype}; the browser computes with floats.")
        return self.tensor(tensor.shape[1:])

    def op(self, name, inputs, shape, **attributes):
        if not all(abs(x) <= FLOAT32 for x in keras.tree.flatten(attributes) if isinstance(x, float)):
            raise ValueError("a constant that is not finite")
        out = self.tensor(shape)
        self.ops.append({"op": name, "in": [x.id for x in inputs], "out": out.id, **attributes})
        return out

    def weight(self, array, layer):
        array = np.asarray(keras.ops.convert_to_numpy(array), "float32")
        if not np.isfinite(array).all():
            raise _refuse(layer, "has weights that are not finite")
        self.weights.append(array)
        return len(self.weights) - 1

    def linear(self, op, x, shape, layer, matrix, bias, **attributes):
        """A matrix product in one of its forms, with the layer's bias and activation."""
        attributes["weight"] = self.weight(matrix, layer)
        if x.sample is not None and op != "conv":
            rows = x.sample.reshape(-1, matrix.shape[0])
            self.rows[attributes["weight"]] = rows[:: -(-len(rows) // ROWS)]
        if bias is not None:
            attributes["bias"] = self.weight(bias, layer)
        if act := _activation(layer, layer.activation):
            attributes["act"] = act
        return self.op(op, [x], shape, **attributes)

    # -- models and layers

    def lower(self, layer, *args, **kwargs):
        """Lower one layer, operation or nested model; tensors in, tensors out."""
        if kwargs.pop("training", None):
            raise _refuse(layer, "is called with training=True")
        if any(part is not None for part in keras.tree.flatten(kwargs.pop("mask", None))):    # one for each input
            raise _refuse(layer, "is called with a mask")
        if isinstance(layer, GRAPHS):
            _check_model(layer)
        if isinstance(layer, keras.Sequential):
            (x,) = keras.tree.flatten(args)
            for inner in layer.layers:
                x = self.lower(inner, x)
            return x
        if isinstance(layer, Functional):
            return layer._run_through_graph(args[0], operation_fn=lambda inner: _Lowering(self, inner))
        lowering = LOWERINGS.get(type(layer)) or LOWERINGS_BY_NAME.get(_operation_name(layer))
        if lowering is None:
            raise _refuse(layer, "is not supported in the browser")
        if getattr(layer, "quantization_mode", None):
            raise _refuse(layer, f"is quantized ({layer.quantization_mode})")
        try:
            result = lowering(self, layer, *args, **kwargs)
        except Refused:
            raise
        except Exception as error:
            raise _refuse(layer, f"is used in a way that is not supported in the browser ({error})") from error
        given = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, Tensor)]
        if all(x.sample is not None for x in given):
            sampled = keras.tree.map_structure(lambda x: x.sample if isinstance(x, Tensor) else x, (args, kwargs))
            result.sample = keras.ops.convert_to_numpy(layer(*sampled[0], **sampled[1]))
        return result

    # -- the file

    def encode(self, inputs, outputs, model, dtype):
        self._drop_unused(inputs, outputs)
        payload, weights = bytearray(), []
        for number, array in enumerate(self.weights):
            stored, data = _store(array, dtype, self.rows.get(number))
            weights.append({"shape": array.shape, "dtype": stored, "at": len(payload)})
            payload += data + bytes(-len(data) % 4)
        header = {
            "inputs": [{"id": x.id, "shape": x.shape, "name": t.name} for x, t in zip(inputs, model.inputs)],
            "outputs": [{"id": x.id, "shape": x.shape} for x in outputs],
            "shapes": self.shapes,
            "ops": self.ops,
            "weights": weights,
        }
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        body = struct.pack("<I", len(text)) + text + bytes(payload)
        return struct.pack("<4sIII", b"LIVE", VERSION, len(body) + 16, zlib.adler32(body)) + body

    def _drop_unused(self, inputs, outputs):
        """Leave out what no output needs (folding leaves such operations), and renumber."""
        needed, ops = {x.id for x in outputs}, []
        for op in reversed(self.ops):
            if op["out"] in needed:
                needed.update(op["in"])
                ops.insert(0, op)
        self.ops = ops
        ids = sorted(needed | {x.id for x in inputs})
        tensor = {old: new for new, old in enumerate(ids)}
        used = sorted({op[key] for op in ops for key in ("weight", "bias") if key in op})
        weight = {old: new for new, old in enumerate(used)}
        for op in ops:
            op["in"], op["out"] = [tensor[i] for i in op["in"]], tensor[op["out"]]
            op.update({key: weight[op[key]] for key in ("weight", "bias") if key in op})
        for x in {id(x): x for x in [*inputs, *outputs]}.values():
            x.id = tensor[x.id]
        self.shapes, self.weights = [self.shapes[i] for i in ids], [self.weights[i] for i in used]
        self.rows = {weight[i]: rows for i, rows in self.rows.items() if i in weight}


@dataclass
class _Lowering:
    """Stands for a layer while Keras walks through a Functional graph with our tensors."""

    graph: _Graph
    layer: object

    def __call__(self, *args, **kwargs):
        return self.graph.lower(self.layer, *args, **kwargs)


def _store(array, dtype, rows=None):
    """The stored dtype and bytes of one array: small ones, and what float16 cannot hold, as float32."""
    small = array.ndim < 2 or array.size <= EXACT
    if dtype == "float32" or small or np.abs(array).max() > np.finfo("float16").max:
        return "float32", array.astype("<f4").tobytes()
    if dtype == "float16":
        rounded = _round(array, lambda row: row.astype("f2"), rows)
        return "float16", rounded.astype("<f2").tobytes()
    scale = np.abs(array).max(axis=0) / 127
    scale[scale == 0] = 1
    rounded = _round(array, lambda row: np.clip(np.rint(row / scale), -127, 127) * scale, rows)
    return "int8", scale.astype("<f4").tobytes() + np.rint(rounded / scale).astype("i1").tobytes()


def _round(matrix, nearest, rows):
    """`matrix` with each row passed through `nearest`; see `export` for what `rows`, sample inputs of it, are good for.

    The error that rounding row k adds to the sampled products is projected onto the rows that are still to come, by
    the Cholesky factor of the inverse of the rows' second moments.
    """
    if rows is None:
        return np.stack([nearest(row) for row in matrix])
    moments = rows.T.astype("float64") @ rows / len(rows)
    moments += 1e-3 * np.trace(moments) / len(moments) * np.eye(len(moments)) + 1e-12 * np.eye(len(moments))
    factor = np.linalg.cholesky(np.linalg.inv(moments)).T
    left, rounded = matrix.astype("float64"), np.empty(matrix.shape)
    for k in range(len(matrix)):
        rounded[k] = nearest(left[k])
        left[k + 1 :] -= np.outer(factor[k, k + 1 :] / factor[k, k], left[k] - rounded[k])
    return rounded


# ---------------------------------------------------------------------------------------------- activations

ACTIVATIONS = {
    keras.activations.linear: None,
    keras.activations.relu: ["relu"],
    keras.activations.leaky_relu: ["relu", 0.2],
    keras.activations.elu: ["elu", 1.0],
    keras.activations.gelu: ["gelu"],
    keras.activations.silu: ["silu"],
    keras.activations.sigmoid: ["sigmoid"],
    keras.activations.tanh: ["tanh"],
    keras.activations.softplus: ["softplus"],
    keras.activations.exponential: ["exp"],
}


def _activation(layer, function):
    if function is None:
        return None
    try:
        return ACTIVATIONS[function]
    except (KeyError, TypeError):
        name = getattr(function, "__name__", function)
        raise _refuse(layer, f"has the activation {name!r}, which is not supported in the browser") from None


# --------------------------------------------------------------------------------------------------- layers


class Refused(ValueError):
    """A layer that the browser cannot run; the message names it."""


def _refuse(layer, why):
    return Refused(f"Layer {layer.name!r} ({type(layer).__name__}) {why}.")


def _require(layer, **options):
    """Refuse a layer whose options differ from the ones that the runtime implements."""
    for option, supported in options.items():
        if getattr(layer, option) not in supported:
            raise _refuse(
                layer, f"has {option}={getattr(layer, option)!r}; supported: {' or '.join(map(repr, supported))}"
            )


def _same(graph, layer, x):
    return x


def _dense(graph, layer, x):
    return graph.linear("dense", x, (*x.shape[:-1], layer.units), layer, layer.kernel, layer.bias)


def _conv2d(graph, layer, x):
    _require(layer, data_format=("channels_last",), padding=("same", "valid"), groups=(1,))
    (height, width, channels), (kh, kw) = x.shape, layer.kernel_size
    out, pad = [], []
    for n, k, stride, dilation in zip((height, width), layer.kernel_size, layer.strides, layer.dilation_rate):
        window = (k - 1) * dilation + 1
        out.append(math.ceil((n if layer.padding == "same" else n - window + 1) / stride))
        pad.append(max((out[-1] - 1) * stride + window - n, 0) // 2 if layer.padding == "same" else 0)
    return graph.linear(
        "conv", x, (*out, layer.filters), layer, keras.ops.reshape(layer.kernel, (kh * kw * channels, layer.filters)),
        layer.bias, size=layer.kernel_size, stride=layer.strides, dilation=layer.dilation_rate, pad=pad,
    )  # fmt: skip


def _conv2d_transpose(graph, layer, x):
    _require(
        layer,
        data_format=("channels_last",),
        padding=("same", "valid"),
        output_padding=(None,),
        dilation_rate=((1, 1),),
    )
    sizes = list(zip(x.shape, layer.kernel_size, layer.strides))
    same = layer.padding == "same"
    out = [n * stride if same else n * stride + max(k - stride, 0) for n, k, stride in sizes]
    pad = [max(k - stride, 0) // 2 if same else 0 for _, k, stride in sizes]
    # Keras holds (kh, kw, out, in); the product wants one row per input channel.
    matrix = keras.ops.reshape(keras.ops.transpose(layer.kernel, (3, 0, 1, 2)), (x.shape[-1], -1))
    return graph.linear(
        "conv_transpose", x, (*out, layer.filters), layer, matrix, layer.bias,
        size=layer.kernel_size, stride=layer.strides, pad=pad,
    )  # fmt: skip


def _batch_normalization(graph, layer, x):
    if layer.axis not in (-1, len(x.shape)):
        raise _refuse(layer, f"has axis={layer.axis}; supported: the last axis")
    mean, variance = (
        np.asarray(keras.ops.convert_to_numpy(v), "float64") for v in (layer.moving_mean, layer.moving_variance)
    )
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * keras.ops.convert_to_numpy(layer.gamma)
    shift = -mean * scale
    if layer.center:
        shift = shift + keras.ops.convert_to_numpy(layer.beta)
    before = next((op for op in graph.ops if op["out"] == x.id), None)
    if not (before and before["op"] in ("dense", "conv", "conv_transpose") and "act" not in before):
        return _affine(graph, layer, x, scale, shift)
    # Written as an operation of its own: whoever else needs the layer before keeps its unscaled output.
    matrix = graph.weights[before["weight"]]
    folded = {**before, "weight": graph.weight(matrix * np.tile(scale, matrix.shape[1] // len(scale)), layer)}
    if before["weight"] in graph.rows:
        graph.rows[folded["weight"]] = graph.rows[before["weight"]]
    bias = graph.weights[before["bias"]] if "bias" in before else 0
    folded |= {"bias": graph.weight(bias * scale + shift, layer), "out": graph.tensor(x.shape).id}
    graph.ops.append(folded)
    return Tensor(folded["out"], x.shape)


def _affine(graph, layer, x, scale, shift):
    """x * scale + shift along the last axis."""
    columns = (x.shape[-1],)
    weight = graph.weight(np.broadcast_to(scale, columns), layer)
    return graph.op("affine", [x], x.shape, weight=weight, bias=graph.weight(np.broadcast_to(shift, columns), layer))


def _rescaling(graph, layer, x):
    return _affine(graph, layer, x, layer.scale, layer.offset)


def _unary(*act):
    return lambda graph, layer, x: graph.op("unary", [x], x.shape, act=act)


def _activation_layer(graph, layer, x):
    act = _activation(layer, layer.activation)
    return graph.op("unary", [x], x.shape, act=act) if act else x


def _relu_layer(graph, layer, x):
    top = None if layer.max_value in (None, math.inf) else float(layer.max_value)
    return graph.op("unary", [x], x.shape, act=["relu", float(layer.negative_slope), top, float(layer.threshold)])


def _leaky_relu_layer(graph, layer, x):
    return graph.op("unary", [x], x.shape, act=["relu", float(layer.negative_slope)])


def _elu_layer(graph, layer, x):
    return graph.op("unary", [x], x.shape, act=["elu", float(layer.alpha)])


def _gelu_operation(graph, layer, x):
    return graph.op("unary", [x], x.shape, act=["gelu_tanh" if layer.approximate else "gelu"])


def _binary(fn):
    """Two tensors, or a tensor and a constant, which may be an array."""

    def lower(graph, layer, x, y):
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            return graph.op("binary", [x, y], np.broadcast_shapes(x.shape, y.shape), fn=fn)
        tensor, constant = (x, y) if isinstance(x, Tensor) else (y, x)
        constant = np.asarray(keras.ops.convert_to_numpy(constant), "float32")
        if constant.ndim == 0:
            return graph.op("binary", [tensor], tensor.shape, fn=fn, value=float(constant), swap=tensor is y)
        if constant.ndim > len(tensor.shape):  # it has a batch axis, too
            if constant.ndim > len(tensor.shape) + 1 or len(constant) != 1:
                raise _refuse(
                    layer, f"has a constant of shape {constant.shape} for a tensor of shape {(None, *tensor.shape)}"
                )
            constant = constant[0]
        known = graph.op("constant", [], constant.shape, weight=graph.weight(constant.ravel(), layer))
        shape = np.broadcast_shapes(tensor.shape, constant.shape)
        return graph.op("binary", [tensor, known] if tensor is x else [known, tensor], shape, fn=fn)

    return lower


def _axis(layer, axis, rank):
    """Keras's number of an axis -> its number among the `rank` axes without the batch."""
    axis = axis - 1 if axis >= 0 else axis + rank
    if axis < 0:
        raise _refuse(layer, "works along the batch axis")
    return axis


def _sum(mean=False):
    def lower(graph, layer, x):
        axes = layer.axis if isinstance(layer.axis, (tuple, list)) else [layer.axis]
        if None in axes:
            raise _refuse(layer, "sums over the batch axis (axis=None)")
        for axis in sorted((_axis(layer, axis, len(x.shape)) for axis in axes), reverse=True):
            scale = 1 / x.shape[axis] if mean else 1
            shape = [n for i, n in enumerate(x.shape) if i != axis]
            y = graph.op("sum", [x], shape, axis=axis, scale=scale)
            x = _view(graph, y, x.shape[:axis] + (1,) + x.shape[axis + 1 :]) if layer.keepdims else y
        return x

    return lower


def _get_item(graph, layer, x, key):
    """Selects by NumPy's rules, worked out on an array of positions."""
    positions = np.arange(math.prod(x.shape)).reshape(x.shape)
    key = key if isinstance(key, tuple) else (key,)
    if key[0] not in (slice(None), Ellipsis):
        raise _refuse(layer, f"selects within the batch axis ({key})")
    chosen = positions[key if key[0] is Ellipsis else key[1:]]
    return graph.op("gather", [x], chosen.shape, index=chosen.ravel().tolist())


def _expand_dims(graph, layer, x):
    axes = [layer.axis] if isinstance(layer.axis, int) else layer.axis
    shape = list(x.shape)
    for axis in sorted(_axis(layer, axis, len(shape) + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return _view(graph, x, shape)


def _merge(fn):
    def lower(graph, layer, tensors):
        first, *rest = tensors
        for other in rest:
            first = _binary(fn)(graph, layer, first, other)
        return first

    return lower


def _concatenate(graph, layer, tensors):
    axis = _axis(layer, layer.axis, len(tensors[0].shape))
    shape = list(tensors[0].shape)
    shape[axis] = sum(x.shape[axis] for x in tensors)
    return graph.op("concat", tensors, shape, axis=axis)


def _view(graph, x, shape):
    """The same numbers under another shape: the browser copies nothing."""
    return graph.op("view", [x], shape)


def _reshape(graph, layer, x):
    return _view(graph, x, layer.compute_output_shape((1, *x.shape))[1:])


def _flatten(graph, layer, x):
    _require(layer, data_format=("channels_last",))
    return _reshape(graph, layer, x)


def _reshape_operation(graph, layer, x):
    newshape = layer.newshape
    if not isinstance(newshape, (tuple, list)) or newshape[0] not in (-1, None):
        raise _refuse(layer, f"reshapes to {newshape!r}; supported: shapes that begin with -1, the batch axis")
    known, size = math.prod(n for n in newshape[1:] if n != -1), math.prod(x.shape)
    if -1 not in newshape[1:] and known != size:
        raise _refuse(layer, f"reshapes {size} numbers to {newshape}, across the batch axis")
    return _view(graph, x, [size // known if n == -1 else n for n in newshape[1:]])


def _gather(graph, x, axes):
    return graph.op("gather", [x], [x.shape[axis] for axis in axes], permute=axes)


def _permute(graph, layer, x):
    return _gather(graph, x, [axis - 1 for axis in layer.dims])


def _transpose_operation(graph, layer, x):
    if layer.axes is None or layer.axes[0] != 0:
        raise _refuse(layer, f"has axes={layer.axes}; supported: orders that leave the batch axis in front")
    return _gather(graph, x, [axis - 1 for axis in layer.axes[1:]])


def _depth_to_space(graph, layer, x):
    _require(layer, data_format=("channels_last",))
    (height, width, channels), block = x.shape, layer.block_size
    channels //= block**2
    x = _gather(graph, _view(graph, x, (height, width, block, block, channels)), [0, 2, 1, 3, 4])
    return _view(graph, x, (height * block, width * block, channels))


def _up_sampling(graph, layer, x):
    _require(layer, data_format=("channels_last",), interpolation=("nearest",))
    repeat = [*layer.size, 1]
    return graph.op("gather", [x], [n * r for n, r in zip(x.shape, repeat)], repeat=repeat)


# By exact type: a subclass may compute something else.
LOWERINGS = {
    keras.layers.InputLayer: _same,
    keras.layers.Identity: _same,
    keras.layers.Dropout: _same,
    keras.layers.SpatialDropout2D: _same,
    keras.layers.GaussianNoise: _same,
    keras.layers.GaussianDropout: _same,
    keras.layers.Dense: _dense,
    keras.layers.Conv2D: _conv2d,
    keras.layers.Conv2DTranspose: _conv2d_transpose,
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.Rescaling: _rescaling,
    keras.layers.Activation: _activation_layer,
    keras.layers.ReLU: _relu_layer,
    keras.layers.LeakyReLU: _leaky_relu_layer,
    keras.layers.ELU: _elu_layer,
    keras.layers.Add: _merge("add"),
    keras.layers.Subtract: _merge("subtract"),
    keras.layers.Multiply: _merge("multiply"),
    keras.layers.Maximum: _merge("maximum"),
    keras.layers.Minimum: _merge("minimum"),
    keras.layers.Concatenate: _concatenate,
    keras.layers.Reshape: _reshape,
    keras.layers.Flatten: _flatten,
    keras.layers.Permute: _permute,
    keras.layers.UpSampling2D: _up_sampling,
}

# What keras.ops, and Python's operators, leave in a Functional graph.
LOWERINGS_BY_NAME = {
    "Add": _binary("add"),
    "Subtract": _binary("subtract"),
    "Multiply": _binary("multiply"),
    "Divide": _binary("divide"),
    "TrueDivide": _binary("divide"),
    "Maximum": _binary("maximum"),
    "Minimum": _binary("minimum"),
    "Power": _binary("power"),
    "Sum": _sum(),
    "Mean": _sum(mean=True),
    "GetItem": _get_item,
    "ExpandDims": _expand_dims,
    "Exp": _unary("exp"),
    "Log": _unary("log"),
    "Sqrt": _unary("sqrt"),
    "Square": _unary("square"),
    "Negative": _unary("negative"),
    "Absolute": _unary("abs"),
    "Relu": _unary("relu"),
    "Sigmoid": _unary("sigmoid"),
    "Tanh": _unary("tanh"),
    "Softplus": _unary("softplus"),
    "Silu": _unary("silu"),
    "Gelu": _gelu_operation,
    "Concatenate": _concatenate,
    "Reshape": _reshape_operation,
    "Transpose": _transpose_operation,
    "DepthToSpace": _depth_to_space,
}


def _operation_name(layer):
    return type(layer).__name__ if type(layer).__module__.startswith("keras.src.ops.") else None

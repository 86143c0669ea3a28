"""A second, slow reader of exported models, written with Keras operations: what the browser's engine is compared with.

It shares no code with exporter.py or engine.mjs, so that a page's figure can be checked without the model that it came from.
"""

import json
import struct

import numpy as np
from keras import activations, ops

ACTIVATIONS = {
    "relu": lambda x, slope=0.0, top=None, start=0.0: activations.relu(x, slope, top, start),
    "elu": activations.elu,
    "gelu": lambda x: activations.gelu(x, approximate=False),
    "gelu_tanh": lambda x: activations.gelu(x, approximate=True),
    "negative": ops.negative,
    **{
        name: getattr(ops, name)
        for name in ("silu", "sigmoid", "tanh", "softplus", "exp", "log", "sqrt", "square", "abs")
    },
}


def read_weight(payload, shape, dtype, at):
    size = int(np.prod(shape))
    if dtype == "int8":
        scale = np.frombuffer(payload, "<f4", shape[-1], at)
        return np.frombuffer(payload, "i1", size, at + 4 * shape[-1]).reshape(shape) * scale
    return (
        np.frombuffer(payload, {"float32": "<f4", "float16": "<f2"}[dtype], size, at).reshape(shape).astype("float32")
    )


def read(data):
    """A function from a list of input arrays, without batch axis, to the list of output arrays."""
    length = struct.unpack_from("<I", data, 16)[0]
    header, payload = json.loads(data[20 : 20 + length]), data[20 + length :]
    weights = [read_weight(payload, **w) for w in header["weights"]]

    def run(inputs):
        values = {
            item["id"]: ops.convert_to_tensor(np.reshape(x, (1, *item["shape"])).astype("float32"))
            for item, x in zip(header["inputs"], inputs)
        }
        for op in header["ops"]:
            given = [values[i] for i in op["in"]]
            values[op["out"]] = compute(op, given, weights, header["shapes"][op["out"]])
        return [ops.convert_to_numpy(values[item["id"]])[0] for item in header["outputs"]]

    return run


def compute(op, given, weights, shape):
    kind, x = op["op"], given[0] if given else None
    weight, bias = (weights[op[key]] if key in op else None for key in ("weight", "bias"))
    if kind == "constant":
        return ops.reshape(weight, (1, *shape))
    if kind == "view":
        return ops.reshape(x, (1, *shape))
    if kind == "affine":
        return x * weight + bias
    if kind == "unary":
        return activate(x, op["act"])
    if kind == "binary":
        fn = getattr(ops, op["fn"])
        if len(given) == 1:
            return fn(op["value"], x) if op["swap"] else fn(x, op["value"])
        return fn(*given)
    if kind == "concat":
        return ops.concatenate(given, axis=op["axis"] + 1)
    if kind == "sum":
        return ops.sum(x, axis=op["axis"] + 1) * op["scale"]
    if kind == "gather":
        if "index" in op:
            return ops.reshape(ops.take(ops.reshape(x, (-1,)), op["index"]), (1, *shape))
        if "permute" in op:
            return ops.transpose(x, [0, *(axis + 1 for axis in op["permute"])])
        for axis, times in enumerate(op["repeat"]):
            x = ops.repeat(x, times, axis=axis + 1)
        return x
    if kind == "dense":
        y = x @ weight
    elif kind == "conv":
        # Padded by hand: what the window needs on the far side follows from the output's size.
        reach = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(shape, op["stride"], op["size"], op["dilation"])]
        far = [max(r - n - p, 0) for r, n, p in zip(reach, x.shape[1:3], op["pad"])]
        padded = ops.pad(x, [(0, 0), (op["pad"][0], far[0]), (op["pad"][1], far[1]), (0, 0)])
        kernel = weight.reshape(*op["size"], x.shape[-1], -1)
        y = ops.conv(padded, kernel, 1, "valid", dilation_rate=op["dilation"])
        y = y[:, :: op["stride"][0], :: op["stride"][1]][:, : shape[0], : shape[1]]
    elif kind == "conv_transpose":
        kernel = weight.reshape(-1, *op["size"], shape[-1]).transpose(1, 2, 3, 0)
        y = ops.conv_transpose(x, kernel, op["stride"], "valid")
        room = [max(p + n - m, 0) for p, n, m in zip(op["pad"], shape, y.shape[1:3])]
        y = ops.pad(y, [(0, 0), (0, room[0]), (0, room[1]), (0, 0)])
        y = y[:, op["pad"][0] : op["pad"][0] + shape[0], op["pad"][1] : op["pad"][1] + shape[1]]
    else:
        raise ValueError(f"unknown operation {kind!r}")
    return activate(y if bias is None else y + bias, op.get("act"))


def activate(x, act):
    return ACTIVATIONS[act[0]](x, *act[1:]) if act else x

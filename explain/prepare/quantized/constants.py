"""Weights that a file holds as bytes become numbers, once, before anything is compiled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...external import LARGE
from ...graph import reads
from ..fold import evaluated

BYTES = frozenset({TensorProto.INT8, TensorProto.UINT8})
HANDED_ON = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
Constants = dict[str, TensorProto]


def dequantize(graph: onnx.GraphProto, weights: list[onnx.TensorProto]) -> list[onnx.TensorProto]:
    """Compute what is made of constants by QuantizeLinear, DequantizeLinear and MatMulNBits, in place.

    `weights` are the large constants, which the graph declares as inputs; those of them that are still read come back,
    with the new ones.
    """
    constants = {tensor.name: tensor for tensor in (*graph.initializer, *weights)}
    outputs = {value.name for value in graph.output}
    made: list[onnx.TensorProto] = []
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        value = None if outputs.intersection(node.output) else _value(node, constants)
        if value is None:
            kept.extend(_unpacked(node, constants, made))
            continue
        made.append(numpy_helper.from_array(value, node.output[0]))
        constants[node.output[0]] = made[-1]
    if not made:
        return weights
    del graph.node[:]
    graph.node.extend(kept)
    return _held(graph, weights, made)


def _held(
    graph: onnx.GraphProto, weights: list[onnx.TensorProto], made: list[onnx.TensorProto]
) -> list[onnx.TensorProto]:
    """Declare what was made; constants that nothing reads any more are let go."""
    read = {name for node in graph.node for name in reads(node)} | {value.name for value in graph.output}
    gone = {tensor.name for tensor in (*graph.initializer, *weights) if tensor.name not in read}
    for field in (graph.initializer, graph.input):
        for item in [item for item in field if item.name in gone]:
            field.remove(item)
    large = [tensor for tensor in made if tensor.name in read and math.prod(tensor.dims) > LARGE]
    graph.initializer.extend(t for t in made if t.name in read and math.prod(t.dims) <= LARGE)
    graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large)
    return [*(tensor for tensor in weights if tensor.name not in gone), *large]


def _value(node: onnx.NodeProto, constants: Constants) -> np.ndarray | None:
    """What a node makes of constants, None where it is none of ours or not all of them are."""
    if any(name and name not in constants for name in node.input) or not node.input:
        return None
    first = constants[node.input[0]]
    if node.op_type in HANDED_ON and first.data_type in BYTES:
        feeds = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
        return evaluated([node], node.output[0], feeds)
    if node.op_type not in ("DequantizeLinear", "QuantizeLinear") or first.data_location == TensorProto.EXTERNAL:
        return None
    x, scale, *zero = (numpy_helper.to_array(constants[name]) for name in node.input if name)
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    scales = _spread(scale.astype(np.float32), x.shape, given)
    offset = _spread(zero[0].astype(np.float32), x.shape, given) if zero else np.float32(0)
    if node.op_type == "DequantizeLinear":
        return np.asarray((x.astype(np.float32) - offset) * scales, dtype=np.float32)
    kind = zero[0].dtype if zero else helper.tensor_dtype_to_np_dtype(given.get("output_dtype", 0) or TensorProto.UINT8)
    if kind not in (np.dtype(np.int8), np.dtype(np.uint8)):
        return None
    whole = np.rint(x.astype(np.float32) / scales) + offset
    return np.asarray(np.clip(whole, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind))


def _spread(values: np.ndarray, shape: tuple[int, ...], given: dict[str, Any]) -> np.ndarray:
    """Scales or zero points as they stand beside the elements: one for all, for each place of an axis, or of blocks."""
    if values.size == 1:
        return np.asarray(values.reshape(()))
    axis = int(given.get("axis", 1)) % len(shape)
    block = int(given.get("block_size", 0))
    if block:
        return np.repeat(values, block, axis)[tuple(slice(size) for size in shape)]
    return values.reshape([-1 if place == axis else 1 for place in range(len(shape))])


def _unpacked(node: onnx.NodeProto, constants: Constants, made: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
    """The node itself, or MatMulNBits as a product with a matrix of numbers."""
    held = [name for place, name in enumerate(node.input) if place > 0 and name]
    if node.op_type != "MatMulNBits" or any(name not in constants for name in held) or _of(node, 4):
        return [node]
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    packed, scales = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
    zero = numpy_helper.to_array(constants[node.input[3]]) if _of(node, 3) else None
    bias, whole = _of(node, 5), node.output[0]
    name = f"{whole}/weight"
    made.append(numpy_helper.from_array(_matrix(packed, scales, zero, given), name))
    product = f"{whole}/product" if bias else whole
    sums = [helper.make_node("Add", [product, bias], [whole])] if bias else []
    return [helper.make_node("MatMul", [node.input[0], name], [product], name=node.name), *sums]


def _of(node: onnx.NodeProto, place: int) -> str:
    return node.input[place] if place < len(node.input) else ""


def _matrix(packed: np.ndarray, scales: np.ndarray, zero: np.ndarray | None, given: dict[str, Any]) -> np.ndarray:
    """[K, N] of what MatMulNBits packs, least significant first, column by column in blocks along K."""
    k, n, block, bits = (int(given[name]) for name in ("K", "N", "block_size", "bits"))
    blocks = -(-k // block)
    codes = _bits(packed.reshape(n, -1), bits).reshape(n, blocks, -1)[:, :, :block]
    if zero is None:
        offset = np.full((n, blocks), 1 << (bits - 1), np.float32)
    elif zero.dtype == np.uint8:
        offset = _bits(zero.reshape(n, -1), bits)[:, :blocks].astype(np.float32)
    else:
        offset = zero.reshape(n, blocks).astype(np.float32)
    numbers = (codes.astype(np.float32) - offset[:, :, None]) * scales.reshape(n, blocks, 1).astype(np.float32)
    return np.ascontiguousarray(numbers.reshape(n, -1)[:, :k].T)


def _bits(packed: np.ndarray, bits: int) -> np.ndarray:
    """Codes of so many bits out of bytes [N, B]."""
    steps = np.arange(0, 8, bits, dtype=np.uint8)
    return ((packed[:, :, None] >> steps) & np.uint8((1 << bits) - 1)).reshape(len(packed), -1)

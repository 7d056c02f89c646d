"""Integers computed from constants and ranks alone (axes above all) become constants, so that shapes can be inferred.

Function bodies compute their axes from the rank of an input, which onnx's inference does not follow. Evaluated by the
reference implementation, on integers only: no weight and no rounding is touched. Sizes are left to the run: a batch
axis that a file declares as 1 is many rows in a program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..graph import OPSET, bodies

LARGEST = 1024
RANKS = frozenset({"Shape", "Size"})
ARITHMETIC = frozenset(
    {"Abs", "Add", "Cast", "Concat", "ConstantOfShape", "Gather", "Identity", "Max", "Min", "Mod", "Mul", "Neg"}
    | {"Range", "Reshape", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
)


def fold_integers(graph: onnx.GraphProto, around: Mapping[str, np.ndarray] | None = None) -> bool:
    """Replace what can be computed now by initializers, in place, inside of nodes too; says whether anything was.

    `around` are the small integers of the graph around it.
    """
    own = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _is_small_integer(tensor)}
    known = dict(around or {}) | own
    vectors = {node.output[0] for node in graph.node if node.op_type == "Shape"}
    shapes = {value.name: _static_shape(value) for value in graph.value_info if value.name in vectors}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        value = None if outputs.intersection(node.output) else _value(node, known, shapes)
        if value is None:
            kept.append(node)
        else:
            known[node.output[0]] = value
            graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    folded = len(kept) < len(graph.node)
    del graph.node[:]
    graph.node.extend(kept)
    inner = [fold_integers(body, known) for node in graph.node for body in bodies(node)]
    return folded or any(inner)


def _value(
    node: onnx.NodeProto, known: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...] | None]
) -> np.ndarray | None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in RANKS | ARITHMETIC:
        return None
    feeds: dict[str, np.ndarray] = {}
    for name in filter(None, node.input):
        value, shape = known.get(name), shapes.get(name)
        if value is None and node.op_type in RANKS and shape is not None:
            value = np.zeros(shape, dtype=np.int64)  # of what Shape gives only the length is known: the rank
        if value is None:
            return None
        feeds[name] = value
    if _count(node, list(feeds.values())) > LARGEST:
        return None
    result = evaluated([node], node.output[0], feeds)
    return result if result.dtype.kind == "i" and result.size <= LARGEST else None


def _count(node: onnx.NodeProto, operands: list[np.ndarray]) -> int:
    """Elements that an operator makes whose operands state how many it makes, before it makes them."""
    match node.op_type, operands:
        case "Range", [start, limit, delta]:
            return len(range(int(start), int(limit), int(delta) or 1))
        case "ConstantOfShape", [shape]:
            return math.prod(int(size) for size in shape)
    return 0


def evaluated(nodes: list[onnx.NodeProto], output: str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """A value that nodes in order make of the arrays given, by the reference implementation."""
    inputs = [helper.make_empty_tensor_value_info(name) for name in feeds]
    graph = helper.make_graph(nodes, "fold", inputs, [helper.make_empty_tensor_value_info(output)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    results: Any = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(results[0])


def _is_small_integer(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in (onnx.TensorProto.INT32, onnx.TensorProto.INT64) and np.prod(tensor.dims) <= LARGEST


def _static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or any(dim.WhichOneof("value") != "dim_value" for dim in tensor.shape.dim):
        return None
    return tuple(dim.dim_value for dim in tensor.shape.dim)

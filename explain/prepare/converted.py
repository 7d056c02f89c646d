"""What onnx's version converter leaves otherwise than the file meant it, put right after it.

- Before opset 11 Resize (and Upsample) placed samples at i / scale, and took the nearest below, or above where an axis
  is made smaller; the converter states neither.
- Before opset 13 Softmax went over all axes from one on; the converter flattens them, also where that changes nothing.
  Then the end of a classifier is not seen.
- Inputs of Resize that have no elements, as exporters write them at opset 11, are absent ones.
- A size of -1, as PaddlePaddle writes it, is an open one.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph import reads

PLACED = 11  # the opset at which Resize says how it places its samples
EDGE = ("coordinate_transformation_mode", "nearest_mode")


def open_sizes(graph: onnx.GraphProto) -> None:
    """Give sizes below 0 a name instead, in place; first axes, those of the rows, have one name."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value < 0:
                dim.dim_param = f"{value.name} axis {axis}" if axis else "rows"


def resize_as_it_was(graph: onnx.GraphProto, opset: int) -> None:
    """State for every Resize what its opset meant, and which of its inputs are there; in place."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Resize" or node.domain not in ("", "ai.onnx"):
            nodes.append(node)
            continue
        empty = {name for name in node.input if name in constants and math.prod(constants[name].dims) == 0}
        node.input[:] = [node.input[0], *("" if name in empty else name for name in node.input[1:])]
        nodes.extend(_placed(node, constants, graph) if opset < PLACED else [node])
    del graph.node[:]
    graph.node.extend(nodes)


def _placed(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], graph: onnx.GraphProto
) -> list[onnx.NodeProto]:
    """The node with what its opset meant; axes that grow and axes that shrink round differently, each in a node."""
    scales = constants.get(node.input[2]) if len(node.input) > 2 else None
    values = np.ones(0) if scales is None else numpy_helper.to_array(scales)
    if not (values < 1).any():
        return [_stated(node, "floor")]
    if not (values > 1).any():
        return [_stated(node, "ceil")]
    smaller = onnx.NodeProto()
    smaller.CopyFrom(node)
    between = f"{node.output[0]}/grown"
    for part, bound in ((node, np.maximum), (smaller, np.minimum)):
        name = f"{node.output[0]}/{bound.__name__}"
        graph.initializer.append(numpy_helper.from_array(bound(values, np.float32(1)), name))
        part.input[2] = name
    node.output[0] = smaller.input[0] = between
    smaller.name = ""
    return [_stated(node, "floor"), _stated(smaller, "ceil")]


def _stated(node: onnx.NodeProto, nearest: str) -> onnx.NodeProto:
    kept = [attribute for attribute in node.attribute if attribute.name not in EDGE]
    del node.attribute[:]
    node.attribute.extend([*kept, *map(helper.make_attribute, EDGE, ("asymmetric", nearest))])
    return node


def softmax_as_it_was(graph: onnx.GraphProto) -> None:
    """Take the Flatten before a Softmax and the Reshape behind it away where they change nothing, in place."""
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    makers = {name: node for node in graph.node for name in node.output}
    left: list[onnx.NodeProto] = []
    for node in graph.node:
        flat = _flattened(node, makers) if node.op_type == "Reshape" else None
        if flat is None:
            continue
        flatten, squash = flat
        axis = next((attribute.i for attribute in flatten.attribute if attribute.name == "axis"), 1)
        if ranks.get(flatten.input[0]) == axis + 1:
            node.op_type, node.input[:] = squash.op_type, [flatten.input[0]]
            node.attribute.extend([helper.make_attribute("axis", -1)])
            left.extend((squash, flatten))
    for node in left:  # a squash goes first, so that nothing reads the Flatten before it
        if not any(node.output[0] in reads(other) for other in graph.node):
            graph.node.remove(node)


def _flattened(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> tuple[onnx.NodeProto, onnx.NodeProto] | None:
    """The Flatten and the Softmax of Reshape(Softmax(Flatten(x)), Shape(x)), if that is what ends in this node."""
    squash, shape = (makers.get(name) for name in node.input[:2])
    if squash is None or shape is None or squash.op_type not in ("Softmax", "LogSoftmax") or shape.op_type != "Shape":
        return None
    flatten = makers.get(squash.input[0])
    if flatten is None or flatten.op_type != "Flatten" or list(shape.input) != list(flatten.input):
        return None
    return (flatten, squash) if not shape.attribute else None

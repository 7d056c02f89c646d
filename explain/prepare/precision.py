"""Half precision widened: float16 and bfloat16 become float32 in the copy that programs are made of.

Whatever mixture a file holds (weights, inputs and outputs, a few nodes in float32 between Casts), its program computes
in float32 throughout, with each weight cast once, here. A gradient is a sum of many products, of which float16 holds
three digits, nothing above 65504 and little below 6e-8; and a maximum that is computed twice, once fused and once not,
does not meet its own elements again there. Inputs keep their names and take float32, so that baselines, points of a
path and noise are what was asked. The file that is served stays as it is: `forward_gap` is read against its answers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..graph import rename_node

HALVES = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
# Attributes that name an element type.
KINDS = frozenset({"dtype", "output_datatype", "output_dtype", "precision", "softmax_precision", "stash_type", "to"})


def widen(model: onnx.ModelProto, weights: Iterable[onnx.TensorProto] = ()) -> list[onnx.TensorProto]:
    """Make float32 of every half in the model, in place, graphs inside of nodes too; gives the weights beside it so.

    A weight in a file of its own stays where it is: a Cast behind it, which runtimes do once, when they load a program.
    """
    outside = [tensor for tensor in model.graph.initializer if is_half(tensor) and is_outside(tensor)]
    beside = [tensor for tensor in weights if is_half(tensor) and is_outside(tensor)]
    kept = {tensor.name for tensor in (*outside, *beside)}
    _widen_graph(model.graph, kept)
    _cast_behind(model.graph, sorted(kept))
    return [tensor if tensor.name in kept else widened(tensor) for tensor in weights]


def is_half(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor holds numbers of 16 bits."""
    return tensor.data_type in HALVES


def is_outside(tensor: onnx.TensorProto) -> bool:
    """Whether the numbers are in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def widened(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The tensor itself, or the same numbers in float32."""
    if not is_half(tensor):
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _widen_graph(graph: onnx.GraphProto, kept: Iterable[str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name not in kept:
            _widen_type(value.type)
    for tensor in graph.initializer:
        if tensor.name not in kept:
            tensor.CopyFrom(widened(tensor))
    for node in graph.node:
        for attribute in node.attribute:
            _widen_attribute(attribute)


def _widen_attribute(attribute: onnx.AttributeProto) -> None:
    match attribute.type:
        case onnx.AttributeProto.INT:
            if attribute.name in KINDS and attribute.i in HALVES:
                attribute.i = TensorProto.FLOAT
        case onnx.AttributeProto.TENSOR:
            attribute.t.CopyFrom(widened(attribute.t))
        case onnx.AttributeProto.TYPE_PROTO:
            _widen_type(attribute.tp)
        case onnx.AttributeProto.GRAPH | onnx.AttributeProto.GRAPHS:
            for body in (attribute.g, *attribute.graphs):
                _widen_graph(body, ())


def _widen_type(kind: onnx.TypeProto) -> None:
    match kind.WhichOneof("value"):
        case "tensor_type":
            if kind.tensor_type.elem_type in HALVES:
                kind.tensor_type.elem_type = TensorProto.FLOAT
        case "sequence_type":
            _widen_type(kind.sequence_type.elem_type)
        case "optional_type":
            _widen_type(kind.optional_type.elem_type)
        case "map_type":
            _widen_type(kind.map_type.value_type)


def _cast_behind(graph: onnx.GraphProto, names: list[str]) -> None:
    """Let what reads one of these constants read it in float32."""
    if not names:
        return
    wide = {name: f"{name}/float32" for name in names}
    for node in graph.node:
        rename_node(node, wide)
    casts = [helper.make_node("Cast", [name], [wide[name]], to=TensorProto.FLOAT) for name in names]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)

"""Inputs and outputs that are no tensors: optional tensors are taken as given, sequences and maps refused by name."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import InvalidModel

DOMAINS = ("", "ai.onnx")
SPELLED = {"sequence_type": "a sequence", "map_type": "a map", "optional_type": "an optional sequence"}


def with_tensors(graph: onnx.GraphProto) -> None:
    """Make the optional tensors among the inputs tensors, which are there, in place: whether one is given decides
    nothing any more. Raises InvalidModel, naming the input, where one is a sequence or a map."""
    given = set()
    for value in graph.input:
        kind = value.type.WhichOneof("value")
        inner = value.type.optional_type.elem_type
        if kind == "optional_type" and inner.WhichOneof("value") == "tensor_type":
            tensor = onnx.TypeProto()
            tensor.CopyFrom(inner)
            value.type.CopyFrom(tensor)
            given.add(value.name)
        elif kind in SPELLED:
            raise InvalidModel(
                f"input {value.name!r} is {SPELLED[kind]}, and only tensors are explained: export the model with its "
                "elements as inputs of their own"
            )
    if given:
        _all_present(graph, given)


def _all_present(graph: onnx.GraphProto, given: set[str]) -> None:
    for node in graph.node:
        if node.domain in DOMAINS and node.input and node.input[0] in given:
            _present(node)
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _all_present(inner, given)


def _present(node: onnx.NodeProto) -> None:
    """What asks for an optional tensor that is there, without asking."""
    if node.op_type == "OptionalGetElement":
        node.op_type = "Identity"
    elif node.op_type == "OptionalHasElement":
        node.op_type = "Constant"
        del node.input[:]
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.array(True))))


def nothing_to_explain(graph: onnx.GraphProto) -> str:
    """Why no output of a model can be explained, as one sentence."""
    makers = {name: node.op_type for node in graph.node for name in node.output}
    for value in graph.output:
        kind = value.type.WhichOneof("value")
        if kind in SPELLED and makers.get(value.name) == "ZipMap":
            return f"output {value.name!r} is a sequence of maps, made by ZipMap: export without it (zipmap=False)"
        if kind in SPELLED:
            return f"output {value.name!r} is {SPELLED[kind]}, and only tensors of floating-point numbers are explained"
    return "the model has no floating-point output to explain"

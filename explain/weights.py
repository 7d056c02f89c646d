"""Weights beside the graph: what converts, inlines and infers copies a model's bytes, and weights are most of them.

They are replaced by typed inputs of their names while a model is prepared, and put back when it is done. The same
constants, as arrays by name, are what runtimes may hold once for a model and all of its programs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from .errors import InvalidModel
from .external import LARGE, DataFiles, external_data, is_external
from .inside import all_nodes
from .source import serialized

READING = frozenset({"Add", "Div", "Gather", "GatherElements", "GatherND", "Mul", "Sub", "Where"})
SHARED = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT32, TensorProto.INT64})
DOMAINS = ("", "ai.onnx")


def lasting_constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Large constants that a runtime may hold once for several graphs, by name: those it reads as they are.

    Kernels and matrices are not among them: each session packs its own for speed, and holds no other copy of them.
    """
    declared = {value.name for value in graph.input}
    packed = {name for node in all_nodes(graph) if node.op_type not in READING for name in node.input}
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if math.prod(tensor.dims) > LARGE and tensor.data_type in SHARED
        if tensor.name not in declared | packed and not is_external(tensor)
    }


def weights(data: bytes, data_files: DataFiles | None = None) -> dict[str, np.ndarray]:
    """`lasting_constants` of a served file, and all that lie in its data files (paths by the names it has for them).

    Raises InvalidModel.
    """
    try:
        graph = onnx.load_model_from_string(data).graph
    except DecodeError as error:
        raise InvalidModel("these bytes are no ONNX model") from error
    return lasting_constants(graph) | external_data(data_files or {}).constants(graph)


def placed(data: bytes, data_files: DataFiles) -> tuple[bytes, str | None]:
    """A served file with its data files called as they lie in a folder, and that folder: what a runtime is handed
    where they do not lie beside the file (`data_files`: paths by the names it has for them). Raises InvalidModel."""
    external = external_data(data_files)
    try:
        return serialized(external.placed(onnx.load_model_from_string(data))), external.folder
    except DecodeError as error:
        raise InvalidModel("these bytes are no ONNX model") from error


def without_weights(source: onnx.ModelProto) -> tuple[onnx.ModelProto, list[onnx.TensorProto]]:
    """A copy of the model with inputs in the place of its large constants, and these constants."""
    model = onnx.ModelProto()
    _copy(source, model, leave="graph")
    _copy(source.graph, model.graph, leave="initializer")
    constants_to_initializers(model.graph)
    tensors = [*source.graph.initializer, *model.graph.initializer]
    declared = {value.name for value in model.graph.input}
    weights = [tensor for tensor in tensors if math.prod(tensor.dims) > LARGE]
    small = [tensor for tensor in tensors if math.prod(tensor.dims) <= LARGE]
    del model.graph.initializer[:]
    model.graph.initializer.extend(small)
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in weights
        if tensor.name not in declared
    )
    return model, weights


def _copy(source: Any, target: Any, *, leave: str) -> None:
    """Copy all fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == leave:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def constants_to_initializers(graph: onnx.GraphProto) -> None:
    """Replace Constant nodes by initializers, in place."""
    kept = []
    for node in graph.node:
        tensor = _constant_tensor(node)
        if tensor is None:
            kept.append(node)
        else:
            graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain not in DOMAINS or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    helper = onnx.helper
    tensor = onnx.TensorProto()
    match attribute.name:
        case "value":
            tensor.CopyFrom(attribute.t)
        case "value_int":
            tensor = helper.make_tensor("", onnx.TensorProto.INT64, (), [attribute.i])
        case "value_ints":
            tensor = helper.make_tensor("", onnx.TensorProto.INT64, (len(attribute.ints),), attribute.ints)
        case "value_float":
            tensor = helper.make_tensor("", onnx.TensorProto.FLOAT, (), [attribute.f])
        case "value_floats":
            tensor = helper.make_tensor("", onnx.TensorProto.FLOAT, (len(attribute.floats),), attribute.floats)
        case _:
            return None
    tensor.name = node.output[0]
    return tensor

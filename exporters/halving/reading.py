"""From the bytes of a model to the network whose nodes are chosen from: functions inlined, constants as initializers,
an element type for each value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, inliner, numpy_helper, shape_inference

import explain

from ..errors import VariantRefused
from ..exported import Array
from .choosing import Network

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
CONSTANTS_APART = 4  # before this version of the format every initializer had to be an input too


def network_of(data: bytes, data_files: Mapping[str, Path] | None = None) -> Network:
    """A model that passed the gate, ready to be chosen from. Raises VariantRefused where its types cannot be found."""
    model = onnx.load_model_from_string(data)
    outside: Mapping[str, Array] = explain.weights(data, data_files) if data_files else {}
    try:
        model = inliner.inline_local_functions(model) if model.functions else model
        _with_initializers(model.graph)
        model.ir_version = max(model.ir_version, CONSTANTS_APART)
        typed = shape_inference.infer_shapes(model).graph
    except (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError) as error:
        raise VariantRefused(f"its types cannot be found: {str(error).splitlines()[0][:200]}") from error
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*typed.input, *typed.value_info, *typed.output)}
    kinds |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    if not set(HALVES).isdisjoint(kinds.values()):
        raise VariantRefused("it holds half precision already")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}

    def constant(name: str) -> Array:
        return outside[name] if name in outside else numpy_helper.to_array(tensors[name])

    return Network(model, kinds, constant)


def _with_initializers(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers, and no initializer stays an input, in place."""
    explain.constants_to_initializers(graph)
    names = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in names]
    graph.ClearField("input")
    graph.input.extend(inputs)

"""A model as it comes: bytes, a file or a proto."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from .errors import InvalidModel


def read(source: onnx.ModelProto | bytes | str | os.PathLike[str]) -> onnx.ModelProto:
    """The proto. Raises InvalidModel."""
    if isinstance(source, onnx.ModelProto):
        return source
    try:
        model = onnx.load_model_from_string(source) if isinstance(source, bytes) else onnx.load(str(Path(source)))
    except OSError as error:
        raise InvalidModel(f"the file could not be read: {error}") from error
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise InvalidModel("these bytes are no ONNX model") from error
    if not model.graph.node:
        raise InvalidModel("the model has no nodes; is this an ONNX model?")
    return model


def scalars(proto: onnx.ModelProto) -> list[str]:
    """Inputs and outputs without axes: they have none for the rows, which are then run one at a time."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    ends = [value for value in (*proto.graph.input, *proto.graph.output) if value.name not in constants]
    tensors = ((value.name, value.type.tensor_type) for value in ends if value.type.HasField("tensor_type"))
    return [name for name, tensor in tensors if tensor.HasField("shape") and not tensor.shape.dim]

"""A model as it comes: bytes, a file or a proto, and the files that hold what is not in it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError

from .errors import InvalidModel, InvalidParameter
from .external import DataFiles, ExternalData, attach, is_external, located, tensors_of

LIMIT = 1 << 31  # of protobuf, in bytes
Source = onnx.ModelProto | bytes | str | os.PathLike[str]


def read(source: Source, data_files: DataFiles | None = None) -> tuple[onnx.ModelProto, ExternalData]:
    """The proto, which may refer to data files, and these files: those given by name, or those that lie beside a file.

    Raises InvalidModel.
    """
    model = _parsed(source)
    if not model.graph.node:
        raise InvalidModel("the model has no nodes; is this an ONNX model?")
    if not any(map(is_external, tensors_of(model))):
        return model, ExternalData()
    if data_files is None:
        if isinstance(source, bytes | onnx.ModelProto):
            raise InvalidModel("the data of the model lie in other files: give its path, or data_files")
        data_files = located(model, Path(source).parent)
    if model is source:
        model = onnx.ModelProto()
        model.CopyFrom(source)
    return model, attach(model, data_files)


def own_bytes(source: Source, external: ExternalData) -> bytes | None:
    """The bytes a model was made of, where they are to be kept: those of what is not read whole are few."""
    if isinstance(source, bytes) or not external.paths:
        return source if isinstance(source, bytes) else None
    return serialized(source) if isinstance(source, onnx.ModelProto) else Path(source).read_bytes()


def _parsed(source: Source) -> onnx.ModelProto:
    if isinstance(source, onnx.ModelProto):
        return source
    try:
        if isinstance(source, bytes):
            return onnx.load_model_from_string(source)
        return onnx.load(str(Path(source)), load_external_data=False)
    except OSError as error:
        raise InvalidModel(f"the file could not be read: {error}") from error
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise InvalidModel("these bytes are no ONNX model") from error


def serialized(proto: onnx.ModelProto) -> bytes:
    """The bytes of a proto, the same for the same content. Raises InvalidModel where there are too many."""
    try:
        return bytes(proto.SerializeToString(deterministic=True))
    except EncodeError as error:
        raise InvalidModel(
            "a graph of ONNX holds at most 2 GiB: save the model with external data, and give its path"
        ) from error


def checked_held(graph: onnx.GraphProto, held: Collection[str]) -> frozenset[str]:
    """Names of inputs that are no features; raises InvalidParameter where one is no input, or none would be left."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    unknown = sorted(set(held) - set(inputs))
    if unknown:
        raise InvalidParameter(f"held: {unknown[0]!r} is no input; expected some of {', '.join(inputs)}")
    if held and not set(inputs) - set(held):
        raise InvalidParameter("held: came every input; at least one is a feature")
    return frozenset(held)


def scalars(proto: onnx.ModelProto) -> list[str]:
    """Inputs and outputs without axes: they have none for the rows, which are then run one at a time."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    ends = [value for value in (*proto.graph.input, *proto.graph.output) if value.name not in constants]
    tensors = ((value.name, value.type.tensor_type) for value in ends if value.type.HasField("tensor_type"))
    return [name for name, tensor in tensors if tensor.HasField("shape") and not tensor.shape.dim]

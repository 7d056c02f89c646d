"""Dtypes and shapes of values, from ONNX and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

Dim = int | str | None
Shape = tuple[Dim, ...]
FLOATS = frozenset({"float32", "float64", "float16", "bfloat16"})


@dataclass(frozen=True)
class Type:
    """Dtype (numpy name, "string" for strings) and shape; a dimension is an int, a symbol or None (unknown)."""

    dtype: str
    shape: Shape | None

    @property
    def is_float(self) -> bool:
        """Whether values of this type can carry a gradient."""
        return self.dtype in FLOATS


UNKNOWN = Type("unknown", None)


def dtype_of(elem_type: int) -> str:
    if elem_type == onnx.TensorProto.STRING:
        return "string"
    if elem_type == onnx.TensorProto.UNDEFINED:
        return "unknown"
    return str(np.dtype(helper.tensor_dtype_to_np_dtype(elem_type)))


def elem_type(dtype: str) -> int:
    """ONNX element type of a dtype name as used in `Type`."""
    if dtype == "string":
        return int(onnx.TensorProto.STRING)
    if dtype == "bfloat16":
        return int(onnx.TensorProto.BFLOAT16)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def type_of(proto: onnx.TypeProto) -> Type:
    if not proto.HasField("tensor_type"):
        return Type(proto.WhichOneof("value") or "unknown", None)
    tensor = proto.tensor_type
    if not tensor.HasField("shape"):
        return Type(dtype_of(tensor.elem_type), None)
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        kind = dim.WhichOneof("value")
        dims.append(None if kind is None else dim.dim_value if kind == "dim_value" else dim.dim_param or None)
    return Type(dtype_of(tensor.elem_type), tuple(dims))

"""Ranks that onnx's shape inference does not follow: it gives up where a size, and not the rank, is unknown.

A Split with computed lengths, for one, has parts of the rank of the whole. What is found is stated in `value_info`
with open dimensions; what inference already knows is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

Ranks = Mapping[str, int]
Lengths = Mapping[str, int | None]
BROADCAST = frozenset(
    {"Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"}
    | {"Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"}
)
AS_FIRST = frozenset(
    {"Abs", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Clip", "Concat", "Conv", "ConvTranspose", "Cos"}
    | {"CumSum", "DepthToSpace", "Dropout", "Elu", "Erf", "Exp", "GatherElements", "Gelu", "GlobalAveragePool"}
    | {"GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsInf", "IsNaN", "LRN"}
    | {"LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "MaxPool", "Mish", "Neg", "Not", "Pad", "Reciprocal"}
    | {"Relu", "Resize", "ReverseSequence", "Round", "ScatterElements", "ScatterND", "Selu", "Sigmoid", "Sign", "Sin"}
    | {"Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Tanh", "Tile", "TopK", "Transpose", "Trilu"}
)


def state_ranks(graph: onnx.GraphProto) -> bool:
    """Add what can be told of ranks to `value_info`, in place; says whether anything was."""
    kinds = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    ranks = {name: len(kind.shape.dim) for name, kind in kinds.items() if kind.HasField("shape")}
    lengths = {name: _length(kind) for name, kind in kinds.items()}
    for tensor in graph.initializer:
        ranks[tensor.name] = len(tensor.dims)
        lengths[tensor.name] = tensor.dims[0] if len(tensor.dims) == 1 else None
    found: dict[str, int] = {}
    for node in graph.node:
        unknown = [name for name in node.output if name and name not in ranks]
        rank = _rank(node, ranks, lengths) if unknown else None
        if rank is not None:
            found |= dict.fromkeys(unknown, rank)
            ranks |= dict.fromkeys(unknown, rank)
    for name, rank in found.items():
        elem = kinds[name].elem_type if name in kinds else TensorProto.UNDEFINED
        if elem != TensorProto.UNDEFINED:
            _state(graph, name, elem, rank)
    return bool(found)


def _state(graph: onnx.GraphProto, name: str, elem: int, rank: int) -> None:
    info = helper.make_tensor_value_info(name, elem, [None] * rank)
    for value in (*graph.value_info, *graph.output):
        if value.name == name:
            value.type.CopyFrom(info.type)
            return
    graph.value_info.append(info)


def _length(kind: onnx.TypeProto.Tensor) -> int | None:
    """Elements of a vector, where they are known."""
    dims = kind.shape.dim if kind.HasField("shape") else []
    return dims[0].dim_value if len(dims) == 1 and dims[0].HasField("dim_value") else None


def _rank(node: onnx.NodeProto, ranks: Ranks, lengths: Lengths) -> int | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    own = [ranks.get(name) for name in node.input if name]
    known = [rank for rank in own if rank is not None]
    if node.op_type in AS_FIRST:
        return own[0] if own else None
    match node.op_type:
        case "Reshape" | "ConstantOfShape":
            return lengths.get(node.input[-1])
        case "Gemm" | "Flatten":
            return 2
        case "Squeeze" | "Unsqueeze" | "ArgMax" | "ArgMin":
            return _by_axes(node, own[0], lengths)
        case reduction if reduction.startswith("Reduce"):
            return _by_axes(node, own[0], lengths)
        case _ if not known or len(known) < len(own):
            return None
        case "Expand":
            wanted = lengths.get(node.input[1])
            return None if wanted is None else max(known[0], wanted)
        case "Gather":
            return known[0] + known[1] - 1
        case "MatMul":
            return max(*known, 2) - known.count(1)
        case broadcast if broadcast in BROADCAST:
            return max(known)
    return None


def _by_axes(node: onnx.NodeProto, first: int | None, lengths: Lengths) -> int | None:
    """Unsqueeze adds its axes; Squeeze, and reductions that do not keep them, take them away."""
    if first is None:
        return None
    reduces = node.op_type.startswith(("Reduce", "Arg"))
    if reduces and next((item.i for item in node.attribute if item.name == "keepdims"), 1):
        return first
    if node.op_type.startswith("Arg"):
        return first - 1
    count = lengths.get(node.input[1]) if len(node.input) > 1 else None
    if count is None:
        return None
    return first + count if node.op_type == "Unsqueeze" else first - count

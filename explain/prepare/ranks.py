"""Ranks that onnx's shape inference does not follow: it gives up where a size, and not the rank, is unknown.

A Split with computed lengths, for one, has parts of the rank of the whole. What is found is stated in `value_info`
with open dimensions; what inference already knows is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper, numpy_helper

from ..graph import bodies

BROADCAST = frozenset(
    {"Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less"}
    | {"LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor"}
)
AS_FIRST = frozenset(
    {"Abs", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Clip", "Concat", "Conv", "ConvTranspose", "Cos"}
    | {
        "CumSum",
        "DFT",
        "DepthToSpace",
        "DequantizeLinear",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "GatherElements",
        "Gelu",
        "GlobalAveragePool",
    }
    | {
        "GlobalMaxPool",
        "GridSample",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "InstanceNormalization",
        "IsInf",
        "IsNaN",
        "LRN",
    }
    | {
        "LayerNormalization",
        "LeakyRelu",
        "Log",
        "LogSoftmax",
        "MaxPool",
        "Mish",
        "Neg",
        "Not",
        "Pad",
        "QuantizeLinear",
        "Reciprocal",
    }
    | {"Relu", "Resize", "ReverseSequence", "Round", "ScatterElements", "ScatterND", "Selu", "Sigmoid", "Sign", "Sin"}
    | {"Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Tanh", "Tile", "TopK", "Transpose", "Trilu"}
)
SMALL = 16


@dataclass
class Known:
    """By value: ranks, lengths of vectors, and small constant integers."""

    ranks: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    integers: dict[str, list[int]] = field(default_factory=dict)

    def declare(self, name: str, dims: list[int | None]) -> None:
        """Take a shape as known; None is an open dimension."""
        self.ranks[name] = len(dims)
        if len(dims) == 1 and dims[0] is not None:
            self.lengths[name] = dims[0]


def state_ranks(graph: onnx.GraphProto, around: Known | None = None) -> bool:
    """Add what can be told of ranks to `value_info`, in place, inside of nodes too; says whether anything was.

    `around` is what is known of the graph around it.
    """
    values = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}
    known, found = _declared(graph, around or Known()), False
    for node in graph.node:
        inner = [state_ranks(body, known) for body in bodies(node)]
        found = found or any(inner)
        unknown = [name for name in node.output if name and name not in known.ranks]
        rank = _rank(node, known) if unknown else None
        if rank is not None:
            known.ranks |= dict.fromkeys(unknown, rank)
        count = _length(node, known)
        if count is not None and node.output[0] not in known.lengths:
            known.declare(node.output[0], [count])
        stated = [_state(values[name], known) for name in unknown if rank is not None and name in values]
        found = found or any(stated)
    return found


def _state(value: onnx.ValueInfoProto, known: Known) -> bool:
    elem, rank = value.type.tensor_type.elem_type, known.ranks[value.name]
    if elem == TensorProto.UNDEFINED:
        return False
    dims = [known.lengths.get(value.name)] if rank == 1 else [None] * rank
    value.type.CopyFrom(helper.make_tensor_type_proto(elem, dims))
    return True


def _declared(graph: onnx.GraphProto, around: Known) -> Known:
    known = Known(dict(around.ranks), dict(around.lengths), dict(around.integers))
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            known.declare(value.name, [dim.dim_value if dim.HasField("dim_value") else None for dim in dims])
    for tensor in graph.initializer:
        known.declare(tensor.name, list(tensor.dims))
        if tensor.data_type in (TensorProto.INT64, TensorProto.INT32) and sum(tensor.dims) <= SMALL:
            known.integers[tensor.name] = [int(i) for i in numpy_helper.to_array(tensor).reshape(-1)]
    return known


def _rank(node: onnx.NodeProto, known: Known) -> int | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    own = [known.ranks.get(name) for name in node.input if name]
    ranks = [rank for rank in own if rank is not None]
    if node.op_type in AS_FIRST:
        return own[0] if own else None
    match node.op_type:
        case "Reshape" | "ConstantOfShape":
            return known.lengths.get(node.input[-1])
        case "Gemm" | "Flatten" | "MelWeightMatrix":
            return 2
        case "STFT":
            return 4
        case "Squeeze" | "Unsqueeze" | "ArgMax" | "ArgMin":
            return _by_axes(node, own[0], known)
        case reduction if reduction.startswith("Reduce"):
            return _by_axes(node, own[0], known)
        case _ if not ranks or len(ranks) < len(own):
            return None
        case "Expand":
            wanted = known.lengths.get(node.input[1])
            return None if wanted is None else max(ranks[0], wanted)
        case "Gather":
            return ranks[0] + ranks[1] - 1
        case "MatMul":
            return max(*ranks, 2) - ranks.count(1)
        case broadcast if broadcast in BROADCAST:
            return max(ranks)
    return None


def _by_axes(node: onnx.NodeProto, first: int | None, known: Known) -> int | None:
    """Unsqueeze adds its axes; Squeeze, and reductions that do not keep them, take them away."""
    if first is None:
        return None
    reduces = node.op_type.startswith(("Reduce", "Arg"))
    if reduces and next((item.i for item in node.attribute if item.name == "keepdims"), 1):
        return first
    if node.op_type.startswith("Arg"):
        return first - 1
    count = known.lengths.get(node.input[1]) if len(node.input) > 1 else None
    if count is None:
        return None
    return first + count if node.op_type == "Unsqueeze" else first - count


def _length(node: onnx.NodeProto, known: Known) -> int | None:
    """Length of a vector of sizes, followed through what exporters do to compute a shape."""
    own = [known.lengths.get(name) for name in node.input if name]
    lengths = [length for length in own if length is not None]
    match node.op_type:
        case "Shape" if not node.attribute:
            return known.ranks.get(node.input[0])
        case "Cast" | "Identity":
            return own[0]
        case "Concat" if len(lengths) == len(own):
            return sum(lengths)
        case "Gather" if own[0] is not None and known.ranks.get(node.input[1]) == 1:
            return own[1]
        case "Unsqueeze" if known.ranks.get(node.input[0]) == 0 and own[1] == 1:
            return 1
        case "Slice" if own[0] is not None:
            return _sliced(own[0], [known.integers.get(name) for name in node.input[1:]])
    return None


def _sliced(length: int, bounds: list[list[int] | None]) -> int | None:
    """How many elements starts, ends, axes and steps leave of a vector."""
    if any(bound is None for bound in bounds):
        return None
    starts, ends, *more = (bound or [] for bound in bounds)
    return len(range(length)[starts[0] : ends[0] : more[1][0] if len(more) > 1 else 1])

"""Which nodes are affine in what they are given, so that what lies between two values is a matrix and an offset."""

from __future__ import annotations

from collections.abc import Collection

from .dtypes import UNKNOWN
from .graph import Node

MOVES = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze"}
)
WINDOWS = frozenset({"AveragePool", "BatchNormalization", "Div", "GlobalAveragePool", "Pad"})
SUMS = frozenset({"Add", "Mean", "Neg", "ReduceMean", "ReduceSum", "Sub", "Sum"})
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Mul"})


def is_affine(node: Node, moving: Collection[str]) -> bool:
    """Whether the node's results are affine in the values `moving`, all else being constant."""
    given = [i for i, name in enumerate(node.inputs) if name in moving]
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op in SUMS or node.op == "Concat":
        return True
    if node.op in MOVES:  # data may move, not the places it is taken from
        return given == [0]
    if node.op == "Cast":
        source = node.graph.type(node.inputs[0])  # unknown behind operators of which onnx infers nothing: floats
        return node.graph.type(node.outputs[0]).is_float and (source.is_float or source == UNKNOWN)
    if node.op in WINDOWS:
        return given == [0]
    return node.op in PRODUCTS and len([i for i in given if i < 2]) == 1 - (node.op == "Gemm" and given == [2])


def changes_nothing(node: Node) -> bool:
    """Whether a node's result is its first input, but for its dtype."""
    if node.op == "Mul":
        factor = node.constant(1)
        return factor is not None and factor.size == 1 and bool((factor == 1).all())
    return node.op in ("Identity", "Cast")


def rounds(node: Node) -> bool:
    """Whether a node's result is its first input, but for what bytes can say."""
    return node.op in ("DequantizeLinear", "QuantizeLinear")

"""Conditions and masks among integer inputs are held as they are: no baseline, no attribution, no refusal."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import explain
from tests.explain.single import numbers, session

N = helper.make_node
TABLE, HEAD = numbers(7, 4), numbers(4, 2, seed=1)
IDS, BASELINE = np.array([[1, 5, 2], [3, 3, 6]]), np.array([[0, 5, 1], [2, 0, 0]])
MASK = np.array([[1, 1, 0], [1, 1, 1]])
SPREAD = [N("Unsqueeze", ["mask", "one"], ["wide"]), N("Cast", ["wide"], ["open"], to=TensorProto.FLOAT)]
CHOSEN = [
    N("Cast", ["mask"], ["true"], to=TensorProto.BOOL),
    N("Where", ["true", "unit", "zero"], ["flat"]),
    N("Unsqueeze", ["flat", "one"], ["open"]),
]
COMPARED = [
    N("Greater", ["mask", "nought"], ["true"]),
    N("Cast", ["true"], ["flat"], to=TensorProto.FLOAT),
    N("Unsqueeze", ["flat", "one"], ["open"]),
]
POSITIONS = [
    N("Equal", ["ids", "nought"], ["pad"]),
    N("Not", ["pad"], ["real"]),
    N("Cast", ["real"], ["counted"], to=TensorProto.INT64),
    N("CumSum", ["counted", "last"], ["places"]),
    N("Gather", ["table", "places"], ["position"]),
    N("Add", ["e", "position"], ["placed"]),
]


def masked(mask: list[onnx.NodeProto], positions: bool = False) -> onnx.ModelProto:
    """y = (mask [N, 1, T] times tanh of embedded ids [N, T, 4], summed over T) HEAD; positions from ids that count."""
    nodes = [
        N("Gather", ["table", "ids"], ["e"]),
        *(POSITIONS if positions else [N("Identity", ["e"], ["placed"])]),
        N("Tanh", ["placed"], ["t"]),
        *mask,
        N("MatMul", ["open", "t"], ["pooled"]),
        N("Squeeze", ["pooled", "one"], ["row"]),
        N("MatMul", ["row", "head"], ["y"]),
    ]
    floats = {"table": TABLE, "head": HEAD, "unit": np.array(1.0), "zero": np.array(0.0)}
    ints = {"one": np.array([1]), "nought": np.array(0), "last": np.array(1)}
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in floats.items()]
    tensors += [numpy_helper.from_array(value, name) for name, value in ints.items()]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "T"]) for name in ("ids", "mask")]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    graph = helper.make_graph(nodes, "masked", inputs, [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def attributed(proto: onnx.ModelProto, alpha: float) -> np.ndarray:
    """`ids.attribution` with all weight on one point of the path, for element 1 of y."""
    program = explain.compile(proto, "path_gradient")
    assert "mask.baseline" not in program.inputs
    assert "mask.attribution" not in program.outputs
    one = np.ones((2, 1), np.float32)
    feeds = {"ids": IDS, "mask": MASK, "ids.baseline": BASELINE[:, None], "alpha": alpha * one}
    feeds |= {"weight": one[:, :, None], "target": np.ones((2, 1, 1), np.int64), "target.weight": one}
    return session(program.model).run(["ids.attribution"], feeds)[0][:, 0]


def by_hand(alpha: float, position: np.ndarray | float = 0.0) -> np.ndarray:
    difference = TABLE[IDS] - TABLE[BASELINE]
    slope = 1 - np.tanh(TABLE[BASELINE] + alpha * difference + position) ** 2
    return (difference * slope * HEAD[:, 1]).sum(-1) * MASK


@pytest.mark.parametrize("mask", [SPREAD, CHOSEN, COMPARED], ids=["spread", "chosen", "compared"])
def test_tokens_are_attributed_beside_a_mask(mask: list[onnx.NodeProto]) -> None:
    assert explain.attribution_error(attributed(masked(mask), 0.3), by_hand(0.3)) <= 1e-5


def test_positions_counted_from_tokens_are_those_of_the_input() -> None:
    places = np.cumsum(IDS != 0, axis=1)
    found = attributed(masked(CHOSEN, positions=True), 0.6)
    assert explain.attribution_error(found, by_hand(0.6, TABLE[places])) <= 1e-5


def test_another_point_of_the_path_is_told_apart() -> None:
    assert explain.attribution_error(attributed(masked(SPREAD), 0.3), by_hand(0.4)) > 1e-3


def test_an_encoding_with_moved_axes_is_still_refused() -> None:
    turned = [N("Transpose", ["mask"], ["m"]), N("Cast", ["m"], ["f"], to=TensorProto.FLOAT)]
    turned += [N("Transpose", ["f"], ["b"]), N("Unsqueeze", ["b", "one"], ["open"])]
    with pytest.raises(explain.MethodUnavailable, match="'mask' does not keep its axes"):
        explain.compile(masked(turned), "path_gradient")

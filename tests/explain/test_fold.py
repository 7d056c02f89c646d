"""Axes computed from ranks become constants; sizes, floats and outputs are left as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import explain
from explain.prepare import prepare
from explain.prepare.fold import LARGEST, fold_integers
from tests.explain.single import gradients, numbers, session

N = helper.make_node


def model(nodes: list[onnx.NodeProto], shape: list[Any], rank: int = 2, **constants: np.ndarray) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "folded", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def last_axes() -> onnx.ModelProto:
    """y = the mean over the last two axes, which are counted from the rank."""
    nodes = [
        N("Shape", ["x"], ["shape"]),
        N("Size", ["shape"], ["rank"]),
        N("Sub", ["rank", "two"], ["begin"]),
        N("Range", ["begin", "rank", "one"], ["axes"]),
        N("ReduceMean", ["x", "axes"], ["y"], keepdims=0),
    ]
    return model(nodes, ["N", 2, "h", "w"], two=np.array(2), one=np.array(1))


def test_axes_counted_from_the_rank_are_constants() -> None:
    prepared = prepare(last_axes())
    axes = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in prepared.graph.initializer}["axes"]
    assert axes == [2, 3]
    assert [node.op_type for node in prepared.graph.node if node.op_type != "Shape"] == ["ReduceMean"]
    x = numbers(3, 2, 4, 5).astype(np.float32)
    assert gradients(last_axes(), {"x": x})["x"] == pytest.approx(np.full(x.shape, 1 / 20))


@pytest.mark.parametrize("batch", [1, "N"])
def test_sizes_are_left_to_the_run(batch: int | str) -> None:
    nodes = [
        N("Shape", ["x"], ["items"], end=1),
        N("Concat", ["items", "minus_one"], ["sizes"], axis=0),
        N("Reshape", ["x", "sizes"], ["flat"]),
        N("Exp", ["flat"], ["y"]),
    ]
    proto = model(nodes, [batch, 2, 3], minus_one=np.array([-1]))
    assert [node.op_type for node in prepare(proto).graph.node] == ["Shape", "Concat", "Reshape", "Exp"]
    x = numbers(4, 2, 3).astype(np.float32)
    found = session(explain.compile(proto, "forward").model)
    if batch == "N":
        assert found.run(None, {"x": x})[0] == pytest.approx(np.exp(x).reshape(4, 6))


def test_floats_and_large_integers_are_left_alone() -> None:
    nodes = [
        N("Add", ["half", "half"], ["whole"]),
        N("Range", ["zero", "many", "step"], ["range"]),
        N("Gather", ["range", "zero"], ["first"]),
        N("Cast", ["first"], ["number"], to=TensorProto.FLOAT),
        N("Mul", ["x", "whole"], ["scaled"]),
        N("Add", ["scaled", "number"], ["y"]),
    ]
    given = {"half": np.array(0.5, np.float32), "zero": np.array(0), "many": np.array(LARGEST + 1), "step": np.array(1)}
    proto = model(nodes, ["N", 3], **given)
    assert not fold_integers(proto.graph)
    assert len(proto.graph.node) == len(nodes)


def test_an_output_stays_the_output_of_a_node() -> None:
    proto = model([N("Add", ["one", "one"], ["two"]), N("Exp", ["x"], ["y"])], ["N", 3], one=np.array(1))
    proto.graph.output.append(helper.make_tensor_value_info("two", TensorProto.INT64, []))
    assert not fold_integers(proto.graph)


@pytest.mark.parametrize(("size", "folded"), [(LARGEST, True), (10**12, False)])
@pytest.mark.parametrize("op", ["Range", "ConstantOfShape"])
def test_what_would_be_large_is_not_made(op: str, size: int, folded: bool) -> None:
    zeros = {"value": numpy_helper.from_array(np.zeros(1, np.int64))} if op == "ConstantOfShape" else {}
    operands = ["zero", "size", "one"] if op == "Range" else ["sizes"]
    nodes = [N(op, operands, ["made"], **zeros), N("Gather", ["made", "zero"], ["g"]), N("Gather", ["x", "g"], ["y"])]
    sizes = {"zero": np.array(0), "one": np.array(1), "size": np.array(size), "sizes": np.array([size])}
    proto = model(nodes, ["N"], rank=0, **sizes)
    assert fold_integers(proto.graph) == folded
    assert [node.op_type for node in proto.graph.node] == (["Gather"] if folded else [op, "Gather", "Gather"])


def test_pads_that_an_exporter_turns_round_are_constants() -> None:
    nodes = [
        N("ConstantOfShape", ["four"], ["rest"], value=numpy_helper.from_array(np.zeros(1, np.int64))),
        N("Concat", ["given", "rest"], ["all"], axis=0),
        N("Reshape", ["all", "pairs"], ["rows"]),
        N("Slice", ["rows", "last", "least", "zero", "last"], ["turned"]),
        N("Transpose", ["turned"], ["columns"], perm=[1, 0]),
        N("Reshape", ["columns", "last"], ["pads"]),
        N("Pad", ["x", "pads"], ["y"], mode="reflect"),
    ]
    ints = {"four": [4], "given": [1, 2, 0, 1], "pairs": [-1, 2], "last": [-1], "least": [-(2**63)], "zero": [0]}
    prepared = prepare(model(nodes, ["N", 2, 5, 4], rank=4, **{name: np.array(v) for name, v in ints.items()}))
    assert [node.op_type for node in prepared.graph.node] == ["Pad"]
    pads = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in prepared.graph.initializer}["pads"]
    assert pads == [0, 0, 0, 1, 0, 0, 1, 2]

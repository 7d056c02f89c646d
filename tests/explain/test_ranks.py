"""Ranks that onnx's inference loses are found again; what is known or cannot be known is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from explain.prepare.ranks import state_ranks

N = helper.make_node
LOST = [N("Split", ["x", "sizes"], ["lost", "rest"], axis=1)]


def inferred(nodes: list[onnx.NodeProto], **constants: list[int]) -> onnx.ModelProto:
    """x [N, 4, M] and run-time sizes, after onnx's own inference."""
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, "M"]),
        helper.make_tensor_value_info("sizes", TensorProto.INT64, [2]),
    ]
    out = helper.make_empty_tensor_value_info("y")
    tensors = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "ranks", infos, [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return shape_inference.infer_shapes(model, data_prop=True)


def rank(model: onnx.ModelProto, name: str) -> int | None:
    for value in (*model.graph.value_info, *model.graph.output):
        if value.name == name and value.type.tensor_type.HasField("shape"):
            return len(value.type.tensor_type.shape.dim)
    return None


CASES = {
    "split": ([N("Neg", ["lost"], ["y"])], {}, 3),
    "broadcast": ([N("Add", ["x", "rest"], ["y"])], {}, 3),
    "unsqueeze": ([N("Unsqueeze", ["lost", "a"], ["y"])], {"a": [0, 1]}, 5),
    "squeeze": ([N("Squeeze", ["lost", "a"], ["y"])], {"a": [1]}, 2),
    "reduced": ([N("ReduceSum", ["lost", "a"], ["y"], keepdims=0)], {"a": [1, 2]}, 1),
    "kept": ([N("ReduceSum", ["lost", "a"], ["y"])], {"a": [1, 2]}, 3),
    "arg": ([N("ArgMax", ["lost"], ["y"], axis=1, keepdims=0)], {}, 2),
    "matmul": ([N("MatMul", ["lost", "x"], ["y"])], {}, 3),
    "gathered": ([N("Gather", ["lost", "i"], ["y"], axis=1)], {"i": [[0, 1], [1, 0]]}, 4),
    "expanded": ([N("Expand", ["lost", "a"], ["y"])], {"a": [1, 1, 1, 1]}, 4),
    "transformed": ([N("DFT", ["lost"], ["y"], axis=1)], {}, 3),
    "flattened": ([N("Flatten", ["lost"], ["y"])], {}, 2),
    "reshaped": (
        [
            N("Shape", ["lost"], ["s"]),
            N("Slice", ["s", "zero", "two", "zero"], ["front"]),
            N("Concat", ["front", "tail"], ["to"], axis=0),
            N("Reshape", ["lost", "to"], ["y"]),
        ],
        {"zero": [0], "two": [2], "tail": [2, -1]},
        4,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_lost_rank_is_found(name: str) -> None:
    nodes, constants, expected = CASES[name]
    model = inferred([*LOST, *nodes], **constants)
    assert rank(model, "lost") is None
    assert state_ranks(model.graph)
    model = shape_inference.infer_shapes(model, data_prop=True)
    onnx.checker.check_model(model, full_check=True)
    assert rank(model, "lost") == 3
    assert rank(model, "y") == expected


def test_what_is_known_is_left_alone() -> None:
    model = inferred([N("Neg", ["x"], ["y"])])
    before = model.SerializeToString(deterministic=True)
    assert not state_ranks(model.graph)
    assert model.SerializeToString(deterministic=True) == before


def test_what_cannot_be_known_stays_open() -> None:
    model = inferred([N("Shape", ["sizes"], ["s"]), N("Reshape", ["x", "sizes"], ["r"]), N("NonZero", ["r"], ["y"])])
    assert rank(model, "r") == 2
    infos = [helper.make_tensor_value_info("to", TensorProto.INT64, ["K"])]
    model.graph.input.extend(infos)
    model.graph.node.append(N("Reshape", ["x", "to"], ["free"]))
    state_ranks(model.graph)
    assert rank(model, "free") is None

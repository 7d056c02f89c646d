"""An `If` whose condition does not depend on what is sent is its branch; any other stays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import explain
from tests.explain.graphs import numbers, run, tensor

FLOAT = TensorProto.FLOAT


def branch(name: str, op: str, read: Sequence[str] = ("x",), extra: Sequence[onnx.NodeProto] = ()) -> onnx.GraphProto:
    """One operator on the outer x, under inner names that both branches use."""
    nodes = [*extra, helper.make_node(op, list(read), ["inner"])]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info("inner", FLOAT, None)])


def choosing(condition: Sequence[onnx.NodeProto], shape: Sequence[Any], **constants: Any) -> onnx.ModelProto:
    """y = tanh x where the condition holds, else exp x."""
    choice = helper.make_node("If", ["c"], ["z"], then_branch=branch("t", "Tanh"), else_branch=branch("e", "Exp"))
    nodes = [*condition, choice, helper.make_node("Mul", ["z", "z"], ["y"])]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [[helper.make_tensor_value_info(name, FLOAT, list(shape))] for name in "xy"]
    graph = helper.make_graph(nodes, "choosing", *ends, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def size_is(axis: int, size: int, compare: str = "Equal") -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """c = (size of an axis of x `compare` size)."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "axis"], ["a"]),
        helper.make_node(compare, ["a", "size"], ["c"]),
    ]
    return nodes, {"axis": np.array(axis), "size": np.array(size)}


def stays(model: onnx.ModelProto) -> bool:
    """Whether there still is an If when the model was prepared."""
    return any(node.op == "If" for node in explain.Model(model).graph.nodes)


def gradient(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    cotangent = np.ones_like(x)
    return run(explain.compile(model, "vjp"), {"x": x, "y.cotangent": cotangent})["x.gradient"]


def judged(x: np.ndarray, function: Any) -> np.ndarray:
    leaf = tensor(x).requires_grad_()
    (found,) = torch.autograd.grad((function(leaf) ** 2).sum(), leaf)
    return found.numpy()


@pytest.mark.parametrize(
    ("axis", "size", "compare", "function"),
    [
        (1, 4, "Equal", torch.tanh),
        (1, 1, "Equal", torch.exp),
        (1, 3, "Greater", torch.tanh),
        (0, 0, "Equal", torch.exp),  # an empty batch is not tried
    ],
)
def test_a_known_condition_is_its_branch(axis: int, size: int, compare: str, function: Any) -> None:
    nodes, constants = size_is(axis, size, compare)
    x = numbers(3, 4, seed=700)
    model = choosing(nodes, ["n", 4], **constants)
    np.testing.assert_allclose(gradient(model, x), judged(x, function), rtol=1e-5)


@pytest.mark.parametrize(("axis", "size", "compare"), [(0, 1, "Equal"), (0, 8, "Less"), (1, 1, "Equal")])
def test_a_condition_on_an_open_size_stays(axis: int, size: int, compare: str) -> None:
    nodes, constants = size_is(axis, size, compare)
    model = choosing(nodes, ["n", "t"], **constants)
    assert stays(model)


def test_two_open_sizes_are_not_one() -> None:
    parts = [helper.make_node("Gather", ["s", name], [f"{name}.size"]) for name in ("first", "second")]
    equal = helper.make_node("Equal", ["first.size", "second.size"], ["c"])
    nodes = [helper.make_node("Shape", ["x"], ["s"]), *parts, equal]
    given = {"first": np.array(1), "second": np.array(2)}
    assert stays(choosing(nodes, ["n", "h", "w"], **given))
    assert not stays(choosing(nodes, ["n", "h", "h"], **given))


def test_a_condition_on_values_stays() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
    ]
    assert stays(choosing(nodes, ["n", 4], zero=np.float32(0)))


def test_one_row_may_become_many() -> None:
    """A first axis of 1 may be that of the rows: then every size may be."""
    nodes, constants = size_is(1, 4)
    assert stays(choosing(nodes, [1, 4], **constants))


def test_a_branch_in_a_branch() -> None:
    inner = helper.make_node("If", ["c"], ["deep"], then_branch=branch("t", "Sin"), else_branch=branch("e", "Exp"))
    outer = helper.make_graph(
        [inner, helper.make_node("Neg", ["deep"], ["inner"])],
        "outer",
        [],
        [helper.make_tensor_value_info("inner", FLOAT, None)],
    )
    nodes, constants = size_is(1, 4)
    model = choosing(nodes, ["n", 4], **constants)
    (choice,) = (node for node in model.graph.node if node.op_type == "If")
    next(attribute for attribute in choice.attribute if attribute.name == "then_branch").g.CopyFrom(outer)
    x = numbers(3, 4, seed=701)
    np.testing.assert_allclose(gradient(model, x), judged(x, lambda leaf: -torch.sin(leaf)), rtol=1e-5)


class Squeezed(torch.nn.Module):
    """What an exporter that does not know the sizes makes conditions of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = torch.nn.functional.local_response_norm(x, 3)
        return normed.squeeze(2).mean(dim=2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [13, 17])
def test_what_the_older_exporter_makes_of_squeeze_and_local_response_norm(opset: int) -> None:
    file, network = io.BytesIO(), Squeezed()
    torch.onnx.export(
        network,
        (torch.randn(2, 8, 1, 5),),
        file,
        dynamo=False,
        opset_version=opset,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "n", 3: "w"}},
    )
    model = onnx.load_from_string(file.getvalue())
    assert any(node.op_type == "If" for node in model.graph.node)
    for width in (5, 7):
        x = numbers(3, 8, 1, width, seed=702)
        cotangent = numbers(3, 8, seed=703)
        found = run(explain.compile(model, "vjp"), {"x": x, "y.cotangent": cotangent})["x.gradient"]
        leaf = tensor(x).requires_grad_()
        (expected,) = torch.autograd.grad((network(leaf) * tensor(cotangent)).sum(), leaf)
        assert explain.gradient_error(found, expected.numpy()).max() <= 1e-5

"""The registry refuses what would go wrong silently: doubles, wrong signatures, operators nobody knows."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

import explain
from explain.emit import Emitter
from explain.graph import Graph, Node
from explain.registry import REGISTRY, Entry, Registry
from tests.explain.single import Const, case, check, numbers


def chain(*operators: str, domain: str = "", opset: int = 18) -> onnx.ModelProto:
    """x through each operator in turn."""
    names = ["x", *(f"v{i}" for i in range(1, len(operators))), "y"]
    nodes = [
        helper.make_node(
            op, [names[i]], [names[i + 1]], name=f"node_{op}", domain=domain if op == operators[-1] else ""
        )
        for i, op in enumerate(operators)
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(helper.make_graph(nodes, "chain", [x], [y]), opset_imports=opsets, ir_version=9)


def rule(emit: Emitter, node: Node, grad: str) -> str:
    return grad


def many_rule(emit: Emitter, node: Node, grads: list[str | None]) -> str | None:
    return grads[0]


def too_few(emit: Emitter, node: Node) -> None: ...


def swapped(node: Node, emit: Emitter, grad: str) -> None: ...


def too_many(emit: Emitter, node: Node, grad: str, more: str) -> None: ...


def test_an_operator_cannot_be_registered_twice() -> None:
    registry = Registry()
    registry.vjp("Relu")(rule)
    registry.stop("Floor")
    for again in (
        lambda: registry.vjp("Relu")(rule),
        lambda: registry.stop("Relu"),
        lambda: registry.vjp("Floor")(rule),
    ):
        with pytest.raises(explain.RegistrationError, match="is registered twice"):
            again()


def test_the_same_name_in_another_domain_is_another_operator() -> None:
    registry = Registry()
    registry.vjp("Relu")(rule)
    registry.vjp("Relu", domain="com.example")(rule)
    assert len(registry.rules) == 2


@pytest.mark.parametrize(
    ("wrong", "many"),
    [
        (too_few, False),
        (swapped, False),
        (too_many, False),
        (rule, True),
        (many_rule, False),
    ],
)
def test_a_wrong_signature_is_refused(wrong: Any, many: bool) -> None:
    registry = Registry()
    with pytest.raises(explain.RegistrationError, match=r"takes \(.*\), expected \('emit', 'node', 'grads?'\)"):
        registry.vjp("Relu", many=many)(wrong)
    assert registry.rules == {}


def test_a_rule_for_graphs_inside_is_told_of_the_walk() -> None:
    registry = Registry()
    with pytest.raises(explain.RegistrationError, match=r"expected \('emit', 'node', 'grads', 'within'\)"):
        registry.vjp("Loop", inside=True)(many_rule)
    assert registry.rules == {}


def test_a_missing_rule_names_operator_node_and_opset_and_how_many_are_known() -> None:
    with pytest.raises(explain.UnsupportedOperator) as caught:
        explain.compile(chain("Relu", "Wobble"), "vjp")
    error = caught.value
    assert (error.op, error.node, error.opset) == ("Wobble", "node_Wobble", 18)
    assert str(error) == (
        "operator Wobble (node 'node_Wobble', opset 18): no gradient rule for Wobble "
        f"({len(REGISTRY.rules)} operators have one)"
    )


def test_a_node_without_a_name_is_named_by_its_output() -> None:
    model = chain("Wobble")
    model.graph.node[0].ClearField("name")
    with pytest.raises(explain.UnsupportedOperator, match="node 'y'"):
        explain.compile(model, "vjp")


def test_an_operator_of_another_domain_is_named_with_it() -> None:
    model = chain("Relu", "QMoE", domain="com.microsoft")
    with pytest.raises(explain.UnsupportedOperator, match=r"no gradient rule for com\.microsoft::QMoE"):
        explain.compile(model, "vjp")


def test_what_the_registry_knows_and_what_carries() -> None:
    graph = Graph.of(chain("Relu", "Floor", "Wobble"))
    relu, floor, wobble = graph.nodes
    assert [REGISTRY.knows(node) for node in graph.nodes] == [True, True, False]
    assert [REGISTRY.carries(node) for node in (relu, floor, wobble)] == [True, False, True]


WRONG: list[tuple[str, Any, Any]] = [
    ("Exp", lambda emit, node, grad: emit.mul(grad, node.inputs[0]), torch.exp),
    ("Exp", lambda emit, node, grad: emit.neg(emit.mul(grad, node.outputs[0])), torch.exp),
    ("Exp", lambda emit, node, grad: emit.mul(grad, emit.mul(node.outputs[0], 1.01)), torch.exp),
]


@pytest.mark.parametrize(("op", "wrong", "judge"), WRONG)
def test_a_wrong_rule_is_caught(monkeypatch: pytest.MonkeyPatch, op: str, wrong: Any, judge: Any) -> None:
    subject = case(op, numbers(2, 3), judge=judge)
    check(subject)
    monkeypatch.setitem(REGISTRY.rules, ("", op), Entry(wrong))
    with pytest.raises((AssertionError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        check(subject)


def test_each_of_both_judges_alone_catches_a_wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(x: torch.Tensor) -> torch.Tensor:
        return x.exp() / 2 + (x.exp() / 2).detach()

    monkeypatch.setitem(
        REGISTRY.rules, ("", "Exp"), Entry(lambda emit, node, grad: emit.mul(grad, emit.mul(node.outputs[0], 0.5)))
    )
    with pytest.raises(AssertionError, match="against differences"):
        check(case("Exp", numbers(2, 3), judge=halved))
    with pytest.raises(AssertionError, match="against PyTorch"):
        check(case("Exp", numbers(2, 3), judge=torch.exp))


def test_a_judge_of_another_function_is_caught() -> None:
    with pytest.raises(AssertionError, match="forward value of the judge"):
        check(case("MatMul", numbers(2, 2), Const(numbers(2, 2)), judge=torch.mul))


def test_forgetting_to_sum_over_broadcast_axes_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = REGISTRY.rules["", "Mul"]
    monkeypatch.setitem(REGISTRY.rules, ("", "Mul"), Entry(entry.rule, None))
    with pytest.raises((AssertionError, Fail, onnx.shape_inference.InferenceError)):
        check(case("Mul", numbers(2, 3), numbers(3, seed=1), judge=torch.mul))

"""The reverse walk: accumulation, paths, zeros, broadcasting back, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, defs, helper, numpy_helper

import explain
from explain import backward as backward_module
from explain.backward import backward, differentiable_path
from explain.emit import Emitter
from explain.graph import Graph, Node
from explain.prepare import prepare
from explain.registry import Gradients, Registry
from tests.explain.single import gradients, numbers, session


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """Inputs and outputs as name -> shape (floats), or (element type, shape)."""

    def info(name: str, given: Any) -> onnx.ValueInfoProto:
        kind, shape = given if isinstance(given, tuple) else (TensorProto.FLOAT, given)
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        nodes,
        "walked",
        [info(*item) for item in inputs.items()],
        [info(*item) for item in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


X = numbers(3, 4).astype(np.float32)


def test_gradients_of_every_use_of_a_value_add_up() -> None:
    proto = model(
        [node("Exp", "x", "a"), node("Mul", "a x", "b"), node("Sub", "b a", "c"), node("Add", "c x", "y")],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
    )
    leaf = torch.tensor(X, requires_grad=True)
    (leaf.exp() * leaf - leaf.exp() + leaf).sum().backward()
    assert gradients(proto, {"x": X})["x"] == pytest.approx(leaf.grad.numpy(), rel=1e-5)


def test_one_value_as_both_operands() -> None:
    proto = model([node("MatMul", "x x", "y")], {"x": ["N", 4, 4]}, {"y": ["N", 4, 4]})
    leaf = torch.tensor(numbers(2, 4, 4), dtype=torch.float32, requires_grad=True)
    (leaf @ leaf).sum().backward()
    assert gradients(proto, {"x": leaf.detach().numpy()})["x"] == pytest.approx(leaf.grad.numpy(), abs=1e-4)


def test_branches_that_lead_nowhere_need_no_rule() -> None:
    proto = model(
        [node("Exp", "x", "y"), node("Wobble", "square", "z")],
        {"x": ["N", 4], "square": ["N", 2, 2]},
        {"y": ["N", 4], "z": ["N"]},
    )
    program = explain.compile(proto, "vjp", output="y")
    assert list(program.outputs) == ["x.gradient", "y", "z"]
    with pytest.raises(explain.UnsupportedOperator, match="no gradient rule for Wobble"):
        explain.compile(proto, "vjp", output="z")


def test_an_operator_before_the_values_asked_for_needs_no_rule() -> None:
    proto = prepare(model([node("Wobble", "x", "d"), node("Exp", "d", "y")], {"x": ["N", 2, 2]}, {"y": ["N"]}))
    graph, emit = Graph.of(proto), Emitter()
    emit.place(graph)
    assert set(backward(emit, graph, {"y": emit.take("seed", "float32")}, ["d"])) == {"d"}


def test_a_value_the_output_does_not_depend_on_gets_zeros() -> None:
    proto = prepare(
        model([node("Exp", "x", "y"), node("Neg", "w", "z")], {"x": ["N"], "w": ["N"]}, {"y": ["N"], "z": ["N"]})
    )
    graph, emit = Graph.of(proto), Emitter()
    emit.place(graph)
    found = backward(emit, graph, {"y": emit.take("seed", "float32")}, ["x", "w"])
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in ("x", "w", "seed")]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in found.values()]
    nodes, constants = emit.finish(found.values())
    built = helper.make_model(
        helper.make_graph(nodes, "both", infos, outs, constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    one = np.ones(3, np.float32)
    values = session(built).run(None, {"x": 0 * one, "seed": 2 * one, "w": one})
    assert [value.tolist() for value in values] == [[2, 2, 2], [0, 0, 0]]


def test_several_outputs_seeded_at_once() -> None:
    proto = prepare(
        model(
            [node("Split", "x", "a b", axis=1, num_outputs=2), node("Exp", "a", "y")],
            {"x": ["N", 4]},
            {"y": ["N", 2], "b": ["N", 2]},
        )
    )
    graph, emit = Graph.of(proto), Emitter()
    emit.place(graph)
    seeds = {"y": emit.take("seed.y", "float32"), "b": emit.take("seed.b", "float32")}
    name = backward(emit, graph, seeds, ["x"])["x"]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", None]) for n in ("x", "seed.y", "seed.b")]
    nodes, constants = emit.finish([name])
    out = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])
    built = helper.make_model(
        helper.make_graph(nodes, "two", infos, [out], constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    feeds = {"x": X, "seed.y": np.full((3, 2), 2, np.float32), "seed.b": np.full((3, 2), 5, np.float32)}
    assert session(built).run(None, feeds)[0] == pytest.approx(
        np.hstack([2 * np.exp(X[:, :2]), 0 * X[:, 2:] + 5]), rel=1e-5
    )


def test_a_value_in_the_middle_can_be_asked_for() -> None:
    graph = Graph.of(prepare(model([node("Exp", "x", "a"), node("Tanh", "a", "y")], {"x": ["N"]}, {"y": ["N"]})))
    assert differentiable_path(graph, ["a"], ["y"]) == {"a", "y"}
    assert differentiable_path(graph, ["x"], ["y"]) == {"x", "a", "y"}
    assert differentiable_path(graph, ["x"], ["a"]) == {"x", "a"}


def test_integers_and_steps_are_no_path() -> None:
    nodes = [
        node("Cast", "x", "i", to=TensorProto.INT64),
        node("Cast", "i", "f", to=TensorProto.FLOAT),
        node("Floor", "x", "s"),
    ]
    nodes += [node("Add", "f s", "y")]
    graph = Graph.of(prepare(model(nodes, {"x": ["N"]}, {"y": ["N"]})))
    assert differentiable_path(graph, ["x"], ["y"]) == set()


def test_an_integer_of_unknown_meaning_stands_in_the_way() -> None:
    nodes = [
        node("QuantizeLinear", "x scale zero", "q"),
        node("Neg", "q", "n"),
        node("DequantizeLinear", "n scale zero", "d"),
        node("Add", "x d", "y"),
    ]
    constants = {"scale": np.float32(0.1), "zero": np.int8(0)}
    proto = model(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, constants)
    with pytest.raises(explain.UnsupportedOperator, match="its bytes are read by Neg") as caught:
        explain.compile(proto, "vjp")
    assert caught.value.op == "QuantizeLinear"


def test_a_sequence_stands_in_the_way() -> None:
    nodes = [
        node("SplitToSequence", "x", "s", axis=1),
        node("ConcatFromSequence", "s", "c", axis=0),
        node("Add", "x c", "y"),
    ]
    proto = model(nodes, {"x": ["N", 4]}, {"y": ["N", 4]})
    with pytest.raises(explain.UnsupportedOperator, match="no gradient rule for ConcatFromSequence"):
        explain.compile(proto, "vjp")


def branch(op: str) -> onnx.GraphProto:
    """The body of an If that reads x of the graph around it."""
    out = helper.make_tensor_value_info("branch", TensorProto.FLOAT, ["N", 4])
    return helper.make_graph([node(op, "x", "branch")], op, [], [out])


@pytest.mark.parametrize("sure", [True, False])
def test_what_a_body_reads_from_outside_is_on_the_path(sure: bool) -> None:
    nodes = [node("If", "c", "i", then_branch=branch("Exp"), else_branch=branch("Neg"), name="fork")]
    nodes += [node("Add", "x i", "y")] if sure else [node("Identity", "i", "y")]
    proto = model(nodes, {"x": ["N", 4], "c": (TensorProto.BOOL, [])}, {"y": ["N", 4]})
    program = explain.compile(explain.Model(proto, batch_axes={"c": None}), "vjp")
    feeds = {"x": X[:1], "y.cotangent": np.ones((1, 4), np.float32)}
    for taken, slope in ((True, np.exp(X[:1])), (False, np.full((1, 4), -1.0))):
        (found,) = session(program.model).run(["x.gradient"], {**feeds, "c": np.array([taken])})
        assert found == pytest.approx(slope + sure, rel=1e-5)


BROADCASTS = [
    (["N", 4], [4]),
    ([4], ["N", 4]),
    (["N", 1], ["N", 4]),
    (["N", "a"], ["N", "b"]),
    (["N", 4], []),
    (["N", None], [None, None]),
]


@pytest.mark.parametrize("operands", BROADCASTS, ids=str)
def test_gradients_are_summed_over_the_axes_of_a_broadcast(operands: tuple[list[Any], list[Any]]) -> None:
    sizes = {"N": 3, "a": 1, "b": 4, None: 3}
    arrays = [
        numbers(*(d if isinstance(d, int) else sizes[d] for d in shape), seed=i).astype(np.float32)
        for i, shape in enumerate(operands)
    ]
    rank = max(map(len, operands))
    proto = model(
        [node("Mul", "l r", "m"), node("Exp", "m", "y")], dict(zip("lr", operands, strict=True)), {"y": [None] * rank}
    )
    handle = explain.Model(
        proto, batch_axes={name: None for name, shape in zip("lr", operands, strict=True) if "N" not in shape}
    )
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    (leaves[0] * leaves[1]).exp().sum().backward()
    single = [array if handle.batch_axis(name) == 0 else array[None] for name, array in zip("lr", arrays, strict=True)]
    found = gradients(handle, dict(zip("lr", single, strict=True)))
    for name, array, leaf in zip("lr", single, leaves, strict=True):
        assert found[name].reshape(leaf.shape) == pytest.approx(leaf.grad.numpy(), rel=1e-4), name
        assert found[name].shape == array.shape


def giving(count: int, **options: Any) -> Registry:
    """A registry whose rule for Mul gives the adjoint itself, `count` times."""

    def rule(emit: Emitter, node: Node, grad: str) -> Gradients:
        return (grad,) * count

    registry = Registry()
    registry.vjp("Mul", **options)(rule)
    return registry


def walk(registry: Registry, rank_known: bool = True) -> dict[str, str]:
    proto = prepare(model([node("Mul", "x w", "y", name="product")], {"x": ["N"], "w": ["N"]}, {"y": ["N"]}))
    graph, emit = Graph.of(proto), Emitter()
    emit.place(graph)
    if not rank_known:
        del graph.types["y"]
    return backward(emit, graph, {"y": emit.take("seed", "float32")}, ["x", "w"], registry)


def test_a_rule_must_give_a_gradient_for_every_input_on_the_path() -> None:
    with pytest.raises(
        explain.UnsupportedOperator, match=r"Mul \(node 'product', opset 18\).*input 'w' is not covered"
    ):
        walk(giving(1))


def test_a_rule_must_not_give_more_gradients_than_inputs() -> None:
    with pytest.raises(explain.UnsupportedOperator, match="its rule gave 3 gradients for 2 inputs"):
        walk(giving(3))


def test_an_unknown_rank_is_refused_by_name() -> None:
    with pytest.raises(explain.UnsupportedOperator, match="the rank of 'x' could not be inferred"):
        walk(giving(2, broadcasts="all"), rank_known=False)


def test_the_walk_names_no_operator() -> None:
    source = Path(backward_module.__file__ or "").read_text()
    named = {schema.name for schema in defs.get_all_schemas() if f'"{schema.name}"' in source}
    assert named == set()

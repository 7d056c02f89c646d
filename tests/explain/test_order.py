"""Nodes in any order become nodes in the order in which they are computed."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import helper

import explain
from explain.prepare.order import sort_nodes
from tests.explain.graphs import made, numbers, run, session

NODES = [("Add", ["x", "w"], ["a"]), ("Neg", ["a"], ["b"]), ("Tanh", ["a"], ["c"]), ("Mul", ["b", "c"], ["y"])]


def in_order(graph: onnx.GraphProto) -> bool:
    known = {value.name for value in (*graph.input, *graph.initializer)}
    for node in graph.node:
        if not known.issuperset(node.input):
            return False
        known.update(node.output)
    return True


def model(order: tuple[int, ...]) -> onnx.ModelProto:
    w = {"w": numbers(3, seed=2100)}
    proto = made(NODES, {"x": ("float32", ["n", 3])}, {"y": ("float32", ["n", 3])}, w)
    nodes = [proto.graph.node[place] for place in order]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(copies)
    return proto


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_any_order_gives_a_program(order: tuple[int, ...]) -> None:
    x, proto = numbers(2, 3, seed=2101), model(order)
    before = proto.SerializeToString()
    found = run(explain.compile(proto, "forward"), {"x": x})["y"]
    assert proto.SerializeToString() == before
    (expected,) = session(before).run(None, {"x": x})  # the runtime minds no order
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    sort_nodes(proto.graph)
    assert in_order(proto.graph)


def test_what_is_in_order_stays_as_it_is() -> None:
    proto = model((0, 2, 1, 3))
    sort_nodes(proto.graph)
    assert [node.op_type for node in proto.graph.node] == ["Add", "Tanh", "Neg", "Mul"]
    assert in_order(proto.graph)
    assert not in_order(model((1, 0, 2, 3)).graph)


def test_a_long_chain_the_wrong_way_round_and_a_circle() -> None:
    chain = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(5000)]
    graph = helper.make_graph(chain[::-1], "g", [helper.make_empty_tensor_value_info("v0")], [])
    sort_nodes(graph)
    assert list(graph.node) == chain
    circle = [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["a"])]
    graph = helper.make_graph(circle, "g", [], [])
    sort_nodes(graph)
    assert sorted(node.input[0] for node in graph.node) == ["a", "b"]

"""The read side: types, constants, producers, reach, and the same nodes under other names."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import explain
from explain.dtypes import UNKNOWN, Type, elem_type
from explain.graph import Graph, reads
from explain.prepare import prepare
from tests.explain.single import session

N = helper.make_node


def forked() -> onnx.ModelProto:
    """y = relu(x w) where a body reads `h` and `w` from outside; z does not depend on x."""
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    bodies = [
        helper.make_graph([N("Relu", ["h"], ["t"]), N("Identity", ["t"], ["inner"])], "then", [], [out]),
        helper.make_graph([N("MatMul", ["h", "w"], ["inner"])], "else", [], [out]),
    ]
    nodes = [
        N("MatMul", ["x", "w"], ["h"], name="product"),
        N("If", ["c"], ["f"], then_branch=bodies[0], else_branch=bodies[1], name="fork"),
        N("Identity", ["f"], ["y"]),
        N("Neg", ["u"], ["z"], name="beside"),
    ]
    infos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        helper.make_tensor_value_info("u", TensorProto.FLOAT, [None]),
    ]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("y", ["N", 3]), ("z", [None]))]
    weight = numpy_helper.from_array(2 * np.eye(3, dtype=np.float32), "w")
    graph = helper.make_graph(nodes, "forked", infos, outs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def graph() -> Graph:
    return Graph.of(prepare(forked()))


def test_types_of_inputs_outputs_and_values(graph: Graph) -> None:
    assert graph.inputs == {"x": Type("float32", ("N", 3)), "c": Type("bool", ()), "u": Type("float32", (None,))}
    assert list(graph.outputs) == ["y", "z"]
    assert graph.type("h") == Type("float32", ("N", 3))
    assert graph.type("w") == Type("float32", (3, 3))
    assert graph.type("nothing") is UNKNOWN
    assert [graph.type(name).is_float for name in "xc"] == [True, False]


def test_nodes_see_their_attributes_inputs_and_ranks(graph: Graph) -> None:
    product = graph.producers["h"]
    assert (product.op, product.name, product.inputs, product.outputs) == ("MatMul", "product", ("x", "w"), ("h",))
    assert (product.rank(), product.rank(1), product.output_rank()) == (2, 2, 2)
    assert product.attr("alpha", 7) == 7
    assert (product.input(1), product.input(2)) == ("w", "")
    assert product.constant(0) is None
    assert np.array_equal(product.constant(1), 2 * np.eye(3))


def test_an_unknown_rank_is_refused_with_the_node(graph: Graph) -> None:
    node = graph.producers["h"]
    with pytest.raises(
        explain.UnsupportedOperator, match=r"MatMul \(node 'product', opset 18\): the rank of 'v' could"
    ):
        node.known_rank("v")


def test_bodies_read_values_from_outside(graph: Graph) -> None:
    fork = graph.producers["f"]
    assert set(reads(fork.proto)) == {"c", "h", "w"}
    assert {node.name for node in graph.consumers["h"]} == {"fork"}
    assert {node.name for node in graph.consumers["w"]} == {"product", "fork"}


def test_reach_goes_through_bodies(graph: Graph) -> None:
    assert graph.downstream(["x"]) == {"x", "h", "f", "y"}
    assert graph.upstream(["y"]) == {"y", "f", "c", "h", "w", "x"}
    assert graph.downstream(["x"], through=lambda node: node.op != "If") == {"x", "h"}


def test_a_bound_graph_has_other_names_and_the_same_constants(graph: Graph) -> None:
    bound = graph.bind({"x": "item"}, prefix="copy/")
    assert bound.now("h") == "copy/h"
    assert bound.now("x") == "item"
    assert list(bound.constants) == ["w"]
    assert bound.producers["copy/h"].inputs == ("item", "w")
    assert set(reads(bound.producers["copy/f"].proto)) == {"c", "copy/h", "w"}
    assert bound.type("copy/h") == graph.type("h")


def test_values_from_outside_leave_their_nodes_out(graph: Graph) -> None:
    bound = graph.bind({"h": "given"})
    assert "product" not in {node.name for node in bound.nodes}
    assert set(reads(bound.producers["f"].proto)) == {"c", "given", "w"}


def test_only_the_nodes_that_are_kept_are_placed(graph: Graph) -> None:
    bound = graph.bind({}, keep=graph.upstream(["h"]))
    assert [node.op for node in bound.nodes] == ["MatMul"]


def test_names_to_avoid_are_given_up(graph: Graph) -> None:
    bound = graph.bind({}, avoid={"h", "w"})
    assert bound.now("h") == "model.h"
    assert bound.producers["model.h"].inputs == ("x", "model.w")
    assert [tensor.name for tensor in bound.constants.values()] == ["model.w"]
    assert graph.constants["w"].name == "w"


@pytest.mark.parametrize("choice", [True, False])
def test_a_bound_graph_computes_the_same(graph: Graph, choice: bool) -> None:
    bound = graph.bind({"x": "item"}, prefix="copy/", avoid={"w"})
    nodes = [node.proto for node in bound.nodes if node.op != "Neg"]
    infos = [
        helper.make_tensor_value_info("item", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("c", TensorProto.BOOL, []),
    ]
    outs = [helper.make_tensor_value_info("copy/y", TensorProto.FLOAT, ["N", 3])]
    built = helper.make_model(
        helper.make_graph(nodes, "bound", infos, outs, bound.constants.values()),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    x = np.array([[1.0, -2.0, 3.0]], np.float32)
    found = session(built).run(None, {"item": x, "c": np.array(choice)})[0]
    assert found.tolist() == (np.maximum(2 * x, 0) if choice else 4 * x).tolist()


KINDS: list[tuple[str, Any]] = [
    ("float32", TensorProto.FLOAT),
    ("float64", TensorProto.DOUBLE),
    ("float16", TensorProto.FLOAT16),
    ("bfloat16", TensorProto.BFLOAT16),
    ("int64", TensorProto.INT64),
    ("int8", TensorProto.INT8),
    ("uint8", TensorProto.UINT8),
    ("bool", TensorProto.BOOL),
    ("string", TensorProto.STRING),
]


@pytest.mark.parametrize(("dtype", "kind"), KINDS)
def test_dtypes_have_names_both_ways(dtype: str, kind: int) -> None:
    x = helper.make_tensor_value_info("x", kind, ["N", None, 3])
    graph = helper.make_graph(
        [N("Identity", ["x"], ["y"])], "same", [x], [helper.make_tensor_value_info("y", kind, None)]
    )
    view = Graph.of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    assert view.inputs["x"] == Type(dtype, ("N", None, 3))
    assert view.outputs["y"] == Type(dtype, None)
    assert elem_type(dtype) == kind


def test_a_sequence_is_no_float_and_has_no_shape() -> None:
    x = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [])
    graph = helper.make_graph([N("SequenceLength", ["x"], ["y"])], "length", [x], [y])
    kind = Graph.of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])).inputs["x"]
    assert kind.shape is None
    assert not kind.is_float


def test_the_opset_is_that_of_the_default_domain() -> None:
    model = forked()
    assert Graph.of(model).opset == 18
    model.opset_import.insert(0, helper.make_opsetid("ai.onnx.ml", 3))
    model.opset_import[1].version = 17
    assert Graph.of(model).opset == 17

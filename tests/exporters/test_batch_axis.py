"""The batch axis is found by running the model; where rows cannot be joined, that is said and they are not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporters import InvalidImport
from exporters.batch_axis import find_batch_axes

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
W = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
X = ("x", (FLOAT, [1, 3]))


def found_in(model, engine, **more):
    return find_batch_axes(model.SerializeToString(), engine, **more)


def mlp(made, batch):
    nodes = [("MatMul", "xw", "h", {}), ("Relu", "h", "r", {}), ("Softmax", "r", "y", {"axis": -1})]
    return made(nodes, {"x": (FLOAT, [batch, 3])}, {"y": (FLOAT, [batch, 4])}, {"w": W})


def test_a_fixed_batch_of_one_is_made_free(made, engine):
    found = found_in(mlp(made, 1), engine)
    assert (found.axes, found.reason, found.relaxed) == ({"x": 0, "y": 0}, None, True)
    assert found.shapes == {"x": ["N", 3], "y": ["N", 4]}
    read = onnx.load_model_from_string(found.model)
    assert read.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert list(read.graph.node) == list(mlp(made, 1).graph.node)
    onnx.checker.check_model(read, full_check=True)


def test_a_free_batch_is_left_as_it_came(made, engine):
    model = mlp(made, "rows")
    found = found_in(model, engine)
    assert (found.axes, found.relaxed) == ({"x": 0, "y": 0}, False)
    assert found.model == model.SerializeToString()


def test_a_constant_batch_inside_the_graph_means_row_by_row(made, engine):
    """The declared 1 could be relaxed, the one inside the Reshape cannot."""
    nodes = [("Reshape", ["x", "shape"], "f", {}), ("MatMul", "fw", "y", {})]
    weights = {"shape": np.array([1, 3]), "w": W}
    found = found_in(made(nodes, {"x": (FLOAT, [1, 1, 3])}, {"y": (FLOAT, [1, 4])}, weights), engine)
    assert found.axes == {"x": 0, "y": 0}
    assert "does not run with several rows" in found.reason
    assert not found.relaxed


def test_a_time_major_model_has_its_batch_on_axis_one(made, engine):
    """The last state over time: axis 0 is summed over, so only axis 1 passes the test."""
    nodes = [
        ("CumSum", ["x", "zero"], "c", {}),
        ("MatMul", "cw", "h", {}),
        ("ReduceSum", ["h", "axes"], "y", {"keepdims": 0}),
    ]
    weights = {"zero": np.array(0), "w": W, "axes": np.array([0])}
    found = found_in(made(nodes, {"x": (FLOAT, ["T", "B", 3])}, {"y": (FLOAT, ["B", 4])}, weights), engine)
    assert (found.axes, found.reason) == ({"x": 1, "y": 0}, None)
    assert found.shapes == {"x": ["T", "N", 3], "y": ["N", 4]}


def test_an_lstm_is_found_time_major_with_all_its_outputs(made, engine):
    random = np.random.default_rng(1)
    weights = {
        "w": random.normal(size=(1, 8, 3)).astype(np.float32),
        "r": random.normal(size=(1, 8, 2)).astype(np.float32),
    }
    nodes = [("LSTM", ["x", "w", "r"], ["y", "last"], {"hidden_size": 2})]
    outputs = {"y": (FLOAT, ["T", 1, 1, 2]), "last": (FLOAT, [1, 1, 2])}
    found = found_in(made(nodes, {"x": (FLOAT, ["T", 1, 3])}, outputs, weights), engine)
    assert (found.axes, found.relaxed) == ({"x": 1, "y": 2, "last": 1}, True)


def test_a_model_without_a_batch_axis_is_one_item(made, engine):
    nodes = [("MatMul", "xw", "y", {})]
    found = found_in(made(nodes, {"x": (FLOAT, [3])}, {"y": (FLOAT, [4])}, {"w": W}), engine)
    assert found.axes == {"x": None, "y": None}
    assert "no input has an axis that could count rows" in found.reason


def test_two_inputs_are_stacked_together(made, engine):
    nodes = [
        ("Gather", ["table", "codes"], "e", {"axis": 0}),
        ("Concat", "xe", ["both"], {"axis": 1}),
        ("Tanh", ["both"], "y", {}),
    ]
    table = np.arange(10, dtype=np.float32).reshape(5, 2)
    inputs = {"x": (FLOAT, ["n", 3]), "codes": (INT64, ["n"])}
    found = found_in(made(nodes, inputs, {"y": (FLOAT, ["n", 5])}, {"table": table}), engine)
    assert (found.axes, found.reason) == ({"x": 0, "codes": 0, "y": 0}, None)


def test_inputs_may_have_their_batch_on_different_axes(made, engine):
    nodes = [("Transpose", "a", "t", {"perm": [1, 0]}), ("Add", "tb", "y", {})]
    inputs = {"a": (FLOAT, [3, "n"]), "b": (FLOAT, ["n", 3])}
    found = found_in(made(nodes, inputs, {"y": (FLOAT, ["n", 3])}), engine)
    assert (found.axes, found.reason) == ({"a": 1, "b": 0, "y": 0}, None)


def test_rows_that_influence_each_other_are_not_joined(made, engine):
    nodes = [("Softmax", ["x"], "y", {"axis": 0})]
    found = found_in(made(nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])}), engine)
    assert found.axes == {"x": 0, "y": 0}
    assert "output 'y' of a row changes with the other rows of its batch" in found.reason


def test_an_output_that_sums_over_the_rows_is_seen(made, engine):
    nodes = [("ReduceSum", ["x", "axes"], "y", {"keepdims": 0})]
    found = found_in(made(nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, [3])}, {"axes": np.array([0])}), engine)
    assert "no axis that grows with the number of rows" in found.reason


def test_a_small_influence_is_still_seen(made, engine):
    """A hundredth of the batch's mean, added to every row."""
    nodes = [
        ("ReduceMean", ["x", "axes"], "m", {"keepdims": 1}),
        ("Mul", ["m", "little"], "s", {}),
        ("Add", "xs", "y", {}),
    ]
    weights = {"axes": np.array([0]), "little": np.float32(0.01).reshape(())}
    found = found_in(made(nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])}, weights), engine)
    assert "changes with the other rows" in found.reason


def test_text_outputs_are_left_alone(made, engine):
    nodes = [
        ("Softmax", ["x"], "y", {"axis": 1}),
        ("ArgMax", ["x"], "i", {"axis": 1, "keepdims": 0}),
        ("Gather", ["names", "i"], "s", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(op, list(given), [made_], **rest) for op, given, made_, rest in nodes],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 3])],
        [
            helper.make_tensor_value_info("s", TensorProto.STRING, ["n"]),
            helper.make_tensor_value_info("y", FLOAT, ["n", 3]),
        ],
        [helper.make_tensor("names", TensorProto.STRING, [3], [b"a", b"b", b"c"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    assert find_batch_axes(model.SerializeToString(), engine).axes == {"x": 0, "y": 0}


def test_a_model_that_does_not_run_at_all_is_refused(made, engine):
    nodes = [("Gather", ["table", "codes"], "y", {})]
    table = np.zeros((1, 2), np.float32)
    model = made(nodes, {"codes": (INT64, ["n", 64])}, {"y": (FLOAT, ["n", 64, 2])}, {"table": table})
    with pytest.raises(InvalidImport, match="does not run on one row"):
        found_in(model, engine)
    rows = {"codes": np.zeros((2, 64), np.int64)}
    assert found_in(model, engine, rows=rows).axes == {"codes": 0, "y": 0}


def test_a_branch_that_values_decide_means_row_by_row(engine):
    """The rows that are tried would all take the same branch."""
    text = """<ir_version: 8, opset_import: ["" : 18]> g (float[n, 3] x) => (float[n, 3] y) {
        most = ReduceMax <keepdims = 0> (x)
        c = Greater (most, much)
        y = If <then_branch = t () => (float[n, 3] o) { o = Exp (x) },
                else_branch = e () => (float[n, 3] o) { o = Neg (x) }> (c)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1000), "much"))
    found = found_in(model, engine)
    assert found.reason == "the values of an item decide which branch If (node 'y') takes"
    assert found.axes == {"x": 0, "y": 0}

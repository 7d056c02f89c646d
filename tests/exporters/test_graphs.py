"""Traces are removed wherever they hide, and what is not ONNX does not leave."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import InvalidExport
from exporters.graphs import finished, strip

SECRET = "made by someone in /some/where"


def marked():
    """A model with a subgraph and a function, and a trace on everything that can carry one."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["inner"], doc_string=SECRET)],
        "inner",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["N", 2], doc_string=SECRET)],
        [numpy_helper.from_array(np.ones(2, np.float32), "one")],
        doc_string=SECRET,
    )
    inner.initializer[0].doc_string = SECRET
    branch = helper.make_node("If", ["yes"], ["a"], then_branch=inner, else_branch=inner, doc_string=SECRET)
    function = helper.make_function(
        "own", "Twice", ["v"], ["w"], [helper.make_node("Add", ["v", "v"], ["w"])], [helper.make_opsetid("", 18)]
    )
    function.doc_string = SECRET
    function.node[0].doc_string = SECRET
    graph = helper.make_graph(
        [branch, helper.make_node("Twice", ["a"], ["y"], domain="own")],
        "outer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2], doc_string=SECRET)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.array(True), "yes")],
    )
    graph.node[0].metadata_props.add(key="where", value=SECRET)
    graph.metadata_props.add(key="where", value=SECRET)
    model = helper.make_model(
        graph, functions=[function], opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    )
    model.doc_string = SECRET
    model.metadata_props.add(key="where", value=SECRET)
    model.ir_version = 12
    return model


def test_traces_go_from_everywhere_and_nothing_else_does():
    before, clean = marked(), onnx.load_model_from_string(finished(marked()))
    assert before.SerializeToString().count(SECRET.encode()) >= 12
    assert SECRET.encode() not in clean.SerializeToString()
    assert clean.ir_version == 10
    strip(before)
    before.ir_version = 10
    assert clean == before


def test_the_model_handed_over_is_not_changed():
    model = marked()
    finished(model)
    assert model == marked()


def test_an_invalid_graph_does_not_leave():
    model = marked()
    model.graph.node[0].input[0] = "nobody"
    with pytest.raises(InvalidExport, match="not valid ONNX"):
        finished(model)

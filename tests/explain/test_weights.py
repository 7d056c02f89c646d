"""While a model is prepared its large constants are inputs; afterwards they are what they were."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import explain
from explain.prepare import prepare
from explain.weights import LARGE, weights, without_weights


def model(listed: bool = False) -> onnx.ModelProto:
    """y = (x W) + c with W large, c small, and a large vector from a Constant node added."""
    w = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    big = numpy_helper.from_array(np.linspace(0, 1, LARGE + 1, dtype=np.float32)[:64].repeat(32).reshape(32, 64), "v")
    nodes = [
        helper.make_node("Constant", [], ["v"], value=big),
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "c"], ["a"]),
        helper.make_node("Add", ["a", "v"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])]
    inputs += [helper.make_tensor_value_info("w", TensorProto.FLOAT, [64, 64])] if listed else []
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])]
    constants = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.ones(64, np.float32), "c")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=3 if listed else 8)


def test_large_constants_are_typed_inputs_meanwhile() -> None:
    light, taken = without_weights(model())
    assert [tensor.name for tensor in taken] == ["w", "v"]
    assert [tensor.name for tensor in light.graph.initializer] == ["c"]
    assert [value.name for value in light.graph.input] == ["x", "w", "v"]
    assert light.ByteSize() < 2048
    onnx.checker.check_model(light, full_check=True)


def test_an_input_is_not_listed_twice() -> None:
    light, _ = without_weights(model(listed=True))
    assert [value.name for value in light.graph.input] == ["x", "w", "v"]


def test_a_prepared_model_has_its_weights_again() -> None:
    for listed in (False, True):
        source = model(listed)
        before = source.SerializeToString(deterministic=True)
        ready = prepare(source)
        assert source.SerializeToString(deterministic=True) == before
        assert [value.name for value in ready.graph.input] == ["x"]
        found = {tensor.name: numpy_helper.to_array(tensor) for tensor in ready.graph.initializer}
        assert set(found) == {"w", "c", "v"}
        assert np.array_equal(found["w"], numpy_helper.to_array(source.graph.initializer[0]))
        onnx.checker.check_model(ready, full_check=True)


def test_the_copy_keeps_every_field_but_the_weights() -> None:
    source = model()
    source.doc_string, source.producer_name = "of what it is", "somebody"
    source.metadata_props.add(key="k", value="v")
    light, _ = without_weights(source)
    for name in ("doc_string", "producer_name", "ir_version", "metadata_props", "opset_import"):
        assert getattr(light, name) == getattr(source, name)


def test_constants_to_share_are_those_that_are_read_as_they_are() -> None:
    """A table of embeddings is in the served file and in every program; a matrix that is packed is in neither list."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["m"]),
        helper.make_node("Tanh", ["m"], ["t"]),
        helper.make_node("ReduceSum", ["t", "one"], ["y"], keepdims=0),
    ]
    table, w = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    held = [numpy_helper.from_array(a, name) for name, a in {"table": table, "w": w, "one": np.array([1])}.items()]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", "T"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 64])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, held)
    served = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert list(weights(served.SerializeToString())) == ["table"]
    for program in ("forward", "vjp", "path_gradient", "masked_forward"):
        compiled = explain.compile(served, program)
        assert list(compiled.constants(compiled.serialize())) == ["table"]
        np.testing.assert_array_equal(compiled.constants(compiled.serialize())["table"], table)


def test_an_input_that_has_a_default_is_no_constant_to_share() -> None:
    assert weights(model(listed=True).SerializeToString()) == {}


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(explain.InvalidModel):
        weights(b"\xff\xff nothing")

"""The write side: operands, dtypes, shared nodes, fresh names, and only what is needed in the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from explain.dtypes import elem_type
from explain.emit import Emitter
from tests.explain.single import session


def emitter(**values: str) -> Emitter:
    """An emitter with outside values by name, dtype each."""
    emit = Emitter()
    for name, dtype in values.items():
        emit.take(name, dtype)
    return emit


def evaluate(emit: Emitter, value: str, feeds: dict[str, Any]) -> np.ndarray:
    arrays = {name: np.asarray(array) for name, array in feeds.items()}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in arrays.items()
    ]
    nodes, constants = emit.finish([value])
    out = helper.make_empty_tensor_value_info(value)
    graph = helper.make_graph(nodes, "emitted", infos, [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    assert model.graph.output[0].type.tensor_type.elem_type == elem_type(emit.dtype(value))
    onnx.checker.check_model(model, full_check=True)
    return np.asarray(session(model).run(None, arrays)[0])


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_an_operator_is_spelled_in_snake_case() -> None:
    emit = emitter(x="float32")
    assert evaluate(emit, emit.reduce_sum(emit.mul("x", 3.0), [0], keepdims=0), {"x": floats(1, 2)}) == 9
    emit.conv_transpose("x", "x")
    emit.logical_not(emit.greater("x", 0.0))
    emit.lrn("x", size=3)
    assert [node.op_type for node in emit.nodes][-4:] == ["ConvTranspose", "Greater", "Not", "LRN"]


def test_an_operator_nobody_knows_is_refused() -> None:
    with pytest.raises(AttributeError, match="no ONNX operator is called 'wobble'"):
        emitter().wobble("x")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_number_takes_the_dtype_of_the_tensor_beside_it(dtype: str) -> None:
    emit = emitter(x=dtype)
    doubled = emit.add(2.0, emit.mul("x", 2.0))
    assert emit.dtype(doubled) == dtype
    assert {numpy_helper.to_array(tensor).dtype.name for tensor in emit.constants.values()} == {dtype}


def test_integers_lists_and_arrays_are_constants_of_their_own() -> None:
    emit = emitter(x="float32")
    names = [emit.operand(value, "x") for value in (3, [1, 2], np.array(1.5, np.float64), True)]
    arrays = [numpy_helper.to_array(emit.constants[name]) for name in names]
    assert [(a.dtype.name, a.shape) for a in arrays] == [("int64", ()), ("int64", (2,)), ("float64", ()), ("bool", ())]


def test_equal_nodes_and_constants_are_one() -> None:
    emit = emitter(x="float32")
    assert emit.mul("x", 2.0) == emit.mul("x", 2.0)
    assert emit.sum("x", "x") != emit.mul("x", "x")
    assert emit.reduce_sum("x", [0], keepdims=1) != emit.reduce_sum("x", [0], keepdims=0)
    assert emit.reduce_sum("x", [0]) == emit.reduce_sum("x", [0], keepdims=None)
    assert len(emit.constants) == 2


def test_constants_that_differ_in_dtype_or_shape_are_two() -> None:
    emit = emitter()
    given = [np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros((1, 1), np.float32), np.array(0.0, np.float32)]
    assert len({emit.constant(array) for array in given}) == 4


def test_names_that_are_taken_are_not_given_again() -> None:
    emit = Emitter(["mul.1", "constant.2"])
    emit.take("x", "float32")
    names = {emit.mul("x", "x"), emit.constant(np.array(1)), emit.fresh("Mul")}
    assert len(names) == 3
    assert not names & {"mul.1", "constant.2", "x"}


DTYPES = [
    (lambda e: e.greater("x", 0.0), "bool"),
    (lambda e: e.logical_and("b", "b"), "bool"),
    (lambda e: e.shape("x"), "int64"),
    (lambda e: e.non_zero("x"), "int64"),
    (lambda e: e.cast("i", to=TensorProto.FLOAT16), "float16"),
    (lambda e: e.where("b", "x", "x"), "float64"),
    (lambda e: e.zeros_like("x"), "float64"),
    (lambda e: e.cast_like_value("i", "x"), "float64"),
    (lambda e: e.one_hot("i", 3, np.zeros(2, np.float32)), "float32"),
    (lambda e: e.gather("x", "i"), "float64"),
    (lambda e: e.arange(e.dim("x", 0)), "int64"),
]


@pytest.mark.parametrize(("make", "dtype"), DTYPES)
def test_dtypes_are_followed_through_the_nodes(make: Any, dtype: str) -> None:
    emit = emitter(x="float64", i="int64", b="bool")
    assert emit.dtype(make(emit)) == dtype


def test_a_cast_that_changes_nothing_is_left_out() -> None:
    emit = emitter(x="float32")
    assert emit.cast_to("x", "float32") == "x"
    assert emit.cast_to("x", "float64") != "x"


def test_sizes_are_read_at_run_time() -> None:
    emit = emitter(x="float32")
    x = np.zeros((2, 3, 5), np.float32)
    for value, expected in [
        (emit.dim("x", 1), [3]),
        (emit.dim("x", -1), [5]),
        (emit.dims("x", 1), [3, 5]),
        (emit.dims("x", 0, 2), [2, 3]),
        (emit.join(emit.dim("x", 0), 1, emit.dims("x", 1), -1), [2, 1, 3, 5, -1]),
        (emit.arange(emit.dim("x", 1)), [0, 1, 2]),
    ]:
        assert evaluate(emit, value, {"x": x}).tolist() == expected


def test_parts_of_a_split() -> None:
    emit = emitter(x="float32")
    parts = emit.split("x", [1, 2], 2, axis=0)
    assert [evaluate(emit, part, {"x": floats(1, 2, 3)}).tolist() for part in parts] == [[1], [2, 3]]


def test_zeros_have_the_shape_and_dtype_of_another_value() -> None:
    emit = emitter(x="float64")
    found = evaluate(emit, emit.zeros_like("x"), {"x": np.ones((2, 3))})
    assert found.dtype == np.float64
    assert found.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_what_nothing_reads_is_dropped() -> None:
    emit = emitter(x="float32")
    kept = emit.exp("x")
    emit.mul(kept, 2.0)
    nodes, constants = emit.finish([kept])
    assert [node.op_type for node in nodes] == ["Exp"]
    assert constants == []


def test_nodes_stay_in_order() -> None:
    emit = emitter(x="float32")
    value = "x"
    for _ in range(4):
        value = emit.tanh(emit.add(value, 1.0))
    nodes, _ = emit.finish([value])
    seen = {"x", *emit.constants}
    for node in nodes:
        assert seen.issuperset(node.input)
        seen.update(node.output)


@pytest.mark.parametrize("fed", [False, True])
def test_padding_some_axes_survives_a_transpose_that_the_runtime_moves(fed: bool) -> None:
    emit, x = emitter(x="float32", pads="int64"), np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    pads = [1, 0, -1, 2]
    turned = emit.transpose("x", perm=[0, 2, 3, 1])
    padded = emit.pad_along(turned, "pads" if fed else pads, [2, 1], 4, 0.5)
    feeds = {"x": x, "pads": np.array(pads)} if fed else {"x": x}
    found = evaluate(emit, emit.transpose(padded, perm=[0, 3, 1, 2]), feeds)
    np.testing.assert_array_equal(found, np.pad(x, [(0, 0), (0, 0), (0, 2), (1, 0)], constant_values=0.5)[..., :-1])

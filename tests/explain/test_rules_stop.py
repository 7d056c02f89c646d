"""Operators that end a gradient: y = x * k(x), where k is made by the operator, has the gradient k and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import explain
from tests.explain.single import numbers, session

Nodes = list[onnx.NodeProto]
ML = "ai.onnx.ml"
CONSTANTS = {
    "half": np.array(0.5, np.float32),
    "three": np.array(3, np.int64),
    "two": np.array(2, np.uint8),
    "off_on": np.array([0.25, 1.5], np.float32),
    "zero": np.array(0.0, np.float32),
    "one": np.array(1.0, np.float32),
    "scores": np.linspace(0.1, 0.9, 2, dtype=np.float32).reshape(1, 1, 2),
    "box": np.array([1, 2, 4], np.int64),
    "max_boxes": np.array([5], np.int64),
}


def node(op: str, *inputs: str, to: str = "k", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [to], name=f"makes_{to}", **attributes)


def cast(value: str, to: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [value], [to], to=kind)


POSITIVE = node("Greater", "x", "zero", to="positive")
LARGE = node("Greater", "x", "half", to="large")
WHOLE, BYTES = cast("x", "whole", TensorProto.INT64), cast("x", "bytes", TensorProto.UINT8)
TEXT = cast("x", "text", TensorProto.STRING)
FLAT_TEXT = helper.make_node("Reshape", ["text", "minus_one"], ["words"])
STOPS: dict[str, Nodes] = {
    **{op: [node(op, "x")] for op in ("Shape", "Size", "NonZero", "IsNaN", "IsInf", "Floor", "Ceil", "Round", "Sign")},
    **{op: [node(op, "x", axis=1)] for op in ("ArgMax", "ArgMin", "Hardmax")},
    **{op: [node(op, "x", "half")] for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{op: [POSITIVE, LARGE, node(op, "positive", "large")] for op in ("And", "Or", "Xor")},
    **{op: [WHOLE, node(op, "whole", "three")] for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")},
    "Not": [POSITIVE, node("Not", "positive")],
    "BitwiseNot": [WHOLE, node("BitwiseNot", "whole")],
    "BitShift": [BYTES, node("BitShift", "bytes", "two", direction="LEFT")],
    "OneHot": [WHOLE, node("OneHot", "whole", "three", "off_on")],
    "Range": [
        node("Size", "x", to="size"),
        cast("size", "limit", TensorProto.FLOAT),
        node("Range", "zero", "limit", "one"),
    ],
    "EyeLike": [node("EyeLike", "x", k=1)],
    "ConstantOfShape": [node("Shape", "x", to="shape"), node("ConstantOfShape", "shape")],
    "Constant": [
        node("Constant", value_strings=[b"1.5"], to="words"),
        helper.make_node("Cast", ["words"], ["k"], to=1),
    ],
    **{op: [node(op, shape=[2, 3])] for op in ("RandomNormal", "RandomUniform")},
    **{op: [node(op, "x")] for op in ("RandomNormalLike", "RandomUniformLike")},
    "Multinomial": [node("Multinomial", "x", sample_size=3)],
    "Bernoulli": [node("Abs", "x", to="a"), node("Min", "a", "one", to="p"), node("Bernoulli", "p")],
    "NonMaxSuppression": [
        node("Reshape", "x", "box", to="boxes"),
        node("NonMaxSuppression", "boxes", "scores", "max_boxes"),
    ],
    "StringNormalizer": [
        TEXT,
        FLAT_TEXT,
        node("StringNormalizer", "words", case_change_action="NONE", to="t"),
        cast("t", "k", 1),
    ],
    "TfIdfVectorizer": [
        WHOLE,
        node(
            "TfIdfVectorizer",
            "whole",
            mode="TF",
            min_gram_length=1,
            max_gram_length=1,
            max_skip_count=0,
            ngram_counts=[0],
            ngram_indexes=[0, 1],
            pool_int64s=[0, 1],
        ),
    ],
    "LabelEncoder": [node("LabelEncoder", "x", domain=ML, keys_floats=[0.5], values_floats=[2.0], default_float=3.0)],
    "OneHotEncoder": [node("OneHotEncoder", "x", domain=ML, cats_int64s=[0, 1], zeros=1)],
    "CategoryMapper": [
        TEXT,
        node("CategoryMapper", "text", domain=ML, cats_strings=["1"], cats_int64s=[4], default_int64=2),
    ],
    "Binarizer": [node("Binarizer", "x", domain=ML, threshold=0.2)],
}


def model(nodes: Nodes) -> onnx.ModelProto:
    last = [
        helper.make_node("Cast", ["k"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["number"], ["total"], keepdims=0),
        helper.make_node("Add", ["total", "one"], ["factor"]),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]
    constants = CONSTANTS | {"minus_one": np.array([-1], np.int64)}
    used = {name for entry in nodes + last for name in entry.input}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)]
    return helper.make_model(
        helper.make_graph(nodes + last, "stopped", [x], [y], initializers), opset_imports=opsets, ir_version=9
    )


@pytest.mark.parametrize("op", STOPS)
def test_no_gradient_passes(op: str) -> None:
    program = explain.compile(model(STOPS[op]), "vjp")
    onnx.checker.check_model(program.model, full_check=True)
    x = numbers(2, 4, low=0.1, high=2.9).astype(np.float32)
    gradient, y = session(program.model).run(["x.gradient", "y"], {"x": x, "y.cotangent": np.ones_like(x)})
    assert np.ptp(gradient) == 0
    assert y == pytest.approx(gradient * x, rel=1e-5)


def test_a_value_that_only_passes_a_stop_leaves_nothing_to_explain() -> None:
    nodes = [node("Floor", "x", to="y")]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy")
    proto = helper.make_model(helper.make_graph(nodes, "steps", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(explain.MethodUnavailable, match="no input reaches output 'y' through a gradient"):
        explain.compile(proto, "vjp")

"""The node tests of the ONNX backend test suite, collected from the installed onnx package, in either precision.

Operators of which the suite has no test in floating point have one of our own beside them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
PRECISION = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}
# Attributes that name the type of a result or of the arithmetic in between.
TYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "stash_type", "softmax_precision"}
# Operators that compute in float32 unless told otherwise.
STASHING = {"LayerNormalization", "GroupNormalization", "RMSNormalization"}
# Inputs that the specification wants in float32 whatever the type of the others.
ALWAYS_SINGLE = {("Resize", 2), ("Upsample", 1)}
# The reference walks windows in Python: pictures for poolings are cut to this many elements along each axis.
WINDOWED, LONGEST = {"AveragePool", "LpPool", "MaxPool"}, 9
# Operators without a test in floating point in the suite, with attributes to test.
OWN: dict[str, list[dict[str, int]]] = {"GlobalLpPool": [{"p": 2}, {"p": 3}], "Trilu": [{"upper": 1}, {"upper": 0}]}


@dataclass(frozen=True)
class NodeTest:
    """One test of the suite: its model, its inputs, and the operator it is about."""

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: Mapping[str, Any]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(value.name for value in self.model.graph.output)


@cache
def node_tests() -> tuple[NodeTest, ...]:
    """All node tests of the installed onnx package, in its order, and our own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite makes its data with overflowing and invalid arithmetic
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    operators = {case.name: _operator(case.model) for case in cases}
    found = []
    for case in cases:
        base = re.sub(r"_expanded.*", "", case.name)
        names = [value.name for value in case.model.graph.input]
        inputs = dict(zip(names, map(_array, case.data_sets[0][0]), strict=True))
        test = NodeTest(case.name, operators.get(base, operators[case.name]), case.model, inputs)
        found.append(_cut(test) if test.operator in WINDOWED else test)
    return *found, *(_own(operator, attributes) for operator in OWN for attributes in OWN[operator])


def _own(operator: str, attributes: Mapping[str, int]) -> NodeTest:
    """The operator on a batch of pictures."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], **attributes)], "own", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    name = "_".join(["own", operator.lower(), *(f"{key}_{value}" for key, value in attributes.items())])
    return NodeTest(name, operator, onnx.shape_inference.infer_shapes(model), {"x": x})


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _cut(test: NodeTest) -> NodeTest:
    """The same test on a smaller picture, its result's shape left to inference."""
    (name, x), model = next(iter(test.inputs.items())), onnx.ModelProto()
    if max(x.shape) <= LONGEST:
        return test
    model.CopyFrom(test.model)
    x = x[(slice(None), slice(None), *[slice(LONGEST)] * (x.ndim - 2))]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape))
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    return NodeTest(test.name, test.operator, onnx.shape_inference.infer_shapes(model), {name: x})


def _operator(model: onnx.ModelProto) -> str:
    """The operator a model is about: of its last node that is no bookkeeping."""
    nodes = [node for node in model.graph.node if node.op_type not in ("Constant", "Identity")] or model.graph.node
    node = nodes[-1]
    return f"{node.domain}::{node.op_type}" if node.domain not in ("", "ai.onnx") else str(node.op_type)


def is_float(value: onnx.ValueInfoProto) -> bool:
    """Whether a value is a tensor of floating-point numbers."""
    return value.type.HasField("tensor_type") and value.type.tensor_type.elem_type in FLOATS


def retyped(model: onnx.ModelProto, to: int) -> onnx.ModelProto:
    """The model with all floating-point tensors in one precision (TensorProto.FLOAT or DOUBLE)."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _retype_graph(copy.graph, to, always_single(model))
    return copy


def always_single(model: onnx.ModelProto) -> set[str]:
    """Values that stay in float32."""
    places = ((node.op_type, i, name) for node in model.graph.node for i, name in enumerate(node.input))
    return {name for op, i, name in places if (op, i) in ALWAYS_SINGLE}


def _retype_graph(graph: onnx.GraphProto, to: int, keep: set[str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name not in keep:
            _retype_type(value.type, to)
    for tensor in graph.initializer:
        if tensor.name not in keep:
            _retype_tensor(tensor, to)
    for node in graph.node:
        if not keep.intersection(node.output):
            _retype_node(node, to)


def _retype_type(kind: onnx.TypeProto, to: int) -> None:
    field = kind.WhichOneof("value")
    if field in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(kind, field)
        tensor.elem_type = to if tensor.elem_type in FLOATS else tensor.elem_type
    elif field in ("sequence_type", "optional_type"):
        _retype_type(getattr(kind, field).elem_type, to)


def _retype_tensor(tensor: onnx.TensorProto, to: int) -> None:
    if tensor.data_type in FLOATS:
        array = numpy_helper.to_array(tensor).astype(PRECISION[to])
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _retype_node(node: onnx.NodeProto, to: int) -> None:
    if node.op_type in STASHING and all(attribute.name != "stash_type" for attribute in node.attribute):
        node.attribute.append(helper.make_attribute("stash_type", to))
    for attribute in node.attribute:
        if attribute.name in TYPE_ATTRIBUTES and attribute.i in FLOATS:
            attribute.i = to
        elif attribute.HasField("t"):
            _retype_tensor(attribute.t, to)
        elif attribute.HasField("g"):
            _retype_graph(attribute.g, to, set())
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            value = np.array(helper.get_attribute_value(attribute), dtype=PRECISION[to])
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(value)))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, PRECISION[to]))))

"""From any readable model to the one form the compiler works on: opset 18, functions inlined, constants as
initializers, types inferred.

The file that serves predictions is never changed: this makes a copy for programs only, and every explanation reports
`forward_gap` against the served file. Older opsets go through onnx's version converter; newer ones are kept where
their operators mean the same at opset 18, and operators that are newer than 18 are replaced by their ONNX function
bodies.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import onnx
from onnx import defs, inliner, shape_inference, version_converter

from .errors import InvalidModel, UnsupportedOperator
from .graph import OPSET

IR_VERSION = 10
DOMAINS = ("", "ai.onnx")


def prepare(source: onnx.ModelProto, expand: Collection[str] = ()) -> onnx.ModelProto:
    """A copy of `source` at opset 18 with local functions, and the operators named in `expand`, inlined.

    Raises InvalidModel where the file makes no sense and UnsupportedOperator where an operator newer than opset 18
    has no function body.
    """
    model = onnx.ModelProto()
    model.CopyFrom(source)
    if not model.graph.output:
        raise InvalidModel("the model has no outputs; is this an ONNX model?")
    if model.graph.sparse_initializer:
        raise InvalidModel("the model holds sparse initializers; store them as dense tensors")
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        model = _at_opset(model)
        model = _expanded(model, expand)
        _constants_to_initializers(model.graph)
        _drop_initializers_from_inputs(model.graph)
        return shape_inference.infer_shapes(model, data_prop=True)
    except (shape_inference.InferenceError, onnx.checker.ValidationError, version_converter.ConvertError) as error:
        raise InvalidModel(f"the model could not be read: {_first_line(error)}") from error


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set the model was written for."""
    return next((entry.version for entry in model.opset_import if entry.domain in DOMAINS), 0)


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = opset_of(model)
    if opset == 0 and any(node.domain in DOMAINS for node in model.graph.node):
        raise InvalidModel("the model imports no version of the default operator set (opset_import is missing)")
    if 0 < opset < OPSET:
        # The converter refuses other domains in some releases; it only needs to see the default one's nodes.
        return version_converter.convert_version(model, OPSET)
    if opset > OPSET:
        newer = {node.op_type for node in model.graph.node if node.domain in DOMAINS and _is_new(node, opset)}
        model = _expanded(model, newer)
        for node in model.graph.node:
            if node.domain in DOMAINS:
                _check_meaning(node, opset)
    for entry in model.opset_import:
        if entry.domain in DOMAINS:
            entry.version = OPSET
    model.ir_version = min(model.ir_version or IR_VERSION, IR_VERSION)
    return model


def _is_new(node: onnx.NodeProto, opset: int) -> bool:
    try:
        defs.get_schema(node.op_type, OPSET)
    except defs.SchemaError:
        return True
    since = defs.get_schema(node.op_type, opset).since_version
    return bool(since > OPSET) and has_function_body(node.op_type, opset)


def has_function_body(op: str, opset: int) -> bool:
    """Whether the specification defines the operator by a function of others; False for unknown operators."""
    try:
        schema: Any = defs.get_schema(op, opset)
    except defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _check_meaning(node: onnx.NodeProto, opset: int) -> None:
    """Refuse a node whose attributes opset 18 does not know: it could not mean the same there."""
    try:
        schema = defs.get_schema(node.op_type, OPSET)
    except defs.SchemaError:
        reason = f"the operator is newer than opset {OPSET} and has no ONNX function body; export at opset {OPSET}"
        raise UnsupportedOperator(node.op_type, node.name, opset, reason) from None
    unknown = sorted(attribute.name for attribute in node.attribute if attribute.name not in schema.attributes)
    if unknown:
        reason = f"attribute {unknown[0]!r} does not exist at opset {OPSET}; export at opset {OPSET}"
        raise UnsupportedOperator(node.op_type, node.name, opset, reason)


def _expanded(model: onnx.ModelProto, operators: Collection[str]) -> onnx.ModelProto:
    wanted = [("", op) for op in sorted(operators) if any(node.op_type == op for node in model.graph.node)]
    if not wanted:
        return model
    typed = shape_inference.infer_shapes(model)
    return inliner.inline_selected_functions(typed, wanted, inline_schema_functions=True)


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        tensor = _constant_tensor(node)
        if tensor is None:
            kept.append(node)
        else:
            graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain not in DOMAINS or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    helper = onnx.helper
    tensor = onnx.TensorProto()
    match attribute.name:
        case "value":
            tensor.CopyFrom(attribute.t)
        case "value_int":
            tensor = helper.make_tensor("", onnx.TensorProto.INT64, (), [attribute.i])
        case "value_ints":
            tensor = helper.make_tensor("", onnx.TensorProto.INT64, (len(attribute.ints),), attribute.ints)
        case "value_float":
            tensor = helper.make_tensor("", onnx.TensorProto.FLOAT, (), [attribute.f])
        case "value_floats":
            tensor = helper.make_tensor("", onnx.TensorProto.FLOAT, (len(attribute.floats),), attribute.floats)
        case _:
            return None
    tensor.name = node.output[0]
    return tensor


def _drop_initializers_from_inputs(graph: onnx.GraphProto) -> None:
    names = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""From any readable model to the one form the compiler works on: opset 18, functions inlined, constants as
initializers, types inferred.

The file that serves predictions is never changed: this makes a copy for programs only, and every explanation reports
`forward_gap` against the served file. Older opsets go through onnx's version converter; newer ones are kept where
their operators mean the same at opset 18, and operators that are newer than 18 are replaced by their ONNX function
bodies.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import onnx
from onnx import defs, inliner, shape_inference, version_converter

from ..errors import InvalidModel, UnsupportedOperator
from ..graph import OPSET
from ..inside import all_bodies, all_nodes, tell_apart
from ..weights import constants_to_initializers, without_weights
from .branches import take_branches
from .converted import open_sizes, resize_as_it_was, softmax_as_it_was
from .expansions import EXPANSIONS, LATER
from .expansions import expand as expand_foreign
from .fold import fold_integers
from .kinds import with_tensors
from .loops import infer_types
from .order import sort_nodes
from .precision import widen
from .quantized import dequantize, in_runtimes_domain, settle
from .ranks import state_ranks
from .sequences import resolve_sequences

IR_VERSION = 10
CONSTANTS_APART = 4  # before this version every initializer had to be an input too
ITEMS_APART = 9  # the opset from which on a Scan knows of no items
DOMAINS = ("", "ai.onnx")
RUNTIME_OWN = {"LayerNormalization", "SimplifiedLayerNormalization"}  # ONNX Runtime writes them at any opset
APART = "apart"
MISREAD = {"STFT"}  # onnx's shape inference takes other defaults than the specification
# What onnx raises at a model it cannot read; RuntimeError comes from its converter and its inliner.
FOREIGN = (
    shape_inference.InferenceError,
    onnx.checker.ValidationError,
    version_converter.ConvertError,
    defs.SchemaError,
    RuntimeError,
)


def prepare(source: onnx.ModelProto, expand: Collection[str] = ()) -> onnx.ModelProto:
    """A copy of `source` at opset 18 with local functions, and the operators named in `expand`, inlined.

    Raises InvalidModel where the file makes no sense and UnsupportedOperator where an operator newer than opset 18
    has no function body.
    """
    if not source.graph.output:
        raise InvalidModel("the model has no outputs; is this an ONNX model?")
    if source.graph.sparse_initializer:
        raise InvalidModel("the model holds sparse initializers; store them as dense tensors")
    model, weights = without_weights(source)
    sort_nodes(model.graph)
    model.ir_version = max(model.ir_version, CONSTANTS_APART)
    with_tensors(model.graph)
    open_sizes(model.graph)
    for node in all_nodes(model.graph):
        if node.op_type in MISREAD and node.domain in DOMAINS:
            _state_defaults(node, OPSET)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        weights = dequantize(model.graph, widen(model, weights))
        model = expand_foreign(_at_opset(model))
        model = _expanded(model, expand)
        tell_apart(model.graph)
        for graph in (*all_bodies(model.graph), model.graph):
            constants_to_initializers(graph)
        weights = settle(model.graph, weights)
        for graph in (*all_bodies(model.graph), model.graph):
            resize_as_it_was(graph, opset_of(source))
        model = _typed(model)
        if resolve_sequences(model.graph):
            model = _typed(model)
        for graph in (*all_bodies(model.graph), model.graph):
            softmax_as_it_was(graph)
    except FOREIGN as error:
        raise InvalidModel(f"the model could not be read: {_first_line(error)}") from error
    model.graph.initializer.extend(weights)
    _drop_initializers_from_inputs(model.graph)
    in_runtimes_domain(model)
    return model


def _typed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Types inferred, with what has to be known of integers, conditions and ranks."""
    model = infer_types(model)
    if fold_integers(model.graph):
        model = infer_types(model)
    while take_branches(model.graph):  # a branch may hold another condition
        constants_to_initializers(model.graph)
        model = infer_types(model)
    return infer_types(model) if state_ranks(model.graph) else model


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set the model was written for."""
    return next((entry.version for entry in model.opset_import if entry.domain in DOMAINS), 0)


def _at_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    opset = opset_of(model)
    _set_apart(model, opset)
    if opset == 0 and any(node.domain in DOMAINS for node in all_nodes(model.graph)):
        raise InvalidModel("the model imports no version of the default operator set (opset_import is missing)")
    if 0 < opset < ITEMS_APART:
        for node in (node for node in all_nodes(model.graph) if node.op_type == "Scan" and node.domain in DOMAINS):
            reason = (
                f"before opset {ITEMS_APART} it has an axis of items beside that of its steps; export at a later one"
            )
            raise UnsupportedOperator("Scan", node.name or node.output[0], opset, reason)
    if 0 < opset < OPSET:
        # The converter refuses other domains in some releases; it only needs to see the default one's nodes.
        return _put_back(version_converter.convert_version(model, OPSET))
    if opset > OPSET:
        for _ in range(4):  # a function body may call another new function
            nodes = [node for node in all_nodes(model.graph) if node.domain in DOMAINS]
            model = _expanded(model, {node.op_type for node in nodes if _is_new(node, opset)})
        for node in all_nodes(model.graph):
            if node.domain in DOMAINS:
                _check_meaning(node, opset)
    for entry in model.opset_import:
        if entry.domain in DOMAINS:
            entry.version = OPSET
    model.ir_version = min(model.ir_version or IR_VERSION, IR_VERSION)
    return _put_back(model)


def _set_apart(model: onnx.ModelProto, opset: int) -> None:
    """Take out of the default domain what its opset cannot judge: ONNX Runtime's own operators, newer meanings."""
    for node in all_nodes(model.graph):
        if node.domain not in DOMAINS:
            continue
        if (LATER, node.op_type) in EXPANSIONS and opset > OPSET and _since(node.op_type, opset) > OPSET:
            node.domain = LATER
        elif node.op_type in RUNTIME_OWN and _since(node.op_type, opset) == 0:
            node.domain = APART
    missing = (
        {node.domain for node in all_nodes(model.graph)} - {entry.domain for entry in model.opset_import} - set(DOMAINS)
    )
    model.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(missing))


def _put_back(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in all_nodes(model.graph):
        if node.domain == APART:
            node.domain = ""
    kept = [entry for entry in model.opset_import if entry.domain != APART]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model


def _since(op: str, opset: int) -> int:
    """The opset that gave an operator its meaning at `opset`, 0 where there was none."""
    try:
        return int(defs.get_schema(op, opset).since_version)
    except defs.SchemaError:
        return 0


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
    defaults = _defaults(node.op_type, opset)
    unknown = [attribute for attribute in node.attribute if attribute.name not in schema.attributes]
    for attribute in unknown:
        if defaults.get(attribute.name) != attribute.SerializeToString():
            reason = f"attribute {attribute.name!r} does not exist at opset {OPSET}; export at opset {OPSET}"
            raise UnsupportedOperator(node.op_type, node.name, opset, reason)
        node.attribute.remove(attribute)


def _defaults(op: str, opset: int) -> dict[str, bytes]:
    """Serialised attributes as they are where a node does not state them."""
    attributes = defs.get_schema(op, opset).attributes
    return {name: a.default_value.SerializeToString() for name, a in attributes.items() if a.default_value.name}


def _expanded(model: onnx.ModelProto, operators: Collection[str]) -> onnx.ModelProto:
    held = {node.op_type for node in all_nodes(model.graph)}
    wanted = [("", op) for op in sorted(operators) if op in held]
    if not wanted:
        return model
    typed = shape_inference.infer_shapes(model)
    for node in all_nodes(typed.graph):
        if ("", node.op_type) in wanted and node.domain in DOMAINS:
            _state_defaults(node, opset_of(model))
    declared = {value.name for value in typed.graph.input}
    typed.graph.value_info.append(  # the inliner asks for the types of absent optional inputs as well
        onnx.helper.make_tensor_value_info("", onnx.TensorProto.FLOAT, None)
    )
    typed.graph.value_info.extend(  # the inliner wants the types of constants stated
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in typed.graph.initializer
        if tensor.name not in declared
    )
    return inliner.inline_selected_functions(typed, wanted, inline_schema_functions=True)


def _state_defaults(node: onnx.NodeProto, opset: int) -> None:
    """The inliner leaves out attributes that a function's body reads and the node does not state."""
    stated = {attribute.name for attribute in node.attribute}
    for name, default in _defaults(node.op_type, opset).items():
        if name not in stated:
            node.attribute.add().ParseFromString(default)


def _drop_initializers_from_inputs(graph: onnx.GraphProto) -> None:
    names = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(kept)


def _first_line(error: Exception) -> str:
    """The first line, without the place in onnx's own sources."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\S+:\d+: .*?Assertion .* failed: ", "", line).replace("'%s'", "that it holds")

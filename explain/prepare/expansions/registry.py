"""`@expansion("Gelu")` registers what an operator is made of; `expand` puts it into a model.

An expansion takes `(emit, node)` and gives one name (or None) for each output, or a single name for the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from onnx import helper, shape_inference

from ...emit import Emitter
from ...errors import RegistrationError, UnsupportedOperator
from ...graph import OPSET, Graph, Node
from ...inside import all_bodies, all_nodes

Results = str | Sequence[str | None]
Expansion = Callable[[Emitter, Node], Results]

MICROSOFT = "com.microsoft"
ML = "ai.onnx.ml"
LATER = "ai.onnx.later"  # where prepare.py puts nodes of which opset 18 knows the name, but not the meaning
EXPANSIONS: dict[tuple[str, str], Expansion] = {}


def expansion(*operators: str, domain: str = MICROSOFT) -> Callable[[Expansion], Expansion]:
    """Register the decorated expansion for the operators named; refuses doubles."""

    def register(function: Expansion) -> Expansion:
        for operator in operators:
            if (domain, operator) in EXPANSIONS:
                raise RegistrationError(f"expansion of {operator!r} is registered twice")
            EXPANSIONS[domain, operator] = function
        return function

    return register


def expand(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with what can be expanded replaced, inside of nodes too; types inferred behind one node let the next be
    expanded.

    What refuses stays, except a node in LATER, which nothing could run: then its UnsupportedOperator is raised.
    """
    found = _expandable(model)
    while found:
        model = shape_inference.infer_shapes(model, data_prop=True)
        refused = _expand_once(model)
        if len(refused) == len(found):
            lost = next((error for node, error in refused if node.domain == LATER), None)
            if lost is not None:
                raise lost
            break
        new = [key for key in _expandable(model) if key not in found]  # what an expansion is made of may be one
        found = [(node.domain, node.op) for node, _ in refused] + new
    imports = [entry for entry in model.opset_import if entry.domain != LATER]
    if all(entry.domain not in ("", "ai.onnx") for entry in imports):
        imports.append(helper.make_opsetid("", OPSET))
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return model


def _expandable(model: onnx.ModelProto) -> list[tuple[str, str]]:
    return [key for node in all_nodes(model.graph) if (key := (node.domain, node.op_type)) in EXPANSIONS]


def _expand_once(model: onnx.ModelProto) -> list[tuple[Node, UnsupportedOperator]]:
    """Expand what does not refuse, in place; gives the nodes that did."""
    whole, taken = Graph.of(model), {name for node in all_nodes(model.graph) for name in (*node.input, *node.output)}
    refused = []
    for body in all_bodies(model.graph):
        refused += _expand_graph(_around(whole, body), body, taken)
    return refused + _expand_graph(whole, model.graph, taken)


def _around(whole: Graph, body: onnx.GraphProto) -> Graph:
    """A body among the values of the model."""
    alone = Graph.of(onnx.ModelProto(graph=body))
    constants, types = {**whole.constants, **alone.constants}, {**whole.types, **alone.types}
    return Graph(body.node, alone.inputs, alone.outputs, constants, types, whole.opset)


def _expand_graph(graph: Graph, proto: onnx.GraphProto, taken: set[str]) -> list[tuple[Node, UnsupportedOperator]]:
    own = {*graph.types, *taken}
    emit = Emitter(own)
    for name, kind in graph.types.items():
        if kind.dtype != "unknown":
            emit.take(name, kind.dtype)
    renames: dict[str, str] = {}
    refused = []
    for node in graph.nodes:
        function = EXPANSIONS.get((node.domain, node.op))
        try:
            if function is not None:
                _name_results(emit, node, function(emit, node), own, renames)
                continue
        except UnsupportedOperator as error:
            refused.append((node, error))
        emit.follow(node.proto)
    for made in emit.nodes:
        for field in (made.input, made.output):
            field[:] = [renames.get(name, name) for name in field]
    kept, constants = emit.finish(value.name for value in proto.output)
    del proto.node[:]
    proto.node.extend(kept)
    proto.initializer.extend(constants)
    taken.update(name for node in kept for name in node.output)
    return refused


def _name_results(emit: Emitter, node: Node, results: Results, own: set[str], renames: dict[str, str]) -> None:
    """What was emitted takes the names of the node's outputs; what the model has already is copied to them."""
    given = (results,) if isinstance(results, str) else tuple(results)
    filled = [*given, *[None] * (len(node.outputs) - len(given))][: len(node.outputs)]
    for i, (output, result) in enumerate(zip(node.outputs, filled, strict=True)):
        if output and result is None:
            raise node.refuse(f"its output {i} ({output!r}) is not covered")
    for output, result in zip(node.outputs, filled, strict=True):
        if not output or result is None:
            continue
        if result in own or result in emit.constants or result in renames:
            emit.follow(helper.make_node("Identity", [result], [output]))
        else:
            renames[result] = output
            emit.take(output, emit.dtype(result))

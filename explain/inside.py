"""Graphs inside of nodes, as the read side sees them: the branches of an If, the body of a Loop or a Scan.

A body reads what stands around it by name. In a file it may use names that the graph around it, or another body, uses
for something else, and hold constants of its own. In a prepared model every value has a name that no other has, and the
main graph holds all constants, so that types, constants and gradients can be looked up by name alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper

from .graph import Graph, Node, bodies, rename_node

APART = "inside."  # no program has inputs or outputs of such names


def body_of(node: Node, attribute: str) -> Graph:
    """A body of a node of a prepared graph; types and constants around it are visible in it."""
    proto: onnx.GraphProto = node.attributes[attribute]
    outer = node.graph
    inputs, outputs = ({value.name: outer.type(value.name) for value in ends} for ends in (proto.input, proto.output))
    return Graph(proto.node, inputs, outputs, outer.constants, outer.types, outer.opset)


def held(node: Node) -> list[Graph]:
    """The bodies that a node holds."""
    attributes = (item for item in node.proto.attribute if item.type == onnx.AttributeProto.GRAPH)
    return [body_of(node, item.name) for item in attributes]


def everywhere(graph: Graph) -> Iterator[Node]:
    """All nodes: those of a graph, and those of the bodies they hold."""
    for node in graph.nodes:
        yield node
        for body in held(node):
            yield from everywhere(body)


def all_nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph (or of a function), those of the bodies they hold included."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def all_bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """All bodies that nodes of a graph hold, innermost first."""
    for node in graph.node:
        for body in bodies(node):
            yield from all_bodies(body)
            yield body


def tell_apart(graph: onnx.GraphProto) -> None:
    """Give every value inside of nodes a name that nothing else has, in place."""
    taken = {name for node in graph.node for name in node.output}
    taken.update(value.name for value in (*graph.input, *graph.initializer))
    for number, body in enumerate(list(all_bodies(graph))):
        own = [value.name for value in (*body.input, *body.initializer)]
        own += [name for node in body.node for name in node.output if name]
        names = {name: _apart(name, number, taken) for name in dict.fromkeys(own)}
        for node in body.node:
            rename_node(node, names)
        for value in (*body.input, *body.initializer, *body.value_info, *body.output):
            value.name = names.get(value.name, value.name)
        _pass_on(body)


def _apart(name: str, number: int, taken: set[str]) -> str:
    while name in taken or not name.startswith(APART):
        name = f"{APART}{number}/{name}"
    taken.add(name)
    return name


def give_constants(graph: onnx.GraphProto) -> None:
    """Give the constants of bodies, which have names of their own, to the main graph, in place."""
    for body in all_bodies(graph):
        graph.initializer.extend(body.initializer)
        del body.initializer[:]
        _pass_on(body)


def _pass_on(body: onnx.GraphProto) -> None:
    """Let every output be another value that a node of the body makes."""
    left = {name for node in body.node for name in node.output}
    for place, value in enumerate(body.output):
        if value.name not in left:
            own = f"{value.name}/{place}"
            body.node.append(helper.make_node("Identity", [value.name], [own]))
            value.name = own
        left.discard(value.name)

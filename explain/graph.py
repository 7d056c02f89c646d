"""Read side: a typed view of a model (order, producers, shapes, dtypes, opset).

What flows through: a `ModelProto` prepared at opset 18 comes in; rules, programs and coverage read nodes and types
from here. Nothing in this file writes a graph, except `bind`, which gives the same nodes under other names so that
one model can be placed in a program more than once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .dtypes import UNKNOWN, Shape, Type, dtype_of, type_of
from .errors import UnsupportedOperator
from .external import ExternalData, is_external

OPSET = 18
WITHOUT = ExternalData()


@dataclass(frozen=True)
class Node:
    """One node as rules see it: names of its inputs ("" = absent optional input) and outputs, attributes, types."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    graph: Graph
    proto: onnx.NodeProto

    def attr(self, name: str, default: Any = None) -> Any:
        """Value of an attribute, or the default given."""
        return self.attributes.get(name, default)

    def input(self, index: int) -> str:
        """Name of input `index`, "" where it is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def shape(self, index: int = 0) -> Shape | None:
        """Shape of input `index`, None where even its rank is unknown."""
        return self.graph.type(self.input(index)).shape

    def rank(self, index: int = 0) -> int:
        """Rank of input `index`; refuses the node where shape inference did not find it."""
        return self.known_rank(self.input(index))

    def output_rank(self, index: int = 0) -> int:
        """Rank of output `index`; refuses the node where shape inference did not find it."""
        return self.known_rank(self.outputs[index])

    def known_rank(self, value: str) -> int:
        """Rank of a value of this graph; refuses the node where it is unknown."""
        shape = self.graph.type(value).shape
        if shape is None:
            raise self.refuse(f"the rank of {value!r} could not be inferred; export the model with shape information")
        return len(shape)

    def constant(self, index: int) -> np.ndarray | None:
        """Value of input `index` where it is a constant of the graph, else None."""
        return self.graph.constant(self.input(index))

    def refuse(self, reason: str) -> UnsupportedOperator:
        """The error to raise where this node cannot be differentiated."""
        label = self.name or (self.outputs[0] if self.outputs else "?")
        return UnsupportedOperator(self.op, label, self.graph.opset, reason)


class Graph:
    """Nodes in topological order with types, constants and producers.

    `constants` holds initializers (TensorProto); arrays are made only when asked for.
    """

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Mapping[str, Type],
        outputs: Mapping[str, Type],
        constants: Mapping[str, onnx.TensorProto],
        types: Mapping[str, Type],
        opset: int = OPSET,
        external: ExternalData = WITHOUT,
    ) -> None:
        """Take the parts as they are; `Graph.of` reads them from a model. `external`: where data of constants lie that
        are not in it."""
        self.inputs, self.outputs, self.constants, self.types = dict(inputs), dict(outputs), constants, dict(types)
        self.opset, self.external = opset, external
        self.renames: dict[str, str] = {}
        self.protos = tuple(nodes)
        self.nodes = tuple(self._view(node) for node in nodes)
        self.producers = {name: node for node in self.nodes for name in node.outputs if name}

    @classmethod
    def of(cls, model: onnx.ModelProto, external: ExternalData = WITHOUT) -> Graph:
        """View a model whose shapes were inferred (see prepare.py)."""
        graph = model.graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        types = {value.name: type_of(value.type) for value in declared(graph)}
        for name, tensor in constants.items():
            types[name] = Type(dtype_of(tensor.data_type), tuple(tensor.dims))
        inputs = {value.name: types[value.name] for value in graph.input if value.name not in constants}
        outputs = {value.name: types[value.name] for value in graph.output}
        opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
        return cls(graph.node, inputs, outputs, constants, types, opset, external)

    def _view(self, proto: onnx.NodeProto) -> Node:
        attributes = {item.name: helper.get_attribute_value(item) for item in proto.attribute}
        names = tuple(proto.input), tuple(proto.output)
        return Node(proto.op_type, proto.domain, proto.name, *names, attributes, self, proto)

    def type(self, name: str) -> Type:
        """Type of a value, `UNKNOWN` where inference found none."""
        return self.types.get(name, UNKNOWN)

    def resembles(self, value: str, other: str) -> None:
        """Say that a value made outside this graph has the type of one of its own."""
        self.types[value] = self.type(other)

    def constant(self, name: str) -> np.ndarray | None:
        """Array of a constant, or None where `name` is computed."""
        tensor = self.constants.get(name)
        if tensor is not None and is_external(tensor):
            return self.external.array(tensor)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def stored(self, name: str) -> onnx.TensorProto:
        """A constant with its data inside."""
        tensor = self.constants[name]
        return numpy_helper.from_array(self.external.array(tensor), name) if is_external(tensor) else tensor

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """Nodes that read a value, captures by subgraphs included."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in reads(node.proto):
                found.setdefault(name, []).append(node)
        return found

    def downstream(self, names: Iterable[str], through: Any = None) -> set[str]:
        """Values that depend on `names` (included); `through(node)` may stop the walk at a node."""
        found = set(names)
        for node in self.nodes:
            if any(name in found for name in reads(node.proto)) and (through is None or through(node)):
                found.update(name for name in node.outputs if name)
        return found

    def upstream(self, names: Iterable[str]) -> set[str]:
        """Values that `names` depend on (included)."""
        found = set(names)
        for node in reversed(self.nodes):
            if any(name in found for name in node.outputs):
                found.update(name for name in reads(node.proto))
        return found

    def bind(
        self,
        names: Mapping[str, str],
        *,
        prefix: str = "",
        keep: set[str] | None = None,
        avoid: Collection[str] = (),
    ) -> Graph:
        """The same nodes with values renamed: `names` first, then `prefix` before every other computed value.

        Values in `names` come from outside, so nodes that produce one of them are left out. `keep` restricts the
        nodes to those that produce one of these values; names in `avoid` are given up wherever the model uses them.
        Constants keep their names otherwise: a program that holds the model twice holds its weights once.
        """
        nodes = [
            node
            for node in self.nodes
            if (keep is None or any(name in keep for name in node.outputs))
            and not any(name in names for name in node.outputs)
        ]
        own = {*self.types, *self.constants, *self.producers}
        mark = next(mark for mark in ("model." * n for n in count(1)) if not any(mark + name in own for name in avoid))
        renames = {name: mark + name for name in own if name in avoid}
        if prefix:
            renames |= {name: prefix + name for node in nodes for name in node.outputs if name}
        renames |= names
        constants = {
            renames.get(name, name): _named(tensor, renames[name]) if name in renames else tensor
            for name, tensor in self.constants.items()
        }
        types = {renames.get(name, name): kind for name, kind in self.types.items()}
        inputs = {renames.get(name, name): kind for name, kind in self.inputs.items()}
        outputs = {renames.get(name, name): kind for name, kind in self.outputs.items()}
        protos = [_renamed(node.proto, renames, prefix) for node in nodes]
        bound = Graph(protos, inputs, outputs, constants, types, self.opset, self.external)
        bound.renames = renames
        return bound

    def now(self, name: str) -> str:
        """What a value of the original graph is called in this bound one."""
        return self.renames.get(name, name)


def _named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def bodies(proto: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node holds."""
    return [body for item in proto.attribute if item.type in (5, 10) for body in (item.g, *item.graphs)]


def declared(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """Values whose type a graph, or a graph that a node of it holds, states."""
    for node in graph.node:
        for body in bodies(node):
            yield from declared(body)
    yield from (*graph.value_info, *graph.input, *graph.output)


def reads(proto: onnx.NodeProto) -> list[str]:
    """Names a node reads, values captured by its subgraphs included."""
    names = [name for name in proto.input if name]
    for body in bodies(proto):
        local = {value.name for value in (*body.input, *body.initializer)}
        for node in body.node:
            names.extend(name for name in reads(node) if name not in local)
            local.update(node.output)
        names.extend(value.name for value in body.output if value.name not in local)
    return names


def _renamed(proto: onnx.NodeProto, names: Mapping[str, str], prefix: str) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    copy.name = prefix + proto.name if proto.name else ""  # runtimes refuse two nodes of one name
    rename_node(copy, names)
    return copy


def rename_node(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Give the values that a node reads and writes other names, in its subgraphs too, in place."""
    for field in (node.input, node.output):
        field[:] = [names.get(name, name) for name in field]
    for body in bodies(node):
        local = {value.name for value in (*body.input, *body.initializer)}
        local.update(name for inner in body.node for name in inner.output)
        outer = {name: new for name, new in names.items() if name not in local}
        for inner in body.node:
            rename_node(inner, outer)
        for value in body.output:
            value.name = outer.get(value.name, value.name)

"""Conditions that do not depend on what is sent: an `If` whose branch is known is replaced by that branch.

Exporters write one where a shape was open to them, most often to drop an axis if it has one element. Whether a
condition depends on an open size is found by trying: it is computed with every open size 1, and with every one a number
of its own. An axis of no elements at all is not tried: a model that treats it apart has another branch for it, which no
program needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph import bodies, reads, rename_node
from ..inside import all_nodes
from .fold import evaluated

LARGE = 7919  # a size that nothing in a model is likely to be compared with; open sizes are this and more
SMALL_OPERATORS = frozenset(
    {"Add", "And", "Cast", "Concat", "Constant", "Div", "Equal", "Gather", "Greater", "GreaterOrEqual", "Identity"}
    | {"Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Not", "Or", "Reshape", "Slice", "Squeeze", "Sub"}
    | {"Unsqueeze", "Where", "Xor"}
)


def take_branches(graph: onnx.GraphProto) -> bool:
    """Replace every `If` with a known condition by its branch, in place; says whether there was one.

    Sizes are known where inference found them, unless an input of the graph has a first axis of one element: that may
    be the axis of rows, of which a program has many.
    """
    if not any(node.op_type == "If" for node in all_nodes(graph)) or _may_be_one_row(graph):
        return False
    return _take(graph, Around({}, {}, {}))


class Around(NamedTuple):
    """By name of a value that is known where a graph stands: the node that makes it, its constant, its sizes."""

    producers: dict[str, onnx.NodeProto]
    constants: dict[str, onnx.TensorProto]
    sizes: dict[str, list[int | str]]


def _take(graph: onnx.GraphProto, around: Around) -> bool:
    changed = set[str]()
    producers = around.producers | {name: node for node in graph.node for name in node.output}
    constants = around.constants | {tensor.name: tensor for tensor in graph.initializer}
    sizes = around.sizes | _sizes(graph)
    within = Around(producers, constants, sizes)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        chosen = _condition(node.input[0], producers, constants, sizes) if node.op_type == "If" else None
        if chosen is None:
            nodes.append(node)
            inner = [_take(body, within) for body in bodies(node)]
            changed.update(node.output if any(inner) else ())
            continue
        branches = {attribute.name: attribute.g for attribute in node.attribute}
        nodes.extend(_inlined(node, branches["then_branch" if chosen else "else_branch"], graph))
        changed.update(node.output)
    if changed:
        del graph.node[:]
        graph.node.extend(nodes)
        forget_types(graph, changed)
    return bool(changed)


def forget_types(graph: onnx.GraphProto, changed: set[str]) -> None:
    """Take back what was inferred of values that nodes give or that are made of them: of a branch, say, it held for
    the other one too."""
    for node in graph.node:
        if not changed.isdisjoint(reads(node)):
            changed.update(node.output)
    kept = [value for value in graph.value_info if value.name not in changed]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _may_be_one_row(graph: onnx.GraphProto) -> bool:
    constants = {tensor.name for tensor in graph.initializer}
    shapes = [value.type.tensor_type.shape.dim for value in graph.input if value.name not in constants]
    return any(shape and shape[0].dim_value == 1 for shape in shapes)


def _sizes(graph: onnx.GraphProto) -> dict[str, list[int | str]]:
    """Axes of values whose rank is known: their sizes, or the symbols or names of open ones."""
    return {
        value.name: [
            dim.dim_value or dim.dim_param or f"{value.name} {axis}"
            for axis, dim in enumerate(value.type.tensor_type.shape.dim)
        ]
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _condition(name: str, producers: Any, constants: Any, sizes: dict[str, list[int | str]]) -> bool | None:
    """The truth of a condition, None where it depends on more than shapes and constants, or on an open size."""
    needed: set[str] = set()
    shaped: dict[str, list[int | str]] = {}
    held: dict[str, np.ndarray] = {}
    todo, seen = [name], set()
    while todo:
        here = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        node = producers.get(here)
        if here in constants:
            held[here] = numpy_helper.to_array(constants[here])
        elif node is not None and node.op_type == "Shape" and not node.attribute and node.input[0] in sizes:
            shaped[here] = sizes[node.input[0]]
        elif node is not None and node.op_type in SMALL_OPERATORS:
            needed.add(here)
            todo.extend(filter(None, node.input))
        else:
            return None
    symbols = sorted({size for axes in shaped.values() for size in axes if isinstance(size, str)})
    ordered = [node for key, node in producers.items() if key in needed]  # as in the graph
    answers = set()
    for guess in (dict.fromkeys(symbols, 1), {symbol: LARGE + place for place, symbol in enumerate(symbols)}):
        feeds = {key: np.array([s if isinstance(s, int) else guess[s] for s in axes]) for key, axes in shaped.items()}
        answers.add(_truth(ordered, name, held | feeds))
    return answers.pop() if len(answers) == 1 else None


def _truth(nodes: list[onnx.NodeProto], name: str, feeds: dict[str, np.ndarray]) -> bool | None:
    try:
        return bool(evaluated(nodes, name, feeds).item())
    except Exception:  # whatever a guess makes impossible, the condition is not known
        return None


def _inlined(node: onnx.NodeProto, body: onnx.GraphProto, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a branch, under names of their own, and what they give under the names of the `If`'s outputs."""
    own = {tensor.name for tensor in body.initializer} | {name for inner in body.node for name in inner.output if name}
    names = {name: f"{node.output[0]}/{name}" for name in own}
    for tensor in body.initializer:
        copy = graph.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = names[tensor.name]
    for inner in body.node:
        copied = onnx.NodeProto()
        copied.CopyFrom(inner)
        rename_node(copied, names)
        yield copied
    for given, asked in zip(body.output, node.output, strict=True):
        if asked:
            yield helper.make_node("Identity", [names.get(given.name, given.name)], [asked])

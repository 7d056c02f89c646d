"""Where gradients are taken: inputs that are numbers, and where codes first become numbers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from .backward import differentiable_path
from .dtypes import Dim, Shape
from .errors import MethodUnavailable
from .graph import Graph, Node, bodies, reads

MOVES = ("Expand", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class Leaf:
    """Where the gradient with respect to a model input is taken: the input, or the encoding of an integer input.

    `trailing` counts the axes the encoding adds behind those of the input (the width of an embedding).
    """

    input: str
    value: str
    trailing: int


def leaves_of(graph: Graph, held: Collection[str], explained: str) -> tuple[Leaf, ...]:
    """Where gradients of a value are taken: float inputs themselves, integer and string ones where they become floats.

    Inputs that are `held`, and conditions and masks made of codes, are held as they are. Raises MethodUnavailable,
    naming input and value, where an encoding cannot be told apart by element or input.
    """
    floats = {name: {name} for name, kind in graph.inputs.items() if kind.is_float and name not in held}
    made = floats | _encodings(graph, held)
    path = differentiable_path(graph, list(made), [explained])
    order = {name: place for place, name in enumerate(graph.inputs)}
    found = [(name, value) for value, made_of in made.items() if value in path for name in made_of]
    found.sort(key=lambda pair: order[pair[0]])
    return tuple(_leaf(graph, name, value, made[value]) for name, value in found if not _is_mask(graph, name, value))


def _leaf(graph: Graph, name: str, value: str, made_of: set[str]) -> Leaf:
    """The leaf, if it keeps the input's axes in front: only then is a part of it one element of the input."""
    if len(made_of) > 1:
        raise MethodUnavailable(f"{value!r} encodes the inputs {', '.join(sorted(made_of))} together")
    declared, shape = graph.inputs[name].shape, graph.type(value).shape
    if declared is None:
        raise MethodUnavailable(f"the shape of input {name!r} is unknown; declare at least its rank")
    own, producer = declared, graph.producers.get(value)
    if producer is not None and bodies(producer.proto):
        raise MethodUnavailable(f"input {name!r} becomes a number inside of {producer.op}, at {value!r}")
    inside = producer is not None and producer.op == "OneHot" and producer.attr("axis", -1) not in (-1, len(own))
    if shape is None or inside or not _keeps_axes(own, shape):
        raise MethodUnavailable(f"the encoding {value!r} of input {name!r} does not keep its axes {list(own)} in front")
    return Leaf(name, value, len(shape) - len(own))


def _is_mask(graph: Graph, name: str, value: str) -> bool:
    """Whether an integer input was spread over further axes and then only cast: what an attention mask is."""
    own, shape = graph.inputs[name].shape or (), graph.type(value).shape or ()
    producer = graph.producers.get(value)
    cast = producer is not None and producer.op in ("Cast", "CastLike")
    return cast and len(shape) > len(own) and not _keeps_axes(own, shape)


def _encodings(graph: Graph, held: Collection[str]) -> dict[str, set[str]]:
    """First floating-point values made of non-float inputs alone, each with the inputs it is made of.

    What a node makes of a code and a float together (a condition and what it selects, say) is no encoding: the
    gradient has to pass it. Nor is what is made of a condition: it is flat almost everywhere.
    """
    live = {name for name, kind in graph.inputs.items() if kind.is_float}
    codes = {name: {name} for name in graph.inputs if name not in live and name not in held}
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        read = [] if node.op in ("Shape", "Size") else reads(node.proto)
        if any(name in live for name in read):
            live.update(node.outputs)
        elif made_of := {origin for name in read for origin in codes.get(name, ())}:
            floats = [value for value in node.outputs if graph.type(value).is_float]
            found |= dict.fromkeys(floats, made_of)
            live.update(floats)
            codes |= {v: made_of for v in node.outputs if v not in floats and not _is_condition(graph, node, v)}
    return found


def _is_condition(graph: Graph, node: Node, value: str) -> bool:
    """Whether a truth value is one for itself: not so where a code is compared with a list, which is a one-hot."""
    if graph.type(value).dtype != "bool" or node.op in ("Identity", *MOVES):
        return False
    listed = any(tensor is not None and np.prod(tensor.dims) > 1 for tensor in map(graph.constants.get, node.inputs))
    return not (node.op == "Equal" and listed)


def _keeps_axes(own: Shape, shape: Shape) -> bool:
    return len(shape) >= len(own) and all(map(_alike, own, shape))


def _alike(one: Dim, other: Dim) -> bool:
    """Whether two dimensions may be the same: unless they are known to differ."""
    unknown = [dim is None or (isinstance(dim, str) and dim.startswith("unk__")) for dim in (one, other)]
    return one == other or any(unknown)

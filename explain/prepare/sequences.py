"""Sequences whose parts are known where they are used: lists of tensors, as older exporters write chunks and stacks.

Parts that are put together, split off or collected by a Loop are followed to where one is taken out or all are joined,
and that is written without the sequence: as Concat, Gather, Slice or what the Loop keeps of each step. What is not
followed stays, and is refused by name where a gradient would have to pass it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph import bodies, reads
from .branches import forget_types


@dataclass(frozen=True)
class Pieces:
    """A tensor in pieces of `size` along `axis`; pieces of one element lack the axis unless they keep it."""

    whole: str
    axis: int
    size: int = 1
    keeps: bool = False
    rank: int | None = None


Parts = Pieces | list[str]


@dataclass
class _Walk:
    """One graph: what is known of its sequences and constants, and its new nodes."""

    graph: onnx.GraphProto
    known: dict[str, Parts]
    constants: dict[str, onnx.TensorProto]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    changed: bool = False

    def run(self) -> bool:
        """Rewrite the graph in place; says whether anything was written without a sequence."""
        self.constants = self.constants | {tensor.name: tensor for tensor in self.graph.initializer}
        for node in list(self.graph.node):
            for body in bodies(node):
                self.changed |= _Walk(body, dict(self.known), self.constants).run()
            if node.op_type == "Loop":
                self._collected(node)
            rule = _RULES.get(node.op_type)
            if node.domain not in ("", "ai.onnx") or rule is None or not rule(self, node):
                self.nodes.append(node)
        if self.changed:
            del self.graph.node[:]
            self.graph.node.extend(self.nodes)
            forget_types(self.graph, self.written)
        return self.changed

    def integers(self, name: str) -> list[int] | None:
        """The value of a small constant of integers."""
        tensor = self.constants.get(name)
        return None if tensor is None else [int(i) for i in numpy_helper.to_array(tensor).reshape(-1)]

    def constant(self, name: str, value: Any) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype=np.int64), name)
        self.graph.initializer.append(tensor)
        return name

    def put(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> bool:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        self.written.add(output)
        self.changed = True
        return True

    def rank(self, name: str) -> int | None:
        """The rank of a value, where its shape is stated."""
        values = (*self.graph.value_info, *self.graph.input, *self.graph.output)
        shape = next((value.type.tensor_type for value in values if value.name == name), None)
        return len(shape.shape.dim) if shape is not None and shape.HasField("shape") else None

    def place(self, node: onnx.NodeProto, index: int, count: int) -> int | None:
        """A position that an operator states as its input `index`, counted from the front; `count` if it is absent."""
        if len(node.input) <= index or not node.input[index]:
            return count
        at = self.integers(node.input[index])
        if at is None or not -count <= at[0] <= count:
            return None
        return at[0] + count if at[0] < 0 else at[0]

    def _collected(self, node: onnx.NodeProto) -> None:
        """What steps of a Loop append to an empty sequence is kept by the Loop."""
        (body,) = bodies(node)
        for place in reversed(range(2, len(node.input))):
            if self.known.get(node.input[place]) != [] or not node.output[place - 2]:
                continue
            before, after = body.input[place].name, body.output[place - 1].name
            maker = next((inner for inner in body.node if after in inner.output), None)
            users = [inner for inner in body.node if before in reads(inner)]
            if maker is None or maker.op_type != "SequenceInsert" or users != [maker] or len(maker.input) > 2:
                continue
            kept, sequence = maker.input[1], node.output[place - 2]
            elem = body.input[place].type.sequence_type.elem_type.tensor_type.elem_type
            body.node.append(helper.make_node("Identity", [kept], [f"{after}/kept"]))
            body.output.append(helper.make_tensor_value_info(f"{after}/kept", elem, None))
            body.node.remove(maker)
            for entries in (body.input, node.input):
                del entries[place]
            del body.output[place - 1], node.output[place - 2]
            node.output.append(f"{sequence}/kept")
            rank = _Walk(body, {}, {}).rank(kept)
            self.known[sequence] = Pieces(f"{sequence}/kept", 0, rank=None if rank is None else rank + 1)
            self.changed = True


def resolve_sequences(graph: onnx.GraphProto) -> bool:
    """Write the uses of known sequences without them, in place, inside of nodes too; says whether there were any.

    Values of the graph have names of their own (see inside.py); ranks are read from `value_info`.
    """
    return _Walk(graph, {}, {}).run()


def _made(walk: _Walk, node: onnx.NodeProto) -> bool:
    walk.known[node.output[0]] = list(node.input)
    return False


def _renamed(walk: _Walk, node: onnx.NodeProto) -> bool:
    if node.input[0] in walk.known:
        walk.known[node.output[0]] = walk.known[node.input[0]]
    return False


def _inserted(walk: _Walk, node: onnx.NodeProto) -> bool:
    parts = walk.known.get(node.input[0])
    if isinstance(parts, list):
        place = walk.place(node, 2, len(parts))
        if place is not None:
            walk.known[node.output[0]] = [*parts[:place], node.input[1], *parts[place:]]
    return False


def _erased(walk: _Walk, node: onnx.NodeProto) -> bool:
    parts = walk.known.get(node.input[0])
    if isinstance(parts, list) and parts:
        place = walk.place(node, 1, len(parts))
        place = len(parts) - 1 if place == len(parts) else place
        if place is not None:
            walk.known[node.output[0]] = [*parts[:place], *parts[place + 1 :]]
    return False


def _split(walk: _Walk, node: onnx.NodeProto) -> bool:
    attributes = {item.name: item.i for item in node.attribute}
    axis, whole, sequence = attributes.get("axis", 0), node.input[0], node.output[0]
    if len(node.input) < 2 or not node.input[1]:
        walk.known[sequence] = Pieces(whole, axis, keeps=bool(attributes.get("keepdims", 1)))
        return False
    sizes = walk.integers(node.input[1])
    if sizes is None:
        return False
    if not walk.constants[node.input[1]].dims:
        walk.known[sequence] = Pieces(whole, axis, sizes[0], keeps=True)
        return False
    names = [f"{sequence}/{place}" for place in range(len(sizes))]
    walk.nodes.append(helper.make_node("Split", node.input, names, axis=axis))
    walk.known[sequence] = names
    return False


def _taken(walk: _Walk, node: onnx.NodeProto) -> bool:
    """One part: of a list by a constant position, of pieces of one element by any."""
    parts, at, output = walk.known.get(node.input[0]), node.input[1], node.output[0]
    if isinstance(parts, list):
        place = walk.place(node, 1, len(parts))
        return place is not None and place < len(parts) and walk.put("Identity", [parts[place]], output)
    if parts is None:
        return False
    if parts.size == 1 and not parts.keeps:
        return walk.put("Gather", [parts.whole, at], output, axis=parts.axis)
    if parts.size == 1:
        one = walk.constant(f"{output}/one", [1])
        walk.put("Reshape", [at, one], f"{output}/at")
        return walk.put("Gather", [parts.whole, f"{output}/at"], output, axis=parts.axis)
    given = walk.integers(at)
    if given is None or given[0] < 0:
        return False
    bounds = {"start": given[0] * parts.size, "end": (given[0] + 1) * parts.size, "axis": parts.axis}
    names = [walk.constant(f"{output}/{name}", [value]) for name, value in bounds.items()]
    return walk.put("Slice", [parts.whole, *names], output)


def _length(walk: _Walk, node: onnx.NodeProto) -> bool:
    parts = walk.known.get(node.input[0])
    if not isinstance(parts, list):
        return False
    return walk.put("Identity", [walk.constant(f"{node.output[0]}/length", len(parts))], node.output[0])


def _joined(walk: _Walk, node: onnx.NodeProto) -> bool:
    """All parts, along an axis that they have or a new one."""
    attributes = {item.name: item.i for item in node.attribute}
    axis, new, output = attributes["axis"], bool(attributes.get("new_axis", 0)), node.output[0]
    parts = walk.known.get(node.input[0])
    if isinstance(parts, list) and parts:
        if new:
            at = walk.constant(f"{output}/axis", [axis])
            wide = [f"{output}/{place}" for place in range(len(parts))]
            for name, part in zip(wide, parts, strict=True):
                walk.put("Unsqueeze", [part, at], name)
            parts = wide
        return walk.put("Concat", parts, output, axis=axis)
    if not isinstance(parts, Pieces):
        return False
    keeps = parts.keeps or parts.size > 1
    if keeps != new and parts.axis == axis:
        return walk.put("Identity", [parts.whole], output)
    rank = parts.rank or walk.rank(parts.whole)
    return not keeps and parts.axis == 0 and rank is not None and _moved(walk, parts.whole, rank, output, axis, new)


def _moved(walk: _Walk, whole: str, rank: int, output: str, axis: int, new: bool) -> bool:
    """Pieces of axis 0 stacked along another axis, or joined along the one that follows it once it has moved there."""
    place = axis % rank if new else axis % (rank - 1)
    perm = [*range(1, place + 1), 0, *range(place + 1, rank)]
    if new:
        return walk.put("Transpose", [whole], output, perm=perm)
    walk.put("Transpose", [whole], f"{output}/moved", perm=perm)
    walk.put("Shape", [f"{output}/moved"], f"{output}/front", end=place)
    walk.put("Shape", [f"{output}/moved"], f"{output}/back", start=place + 2)
    rest = walk.constant(f"{output}/rest", [-1])
    walk.put("Concat", [f"{output}/front", rest, f"{output}/back"], f"{output}/shape", axis=0)
    return walk.put("Reshape", [f"{output}/moved", f"{output}/shape"], output)


_RULES: dict[str, Callable[[_Walk, onnx.NodeProto], bool]] = {
    "ConcatFromSequence": _joined,
    "Identity": _renamed,
    "SequenceAt": _taken,
    "SequenceConstruct": _made,
    "SequenceEmpty": _made,
    "SequenceErase": _erased,
    "SequenceInsert": _inserted,
    "SequenceLength": _length,
    "SplitToSequence": _split,
}

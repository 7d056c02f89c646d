"""Operators that only hand bytes on, put behind the DequantizeLinear that follows them: there they hand numbers on."""

from __future__ import annotations

import math
from itertools import count

import onnx
from onnx import helper, numpy_helper

from ...graph import reads

# Which inputs of an operator are what it hands on; None is all of them.
CARRIED: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND"), (0,)),
    **dict.fromkeys(("Identity", "MaxPool", "ReduceMax", "ReduceMin", "Reshape", "Resize", "Slice", "Split"), (0,)),
    **dict.fromkeys(("SpaceToDepth", "Squeeze", "Tile", "Transpose", "Unsqueeze"), (0,)),
    **dict.fromkeys(("Concat", "Max", "Min"), None),
    "Clip": (0, 1, 2),
    "Pad": (0, 2),
    "Where": (1, 2),
}
FILL = 2  # the input of Pad that says what is put around; 0 where it is absent


class _Moves:
    """DequantizeLinear nodes by what they read, and names for what is new."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.makers = {name: node for node in graph.node for name in node.output if name}
        single = (tensor.name for tensor in graph.initializer if math.prod(tensor.dims) == 1)
        self.single = set(single)
        self.known: dict[tuple[str, ...], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.names = (f"dequantized.{number}" for number in count(1))
        self.taken = {*self.makers, *(value.name for value in (*graph.input, *graph.initializer))}

    def fresh(self) -> str:
        return next(name for name in self.names if name not in self.taken)

    def numbers(self, read: tuple[str, ...], output: str = "") -> str:
        """The numbers that DequantizeLinear makes of (bytes, scale, zero point), under a name if one is given."""
        if read in self.known and not output:
            return self.known[read]
        name = output or self.fresh()
        self.known.setdefault(read, name)
        maker = self.makers.get(read[0])
        if maker is None or not self.moves(maker, read):
            self.nodes.append(helper.make_node("DequantizeLinear", read, [name]))
        else:
            self.nodes.append(self._behind(maker, read, name))
        return name

    def moves(self, maker: onnx.NodeProto, read: tuple[str, ...]) -> bool:
        """Whether what made the bytes can be done with numbers: one scale for all of them."""
        return maker.op_type in CARRIED and maker.domain in ("", "ai.onnx") and self.single.issuperset(read[1:])

    def _behind(self, maker: onnx.NodeProto, read: tuple[str, ...], name: str) -> onnx.NodeProto:
        node = onnx.NodeProto()
        node.CopyFrom(maker)
        node.name = ""
        if node.op_type == "Pad" and not any(node.input[FILL : FILL + 1]):
            node.input[:] = [*node.input[:FILL], self._zero(read), *node.input[FILL + 1 :]]
        carried = CARRIED[node.op_type]
        for place, own in enumerate(node.input):
            if own and (carried is None or place in carried):
                node.input[place] = self.numbers((own, *read[1:]))
        node.output[:] = [name if own == read[0] else own and self.fresh() for own in node.output]
        return node

    def _zero(self, read: tuple[str, ...]) -> str:
        """A byte of 0, of the kind of the zero point (without one it stands for the number 0 whatever its kind)."""
        kinds = {tensor.name: tensor for tensor in self.graph.initializer}
        name = self.fresh()
        zero = numpy_helper.to_array(kinds[read[2]]).dtype.type(0) if len(read) > 2 else 0
        tensor = helper.make_tensor(name, kinds[read[2]].data_type if len(read) > 2 else 3, [], [int(zero)])
        self.graph.initializer.append(tensor)
        return name


def move_dequantizers(graph: onnx.GraphProto) -> None:
    """Put DequantizeLinear right behind what makes bytes, in place; the nodes are then in no order."""
    moves = _Moves(graph)
    for node in graph.node:
        read = tuple(name for name in node.input if name)
        if node.op_type != "DequantizeLinear" or node.domain not in ("", "ai.onnx"):
            moves.nodes.append(node)
        elif (maker := moves.makers.get(read[0])) is not None and moves.moves(maker, read):
            moves.numbers(read, node.output[0])
        else:
            moves.known.setdefault(read, node.output[0]) if not node.attribute else None
            moves.nodes.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in moves.nodes]
    del graph.node[:]
    graph.node.extend(nodes)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Take out, in place, what no output needs: an operator on bytes that nobody asks any more."""
    makers = {name: node for node in graph.node for name in node.output if name}
    waiting = [value.name for value in graph.output]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in makers and name not in needed:
            needed.update(makers[name].output)
            waiting.extend(reads(makers[name]))
    kept = [node for node in graph.node if not needed.isdisjoint(node.output)]
    del graph.node[:]
    graph.node.extend(kept)

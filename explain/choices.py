"""What is decided by the values of items: which branch an If takes, how many steps a Loop or a Scan makes.

A run of many items decides once for all of them, so a model that decides by their values takes one at a time. A
decision by sizes is the same for every item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import onnx

from .graph import Graph, Node, bodies, reads
from .inside import body_of

# Operators whose results have as many elements as their operands' values say.
COUNTED = frozenset({"Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"})
# Inputs that say how large a result is.
SIZES: Mapping[str, tuple[int, ...]] = {
    "CenterCropPad": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}


class Told(NamedTuple):
    """Whether the values of items say what a value is, and how large it is."""

    value: bool = False
    size: bool = False

    def __or__(self, other: object) -> Told:
        return Told(self.value or other.value, self.size or other.size) if isinstance(other, Told) else NotImplemented


@dataclass
class _Walk:
    """What is told of values so far, and the first node that decides by values."""

    told: dict[str, Told]
    found: Node | None = None

    def of(self, name: str) -> Told:
        return self.told.get(name, Told())

    def through(self, graph: Graph) -> None:
        for node in graph.nodes:
            self.told.update(zip(node.outputs, self._results(node), strict=False))

    def _results(self, node: Node) -> list[Told]:
        match node.op:
            case "If":
                return self._if(node)
            case "Loop":
                return self._steps(node, body_of(node, "body"), loop=True)
            case "Scan":
                return self._steps(node, body_of(node, "body"), loop=False)
            case "Shape" | "Size":
                return [Told(self.of(node.inputs[0]).size)]
        given = [self.of(name) for name in reads(node.proto)]
        value, size = any(told.value for told in given), any(told.size for told in given)
        sized = any(self.of(node.input(place)).value for place in SIZES.get(node.op, ()))
        return [Told(value, size or sized or (value and node.op in COUNTED))] * len(node.outputs)

    def _if(self, node: Node) -> list[Told]:
        decided = self.of(node.inputs[0]).value
        ends = [self._ends(body_of(node, name)) for name in ("then_branch", "else_branch")]
        self._note(node, decided)
        return [one | other | Told(decided, decided) for one, other in zip(*ends, strict=True)]

    def _steps(self, node: Node, body: Graph, *, loop: bool) -> list[Told]:
        """A Loop's or Scan's: states are told what they are told at first or after some step."""
        names = list(body.inputs)
        count = len(names) - (0 if loop else int(node.attr("num_scan_inputs")))
        first = 2 if loop else 0
        self.told.update(zip(names[first:], map(self.of, node.inputs[first:]), strict=True))
        while True:
            ends = self._ends(body)
            after = ends[1:] if loop else ends
            grown = {n: self.of(n) | told for n, told in zip(names[first:count], after, strict=False)}
            if all(self.of(name) == told for name, told in grown.items()):
                break
            self.told.update(grown)
        counted = [ends[0], *map(self.of, node.inputs[:2])] if loop else []
        decided = any(told.value for told in counted) or any(self.of(name).size for name in node.inputs[count:])
        self._note(node, decided)
        states = [told | self.of(n) for told, n in zip(after, names[first:count], strict=False)]
        return [told | Told(decided, decided) for told in (*states, *after[len(states) :])]

    def _ends(self, body: Graph) -> list[Told]:
        self.through(body)
        return [self.of(name) for name in body.outputs]

    def _note(self, node: Node, decided: bool) -> None:
        if decided and self.found is None:
            self.found = node


def holds_graphs(model: onnx.ModelProto) -> bool:
    """Whether a node of a model, or of its functions, holds graphs: without one nothing is decided."""
    graphs = (model.graph, *model.functions)
    return any(bodies(node) for graph in graphs for node in graph.node)


def decided_by_values(graph: Graph) -> str | None:
    """What of a prepared graph the values of its inputs decide first, in a sentence; None if they decide nothing."""
    walk = _Walk(dict.fromkeys(graph.inputs, Told(True)))
    walk.through(graph)
    node = walk.found
    if node is None:
        return None
    label = f"{node.op} (node {node.name or node.outputs[0]!r})"
    what = f"which branch {label} takes" if node.op == "If" else f"how many steps {label} makes"
    return f"the values of an item decide {what}"

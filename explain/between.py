"""The reverse walk between two points: slopes of chords where gradients jump, gradients halfway elsewhere.

What flows through: a model placed at points along paths, and which pairs of its rows are the two ends of a stretch. A
rule is shown a `Chord`: its inputs and outputs are those of the node run again halfway, so that every rule for a
gradient at a point can be used as it is, and a rule of `rules/secant.py` finds the node at both ends. What is linear in
the values that change along a path has the same gradient everywhere: its node is shown as it stands at the stop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from .backward import differentiable_path
from .emit import Emitter
from .graph import Graph, Node, bodies

# Linear in what moves, or with a gradient that is the same everywhere.
JOINTLY_LINEAR = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Col2Im", "Compress", "Concat", "CumSum"}
    | {"DepthToSpace", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "Expand", "Flatten", "Gather"}
    | {"GatherElements", "GatherND", "GlobalAveragePool"}
    | {"Identity", "Mean", "Neg", "Pad", "ReduceMean", "ReduceSum", "Reshape", "Resize", "ReverseSequence", "Slice"}
    | {"SpaceToDepth", "Split", "Squeeze", "Sub", "Sum", "Tile", "Transpose", "Trilu", "Unsqueeze"}
)
COUNTING = frozenset({"MaxUnpool"})  # reads positions that are counted over all rows
# Linear in each of the first two operands while the other stays where it is.
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", "Mul"})


NO_CHORD = "slopes between two points do not pass the graphs inside of it; take a method that stands on gradients"


@dataclass(frozen=True)
class Chord(Node):
    """A node between two points: itself halfway between its inputs, and as it is at the start and at the stop."""

    start: Node
    stop: Node
    both: Callable[[Callable[[Node], str]], tuple[str, str]]
    """What a function of a node emits, row by row, at the start and at the stop: once for a point that is both."""

    def ends(self, index: int = 0) -> tuple[str, str]:
        """Input `index` at the start and at the stop."""
        return self.start.inputs[index], self.stop.inputs[index]

    def results(self) -> tuple[str, str]:
        """Its first output at the start and at the stop."""
        return self.start.outputs[0], self.stop.outputs[0]


def halfway(emit: Emitter, start: str, stop: str) -> str:
    """The mean of two values."""
    return emit.mul(emit.add(start, stop), 0.5)


class Between(ABC):
    """Shows the nodes of a placed graph as chords; `wrt` are its values at which the paths are walked."""

    def __init__(self, emit: Emitter, graph: Graph, wrt: Sequence[str]) -> None:
        self.emit, self.graph = emit, graph
        self.moving = {name for name in graph.downstream(wrt) if graph.type(name).is_float}

    @abstractmethod
    def ends(self, name: str) -> tuple[str, str]:
        """A value of the graph at the starts and at the stops."""

    def value(self, name: str) -> str:
        """The value whose shape the gradient of `name` has."""
        return self.ends(name)[1]

    def node(self, node: Node) -> Node:
        """The node that a rule is shown; refuses what holds graphs, of which a node halfway would say nothing."""
        if bodies(node.proto):
            raise node.refuse(NO_CHORD)
        start, stop = (self._at(node, end) for end in (0, 1))
        if self._is_linear(node):
            return stop
        inputs = tuple(self._halfway(name) if name in self.moving else self.value(name) for name in node.inputs)
        attributes = dict(node.attributes) | ({"domain": node.domain} if node.domain else {})
        outputs = self.emit.node(node.op, inputs, attributes, len(node.outputs))
        for made, name in zip(outputs, node.outputs, strict=True):
            self._same_kind(made, name)
        parts = (node.op, node.domain, node.name, inputs, outputs, node.attributes, node.graph, node.proto)
        return Chord(*parts, start=start, stop=stop, both=partial(self.both, node))

    @abstractmethod
    def both(self, node: Node, make: Callable[[Node], str]) -> tuple[str, str]:
        """What `make` emits for a node of the graph, at the starts and at the stops."""

    def _at(self, node: Node, end: int) -> Node:
        inputs, outputs = (
            tuple(self.ends(name)[end] if name else "" for name in names) for names in (node.inputs, node.outputs)
        )
        return replace(node, inputs=inputs, outputs=outputs)

    def _is_linear(self, node: Node) -> bool:
        """Whether its gradient is the same wherever the moving inputs are."""
        moving = [place for place, name in enumerate(node.inputs) if name in self.moving]
        if node.op in PRODUCTS:
            return len(moving) < 2 or (not {0, 1} <= set(moving) and node.op != "Einsum")
        return node.op in JOINTLY_LINEAR or (node.op == "Div" and moving == [0])

    def _halfway(self, name: str) -> str:
        start, stop = self.ends(name)
        middle = halfway(self.emit, start, stop)
        self.emit.sized(middle, stop)
        self._same_kind(middle, name)
        return middle

    def _same_kind(self, made: str, name: str) -> None:
        self.emit.take(made, self.graph.type(name).dtype)
        self.graph.resembles(made, name)


class Placements(Between):
    """Two placements of a model: one row at the start and one at the stop for every stretch."""

    def __init__(self, emit: Emitter, start: Graph, stop: Graph, wrt: Sequence[str]) -> None:
        super().__init__(emit, stop, wrt)
        self.starts = {name: start.now(original) for original, name in stop.renames.items()}

    def ends(self, name: str) -> tuple[str, str]:
        """What the two placements call it."""
        return self.starts.get(name, name), name

    def both(self, node: Node, make: Callable[[Node], str]) -> tuple[str, str]:
        """Made of both placements."""
        return make(self._at(node, 0)), make(node)


class Pairs(Between):
    """Two placements, a row for every point where stretches start and where they stop; `rows` (int64 [M] each) says
    which of them."""

    def __init__(self, emit: Emitter, start: Graph, stop: Graph, wrt: Sequence[str], rows: tuple[str, str]) -> None:
        super().__init__(emit, stop, wrt)
        self.placements, self.rows = Placements(emit, start, stop, wrt), rows
        self.made = stop.downstream(stop.inputs) | self.moving

    def ends(self, name: str) -> tuple[str, str]:
        """The rows taken out of what the placements call it; what no input reaches is one for all rows."""
        if name not in self.made:
            return name, name
        start, stop = self._taken(self.placements.ends(name))
        for end in (start, stop):
            self._same_kind(end, name)
        return start, stop

    def both(self, node: Node, make: Callable[[Node], str]) -> tuple[str, str]:
        """Made once for all points of a placement."""
        return self._taken(self.placements.both(node, make))

    def _taken(self, ends: tuple[str, str]) -> tuple[str, str]:
        return self.emit.rows(ends[0], self.rows[0]), self.emit.rows(ends[1], self.rows[1])


class Rows(Between):
    """One placement, a row for every point; `start` and `stop` (int64 [M]) are the rows where the stretches end."""

    def __init__(self, emit: Emitter, graph: Graph, wrt: Sequence[str], start: str, stop: str) -> None:
        super().__init__(emit, graph, wrt)
        self.rows = start, stop
        self.made = graph.downstream(graph.inputs) | self.moving

    def ends(self, name: str) -> tuple[str, str]:
        """The rows taken out of it; what no input reaches is one for all rows."""
        if name not in self.made:
            return name, name
        start, stop = self._taken(name)
        for end in (start, stop):
            self._same_kind(end, name)
        return start, stop

    def both(self, node: Node, make: Callable[[Node], str]) -> tuple[str, str]:
        """Made once for all points."""
        return self._taken(make(node))

    def _taken(self, name: str) -> tuple[str, str]:
        return self.emit.rows(name, self.rows[0]), self.emit.rows(name, self.rows[1])


def rows_lead(graph: Graph, wrt: Sequence[str], explained: str) -> bool:
    """Whether rows can be taken out of every value on the way from `wrt` to `explained`: their first axis is that of
    the graph's inputs, and nothing else that a node there reads says how many rows there are, the shape of a Reshape
    apart, of which no rule makes use."""
    first = {kind.shape[0] for kind in graph.inputs.values() if kind.shape}
    path = differentiable_path(graph, wrt, [explained])
    made = graph.downstream(graph.inputs)
    loose = {name for name in made if (graph.type(name).shape or (None,))[0] not in first or name not in graph.types}
    for node in graph.nodes:
        if path.isdisjoint(node.outputs):
            continue
        if node.op in COUNTING:
            return False
        read = node.inputs[:1] if node.op == "Reshape" else node.inputs
        if not loose.isdisjoint((*read, *node.outputs)):
            return False
    return all(isinstance(dim, str) for dim in first)

"""What LSTM, GRU and RNN share: their directions, lengths, gates, and the sweep back along time.

The operator's output Y holds every state h_t, so what all gates are given at all T steps is two matrix products over
T*N rows, X W^T + H_{t-1} R^T + b, and every slope that the sweep back needs is elementwise in it. The sweep itself is
one Scan whose body multiplies by R; behind it the gradient of X is one more product over T*N rows.

Where lengths are given, a step beyond a row's length leaves the states as they are and its Y is 0, in either direction;
a row of length 0 ends in 0, whatever its initial state (as ONNX Runtime has it).

Every rule is written for the node at its `ends`: at one point, or at the two ends of a chord (between.py). Gates are
multiplied by each other and by states, so values halfway and chords of the activations add up to the change of the
output exactly; at a point they are the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..between import Chord, halfway
from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, Registry
from .gates import Activation, Step, activations_of, turns_of

INITIAL_H, INITIAL_C = 5, 6

Values = tuple[str, ...]


@dataclass(frozen=True)
class Gate:
    """An activation at all steps: its value at every end, and what a gradient of it is of what it was given."""

    values: Values
    pull: Callable[[str, str | None], str]
    """Of the gradient, and of the gradient times the value where that is at hand."""


@dataclass(frozen=True)
class Walk:
    """One direction of a node. Values are [T*N, ...] unless a name says otherwise, `alive` (a number) as well."""

    emit: Emitter
    node: Node
    ends: tuple[Node, ...]
    registry: Registry
    direction: int
    count: int
    backwards: bool
    hidden: int
    activations: tuple[Activation, ...]
    alive: str | None

    def weight(self, place: int) -> str:
        """Input `place` without its axis of directions."""
        name = self.node.inputs[place]
        return self.emit.squeeze(name, [0]) if self.count == 1 else self.emit.gather(name, np.array(self.direction))

    def gates(self, place: int, count: int) -> tuple[str, ...]:
        """The parts of a weight that belong to its `count` gates [H, ...] each; none where the node lacks it."""
        if not self.node.input(place):
            return ()
        return self.emit.split(self.weight(place), [self.hidden] * count, count, axis=0)

    def rows(self, value: str) -> str:
        """[T, N, K] as [T*N, K]."""
        return self.emit.reshape(value, self.emit.join(-1, self.emit.dim(value, 2)))

    def steps(self, value: str) -> str:
        """[T*N, K] as [T, N, K]."""
        emit = self.emit
        return emit.reshape(value, emit.join(emit.dims(self.node.inputs[0], 0, 2), -1))

    def linear(self, x: str, matrix: str, added: str | None = None) -> str:
        """x matrix^T + added."""
        return self.emit.gemm(x, matrix, *([added] if added else []), transB=1)

    def of_output(self, place: int, value: str) -> str:
        """This direction of an output, or of what has its shape: [T, N, H] of Y, [N, H] of the last states."""
        axis = 1 if place == 0 else 0
        if self.count == 1:
            return self.emit.squeeze(value, [axis])
        return self.emit.gather(value, np.array(self.direction), axis=axis)

    def initial(self, end: Node, place: int) -> str:
        """A state before the first step, [N, H]."""
        if end.input(place):
            return self.of_output(1, end.inputs[place])
        x = end.inputs[0]
        return self.emit.zeros(self.emit.join(self.emit.dim(x, 1), self.hidden), x)

    def before(self, end: Node) -> str:
        """The hidden state that each step starts from: Y one step earlier on the walk."""
        emit, y = self.emit, self.of_output(0, end.outputs[0])
        first = emit.unsqueeze(self.initial(end, INITIAL_H), [0])
        if not self.backwards:
            return self.rows(emit.concat(first, emit.slice(y, [0], [-1], [0]), axis=0))
        later = emit.slice(y, [1], [np.iinfo(np.int64).max], [0])
        if self.alive is None:
            return self.rows(emit.concat(later, first, axis=0))
        lasts = emit.slice(self.steps(self.alive), [1], [np.iinfo(np.int64).max], [0])
        held = emit.where(emit.greater(lasts, 0.0), later, first)  # each row starts at its own end
        return self.rows(emit.concat(held, first, axis=0))

    def given(self, end: Node, gate: int, count: int) -> str:
        """What one of `count` gates is given at all steps, X W^T + H_{t-1} R^T + b."""
        biases = self.gates(3, 2 * count)
        bias = self.emit.add(biases[gate], biases[count + gate]) if biases else None
        from_x = self.linear(self.rows(end.inputs[0]), self.gates(1, count)[gate], bias)
        return self.linear(self.before(end), self.gates(2, count)[gate], from_x)

    def middle(self, values: Values) -> str:
        """The value at the point, or halfway between the ends."""
        return values[0] if len(values) == 1 else halfway(self.emit, values[0], values[1])

    def at_point(self, values: Values) -> str | None:
        """The value at the point, None between two."""
        return values[0] if len(values) == 1 else None

    def each(self, function: Callable[..., str], *values: Values) -> Values:
        """A function of values at every end."""
        return tuple(function(*at) for at in zip(*values, strict=True))

    def gate(self, which: int, given: Values) -> Gate:
        """Activation `which` of what it is given."""
        nodes: list[Node] = []
        for step in self.activations[which]:
            nodes.append(self._placed(step, given))
            given = nodes[-1].results() if isinstance(nodes[-1], Chord) else nodes[-1].outputs

        def pull(grad: str, product: str | None = None) -> str:
            plain = nodes[0] if len(nodes) == 1 and product and len(given) == 1 else None
            if plain and plain.op in ("Sigmoid", "Tanh"):  # y (1 - y) grad or (1 - y^2) grad
                return self.emit.sub(grad if plain.op == "Tanh" else product, self.emit.mul(product, given[0]))
            for node in reversed(nodes):
                result = self.registry.find(node).rule(self.emit, node, grad)
                grad = result if isinstance(result, str) else str((result or [""])[0])
            return grad

        return Gate(given, pull)

    def _placed(self, step: Step, given: Values) -> Node:
        """An operator of an activation, as a rule is shown it."""

        def at(x: str) -> Node:
            inputs, parent = step.inputs(self.emit, x), self.node
            made = self.emit.node(step.op, inputs, dict(step.attributes))
            return Node(step.op, "", parent.name, inputs, made, step.attributes, parent.graph, parent.proto)

        if len(given) == 1:
            return at(given[0])
        start, stop, half = at(given[0]), at(given[1]), at(self.middle(given))
        parts = (half.op, half.domain, half.name, half.inputs, half.outputs, half.attributes, half.graph, half.proto)
        return Chord(*parts, start=start, stop=stop, both=lambda make: (make(start), make(stop)))

    def masked(self, value: str) -> str:
        """0 at the steps beyond a row's length."""
        return self.emit.mul(value, self.alive) if self.alive else value

    def kept(self, value: str) -> str:
        """1 at the steps beyond a row's length: what multiplies a state that is left as it is."""
        one = np.ones((), dtype=self.emit.dtype(value))
        return self.emit.where(self.emit.greater(self.alive, 0.0), value, one) if self.alive else value

    def resting(self) -> list[str]:
        """1 beyond a row's length and 0 within [T, N, 1], as a sequence for a Scan; none where all rows are full."""
        return [self.steps(self.emit.sub(1.0, self.alive))] if self.alive else []

    def seeds(self, grads: Sequence[str | None]) -> tuple[list[str], list[str]]:
        """Gradients of the last states [N, H], zeros where there are none, and of all states [T, N, H] if there are."""
        emit, x = self.emit, self.node.inputs[0]
        zeros = emit.zeros(emit.join(emit.dim(x, 1), self.hidden), x)
        count = 2 if self.node.op == "LSTM" else 1
        last = [*grads[1:], None, None][:count]
        ends = [self.of_output(1, grad) if grad else zeros for grad in last]
        each = grads[0]
        if each is None:
            return ends, []
        every = self.of_output(0, each)
        return ends, [emit.mul(every, self.steps(self.alive)) if self.alive else every]

    def arriving(self, body: Emitter, dh: str, every: list[str]) -> str:
        """In a step of the sweep: the gradient of its state with that of its output, if there is one."""
        return body.add(dh, every[0]) if every else dh

    def leaving(self, body: Emitter, into: str, dh: str, resting: list[str]) -> str:
        """What a step hands on to the one before it: all that arrived, where it rested."""
        return body.add(into, body.mul(dh, resting[0])) if resting else into

    def started(self, state: str) -> str:
        """The gradient of an initial state [N, H]: none for a row of no steps."""
        if self.alive is None:
            return state
        some = self.emit.reduce_max(self.steps(self.alive), [0], keepdims=0)  # [N, 1]
        return self.emit.mul(state, some)


Sweep = Callable[[Walk, Sequence[str | None]], tuple[str, list[str]]]
"""Of one direction: the gradients of X [T*N, I] and of the initial states [N, H] each."""


def swept(
    emit: Emitter,
    node: Node,
    grads: Sequence[str | None],
    sweep: Sweep,
    defaults: tuple[str, ...],
    registry: Registry,
    ends: tuple[Node, ...] = (),
) -> Gradients:
    """Gradients of all inputs of a node: of X the sum over the directions, of the initial states side by side."""
    x = node.inputs[0]
    found = [sweep(walk, grads) for walk in _walks(emit, node, defaults, registry, ends or (node,))]
    rows = found[0][0] if len(found) == 1 else emit.add(found[0][0], found[1][0])
    results: list[str | None] = [emit.reshape(rows, emit.shape(x)), *[None] * (len(node.inputs) - 1)]
    for place, states in zip((INITIAL_H, INITIAL_C), zip(*(states for _, states in found), strict=True), strict=False):
        if node.input(place):
            each = [emit.unsqueeze(state, [0]) for state in states]
            results[place] = each[0] if len(each) == 1 else emit.concat(*each, axis=0)
    return results


def _walks(
    emit: Emitter, node: Node, defaults: tuple[str, ...], registry: Registry, ends: tuple[Node, ...]
) -> Iterator[Walk]:
    if int(node.attr("layout", 0)):
        raise node.refuse("attribute 'layout' is 1 in a domain where it is not written out")
    turns, count, each = turns_of(node), len(defaults), activations_of(node, defaults)
    alive = _alive(emit, node)
    for d, backwards in enumerate(turns):
        own = tuple(each[d * count : (d + 1) * count])
        yield Walk(emit, node, ends, registry, d, len(turns), backwards, _hidden(node), own, alive)


def _hidden(node: Node) -> int:
    shape = node.shape(2)
    size = node.attr("hidden_size", shape[2] if shape else None)
    if not isinstance(size, int):
        raise node.refuse("attribute 'hidden_size' is missing and the shape of its input R is not known")
    return size


def _alive(emit: Emitter, node: Node) -> str | None:
    """1 at steps within a row's length, 0 beyond it, [T*N, 1]."""
    lengths, x = node.input(4), node.inputs[0]
    if not lengths:
        return None
    steps = emit.unsqueeze(emit.arange(emit.dim(x, 0)), [1])
    within = emit.less(steps, emit.unsqueeze(emit.cast_to(lengths, "int64"), [0]))
    return emit.reshape(emit.cast_like_value(within, x), np.array([-1, 1]))

"""Nodes that hold graphs: Scan, Loop and If, differentiated where they are.

What a step of a Scan or Loop is given is kept while it runs forward (the tape); a Scan then walks back over the tape,
makes each step again, and carries the adjoints of the states and, for values that the steps read from around them, the
sums of their gradients so far. So the reverse of a Loop is a Scan too: how often it ran is the length of its tape. An
If has its gradient from an If on the same condition, whose branches are the branches walked back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..backward import backward, differentiable_path
from ..bodies import Way, choose, scan, tape
from ..emit import Emitter
from ..graph import Graph, Node, reads
from ..inside import body_of
from ..prepare.loops import grows
from ..prepare.ranks import AS_FIRST, BROADCAST
from ..registry import Pairs, Registry, Within, vjp


@dataclass(frozen=True)
class State:
    """What is handed from step to step: its first value, its names in the body, and the adjoint of its last value."""

    first: str
    before: str
    after: str
    adjoint: str | None


@dataclass(frozen=True)
class Walked:
    """What is walked (a sequence read, or the adjoint of what is kept): outside, in the body, and which way."""

    whole: str
    part: str
    way: Way


@dataclass(frozen=True)
class Steps:
    """A Scan or Loop, ready to be walked back.

    `given` are the inputs of the body that no sequence outside holds, which therefore are taped; `moving` the states
    through which a gradient may flow, `captured` what the body reads from around it and has a gradient to be found.
    """

    node: Node
    body: Graph
    given: tuple[str, ...]
    states: tuple[State, ...]
    read: tuple[Walked, ...]
    kept: tuple[Walked, ...]
    captured: tuple[str, ...]
    wanted: frozenset[str]
    registry: Registry

    @property
    def slices(self) -> tuple[Walked, ...]:
        """The sequences read that have a gradient to be found."""
        return tuple(sequence for sequence in self.read if sequence.whole in self.wanted)

    def moving(self) -> tuple[State, ...]:
        """Grown until nothing is added: what a moving value reaches in one step, moves in the next."""
        live = {*self.captured, *(sequence.part for sequence in self.slices)}
        live.update(state.before for state in self.states if state.first in self.wanted)
        while True:
            path = differentiable_path(self.body, sorted(live), [state.after for state in self.states], self.registry)
            more = {state.before for state in self.states if state.after in path}
            if more <= live:
                return tuple(state for state in self.states if state.before in live)
            live |= more


@vjp("Scan", inside=True)
def scan_back(emit: Emitter, node: Node, grads: Sequence[str | None], within: Within) -> Pairs:
    """A Scan over the tape, the other way along every sequence."""
    body = body_of(node, "body")
    names, made, walked = list(body.inputs), _outputs(node), int(node.attr("num_scan_inputs"))
    count = len(names) - walked
    states = tuple(map(State, node.inputs, names[:count], made[:count], grads[:count]))
    read = tuple(map(Walked, node.inputs[count:], names[count:], _ways(node, "input", walked)))
    ways = _ways(node, "output", len(made) - count)
    kept = tuple(Walked(g, part, way) for g, part, way in zip(grads[count:], made[count:], ways, strict=True) if g)
    steps = _steps(node, body, tuple(names[:count]), states, read, kept, within)
    moving, tapes = steps.moving(), _tapes(emit, steps)
    results = _walk_back(emit, steps, moving, tapes, [_adjoint(emit, state) for state in moving])
    _keep(emit, steps, tapes)
    found = [*(state.first for state in moving), *steps.captured, *(sequence.whole for sequence in steps.slices)]
    return [(name, result) for name, result in zip(found, results, strict=True) if name in within.wanted]


@vjp("Loop", inside=True)
def loop_back(emit: Emitter, node: Node, grads: Sequence[str | None], within: Within) -> Pairs:
    """A Scan over the tape, which is as long as the Loop made steps; without any, adjoints pass it as they are."""
    body = body_of(node, "body")
    names, made = list(body.inputs), _outputs(node)
    states = tuple(map(State, node.inputs[2:], names[2:], made[1:], grads))
    parts = zip(grads[len(states) :], made[1 + len(states) :], strict=True)
    kept = tuple(Walked(grad, part, Way(backwards=True)) for grad, part in parts if grad)
    steps = _steps(node, body, tuple(names), states, (), kept, within)
    moving, tapes = steps.moving(), _tapes(emit, steps)
    _refuse_growth(steps)
    adjoints = [_adjoint(emit, state) for state in moving]

    def back(inner: Emitter) -> Sequence[str]:
        return _walk_back(inner, steps, moving, tapes, adjoints)

    def stay(inner: Emitter) -> Sequence[str]:
        return [*adjoints, *map(inner.zeros_like, steps.captured)]

    ran = emit.greater(emit.size(tapes[names[0]]), 0)
    results = choose(emit, ran, back, stay)
    _keep(emit, steps, tapes, names[0])
    found = [*(state.first for state in moving), *steps.captured]
    return [(name, result) for name, result in zip(found, results, strict=True) if name in within.wanted]


@vjp("If", inside=True)
def if_back(emit: Emitter, node: Node, grads: Sequence[str | None], within: Within) -> Pairs:
    """The branch that was taken, again and back."""
    wanted = sorted(within.wanted)

    def branch(attribute: str) -> Callable[[Emitter], Sequence[str]]:
        def back(inner: Emitter) -> Sequence[str]:
            body = body_of(node, attribute)
            bound = _placed(inner, body, {})
            given = zip(_outputs(node, attribute), grads, strict=True)
            seeds = {bound.now(name): grad for name, grad in given if grad is not None}
            found = backward(inner, bound, seeds, wanted, within.registry)
            return [found[name] for name in wanted]

        return back

    results = choose(emit, node.inputs[0], branch("then_branch"), branch("else_branch"))
    return list(zip(wanted, results, strict=True))


def _outputs(node: Node, attribute: str = "body") -> list[str]:
    return [value.name for value in node.attributes[attribute].output]


def _ways(node: Node, end: str, count: int) -> list[Way]:
    """The ways back along the sequences at one end of a Scan."""
    axes = node.attr(f"scan_{end}_axes") or [0] * count
    directions = node.attr(f"scan_{end}_directions") or [0] * count
    return [Way(axis, not direction) for axis, direction in zip(axes, directions, strict=True)]


def _steps(
    node: Node,
    body: Graph,
    given: tuple[str, ...],
    states: tuple[State, ...],
    read: tuple[Walked, ...],
    kept: tuple[Walked, ...],
    within: Within,
) -> Steps:
    """Sequence- and other typed states are refused."""
    for state in states:
        kind = body.type(state.before)
        if kind.dtype.endswith("_type"):
            raise node.refuse(f"its state {state.first!r} is a {kind.dtype.removesuffix('_type')}, not a tensor")
    captured = sorted(within.wanted.intersection(name for inner in body.nodes for name in reads(inner.proto)))
    return Steps(node, body, given, states, read, kept, tuple(captured), within.wanted, within.registry)


def _placed(emit: Emitter, body: Graph, names: Mapping[str, str]) -> Graph:
    """The body once more, its inputs bound to `names`."""
    bound = body.bind(names, prefix=f"{emit.fresh('again')}/")
    emit.place(bound)
    return bound


def _adjoint(emit: Emitter, state: State) -> str:
    return state.adjoint or emit.zeros_like(state.first)


def _tapes(emit: Emitter, steps: Steps) -> dict[str, str]:
    """Names for the tapes of what is given, by name in the body."""
    return {name: emit.take(emit.fresh("tape"), emit.dtype(name)) for name in steps.given}


def _keep(emit: Emitter, steps: Steps, tapes: Mapping[str, str], *always: str) -> None:
    """Have those tapes made which the node just emitted reads."""
    used = set(reads(emit.nodes[-1]))
    made = {name: stacked for name, stacked in tapes.items() if stacked in used or name in always}
    tape(emit, next(filter(None, steps.node.outputs)), made, {name: _rank(steps.body, name) for name in made})


def _rank(graph: Graph, name: str) -> int | None:
    shape = graph.type(name).shape
    return None if shape is None else len(shape)


def _walk_back(
    emit: Emitter, steps: Steps, moving: Sequence[State], tapes: Mapping[str, str], adjoints: Sequence[str]
) -> tuple[str, ...]:
    """Adjoints of the first states, then gradients of what is captured, then of the sequences read."""
    parts = [*steps.given, *(walked.part for walked in steps.read)]
    seeded = [*(state.after for state in moving), *(walked.part for walked in steps.kept)]
    asked = [*(state.before for state in moving), *steps.captured, *(walked.part for walked in steps.slices)]
    count, split = len(moving), len(moving) + len(steps.captured)

    def step(inner: Emitter, held: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        bound = _placed(inner, steps.body, dict(zip(parts, slices, strict=False)))
        given = zip(seeded, (*held[:count], *slices[len(parts) :]), strict=True)
        seeds = {bound.now(name): grad for name, grad in given}
        found = backward(inner, bound, seeds, [bound.now(name) for name in asked], steps.registry)
        grads = [found[bound.now(name)] for name in asked]
        sums = list(map(inner.add, held[count:], grads[count:split]))
        return [*grads[:count], *sums], grads[split:]

    states = [*adjoints, *map(emit.zeros_like, steps.captured)]
    sequences = [*(tapes[name] for name in steps.given), *(walked.whole for walked in (*steps.read, *steps.kept))]
    ways = [Way(backwards=True)] * len(steps.given) + [walked.way for walked in (*steps.read, *steps.kept)]
    ranks = [_rank(steps.body, name) for name in asked]
    return scan(emit, step, states, sequences, ways=ways, kept_ways=[w.way for w in steps.slices], ranks=ranks)


SIZING = frozenset({"Concat", "Pad", "Slice", "Tile"})


def _refuse_growth(steps: Steps) -> None:
    """Steps of one shape only can be taped."""
    for state in steps.states:
        first = steps.node.graph.type(state.first).shape
        before, after = (steps.body.type(name).shape for name in (state.before, state.after))
        if first is None or (before is not None and after is None):
            continue
        if before is None or after is None or len(before) != len(after):
            raise steps.node.refuse(f"the rank of its state {state.first!r} changes from step to step")
        open_axes = {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b or a is None}
        if any(map(grows, before)) or open_axes & _resized(steps.body, state, len(before)):
            raise steps.node.refuse(
                f"the shape of its state {state.first!r} changes from step to step: {list(first)} to {list(after)}"
            )


def _resized(body: Graph, state: State, rank: int) -> set[int]:
    """Axes to which operators give another length that stand between a state and the next, where all keep shapes."""
    kept: dict[str, set[int]] = {state.before: set()}
    for node in body.nodes:
        given = [kept[name] for name in node.inputs if name in kept]
        if node.op in AS_FIRST | BROADCAST and given:
            axes = set[int]().union(*given, _lengths(node, rank))
            axes = set(range(rank)) if axes and node.op == "Transpose" else axes
            kept.update(dict.fromkeys(node.outputs, axes))
    return kept.get(state.after, set())


def _lengths(node: Node, rank: int) -> set[int]:
    """Axes along which the results of a node have another length than its operand."""
    axes = node.constant(3) if node.op == "Slice" else None
    if node.op not in SIZING:
        return set()
    if node.op == "Concat":
        return {int(node.attr("axis")) % rank}
    return set(range(rank)) if axes is None else {int(axis) % rank for axis in axes}

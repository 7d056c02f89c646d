"""LSTM: c_t = f c_{t-1} + i g, h_t = o h(c_t), with gates i, o, f of x_t, h_{t-1} and (peepholes) the cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bodies import scan
from ..emit import Emitter
from ..graph import Node
from ..registry import REGISTRY, Gradients, vjp
from .gates import applied
from .recurrent import INITIAL_C, Gate, Values, Walk, swept

ACTIVATIONS = ("Sigmoid", "Tanh", "Tanh")
F, G, H = range(3)


@vjp("LSTM", many=True)
def lstm(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """dP_t = (g i' dc, h(c) o' dh, c_{t-1} f' dc, i g' dc) with dh_t = dY_t + dP_{t+1} R, one product a step, and
    dc_t = f_{t+1} dc_{t+1} + o h'(c_t) dh_t; dX = dP W."""
    return swept(emit, node, grads, sweep_lstm, ACTIVATIONS, REGISTRY)


def sweep_lstm(walk: Walk, grads: Sequence[str | None]) -> tuple[str, list[str]]:
    """One direction (see recurrent.py).

    A peephole p adds p c to what its gate is given: to i and f the cell before the step, to o the one behind it.
    """
    emit, w, r = walk.emit, walk.weight(1), walk.weight(2)
    factors, onto_c, keep = _factors(walk, _gates(walk))
    ends, every = walk.seeds(grads)
    resting = walk.resting()

    def step(body: Emitter, states: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        factor, onto_c, keep, *others = slices
        dh = walk.arriving(body, states[0], others[len(resting) :])
        dc = body.add(states[1], body.mul(dh, onto_c))
        dp = body.mul(body.concat(dc, dh, dc, dc, axis=1), factor)
        return [walk.leaving(body, body.matmul(dp, r), dh, others[: len(resting)]), body.mul(dc, keep)], [dp]

    sequences = [walk.steps(value) for value in (factors, onto_c, keep)]
    dh, dc, dp = scan(emit, step, ends, [*sequences, *resting, *every], backwards=not walk.backwards, ranks=[2, 2, 2])
    return emit.matmul(walk.rows(dp), w), [walk.started(dh), walk.started(dc)]


@dataclass(frozen=True)
class Gates:
    """What one direction multiplies, at all steps; `f` is None where the forget gate is 1 - i (input_forget).

    `before` is c_{t-1}, `kept` what is kept of it, `left` their product, `added` that of i and g, `y` that of o and h.
    """

    i: Gate
    o: Gate
    f: Gate | None
    g: Gate
    h: Gate
    before: Values
    kept: Values
    left: Values
    added: Values
    y: Values


def _gates(walk: Walk) -> Gates:
    emit, seen = walk.emit, _peepholes(walk)
    i, o, f, new = (tuple(walk.given(end, gate, 4) for end in walk.ends) for gate in range(4))
    g = walk.gate(G, new)
    before = tuple(_cells(walk, *at) for at in zip(walk.ends, i, f, g.values, strict=True))

    def peeping(given: Values, cells: Values, which: int) -> Values:
        return walk.each(lambda x, c: emit.add(x, emit.mul(c, seen[which])), given, cells) if seen else given

    i_gate = walk.gate(F, peeping(i, before, 0))
    f_gate = None if _coupled(walk) else walk.gate(F, peeping(f, before, 2))
    kept = f_gate.values if f_gate else walk.each(lambda i: emit.sub(1.0, i), i_gate.values)
    left, added = walk.each(emit.mul, kept, before), walk.each(emit.mul, i_gate.values, g.values)
    cells = walk.each(emit.add, left, added)
    y = tuple(walk.rows(walk.of_output(0, end.outputs[0])) for end in walk.ends)
    o_gate = walk.gate(F, peeping(o, cells, 1))
    return Gates(i_gate, o_gate, f_gate, g, walk.gate(H, cells), before, kept, left, added, y)


def _coupled(walk: Walk) -> bool:
    return bool(int(walk.node.attr("input_forget", 0)))


def _peepholes(walk: Walk) -> tuple[str, ...]:
    """Those of i, o and f; none where the node has none."""
    return walk.gates(7, 3)


def _cells(walk: Walk, end: Node, i: str, f: str, g: str) -> str:
    """The cell that each step starts from, one Scan: ONNX gives only the last. i and f before their activation."""
    emit, activation, seen = walk.emit, walk.activations[F], _peepholes(walk)

    def gates(at: Emitter, i: str, f: str) -> tuple[str, str]:
        i = applied(at, activation, i)
        return i, at.sub(1.0, i) if _coupled(walk) else applied(at, activation, f)

    def step(body: Emitter, states: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        c = states[0]
        keep, new = slices[:2]
        if seen:
            i, keep = gates(body, *(body.add(x, body.mul(c, p)) for x, p in zip(slices, seen[::2], strict=False)))
            new = body.mul(i, slices[2])
        after = body.add(body.mul(keep, c), new)
        return [body.where(slices[3], after, c) if len(slices) > 3 else after], [c]

    if seen:
        alive = [emit.greater(walk.steps(walk.alive), 0.0)] if walk.alive else []
        sequences = [*(walk.steps(value) for value in (i, f, g)), *alive]
    else:
        i, f = gates(emit, i, f)
        sequences = [walk.steps(walk.kept(f)), walk.steps(walk.masked(emit.mul(i, g)))]
    _, before = scan(emit, step, [walk.initial(end, INITIAL_C)], sequences, backwards=walk.backwards, ranks=[2, 2, 2])
    return walk.rows(before)


def _factors(walk: Walk, gates: Gates) -> tuple[str, str, str]:
    """What dP [T*N, 4H] is in dh and dc, what dc_t is in dh_t, and dc_{t-1} in dc_t."""
    emit, seen, i, f = walk.emit, _peepholes(walk), walk.middle(gates.i.values), gates.f
    g, before, keep = (walk.middle(values) for values in (gates.g.values, gates.before, gates.kept))
    added, left, y = (walk.at_point(values) for values in (gates.added, gates.left, gates.y))
    to_i = gates.i.pull(g, added) if f else gates.i.pull(emit.sub(g, before), None)
    to_o = gates.o.pull(walk.middle(gates.h.values), y)
    to_f = f.pull(before, left) if f else emit.zeros_like(to_i)
    onto_c = gates.h.pull(walk.middle(gates.o.values), y)
    if seen:
        onto_c = emit.add(onto_c, emit.mul(to_o, seen[1]))
        keep = emit.add(keep, emit.add(emit.mul(to_i, seen[0]), emit.mul(to_f, seen[2])))
    factors = emit.concat(to_i, to_o, to_f, gates.g.pull(i, added), axis=1)
    return walk.masked(factors), walk.masked(onto_c), walk.kept(keep)

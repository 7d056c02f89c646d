"""GRU: h_t = (1 - z) n + z h_{t-1} with gates z (update), r (reset) and n, which sees h_{t-1} through r."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bodies import scan
from ..emit import Emitter
from ..graph import Node
from ..registry import REGISTRY, Gradients, vjp
from .recurrent import Gate, Values, Walk, swept

ACTIVATIONS = ("Sigmoid", "Tanh")
F, G = range(2)
Z, R, N = range(3)  # parts of the weights


@vjp("GRU", many=True)
def gru(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """dz = (h_{t-1} - n) z' dh and dn = (1 - z) n' dh; r is reached through what it multiplies, h_{t-1} or R_n h_{t-1}
    (linear_before_reset)."""
    return swept(emit, node, grads, sweep_gru, ACTIVATIONS, REGISTRY)


def sweep_gru(walk: Walk, grads: Sequence[str | None]) -> tuple[str, list[str]]:
    """One direction (see recurrent.py)."""
    return (sweep_after if int(walk.node.attr("linear_before_reset", 0)) else sweep_before)(walk, grads)


@dataclass(frozen=True)
class Gates:
    """What one direction multiplies, at all steps: `reset` is what r multiplies, h_{t-1} or what R_n made of it."""

    z: Gate
    r: Gate
    n: Gate
    before: Values
    reset: Values
    inner: Values


def _gates(walk: Walk, after: bool) -> Gates:
    """All that the gates are given, products over all steps; `after` where R_n comes before the product with r."""
    z, r = (walk.gate(F, tuple(walk.given(end, gate, 3) for end in walk.ends)) for gate in (Z, R))
    before = tuple(walk.before(end) for end in walk.ends)
    through, biases = walk.gates(2, 3)[N], walk.gates(3, 6)
    b_x, b_h = (biases[N], biases[3 + N]) if biases else (None, None)
    reset = walk.each(lambda state: walk.linear(state, through, b_h), before) if after else before
    inner = walk.each(walk.emit.mul, r.values, reset)
    if not after:
        inner = walk.each(lambda state: walk.linear(state, through, b_h), inner)
    from_x = tuple(walk.linear(walk.rows(end.inputs[0]), walk.gates(1, 3)[N], b_x) for end in walk.ends)
    return Gates(z, r, walk.gate(G, walk.each(walk.emit.add, from_x, inner)), before, reset, inner)


def _shares(walk: Walk, gates: Gates) -> tuple[str, str, str]:
    """What of dh goes to what z and n are given, and straight on to h_{t-1}."""
    emit = walk.emit
    z, n, before = (walk.middle(values) for values in (gates.z.values, gates.n.values, gates.before))
    to_z, to_n = gates.z.pull(emit.sub(before, n), None), gates.n.pull(emit.sub(1.0, z), None)
    return walk.masked(to_z), walk.masked(to_n), walk.kept(z)


def sweep_after(walk: Walk, grads: Sequence[str | None]) -> tuple[str, list[str]]:
    """r multiplies q = R_n h_{t-1} + b: one product with R a step, of (dz, dr, dq)."""
    emit, w, r = walk.emit, walk.weight(1), walk.weight(2)
    gates = _gates(walk, after=True)
    to_z, to_n, on = _shares(walk, gates)
    to_r = emit.mul(to_n, gates.r.pull(walk.middle(gates.reset), walk.at_point(gates.inner)))
    to_q = emit.mul(to_n, walk.middle(gates.r.values))
    ends, every = walk.seeds(grads)

    def step(body: Emitter, states: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        factor, on, *every = slices
        dh = walk.arriving(body, states[0], every)
        inner = body.matmul(body.mul(body.concat(dh, dh, dh, axis=1), factor), r)
        return [body.add(inner, body.mul(dh, on))], [dh]

    sequences = [walk.steps(emit.concat(to_z, to_r, to_q, axis=1)), walk.steps(on), *every]
    first, dh = scan(emit, step, ends, sequences, backwards=not walk.backwards, ranks=[2, 2, 2])
    rows = walk.rows(dh)
    dp = emit.mul(emit.concat(rows, rows, rows, axis=1), emit.concat(to_z, to_r, to_n, axis=1))
    return emit.matmul(dp, w), [walk.started(first)]


def sweep_before(walk: Walk, grads: Sequence[str | None]) -> tuple[str, list[str]]:
    """r multiplies h_{t-1}: dn has to pass R_n before dr is known, two products a step."""
    emit, h, w, r = walk.emit, walk.hidden, walk.weight(1), walk.weight(2)
    gates = _gates(walk, after=False)
    r_zr, r_n = emit.split(r, [2 * h, h], 2, axis=0)
    to_z, to_n, on = _shares(walk, gates)
    to_r, through = gates.r.pull(walk.middle(gates.reset), None), walk.middle(gates.r.values)
    ends, every = walk.seeds(grads)

    def step(body: Emitter, states: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        to_z, to_n, to_r, through, on, *every = slices
        dh = walk.arriving(body, states[0], every)
        dn = body.mul(dh, to_n)
        reset = body.matmul(dn, r_n)
        zr = body.concat(body.mul(dh, to_z), body.mul(reset, to_r), axis=1)
        straight = body.add(body.mul(dh, on), body.mul(reset, through))
        return [body.add(body.matmul(zr, r_zr), straight)], [zr, dn]

    sequences = [walk.steps(value) for value in (to_z, to_n, to_r, through, on)]
    first, zr, dn = scan(emit, step, ends, [*sequences, *every], backwards=not walk.backwards, ranks=[2, 2, 2])
    return emit.matmul(emit.concat(walk.rows(zr), walk.rows(dn), axis=1), w), [walk.started(first)]

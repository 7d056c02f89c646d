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
    """What one direction multiplies, at all steps: `reset` is what r does, h_{t-1} or what R_n made of it."""

    z: Gate
    r: Gate
    n: Gate
    before: Values
    reset: Values


def _gates(walk: Walk, w: str, r: str, after: bool) -> Gates:
    """All that the gates are given: two products, or three where r comes before the product with R_n."""
    emit, h = walk.emit, walk.hidden
    b_w, b_r = walk.biases(3) or (None, None)
    before = tuple(walk.before(end) for end in walk.ends)
    from_x = [emit.split(walk.linear(walk.rows(end.inputs[0]), w, b_w), [h, h, h], 3, axis=1) for end in walk.ends]
    r_zr, r_n = emit.split(r, [2 * h, h], 2, axis=0)
    b_zr, b_n = emit.split(b_r, [2 * h, h], 2, axis=0) if b_r else (None, None)
    from_h = [emit.split(walk.linear(state, r_zr, b_zr), [h, h], 2, axis=1) for state in before]
    z, r_gate = (walk.gate(F, tuple(emit.add(x[i], y[i]) for x, y in zip(from_x, from_h, strict=True))) for i in (0, 1))
    reset = walk.each(lambda state: walk.linear(state, r_n, b_n), before) if after else before
    inner = walk.each(emit.mul, r_gate.values, reset)
    if not after:
        inner = walk.each(lambda state: walk.linear(state, r_n, b_n), inner)
    n = walk.gate(G, tuple(emit.add(x[2], y) for x, y in zip(from_x, inner, strict=True)))
    return Gates(z, r_gate, n, before, reset)


def _shares(walk: Walk, gates: Gates) -> tuple[str, str, str]:
    """What of dh goes to what z and n are given, and straight on to h_{t-1}."""
    emit = walk.emit
    z, n, before = (walk.middle(values) for values in (gates.z.values, gates.n.values, gates.before))
    to_z, to_n = gates.z.pull(emit.sub(before, n)), gates.n.pull(emit.sub(1.0, z))
    return walk.masked(to_z), walk.masked(to_n), walk.kept(z)


def sweep_after(walk: Walk, grads: Sequence[str | None]) -> tuple[str, list[str]]:
    """r multiplies q = R_n h_{t-1} + b: one product with R a step, of (dz, dr, dq)."""
    emit, w, r = walk.emit, walk.weight(1), walk.weight(2)
    gates = _gates(walk, w, r, after=True)
    to_z, to_n, on = _shares(walk, gates)
    to_r = emit.mul(to_n, gates.r.pull(walk.middle(gates.reset)))
    to_q = emit.mul(to_n, walk.middle(gates.r.values))
    ends, every = walk.seeds(grads)

    def step(body: Emitter, states: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        factor, on, *every = slices
        dh = walk.arriving(body, states[0], every)
        inner = body.matmul(body.mul(body.concat(dh, dh, dh, axis=1), factor), r)
        return [body.add(inner, body.mul(dh, on))], [dh]

    sequences = [walk.steps(emit.concat(to_z, to_r, to_q, axis=1)), walk.steps(on), *every]
    first, dh = scan(emit, step, ends, sequences, backwards=not walk.backwards)
    rows = walk.rows(dh)
    dp = emit.mul(emit.concat(rows, rows, rows, axis=1), emit.concat(to_z, to_r, to_n, axis=1))
    return emit.matmul(dp, w), [walk.started(first)]


def sweep_before(walk: Walk, grads: Sequence[str | None]) -> tuple[str, list[str]]:
    """r multiplies h_{t-1}: dn has to pass R_n before dr is known, two products a step."""
    emit, h, w, r = walk.emit, walk.hidden, walk.weight(1), walk.weight(2)
    gates = _gates(walk, w, r, after=False)
    r_zr, r_n = emit.split(r, [2 * h, h], 2, axis=0)
    to_z, to_n, on = _shares(walk, gates)
    to_r, through = gates.r.pull(walk.middle(gates.reset)), walk.middle(gates.r.values)
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
    first, zr, dn = scan(emit, step, ends, [*sequences, *every], backwards=not walk.backwards)
    return emit.matmul(emit.concat(walk.rows(zr), walk.rows(dn), axis=1), w), [walk.started(first)]

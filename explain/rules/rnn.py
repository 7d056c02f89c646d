"""RNN: h_t = f(W x_t + R h_{t-1} + b)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..bodies import scan
from ..emit import Emitter
from ..graph import Node
from ..registry import REGISTRY, Gradients, vjp
from .recurrent import Walk, swept

ACTIVATIONS = ("Tanh",)


@vjp("RNN", many=True)
def rnn(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """dP_t = f' dh_t with dh_t = dY_t + dP_{t+1} R; dX = dP W."""
    return swept(emit, node, grads, sweep_rnn, ACTIVATIONS, REGISTRY)


def sweep_rnn(walk: Walk, grads: Sequence[str | None]) -> tuple[str, list[str]]:
    """One direction (see recurrent.py)."""
    emit, w, r = walk.emit, walk.weight(1), walk.weight(2)
    given = tuple(walk.given(end, 0, 1) for end in walk.ends)
    ones = emit.expand(np.ones((), dtype=emit.dtype(given[0])), emit.shape(given[0]))
    slope = walk.masked(walk.gate(0, given).pull(ones, None))
    ends, every = walk.seeds(grads)
    resting = walk.resting()

    def step(body: Emitter, states: Sequence[str], slices: Sequence[str]) -> tuple[list[str], list[str]]:
        slope, *others = slices
        dh = walk.arriving(body, states[0], others[len(resting) :])
        dp = body.mul(dh, slope)
        return [walk.leaving(body, body.matmul(dp, r), dh, others[: len(resting)])], [dp]

    dh, dp = scan(
        emit, step, ends, [walk.steps(slope), *resting, *every], backwards=not walk.backwards, ranks=[2, 2, 2]
    )
    return emit.matmul(walk.rows(dp), w), [walk.started(dh)]

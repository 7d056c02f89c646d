"""The scalar each item is explained for: f = sum over S of target.weight[n, s] * y[n, target[n, s]]."""

from __future__ import annotations

from ..emit import Emitter
from ..model import Explained
from .draft import Draft


def declare_target(draft: Draft, explained: Explained) -> tuple[str, str]:
    """Declare `target` [N, S, D] int64 and `target.weight` [N, S]; D indices address y after its item axis."""
    target = draft.input("target", "int64", ("N", "S", explained.rank - 1))
    return target, draft.input("target.weight", explained.dtype, ("N", "S"))


def select(emit: Emitter, y: str, target: str, weight: str, evaluations: str | None) -> tuple[str, str]:
    """f for every row of y [M, ...] and its cotangent, shaped like y.

    `evaluations` (int64 [1]) is how often each item was evaluated, its rows one after another; None means once. The
    cotangent is collected in float32 at least: runtimes do not add up smaller numbers in a ScatterND.
    """
    if evaluations is not None:
        target, weight = repeat_items(emit, target, evaluations), repeat_items(emit, weight, evaluations)
    rows = emit.reshape(emit.arange(emit.dim(y, 0)), [-1, 1, 1])
    rows = emit.expand(rows, emit.join(emit.dims(target, 0, 2), 1))
    places = emit.concat(rows, target, axis=2)
    value = emit.reduce_sum(emit.mul(emit.gather_nd(y, places), weight), [1], keepdims=0)
    wide = weight if emit.dtype(y) == "float64" else emit.cast_to(weight, "float32")
    cotangent = emit.scatter_nd(emit.zeros(emit.shape(y), wide), places, wide, reduction="add")
    return value, emit.cast_like_value(cotangent, y)


def repeat_items(emit: Emitter, value: str, count: str) -> str:
    """[N, ...] as [N * count, ...], each item `count` times in a row."""
    rest = emit.dims(value, 1)
    wide = emit.expand(emit.unsqueeze(value, [1]), emit.join(emit.dim(value, 0), count, rest))
    # A target of an output [N] has no indices (D = 0): without allowzero a 0 would mean "as it is".
    return emit.reshape(wide, emit.join(emit.mul(emit.dim(value, 0), count), rest), allowzero=1)

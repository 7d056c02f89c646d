"""`deeplift`: what each element of x contributes to f(x) - f(baseline), by the rescale rule, averaged over B baselines.

`x` [N, ...], `x.baseline` [B, ...] and `baseline.weight` [B], both shared by all items, and a target in.
`x.attribution` [N, ...] = sum_b weight_b m_b (x - baseline_b), with m_b the multipliers of DeepLIFT (Shrikumar et al.
2017, arXiv:1704.02685) between the two; `value` [N] = f(x), and `baseline_value` [N, B] = f(baseline_b), of the item's
own target. With a background for baselines it is DeepSHAP (Lundberg & Lee 2017, arXiv:1705.07874).

Items and baselines are evaluated once each and paired behind that, where the rows of every value on the way can be told
apart and no input is held; elsewhere the model runs at both ends of every pair. A background that is bound when the
program is compiled is no input but constants: then a runtime evaluates the baselines once, when it loads the program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..backward import backward
from ..between import Between, Pairs, Placements
from ..emit import Emitter
from ..errors import MethodUnavailable
from ..model import Explained, Leaf, Model
from ..rules.rescale import RESCALE
from .draft import Draft, Program, free, item_shape
from .path_secant import rows_are_apart
from .target import declare_target, repeat_items, select

if TYPE_CHECKING:
    from ..background import Background


@dataclass(frozen=True)
class _Baselines:
    """Names of the baselines [B, ...] by input, and of their weights [B]."""

    rows: dict[str, str]
    weight: str


def build_deeplift(
    model: Model, *, output: str | None = None, space: str | None = None, background: Background | None = None
) -> Program:
    """Compile the program; a `background` is bound to it as its baselines and their weights."""
    explained = model.explained(output, space)
    leaves = model.leaves(explained)
    if not leaves:
        raise MethodUnavailable(f"no input reaches output {explained.output!r} through a gradient")
    draft = _declared(model, leaves)
    baselines = _baselines(draft, explained, leaves, background)
    declare_target(draft, explained)
    place = _shared if _share(model, explained, leaves) else _paired
    between, seed = place(draft, explained, leaves, baselines)
    graph = between.graph
    wrt, seeds = [graph.now(leaf.value) for leaf in leaves], {graph.now(explained.value): seed}
    multipliers = backward(draft.emit, graph, seeds, wrt, RESCALE, between)
    _contract(draft, leaves, between, multipliers, baselines)
    return draft.finish("deeplift", explained, {"output": explained.output, "space": explained.space})


def numbers_of_baseline(model: Model, explained: Explained) -> int | None:
    """How many numbers a bound program holds of each baseline, at most; None where that is not known, or where nothing
    is gained since the model runs at both ends of every pair."""
    if not _share(model, explained, model.leaves(explained)):
        return None
    graph = model.graph
    shapes = [graph.type(name).shape for name in graph.downstream(graph.inputs)]
    if any(shape is None or not all(isinstance(dim, int) for dim in shape[1:]) for shape in shapes):
        return None
    return sum(math.prod(int(dim or 0) for dim in shape[1:]) for shape in shapes if shape)


def _share(model: Model, explained: Explained, leaves: tuple[Leaf, ...]) -> bool:
    """Whether items and baselines need to be evaluated once each, not once for each pair."""
    return {leaf.input for leaf in leaves} == set(model.graph.inputs) and rows_are_apart(model, explained)


def _declared(model: Model, leaves: tuple[Leaf, ...]) -> Draft:
    walked = list(dict.fromkeys(leaf.input for leaf in leaves))
    names = [f"{name}.{role}" for name in walked for role in ("baseline", "attribution")]
    draft = Draft(model, ("baseline.weight", "target", "target.weight", "value", "baseline_value", *names))
    draft.own_inputs()
    return draft


def _baselines(
    draft: Draft, explained: Explained, leaves: tuple[Leaf, ...], background: Background | None
) -> _Baselines:
    """Inputs of the program, or what is bound to it."""
    model, emit, dtype = draft.model, draft.emit, explained.dtype
    walked = dict.fromkeys(leaf.input for leaf in leaves)
    if background is not None:
        rows = {name: emit.constant(background.rows[name]) for name in walked}
        return _Baselines(rows, emit.constant(background.weight.astype(dtype)))
    shapes = {name: ("B", *free(item_shape(model, name))) for name in walked}
    rows = {k: draft.input(f"{k}.baseline", model.graph.inputs[k].dtype, shapes[k], "shared") for k in walked}
    return _Baselines(rows, draft.input("baseline.weight", dtype, ("B",), "shared"))


def _shared(draft: Draft, explained: Explained, leaves: tuple[Leaf, ...], baselines: _Baselines) -> tuple[Between, str]:
    """N rows of items and B of baselines; stretch n * B + b leads from baseline b to item n."""
    emit, inputs = draft.emit, draft.model.graph.inputs
    start = draft.place(baselines.rows, prefix="start/")
    stop = draft.place({name: name for name in inputs}, prefix="stop/")
    count = emit.dim(baselines.weight, 0)
    pairs = emit.arange(emit.mul(emit.dim(next(iter(inputs)), 0), count))
    rows = emit.mod(pairs, count), emit.div(pairs, count)
    between = Pairs(emit, start, stop, [stop.now(leaf.value) for leaf in leaves], rows)
    value, cotangent = select(emit, stop.now(explained.value), "target", "target.weight", None)
    at_baselines = _of_all_targets(emit, start.now(explained.value), explained.rank)
    draft.output("value", value, explained.dtype, ("N",))
    draft.output("baseline_value", at_baselines, explained.dtype, ("N", "B"))
    return between, emit.rows(cotangent, rows[1])


def _of_all_targets(emit: Emitter, y: str, rank: int) -> str:
    """f of every row of y [B, ...] by the target of every item, [N, B]."""
    last = emit.transpose(y, perm=[*range(1, rank), 0])  # [..., B]
    # What has no indices (D = 0) is one number for each row.
    picked = emit.gather_nd(last, "target") if rank > 1 else emit.unsqueeze(last, [0, 1])
    return emit.reduce_sum(emit.mul(picked, emit.unsqueeze("target.weight", [2])), [1], keepdims=0)


def _paired(draft: Draft, explained: Explained, leaves: tuple[Leaf, ...], baselines: _Baselines) -> tuple[Between, str]:
    """N * B rows of items, and as many of baselines with the item's own inputs where those are held."""
    emit, count = draft.emit, draft.emit.dim(baselines.weight, 0)
    own = {name: repeat_items(emit, name, count) for name in draft.model.graph.inputs}
    bases = own | {name: _over_items(emit, rows, name, own[name]) for name, rows in baselines.rows.items()}
    start, stop = draft.place(bases, prefix="start/"), draft.place(own, prefix="stop/")
    between = Placements(emit, start, stop, [stop.now(leaf.value) for leaf in leaves])
    f = []
    for graph in (start, stop):
        value, cotangent = select(emit, draft.explained(graph, explained), "target", "target.weight", count)
        f.append(emit.reshape(value, emit.join(-1, count)))
    draft.output("value", emit.squeeze(emit.slice(f[1], [0], [1], [1]), [1]), explained.dtype, ("N",))
    draft.output("baseline_value", f[0], explained.dtype, ("N", "B"))
    return between, draft.to_layout(explained.output, cotangent)


def _over_items(emit: Emitter, rows: str, items: str, like: str) -> str:
    """The baselines [B, ...] once for every item, [N * B, ...]."""
    wide = emit.expand(emit.unsqueeze(rows, [0]), emit.join(emit.dim(items, 0), emit.shape(rows)))
    return emit.reshape(wide, emit.shape(like))


def _contract(
    draft: Draft, leaves: tuple[Leaf, ...], between: Between, multipliers: dict[str, str], baselines: _Baselines
) -> None:
    """Multipliers times differences, summed over the encoding of a code and over the baselines with their weights."""
    emit, graph = draft.emit, between.graph
    parts: dict[str, list[str]] = {}
    for leaf in leaves:
        name, rank = graph.now(leaf.value), len(draft.model.graph.type(leaf.value).shape or ())
        start, stop = between.ends(name)
        each = emit.mul(multipliers[name], emit.sub(stop, start))
        rows = draft.from_layout(leaf.input, each, rank)
        pairs = emit.join(emit.dim(leaf.input, 0), emit.dim(baselines.weight, 0))
        flat = emit.reshape(rows, emit.join(pairs, -1))
        weight = emit.reshape(emit.cast_like_value(baselines.weight, flat), np.array([1, 1, -1]))
        total = emit.matmul(weight, flat)
        if leaf.trailing:
            wide = emit.reshape(total, emit.join(emit.shape(leaf.input), -1))
            parts.setdefault(leaf.input, []).append(emit.reduce_sum(wide, [-1], keepdims=0))
        else:
            parts.setdefault(leaf.input, []).append(emit.reshape(total, emit.shape(leaf.input)))
    for name, found in parts.items():
        total = found[0] if len(found) == 1 else emit.node("Sum", found)[0]
        draft.output(f"{name}.attribution", total, emit.dtype(total), ("N", *free(item_shape(draft.model, name))))

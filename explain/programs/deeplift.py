"""`deeplift`: what each element of x contributes to f(x) - f(baseline), by the rescale rule, averaged over B baselines.

`x` [N, ...], `x.baseline` [B, ...] and `baseline.weight` [B], both shared by all items, and a target in.
`x.attribution` [N, ...] = sum_b weight_b m_b (x - baseline_b), with m_b the multipliers of DeepLIFT (Shrikumar et al.
2017, arXiv:1704.02685) between the two; `value` [N] = f(x), and `baseline_value` [N, B] = f(baseline_b), of the item's
own target. With a background for baselines it is DeepSHAP (Lundberg & Lee 2017, arXiv:1705.07874).

Items and baselines are evaluated once each and paired behind that, where the rows of every value on the way can be told
apart and no input is held; elsewhere the model runs at both ends of every pair.
"""

from __future__ import annotations

import numpy as np

from ..backward import backward
from ..between import Between, Placements, Rows
from ..errors import MethodUnavailable
from ..model import Explained, Leaf, Model
from ..rules.rescale import RESCALE
from .draft import Draft, Program, free, item_shape
from .path_secant import rows_are_apart
from .target import declare_target, repeat_items, select


def build_deeplift(model: Model, *, output: str | None = None, space: str | None = None) -> Program:
    """Compile the program."""
    explained = model.explained(output, space)
    leaves = model.leaves(explained)
    if not leaves:
        raise MethodUnavailable(f"no input reaches output {explained.output!r} through a gradient")
    draft = _declared(model, explained, leaves)
    held = set(model.graph.inputs) - {leaf.input for leaf in leaves}
    shared = not held and rows_are_apart(model, explained)
    between = _shared(draft, leaves) if shared else _paired(draft, leaves)
    graph, emit, count = between.graph, draft.emit, draft.emit.dim("baseline.weight", 0)
    rank = len(model.graph.type(explained.value).shape or ())
    f = []
    for end in between.ends(graph.now(explained.value)):
        value, cotangent = select(
            emit, draft.from_layout(explained.output, end, rank), "target", "target.weight", count
        )
        f.append(emit.reshape(value, emit.join(-1, count)))
    seeds = {graph.now(explained.value): draft.to_layout(explained.output, cotangent)}
    multipliers = backward(emit, graph, seeds, [graph.now(leaf.value) for leaf in leaves], RESCALE, between)
    _contract(draft, leaves, between, multipliers)
    draft.output("value", emit.squeeze(emit.slice(f[1], [0], [1], [1]), [1]), explained.dtype, ("N",))
    draft.output("baseline_value", f[0], explained.dtype, ("N", "B"))
    return draft.finish("deeplift", explained, {"output": explained.output, "space": explained.space})


def _declared(model: Model, explained: Explained, leaves: tuple[Leaf, ...]) -> Draft:
    walked = list(dict.fromkeys(leaf.input for leaf in leaves))
    names = [f"{name}.{role}" for name in walked for role in ("baseline", "attribution")]
    draft = Draft(model, ("baseline.weight", "target", "target.weight", "value", "baseline_value", *names))
    draft.own_inputs()
    for name in walked:
        shape = ("B", *free(item_shape(model, name)))
        draft.input(f"{name}.baseline", model.graph.inputs[name].dtype, shape, "shared")
    draft.input("baseline.weight", explained.dtype, ("B",), "shared")
    declare_target(draft, explained)
    return draft


def _shared(draft: Draft, leaves: tuple[Leaf, ...]) -> Between:
    """N rows of items, then B of baselines; stretch n * B + b leads from baseline b to item n."""
    emit = draft.emit
    rows = {name: emit.concat(name, f"{name}.baseline", axis=0) for name in draft.model.graph.inputs}
    graph = draft.place(rows)
    items = emit.dim(next(iter(draft.model.graph.inputs)), 0)
    baselines = emit.dim("baseline.weight", 0)
    grid = emit.join(items, baselines)
    own = emit.expand(emit.unsqueeze(emit.arange(items), [1]), grid)
    other = emit.expand(emit.unsqueeze(emit.add(emit.arange(baselines), items), [0]), grid)
    wrt = [graph.now(leaf.value) for leaf in leaves]
    return Rows(emit, graph, wrt, emit.reshape(other, [-1]), emit.reshape(own, [-1]))


def _paired(draft: Draft, leaves: tuple[Leaf, ...]) -> Between:
    """N * B rows of items, and as many of baselines with the item's own inputs where those are held."""
    emit, count, walked = draft.emit, draft.emit.dim("baseline.weight", 0), {leaf.input for leaf in leaves}
    own = {name: repeat_items(emit, name, count) for name in draft.model.graph.inputs}
    bases = {name: _over_items(draft, name, own[name]) if name in walked else own[name] for name in own}
    start, stop = draft.place(bases, prefix="start/"), draft.place(own, prefix="stop/")
    return Placements(emit, start, stop, [stop.now(leaf.value) for leaf in leaves])


def _over_items(draft: Draft, name: str, like: str) -> str:
    """The baselines [B, ...] once for every item, [N * B, ...]."""
    emit, baseline = draft.emit, f"{name}.baseline"
    rest = emit.dims(baseline, 1)
    wide = emit.expand(emit.unsqueeze(baseline, [0]), emit.join(emit.dim(name, 0), emit.dim(baseline, 0), rest))
    return emit.reshape(wide, emit.shape(like))


def _contract(draft: Draft, leaves: tuple[Leaf, ...], between: Between, multipliers: dict[str, str]) -> None:
    """Multipliers times differences, summed over the encoding of a code and over the baselines with their weights."""
    emit, graph = draft.emit, between.graph
    parts: dict[str, list[str]] = {}
    for leaf in leaves:
        name, rank = graph.now(leaf.value), len(draft.model.graph.type(leaf.value).shape or ())
        start, stop = between.ends(name)
        each = emit.mul(multipliers[name], emit.sub(stop, start))
        rows = draft.from_layout(leaf.input, each, rank)
        pairs = emit.join(emit.dim(leaf.input, 0), emit.dim("baseline.weight", 0))
        flat = emit.reshape(rows, emit.join(pairs, -1))
        weight = emit.reshape(emit.cast_like_value("baseline.weight", flat), np.array([1, 1, -1]))
        total = emit.reshape(emit.matmul(weight, flat), emit.join(emit.shape(leaf.input), -1))
        parts.setdefault(leaf.input, []).append(emit.reduce_sum(total, [-1], keepdims=0))
    for name, found in parts.items():
        total = found[0] if len(found) == 1 else emit.node("Sum", found)[0]
        draft.output(f"{name}.attribution", total, emit.dtype(total), ("N", *free(item_shape(draft.model, name))))

"""What programs along a path share: from the baseline to the input, point by point, and the sums over the points.

Token and category inputs are walked from the encoding of the baseline to the encoding of the input, and attributed by
summing over the encoding's own axes: one number per token or category.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..dtypes import Shape
from ..emit import Emitter
from ..errors import MethodUnavailable
from ..graph import Graph
from ..model import Explained, Leaf, Model
from .draft import Draft, free, item_shape
from .target import declare_target, repeat_items


@dataclass(frozen=True)
class Path:
    """The walk of one leaf: `baseline` [N, J, P] and `difference` d [N, J or K, P], P elements of an item."""

    leaf: Leaf
    baseline: str
    difference: str


def declare(
    model: Model,
    explained: Explained,
    arrays: Mapping[str, tuple[str, Shape]],
    outputs: tuple[str, ...],
    noise: bool = False,
) -> Draft:
    """A draft with its inputs: the model's own, a baseline (and noise) for each that is walked, `arrays`, the target.

    `arrays` have a dtype and a shape; `outputs` are the names of what the program gives besides gradients and
    attributions. Raises MethodUnavailable where no input reaches the explained output.
    """
    leaves = model.leaves(explained)
    if not leaves:
        raise MethodUnavailable(f"no input reaches output {explained.output!r} through a gradient")
    walked = list(dict.fromkeys(leaf.input for leaf in leaves))
    names = [f"{name}.{role}" for name in walked for role in ("baseline", "noise", "gradient", "attribution")]
    draft = Draft(model, (*arrays, "target", "target.weight", *outputs, *names))
    draft.own_inputs()
    for name in walked:
        kind, item = model.graph.inputs[name], free(item_shape(model, name))
        draft.input(f"{name}.baseline", kind.dtype, ("N", "J", *item))
        if noise and kind.is_float:
            draft.input(f"{name}.noise", kind.dtype, ("N", "J", *item))
    for name, (dtype, shape) in arrays.items():
        draft.input(name, dtype, shape)
    declare_target(draft, explained)
    return draft


def walk(draft: Draft, leaf: Leaf, noise: bool = False) -> Path:
    """From the baseline towards the input (with noise added), as [N, J, P] throughout."""
    emit = draft.emit
    x, baseline = _ends(draft, leaf)
    if noise and leaf.value == leaf.input:
        x = emit.add(x, _flat_evaluations(emit, f"{leaf.input}.noise"))
    return Path(leaf, baseline, emit.sub(x, baseline))


def _ends(draft: Draft, leaf: Leaf) -> tuple[str, str]:
    """Input [N, 1, P] and baseline [N, J, P]: the values themselves, or both sent through the encoding."""
    emit, baseline = draft.emit, f"{leaf.input}.baseline"
    if leaf.value == leaf.input:
        return _flat_evaluations(emit, emit.unsqueeze(leaf.input, [1])), _flat_evaluations(emit, baseline)
    inputs, needed = draft.model.graph.inputs, draft.model.graph.upstream([leaf.value])
    own = {name: name for name in inputs}
    count = emit.dim(baseline, 1)
    others = {name: repeat_items(emit, name, count) for name in inputs if name != leaf.input and name in needed}
    rows = emit.reshape(baseline, emit.join(-1, emit.dims(baseline, 2)))
    at_x = draft.place(own, prefix=f"{leaf.value}/x/", keep=needed)
    at_baseline = draft.place(own | others | {leaf.input: rows}, prefix=f"{leaf.value}/baseline/", keep=needed)
    ends = []
    for graph, evaluations in ((at_x, emit.constant(np.ones(1, dtype=np.int64))), (at_baseline, count)):
        rank = len(graph.type(graph.now(leaf.value)).shape or ())
        items = draft.from_layout(leaf.input, graph.now(leaf.value), rank)
        ends.append(emit.reshape(items, emit.join(emit.dim(leaf.input, 0), evaluations, -1)))
    return ends[0], ends[1]


def _flat_evaluations(emit: Emitter, value: str) -> str:
    """[N, J, item...] as [N, J, P]."""
    return emit.reshape(value, emit.join(emit.dims(value, 0, 2), -1))


def place_at(draft: Draft, paths: list[Path], alpha: str, prefix: str = "") -> Graph:
    """Place the model at the points baseline + alpha d, alpha [N, K]: N * K rows, each item's one after another."""
    emit, repeat = draft.emit, draft.emit.dim(alpha, 1)
    at = {path.leaf.value: _rows(draft, path, alpha) for path in paths}
    own = {path.leaf.input: at.pop(path.leaf.value) for path in paths if path.leaf.value == path.leaf.input}
    fixed = {name: repeat_items(emit, name, repeat) for name in draft.model.graph.inputs if name not in own}
    return draft.place(own | fixed, values=at, prefix=prefix)


def _rows(draft: Draft, path: Path, alpha: str) -> str:
    """Points as rows the model takes: [N * K, item...] (for an encoding, in the model's own layout)."""
    emit, leaf = draft.emit, path.leaf
    along = emit.unsqueeze(emit.cast_like_value(alpha, path.difference), [2])
    points = emit.add(path.baseline, emit.mul(along, path.difference))
    if leaf.value == leaf.input:
        return emit.reshape(points, emit.join(-1, emit.dims(leaf.input, 1)))
    rank = len(draft.model.graph.type(leaf.value).shape or ())
    encoding = f"{leaf.value}/x/{leaf.value}"
    sizes = emit.dims(draft.from_layout(leaf.input, encoding, rank), 1)
    return draft.to_layout(leaf.input, emit.reshape(points, emit.join(-1, sizes)))


def contract(draft: Draft, paths: list[Path], slopes: Mapping[str, str], of: str = "alpha") -> None:
    """Output `<input>.attribution` out of the slopes by leaf value, one row of them for each element of `of` [N, K].

    Slopes at points (`alpha`) are gradients: weighted and added up they are an output `<input>.gradient`.
    """
    emit = draft.emit
    attributions: dict[str, list[str]] = {}
    for path in paths:
        leaf, kind = path.leaf, draft.model.graph.type(path.leaf.value)
        rows = draft.from_layout(leaf.input, slopes[leaf.value], len(kind.shape or ()))
        weight = emit.transpose(emit.cast_like_value("weight", rows), perm=[0, 2, 1])
        each = _counting(emit, emit.reshape(rows, emit.join(emit.dims(of, 0, 2), -1)))
        sides = emit.join(emit.dim(of, 0), emit.dim("weight", 2))
        whole = emit.matmul(weight, emit.mul(path.difference, each))
        shape = emit.join(sides, emit.dims(leaf.input, 1))
        if leaf.trailing:
            whole = emit.reduce_sum(emit.reshape(whole, emit.join(shape, -1)), [-1], keepdims=0)
        attributions.setdefault(leaf.input, []).append(emit.reshape(whole, shape))
        if of == "alpha" and sum(other.leaf.input == leaf.input for other in paths) == 1:
            total = emit.reshape(emit.matmul(weight, each), emit.join(sides, emit.dims(rows, 1)))
            item = item_shape(draft.model, leaf.input, leaf.value)
            draft.output(f"{leaf.input}.gradient", total, kind.dtype, ("N", "R", *free(item)))
    for name, parts in attributions.items():
        total = parts[0] if len(parts) == 1 else emit.node("Sum", parts)[0]
        item = free(item_shape(draft.model, name))
        draft.output(f"{name}.attribution", total, emit.dtype(total), ("N", "R", *item))


def _counting(emit: Emitter, each: str) -> str:
    """The slopes, 0 where no weighting counts them: what is infinite or no number is not 0 when its weight is."""
    counts = emit.greater(emit.reduce_max(emit.abs("weight"), [2], keepdims=1), 0.0)
    return emit.where(counts, each, np.zeros((), dtype=emit.dtype(each)))

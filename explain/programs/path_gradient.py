"""`path_gradient`: gradients at K points between a baseline and x, contracted with R weightings.

With d = x (+ noise) - baseline and g_k the gradient of f at baseline + alpha_k d:
`x.gradient` [N, R, ...] = sum_k weight_kr g_k, `x.attribution` [N, R, ...] = sum_k weight_kr d g_k, and `value` [N, K]
= f along the path. Saliency, input x gradient, integrated gradients, SmoothGrad and expected gradients are different
alphas, weights, baselines and noise on this one program.

Token and category inputs are walked from the encoding of the baseline to the encoding of the input, and attributed by
summing over the encoding's own axes: one number per token or category.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..backward import backward
from ..emit import Emitter
from ..errors import InvalidParameter, MethodUnavailable
from ..model import Explained, Leaf, Model
from ..registry import REGISTRY
from ..rules.guided import GUIDED
from .draft import Draft, Program, free, item_shape
from .target import declare_target, repeat_items, select

RULES = {"gradient": REGISTRY, "guided": GUIDED}


@dataclass(frozen=True)
class Path:
    """The walk of one leaf: `difference` d [N, J or K, P] and `points` [N, K, P], P elements of an item."""

    leaf: Leaf
    difference: str
    points: str


def build_path_gradient(
    model: Model, *, output: str | None = None, space: str | None = None, noise: bool = False, rules: str = "gradient"
) -> Program:
    """Compile the program; `noise=True` adds an input `<input>.noise` [N, J, ...] for each float input.

    `rules` names the backward rules: "gradient", or "guided" for those of guided backpropagation.
    """
    if rules not in RULES:
        raise InvalidParameter(f"rules: came {rules!r}, expected one of {', '.join(RULES)}")
    explained = model.explained(output, space)
    leaves = model.leaves(explained)
    if not leaves:
        raise MethodUnavailable(f"no input reaches output {explained.output!r} through a gradient")
    draft = _declared(model, explained, leaves, noise)
    emit, repeat = draft.emit, draft.emit.dim("alpha", 1)
    paths = [_path(draft, leaf, noise) for leaf in leaves]
    direct = {path.leaf.input: _rows(draft, path) for path in paths if path.leaf.value == path.leaf.input}
    fixed = {name: repeat_items(emit, name, repeat) for name in model.graph.inputs if name not in direct}
    encoded = {path.leaf.value: _rows(draft, path) for path in paths if path.leaf.value != path.leaf.input}
    graph = draft.place(direct | fixed, values=encoded)
    value, cotangent = select(emit, draft.explained(graph, explained), "target", "target.weight", repeat)
    seeds = {graph.now(explained.value): draft.to_layout(explained.output, cotangent)}
    gradients = backward(emit, graph, seeds, [graph.now(leaf.value) for leaf in leaves], RULES[rules])
    _contract(draft, paths, {leaf.value: gradients[graph.now(leaf.value)] for leaf in leaves})
    draft.output("value", emit.reshape(value, emit.shape("alpha")), explained.dtype, ("N", "K"))
    options = {"output": explained.output, "space": explained.space, "noise": noise, "rules": rules}
    return draft.finish("path_gradient", explained, options)


def _declared(model: Model, explained: Explained, leaves: tuple[Leaf, ...], noise: bool) -> Draft:
    inputs = list(dict.fromkeys(leaf.input for leaf in leaves))
    names = [f"{name}.{role}" for name in inputs for role in ("baseline", "noise", "gradient", "attribution")]
    draft = Draft(model, ("alpha", "weight", "target", "target.weight", "value", *names))
    draft.own_inputs()
    for name in inputs:
        kind, item = model.graph.inputs[name], free(item_shape(model, name))
        draft.input(f"{name}.baseline", kind.dtype, ("N", "J", *item))
        if noise and kind.is_float:
            draft.input(f"{name}.noise", kind.dtype, ("N", "J", *item))
    draft.input("alpha", explained.dtype, ("N", "K"))
    draft.input("weight", explained.dtype, ("N", "K", "R"))
    declare_target(draft, explained)
    return draft


def _path(draft: Draft, leaf: Leaf, noise: bool) -> Path:
    """From the baseline towards the input, as [N, J or K, P] throughout."""
    emit = draft.emit
    x, baseline = _ends(draft, leaf)
    if noise and leaf.value == leaf.input:
        x = emit.add(x, _flat_evaluations(emit, f"{leaf.input}.noise"))
    difference = emit.sub(x, baseline)
    alpha = emit.unsqueeze(emit.cast_like_value("alpha", x), [2])
    return Path(leaf, difference, emit.add(baseline, emit.mul(alpha, difference)))


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


def _rows(draft: Draft, path: Path) -> str:
    """Points as rows the model takes: [N * K, item...] (for an encoding, in the model's own layout)."""
    emit, leaf = draft.emit, path.leaf
    if leaf.value == leaf.input:
        return emit.reshape(path.points, emit.join(-1, emit.dims(leaf.input, 1)))
    rank = len(draft.model.graph.type(leaf.value).shape or ())
    encoding = f"{leaf.value}/x/{leaf.value}"
    sizes = emit.dims(draft.from_layout(leaf.input, encoding, rank), 1)
    return draft.to_layout(leaf.input, emit.reshape(path.points, emit.join(-1, sizes)))


def _contract(draft: Draft, paths: list[Path], gradients: dict[str, str]) -> None:
    """Outputs `<input>.gradient` and `<input>.attribution` out of the gradients at all points."""
    emit = draft.emit
    attributions: dict[str, list[str]] = {}
    for path in paths:
        leaf, kind = path.leaf, draft.model.graph.type(path.leaf.value)
        rows = draft.from_layout(leaf.input, gradients[leaf.value], len(kind.shape or ()))
        weight = emit.transpose(emit.cast_like_value("weight", rows), perm=[0, 2, 1])
        at_points = emit.reshape(rows, emit.join(emit.dims("alpha", 0, 2), -1))
        sides = emit.join(emit.dim("alpha", 0), emit.dim("weight", 2))
        whole = emit.matmul(weight, emit.mul(path.difference, at_points))
        shape = emit.join(sides, emit.dims(leaf.input, 1))
        if leaf.trailing:
            whole = emit.reduce_sum(emit.reshape(whole, emit.join(shape, -1)), [-1], keepdims=0)
        attributions.setdefault(leaf.input, []).append(emit.reshape(whole, shape))
        if sum(other.leaf.input == leaf.input for other in paths) == 1:
            gradient = emit.reshape(emit.matmul(weight, at_points), emit.join(sides, emit.dims(rows, 1)))
            item = item_shape(draft.model, leaf.input, leaf.value)
            draft.output(f"{leaf.input}.gradient", gradient, kind.dtype, ("N", "R", *free(item)))
    for name, parts in attributions.items():
        total = parts[0] if len(parts) == 1 else emit.node("Sum", parts)[0]
        item = free(item_shape(draft.model, name))
        draft.output(f"{name}.attribution", total, emit.dtype(total), ("N", "R", *item))

"""`tree_shap`: SHAP values of a sum over trees against a background that is bound when the program is made.

The model's own inputs in; `<input>.attribution` [N, C, ...] for each of them, `value` [N, C] (the explained value, its
elements after the item axis) and `base_value` [C] (its mean over the background) out. The values are exact
interventional ones (Lundberg et al. 2020, arXiv:1905.04610); the players are the elements of the inputs, whatever the
model makes of them before its trees, or declared groups of them: then `groups.attribution` [N, C, G] comes out.

What the background does at the leaves is in tables (see trees/), so that a row costs comparisons, one product of
matrices and one lookup for each bundle of leaves, whatever the background's size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..errors import InvalidParameter, MethodUnavailable
from ..model import Explained, Model
from ..trees import Compiled, Forest, Owners, compiled, evaluate, read_forest
from .draft import Draft, Program, free, item_shape
from .tree_rows import Rows


@dataclass(frozen=True)
class Players:
    """Numbers of the players by input ([item...] int64), how many there are, and whether they are declared groups."""

    index: dict[str, np.ndarray]
    count: int
    declared: bool


def build_tree_shap(
    model: Model,
    *,
    background: Mapping[str, np.ndarray],
    weights: Any = None,
    groups: Mapping[str, np.ndarray] | None = None,
    output: str | None = None,
    space: str | None = None,
    dtype: str = "float32",
    interactions: bool = False,
) -> Program:
    """Compile the program for `background` [B, item...] by input, with `weights` [B] that sum to 1 (default: equal).

    `groups` [item...] by input declares which player each element belongs to, `dtype` is that of the tables. With
    `interactions`, `<input>.interaction` [N, C, F, F] takes the place of attributions (`inputs.interaction` where there
    are several inputs): Shapley interaction indices, halved, and on the diagonal what is left of a player's value.
    Raises MethodUnavailable where the explained value is no sum over trees, or a column of theirs has several players.
    """
    explained = model.explained(output, space)
    if dtype not in ("float32", "float64"):
        raise InvalidParameter(f"dtype: came {dtype!r}, expected float32 or float64")
    players = players_of(model, groups)
    forest, owners = trees_of(model, explained, players)
    columns = _columns(model, forest.sources, background, forest.dtype)
    trees = compiled(forest, columns, weights_of(weights, len(columns)), owners, interactions, dtype)
    return _drafted(model, explained, trees, players, dtype, interactions)


def trees_of(model: Model, explained: Explained, players: Players | None = None) -> tuple[Forest, np.ndarray]:
    """The trees behind the explained value, and the player [P] (by default an element) of each of their columns."""
    key = f"trees of {explained.output!r} as {explained.space}"
    forest = model.remember(key, lambda: read_forest(model.graph, explained.value))
    index = in_layout(model, (players or players_of(model)).index)
    return forest, Owners(model.graph, index).columns(forest.sources, forest.column)


def players_of(model: Model, groups: Mapping[str, np.ndarray] | None = None) -> Players:
    """One player for each element of the inputs, or the groups declared."""
    shapes = {name: item_shape(model, name) for name in model.graph.inputs}
    for name, shape in shapes.items():
        if not all(isinstance(dim, int) for dim in shape):
            raise MethodUnavailable(f"the shape of an item of input {name!r} is not declared: {list(shape)}")
    if groups is not None:
        index = {name: np.asarray(groups[name], dtype=np.int64) for name in shapes}
        if any((array < 0).any() for array in index.values()):
            raise MethodUnavailable("elements that are never masked (group -1) are not covered")
        return Players(index, 1 + max(int(array.max(initial=0)) for array in index.values()), True)
    index, first = {}, 0
    for name, shape in shapes.items():
        size = prod(int(dim) for dim in shape if isinstance(dim, int))
        index[name] = np.arange(first, first + size).reshape([int(dim) for dim in shape if isinstance(dim, int)])
        first += size
    return Players(index, first, False)


def in_layout(model: Model, index: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Players of one item as the model has its inputs."""
    for name in index:
        if model.batch_axis(name) != 0:
            raise MethodUnavailable(f"input {name!r} does not have its items on axis 0")
    return dict(index)


def _columns(model: Model, sources: tuple[str, ...], rows: Mapping[str, np.ndarray], dtype: str) -> np.ndarray:
    """The trees' columns [B, P] of rows of the inputs."""
    missing = [name for name in model.graph.inputs if name not in rows]
    if missing:
        raise InvalidParameter(f"background: nothing came for input {missing[0]!r}")
    parts = [evaluate(model.graph, rows, source).astype(dtype) for source in sources]
    return np.concatenate(parts, axis=1)


def weights_of(given: Any, count: int) -> np.ndarray:
    """Shares [B] of the background's rows, equal unless given; raises InvalidParameter."""
    if given is None:
        return np.full(count, 1.0 / count)
    weights = np.asarray(given, dtype=np.float64)
    if weights.shape != (count,) or (weights < 0).any() or abs(weights.sum() - 1) > 1e-6:
        raise InvalidParameter(
            f"weights: came {weights.shape} summing to {weights.sum():.6g}, expected [{count}], sum 1"
        )
    return np.asarray(weights / weights.sum())


def _drafted(model: Model, explained: Explained, trees: Compiled, players: Players, dtype: str, pairs: bool) -> Program:
    names = ["groups"] if players.declared else list(players.index)
    kind = "interaction" if pairs else "attribution"
    draft = Draft(model, (*(f"{name}.{kind}" for name in names), "value", "base_value"))
    emit = draft.emit
    own = draft.own_inputs()
    graph = draft.place(own, keep=model.graph.upstream(trees.forest.sources))
    parts = [emit.cast_to(graph.now(source), trees.forest.dtype) for source in trees.forest.sources]
    columns = parts[0] if len(parts) == 1 else emit.concat(*parts, axis=1)
    rows = Rows(draft, trees, columns, players.count, dtype, pairs)
    scores = rows.scores()
    phi, value = rows.outputs(scores)
    draft.output("value", emit.cast_to(value, explained.dtype), explained.dtype, ("N", "C"))
    draft.output("base_value", emit.constant(trees.base.astype(explained.dtype)), explained.dtype, ("C",), "shared")
    if pairs:
        square = emit.reshape(phi, np.array([0, 0, players.count, players.count], dtype=np.int64))
        name = names[0] if len(names) == 1 else "inputs"
        draft.output(f"{name}.interaction", square, emit.dtype(phi), ("N", "C", players.count, players.count))
    else:
        attributions(draft, phi, players)
    options = {"output": explained.output, "space": explained.space, "rows": rows.per_run, "interactions": pairs}
    return draft.finish("tree_shap", explained, options)


def attributions(draft: Draft, phi: str, players: Players) -> None:
    """Attributions [N, C, players] as outputs by input."""
    emit = draft.emit
    if players.declared:
        draft.output("groups.attribution", phi, emit.dtype(phi), ("N", "C", players.count))
        return
    for name, index in players.index.items():
        part = emit.slice(phi, [int(index.min())], [int(index.max()) + 1], [2]) if len(players.index) > 1 else phi
        shape = emit.join(emit.dims(phi, 0, 2), np.array(index.shape, dtype=np.int64)) if index.ndim != 1 else None
        whole = part if shape is None else emit.reshape(part, shape)
        draft.output(f"{name}.attribution", whole, emit.dtype(phi), ("N", "C", *free(item_shape(draft.model, name))))

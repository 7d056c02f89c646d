"""`linear_shap`: SHAP values of a value that is affine in encodings of single elements, against a bound background.

With e(x) the encodings (scaled numbers, one-hot blocks, looked-up rows, whatever is made of one element each) and the
value W e(x) + c, a player's value is the sum over its encodings of W (e(x) - mean e(background)): Lundberg & Lee 2017,
arXiv:1705.07874, corollary 1. Inputs and outputs are those of `tree_shap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from ..affine import is_affine
from ..errors import MethodUnavailable
from ..graph import Graph
from ..model import Explained, Model
from ..trees import Owners, evaluate
from .draft import Draft, Program, flat
from .tree_shap import Players, attributions, in_layout, players_of, weights_of

WIDEST = 4096  # encodings, whose slopes are read off one by one


def build_linear_shap(
    model: Model,
    *,
    background: Mapping[str, np.ndarray],
    weights: Any = None,
    groups: Mapping[str, np.ndarray] | None = None,
    output: str | None = None,
    space: str | None = None,
) -> Program:
    """Compile the program for `background` [B, item...] by input, with `weights` [B] that sum to 1 (default: equal).

    Raises MethodUnavailable, naming the first node that is not affine in encodings of single elements.
    """
    explained, players = model.explained(output, space), players_of(model, groups)
    encodings = encodings_of(model, explained, players)
    slopes, offset = _slopes(model.graph, list(encodings), explained.value)
    owners = np.concatenate([found.reshape(-1) for found in encodings.values()])
    size = len(next(iter(background.values())))
    rows = [evaluate(model.graph, background, name).reshape(size, -1) for name in encodings]
    mean = weights_of(weights, size) @ np.concatenate(rows, axis=1).astype(np.float64)
    return _drafted(model, explained, players, list(encodings), owners, slopes, offset, mean)


def encodings_of(model: Model, explained: Explained, players: Players | None = None) -> dict[str, np.ndarray]:
    """The values behind which all is affine, each with the players [1, ...] of its elements; raises
    MethodUnavailable."""
    graph, found = model.graph, _ends(model.graph, explained.value)
    owners = Owners(graph, in_layout(model, (players or players_of(model)).index))
    encodings: dict[str, np.ndarray] = {}
    for name in found:
        node, kind = graph.producers.get(name), graph.type(name)
        label = f"operator {node.op} (node {node.name or node.outputs[0]!r})" if node else f"input {name!r}"
        try:
            own = owners.of(name)
        except MethodUnavailable as error:
            raise MethodUnavailable(f"{label} is not affine in the inputs: {error}") from error
        if not kind.is_float or (own < -1).any():
            raise MethodUnavailable(f"{label} is not affine in the inputs")
        if kind.shape is None or not all(isinstance(dim, int) for dim in kind.shape[1:]):
            raise MethodUnavailable(f"the shape of {name!r}, to which the model is affine, is not declared")
        encodings[name] = np.broadcast_to(own, (1, *(int(dim) for dim in kind.shape[1:] if isinstance(dim, int))))
    size = sum(own.size for own in encodings.values())
    if not 0 < size <= WIDEST:
        raise MethodUnavailable(f"the model is affine in {size} encodings; 1 to {WIDEST} are covered")
    return encodings


def _ends(graph: Graph, value: str) -> list[str]:
    """Where the affine arithmetic before `value` begins."""
    moving = graph.downstream(graph.inputs)
    ends: dict[str, None] = {}
    open_values, seen = [value], set()
    while open_values:
        name = open_values.pop()
        if name in seen or name not in moving:
            continue
        seen.add(name)
        node = graph.producers.get(name)
        if node is not None and is_affine(node, moving):
            open_values.extend(node.inputs)
        else:
            ends[name] = None
    return sorted(ends)


def _slopes(graph: Graph, names: list[str], value: str) -> tuple[np.ndarray, np.ndarray]:
    """[E, C] and [C]: the value at unit vectors of the encodings less that at 0, and that at 0."""
    shapes = [[int(dim) for dim in (graph.type(name).shape or ())[1:] if isinstance(dim, int)] for name in names]
    sizes = [prod(shape) for shape in shapes]
    rows, start, feeds = np.vstack([np.zeros((1, sum(sizes))), np.eye(sum(sizes))]), 0, {}
    for name, shape, size in zip(names, shapes, sizes, strict=True):
        part = rows[:, start : start + size].reshape(len(rows), *shape)
        feeds[name] = part.astype(graph.type(name).dtype)
        start += size
    found = evaluate(graph, feeds, value)
    if len(found) != len(rows):
        raise MethodUnavailable(f"the value {value!r} does not hold one row for each row of the inputs")
    table = found.reshape(len(rows), -1).astype(np.float64)
    return table[1:] - table[0], table[0]


def _drafted(
    model: Model,
    explained: Explained,
    players: Players,
    names: list[str],
    owners: np.ndarray,
    slopes: np.ndarray,
    offset: np.ndarray,
    mean: np.ndarray,
) -> Program:
    keys = ["groups"] if players.declared else list(players.index)
    draft = Draft(model, (*(f"{name}.attribution" for name in keys), "value", "base_value"))
    emit, dtype = draft.emit, explained.dtype
    graph = draft.place(draft.own_inputs(), keep=model.graph.upstream(names))
    parts = [emit.cast_to(flat(emit, graph.now(name)), dtype) for name in names]
    rows = parts[0] if len(parts) == 1 else emit.concat(*parts, axis=1)
    shares = np.zeros((len(owners), slopes.shape[1], players.count))
    own = np.flatnonzero(owners >= 0)
    shares[own, :, owners[own]] = slopes[own]
    away = emit.sub(rows, mean.astype(dtype)[None])
    given = emit.matmul(away, shares.reshape(len(owners), -1).astype(dtype))
    phi = emit.reshape(given, np.array([0, slopes.shape[1], players.count], dtype=np.int64))
    value = emit.add(emit.matmul(rows, slopes.astype(dtype)), offset.astype(dtype)[None])
    draft.output("value", value, dtype, ("N", "C"))
    base = (mean @ slopes + offset).astype(dtype)
    draft.output("base_value", emit.constant(base), dtype, ("C",), "shared")
    attributions(draft, phi, players)
    return draft.finish("linear_shap", explained, {"output": explained.output, "space": explained.space, "rows": 4096})

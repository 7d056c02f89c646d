"""Trees as arrays that a program multiplies and looks up: comparisons, weights that make cells of them, and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import MethodUnavailable
from .additive import Forest
from .bundles import NONE, Bundle, bundled, slots, table
from .deep import DeepBlock, deep_blocks
from .paths import Leaf, Walk, leaves_of, reached
from .shares import pair_shares, shares

DEEP = 12  # columns of a path: the table of a leaf has up to 2^DEEP cells
FLOATS = 1 << 25  # in all tables together; deeper leaves are worked out row by row
TOGETHER = 32  # bundles of a tree that share their comparisons


@dataclass(frozen=True)
class Block:
    """T trees, or parts of large ones, that reach the same R scores, with up to m bundles of up to D table columns and
    up to k comparisons.

    `column` and `breaks` [T, k]: comparisons x > break; `weights` [T, m, k] and `missing` [T, m, P] (of columns whose
    NaN needs one) make cells of them, beginning at `starts` [T, m]. `tables` [cells, D] by score; `slots` [T, m, D,
    2] says whose number stands in a table column (see bundles.py), (NONE, NONE) where none does.
    """

    column: np.ndarray
    breaks: np.ndarray
    weights: np.ndarray
    missing: np.ndarray
    starts: np.ndarray
    tables: dict[int, np.ndarray]
    slots: np.ndarray


@dataclass(frozen=True)
class Compiled:
    """A forest against a background, ready to be put into a program.

    `high`: columns whose NaN goes where +infinity goes; `odd`: those whose NaN goes anywhere. `blocks` of leaves with
    tables and `deep` leaves without. Scores [R] times `mix` [R, C] plus `offset` [C] are the value, `base` [C] its mean
    over the background.
    """

    forest: Forest
    owners: np.ndarray
    high: np.ndarray
    odd: np.ndarray
    blocks: tuple[Block, ...]
    deep: tuple[DeepBlock, ...]
    mix: np.ndarray
    offset: np.ndarray
    base: np.ndarray


@dataclass(frozen=True)
class Setting:
    """What all blocks are made for: players of the columns [P], numbers of the odd ones, values [L, R] of the leaves,
    whether pairs of players are told, and the dtype of the tables."""

    owners: np.ndarray
    odd: np.ndarray
    values: np.ndarray
    pairs: bool
    dtype: str


def compiled(
    forest: Forest, columns: np.ndarray, weights: np.ndarray, owners: np.ndarray, pairs: bool, dtype: str
) -> Compiled:
    """Look at the whole background [B, P] once. `weights` [B] sum to 1, `owners` [P] are players; `pairs` of them are
    told too where that is asked for. Tables are of `dtype`."""
    high, odd = _missing(forest, columns.shape[1])
    walk = Walk(forest, columns, weights, owners)
    trees = [walk.tree(int(root)) for root in forest.roots]
    centred, shift = _centred(forest, [leaves_of(tree) for tree in trees])
    values, mix = _scores(centred)
    bundles, deep = _deep([bundled(tree) for tree in trees], pairs)
    setting = Setting(owners, np.flatnonzero(odd), values, pairs, dtype)
    groups: dict[tuple[int, ...], list[list[Bundle]]] = {}
    for tree, own in zip(trees, bundles, strict=True):
        numbers = [leaf.number for leaf in leaves_of(tree)]
        scores = tuple(np.flatnonzero(np.abs(values[numbers]).max(axis=0, initial=0.0)).tolist())
        groups.setdefault(scores, []).extend(own[i : i + TOGETHER] for i in range(0, len(own), TOGETHER))
    blocks = tuple(_block(own, scores, setting) for scores, own in groups.items() if scores and own)
    base = weights @ reached(forest, columns)
    return Compiled(
        forest,
        owners,
        high,
        odd,
        blocks,
        deep_blocks(deep, owners, np.flatnonzero(odd), values),
        mix,
        forest.offset + shift,
        base,
    )


def _missing(forest: Forest, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns whose NaN goes where the largest numbers go, and those whose NaN goes neither there nor to the smallest;
    a comparison with NaN is false, as with the smallest."""
    low, high = np.ones(width, dtype=bool), np.ones(width, dtype=bool)
    for column, step in zip(forest.column, forest.steps, strict=True):
        low[column] &= step.missing == step.states[0]
        high[column] &= step.missing == step.states[-1]
    return high & ~low, ~high & ~low


def _centred(forest: Forest, trees: list[list[Leaf]]) -> tuple[np.ndarray, np.ndarray]:
    """Leaves less the mean of their tree, and the sum of the means: what a whole tree adds is attributed to nobody."""
    values, shift = forest.leaves.copy(), np.zeros(forest.leaves.shape[1])
    for leaves in trees:
        numbers = [leaf.number for leaf in leaves]
        mean = values[numbers].mean(axis=0)
        values[numbers] -= mean
        shift += mean
    return values, shift


def _scores(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [L, C] as scores [L, R] times a matrix [R, C]: outputs that are multiples of each other share one."""
    chosen: list[int] = []
    mix = np.zeros((0, values.shape[1]))
    for output in range(values.shape[1]):
        column = values[:, output]
        for row, other in enumerate(chosen):
            factor = column @ values[:, other] / (values[:, other] @ values[:, other])
            if np.abs(column - factor * values[:, other]).max() <= 1e-12 * max(1.0, np.abs(column).max()):
                mix[row, output] = factor
                break
        else:
            if column.any():
                chosen.append(output)
                mix = np.vstack([mix, np.eye(values.shape[1])[output]])
    return values[:, chosen], mix


def _deep(trees: list[list[Bundle]], pairs: bool) -> tuple[list[list[Bundle]], tuple[Leaf, ...]]:
    """Bundles whose tables fit into FLOATS together, small ones first, and the leaves of the others."""
    sizes = sorted((b.cells * len(slots(b, pairs)), i, k) for i, own in enumerate(trees) for k, b in enumerate(own))
    total, kept = 0, set()
    for size, i, k in sizes:
        total += size
        bundle = trees[i][k]
        if total <= FLOATS and len(bundle.players) <= DEEP and bundle.cells <= 1 << DEEP:
            kept.add((i, k))
    if pairs and len(kept) < len(sizes):
        raise MethodUnavailable(f"{len(sizes) - len(kept)} leaves are too deep for tables of interactions")
    left = [[b for k, b in enumerate(own) if (i, k) in kept] for i, own in enumerate(trees)]
    deep = (leaf for i, own in enumerate(trees) for k, b in enumerate(own) if (i, k) not in kept for leaf in b.leaves)
    return left, tuple(deep)


def _block(trees: list[list[Bundle]], scores: tuple[int, ...], setting: Setting) -> Block:
    rows, pairs, odd = [_comparisons(own) for own in trees], setting.pairs, setting.odd
    count, width, deep = len(trees), max(map(len, trees)), max(1, *(len(row) for row in rows), 1)
    most = max(len(slots(bundle, pairs)) for own in trees for bundle in own)
    column, breaks = np.zeros((count, deep), dtype=np.int64), np.full((count, deep), np.inf)
    weights, missing = np.zeros((count, width, deep)), np.zeros((count, width, len(odd)))
    starts, places = np.zeros((count, width), dtype=np.int64), np.full((count, width, most, 2), NONE)
    tables = [np.zeros((1, most, len(scores)), dtype=setting.dtype)]  # one cell for bundles that are not there
    first = 1
    for t, own in enumerate(trees):
        column[t, : len(rows[t])] = [key[0] for key in rows[t]]
        breaks[t, : len(rows[t])] = [key[1] for key in rows[t]]
        parts = _shares(own, pairs)
        for k, bundle in enumerate(own):
            cells = table(bundle, setting.owners, parts, setting.values[:, list(scores)], pairs)
            padded = np.zeros((len(cells), most, len(scores)), dtype=setting.dtype)
            padded[:, : cells.shape[1]], places[t, k, : cells.shape[1]] = cells, slots(bundle, pairs)
            starts[t, k] = first + _place(bundle, rows[t], odd, weights[t, k], missing[t, k])
            tables.append(padded)
            first += len(cells)
    whole = np.concatenate(tables)
    by_score = {score: whole[:, :, i] for i, score in enumerate(scores)}
    return Block(column, breaks, weights, missing, starts, by_score, places)


def _comparisons(bundles: Sequence[Bundle]) -> dict[tuple[int, float], int]:
    """The comparisons of a tree, numbered."""
    keys = sorted({(level.column, at) for bundle in bundles for level in bundle.levels for at in level.breaks})
    return {key: i for i, key in enumerate(keys)}


def _place(
    bundle: Bundle, rows: dict[tuple[int, float], int], odd: np.ndarray, weights: np.ndarray, missing: np.ndarray
) -> int:
    """Fill in the weights that make a bundle's cell of comparisons; gives the cell where none of them holds."""
    stride, first = 1, 0
    for level in bundle.levels:
        for k, at in enumerate(level.breaks):
            weights[rows[level.column, at]] += stride * (level.places[k + 1] - level.places[k])
        missing[odd == level.column] += stride * (level.missing - level.places[0])
        first += stride * level.places[0]
        stride *= len(level.met)
    return first


def _shares(bundles: Sequence[Bundle], pairs: bool) -> dict[int, np.ndarray]:
    """Shares of all leaves of a tree, by identity; leaves of one size are worked out together."""
    by_size: dict[int, list[Leaf]] = {}
    for bundle in bundles:
        for leaf in bundle.leaves:
            by_size.setdefault(len(leaf.players), []).append(leaf)
    found: dict[int, np.ndarray] = {}
    for players, leaves in by_size.items():
        weights = np.zeros((len(leaves), 1 << players))
        for i, leaf in enumerate(leaves):
            weights[i, leaf.sets] = leaf.weights
        parts = np.concatenate([shares(weights), pair_shares(weights)], axis=2) if pairs else shares(weights)
        found |= {id(leaf): part for leaf, part in zip(leaves, parts, strict=True)}
    return found

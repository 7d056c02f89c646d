"""Leaves of a tree looked up together: one table for several leaves, by what a row meets on their paths.

Of every column that the leaves have conditions on, a row has a level: which of the leaves' conditions it meets there.
The levels of all columns are a cell, and for each cell the table holds what the players get from all these leaves, and
what the leaves add to the value. A level is a sum of comparisons, so that the cell of a row is a sum of comparisons
with fixed weights. Leaves that share most of their path need few cells more than one of them alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np

from .paths import Fork, Leaf, leaves_of
from .steps import merged

CELLS = 2048  # of a table of several leaves
GROWTH = 1.5  # by how much the table of several leaves may outgrow their own


@dataclass(frozen=True)
class Levels:
    """Of one column: the level between breaks, that of NaN, and whether each leaf's condition is met there [V, L]."""

    column: int
    breaks: tuple[float, ...]
    places: tuple[int, ...]
    missing: int
    met: np.ndarray


@dataclass(frozen=True)
class Bundle:
    """Leaves of a tree with one table; cells are numbered with the first column's level counting fastest."""

    leaves: tuple[Leaf, ...]
    levels: tuple[Levels, ...]

    @property
    def cells(self) -> int:
        """Size of the table."""
        return prod(len(level.met) for level in self.levels)

    @property
    def players(self) -> tuple[int, ...]:
        """Players of all the leaves."""
        return tuple(dict.fromkeys(player for leaf in self.leaves for player in leaf.players))


def bundled(tree: Fork | Leaf) -> list[Bundle]:
    """The leaves of a tree in bundles."""
    if isinstance(tree, Leaf):
        return [_bundle((tree,))]
    left, right = (bundled(side) for side in tree.sides)
    if len(left) == 1 and len(right) == 1:
        whole = _bundle(tuple(leaves_of(tree)))
        if whole.cells <= min(CELLS, GROWTH * (left[0].cells + right[0].cells)):
            return [whole]
    return left + right


def _bundle(leaves: tuple[Leaf, ...]) -> Bundle:
    columns = dict.fromkeys(column for leaf in leaves for column in leaf.conditions)
    return Bundle(leaves, tuple(_levels(leaves, column) for column in columns))


def _levels(leaves: tuple[Leaf, ...], column: int) -> Levels:
    steps = [leaf.conditions.get(column) for leaf in leaves]
    breaks = merged(*(step for step in steps if step is not None))
    always = (True,) * (len(breaks) + 1)
    states = list(zip(*(always if step is None else step.at(breaks) for step in steps), strict=True))
    at_missing = tuple(step is None or step.missing for step in steps)
    numbers: dict[tuple[bool, ...], int] = {}
    places = tuple(numbers.setdefault(state, len(numbers)) for state in states)
    missing = numbers.setdefault(at_missing, len(numbers))
    return Levels(column, breaks, places, missing, np.array(list(numbers)))


def failed_sets(bundle: Bundle, owners: np.ndarray) -> list[np.ndarray]:
    """For each leaf the set of its players that every cell fails, int64 [cells]."""
    results = [np.zeros(1, dtype=np.int64) for _ in bundle.leaves]
    for level in bundle.levels:
        player = int(owners[level.column])
        for i, leaf in enumerate(bundle.leaves):
            bit = leaf.players.index(player) if level.column in leaf.conditions else 0
            missed = (~level.met[:, i]).astype(np.int64) << bit
            results[i] = (missed[:, None] | results[i][None, :]).reshape(-1)
    return results


Slot = tuple[int, int]
NONE, VALUE = -1, -2


def slots(bundle: Bundle, pairs: bool) -> list[Slot]:
    """Whose number stands in each column of the bundle's table: a player's (i, NONE), a pair's (i, j), and last the
    leaves' own (VALUE, NONE)."""
    single: list[Slot] = [(player, NONE) for player in bundle.players]
    return [*single, *(combinations(bundle.players, 2) if pairs else ()), (VALUE, NONE)]


def table(
    bundle: Bundle, owners: np.ndarray, shares: Mapping[int, np.ndarray], values: np.ndarray, pairs: bool
) -> np.ndarray:
    """[cells, slots, R]: what each player (and pair) gets in every cell, and last what the leaves add to the value.

    `shares` [2^d, d (+ d (d-1) / 2)] by identity of the leaf, whose number may end several ways; `values` [L, R] of all
    leaves.
    """
    players, columns = bundle.players, {slot: i for i, slot in enumerate(slots(bundle, pairs))}
    result = np.zeros((bundle.cells, len(columns), values.shape[1]))
    for leaf, failed in zip(bundle.leaves, failed_sets(bundle, owners), strict=True):
        own: list[Slot] = [(player, NONE) for player in leaf.players]
        if pairs:
            place = {player: i for i, player in enumerate(players)}
            own += [(i, j) if place[i] < place[j] else (j, i) for i, j in combinations(leaf.players, 2)]
        value = values[leaf.number]
        result[:, [columns[slot] for slot in own]] += shares[id(leaf)][failed][:, :, None] * value
        result[:, -1] += (failed == 0)[:, None] * value
    return result

"""The ways to the leaves of one tree: what a row has to meet there, and how the background fails to.

A leaf is reached by a mixture of a row and a background row if for every player on its path the one it comes from
meets all conditions on that player's columns. So all that matters of a background row is the set of players it fails,
and of the background how much weight every set has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import MethodUnavailable
from .additive import Forest
from .steps import Step

PLAYERS = 62  # bits of a set of players on one path


@dataclass(frozen=True)
class Leaf:
    """A way to a leaf: the leaf's number, the conditions on its path by column, the players these belong to, in the
    order met, and the sets of players that background rows fail (bit j for player j) with their weights."""

    number: int
    conditions: dict[int, Step]
    players: tuple[int, ...]
    sets: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Fork:
    """A branch of a tree with what is left of it."""

    sides: tuple[Fork | Leaf, Fork | Leaf]


@dataclass(frozen=True)
class Walk:
    """What is the same for all trees: `columns` [B, P] of the background, its weights [B] and the columns' players."""

    forest: Forest
    columns: np.ndarray
    weights: np.ndarray
    owners: np.ndarray

    def tree(self, root: int) -> Fork | Leaf:
        """One tree, with its impossible leaves left out; depth is bounded by the tree's own."""
        fails = np.zeros(len(self.columns), dtype=np.int64)
        return self._at(root, {}, (), fails)

    def _at(self, place: int, conditions: dict[int, Step], players: tuple[int, ...], fails: np.ndarray) -> Fork | Leaf:
        if place < 0:
            sets, where = np.unique(fails, return_inverse=True)
            return Leaf(-1 - place, conditions, players, sets, np.bincount(where, self.weights, len(sets)))
        forest, column = self.forest, int(self.forest.column[place])
        player = int(self.owners[column])
        step, sides = forest.steps[place], []
        met = step(self.columns[:, column])
        known = players if player in players else (*players, player)
        bit = known.index(player)
        if bit >= PLAYERS:
            raise MethodUnavailable(f"a leaf has conditions on more than {PLAYERS} elements of the inputs")
        for child, condition, missed in ((forest.yes[place], step, ~met), (forest.no[place], ~step, met)):
            joint = conditions[column] & condition if column in conditions else condition
            if not (any(joint.states) or joint.missing):
                continue
            failed = fails | (missed.astype(np.int64) << bit)
            sides.append(self._at(int(child), {**conditions, column: joint}, known, failed))
        return sides[0] if len(sides) == 1 else Fork((sides[0], sides[1]))


def leaves_of(tree: Fork | Leaf) -> list[Leaf]:
    """All leaves, from left to right."""
    if isinstance(tree, Leaf):
        return [tree]
    return [leaf for side in tree.sides for leaf in leaves_of(side)]


def reached(forest: Forest, columns: np.ndarray) -> np.ndarray:
    """The sum over trees [B, C], offset included, of rows of columns [B, P]."""
    total = np.tile(forest.offset, (len(columns), 1))
    for root in forest.roots:
        open_rows = [(int(root), np.arange(len(columns)))]
        while open_rows:
            place, rows = open_rows.pop()
            if place < 0:
                total[rows] += forest.leaves[-1 - place]
            elif len(rows):
                met = forest.steps[place](columns[rows, forest.column[place]])
                open_rows += [(int(forest.yes[place]), rows[met]), (int(forest.no[place]), rows[~met])]
    return total

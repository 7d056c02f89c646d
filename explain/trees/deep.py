"""Leaves too deep for a table: the sets of players that background rows fail there are kept, and each row of the
model's meets every one of them when it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import MethodUnavailable
from .paths import Leaf

PAIRS = 1 << 16  # leaves times sets in one block
BYTES = 1 << 29  # of sets in all blocks


@dataclass(frozen=True)
class DeepBlock:
    """L leaves with up to d players, Q sets and k comparisons.

    `column` and `breaks` [L, k]: comparisons x > break. `needed` [L, d] less `weights` [L, d, k] times them, less
    `missing` [L, d, P] times NaN (of columns whose NaN needs it), counts the columns of a player that are not met.
    `sets` [L, Q, d] uint8 and `shares` [L, Q] are those of the background; `values` [L, R] of the leaves, `players`
    [L, d], -1 where there is none.
    """

    column: np.ndarray
    breaks: np.ndarray
    needed: np.ndarray
    weights: np.ndarray
    missing: np.ndarray
    sets: np.ndarray
    shares: np.ndarray
    values: np.ndarray
    players: np.ndarray


def deep_blocks(
    leaves: Sequence[Leaf], owners: np.ndarray, odd: np.ndarray, values: np.ndarray
) -> tuple[DeepBlock, ...]:
    """All leaves in blocks of alike size; `odd` numbers the columns whose NaN goes anywhere."""
    size = sum(len(leaf.sets) * (len(leaf.players) + 8) for leaf in leaves)  # with a share and a size for each
    if size > BYTES:
        raise MethodUnavailable(
            f"{len(leaves)} leaves are too deep for tables, and the background fails too many sets of players there "
            f"({size >> 20} MiB, at most {BYTES >> 20}): give a smaller background or declare groups"
        )
    return tuple(_block(part, owners, odd, values) for part in _parts(leaves))


def _parts(leaves: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    part: list[Leaf] = []
    for leaf in sorted(leaves, key=lambda leaf: (len(leaf.sets), len(leaf.players))):
        if part and (len(part) + 1) * len(leaf.sets) > PAIRS:
            yield part
            part = []
        part.append(leaf)
    if part:
        yield part


def _block(leaves: list[Leaf], owners: np.ndarray, odd: np.ndarray, values: np.ndarray) -> DeepBlock:
    count, most = len(leaves), max(len(leaf.players) for leaf in leaves)
    compared = max(1, *(sum(len(step.breaks) for step in leaf.conditions.values()) for leaf in leaves), 1)
    sets = max(len(leaf.sets) for leaf in leaves)
    column, breaks = np.zeros((count, compared), dtype=np.int64), np.full((count, compared), np.inf)
    needed, weights = np.zeros((count, most)), np.zeros((count, most, compared))
    missing, players = np.zeros((count, most, len(odd))), np.full((count, most), -1)
    failed, shares = np.zeros((count, sets, most), dtype=np.uint8), np.zeros((count, sets))
    for i, leaf in enumerate(leaves):
        players[i, : len(leaf.players)] = leaf.players
        failed[i, : len(leaf.sets), : len(leaf.players)] = leaf.sets[:, None] >> np.arange(len(leaf.players)) & 1
        shares[i, : len(leaf.sets)] = leaf.weights
        k = 0
        for number, step in leaf.conditions.items():
            player = leaf.players.index(int(owners[number]))
            needed[i, player] += 1 - step.states[0]
            for at, before, after in zip(step.breaks, step.states[:-1], step.states[1:], strict=True):
                column[i, k], breaks[i, k], weights[i, player, k] = number, at, float(after) - float(before)
                k += 1
            missing[i, player, odd == number] += float(step.missing) - float(step.states[0])
    own = values[[leaf.number for leaf in leaves]]
    return DeepBlock(column, breaks, needed, weights, missing, failed, shares, own, players)

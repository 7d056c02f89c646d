"""Which coalitions kernel SHAP evaluates, and with which weight each enters the regression."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from ..errors import InvalidParameter
from .kept import kept


@dataclass(frozen=True, eq=False)
class Coalitions:
    """`masks` [K, G] of 0 and 1, neither empty nor full, and their `weights` [K]; `complete` if all are there.

    The last 2 P rows were drawn at random, as P pairs of a coalition and its complement, each pair `draws` [P] times;
    the rows before were listed whole. `draws` is None where the caller chose the coalitions.
    """

    masks: np.ndarray
    weights: np.ndarray
    complete: bool
    draws: np.ndarray | None = None

    @classmethod
    def given(cls, masks: Any, weights: Any, players: int) -> Coalitions:
        """Coalitions the caller chose; raises InvalidParameter where they make no sense."""
        try:
            array = np.asarray(masks, dtype=np.float64)
            scale = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidParameter("parameter 'coalitions': expected K rows of 0 and 1, and K weights") from error
        if array.ndim != 2 or array.shape[1] != players or not np.isin(array, (0.0, 1.0)).all():
            raise InvalidParameter(
                f"parameter 'coalitions': came shape {array.shape}, expected [K, {players}] of 0 and 1"
            )
        if scale.shape != (len(array),) or not (np.isfinite(scale) & (scale > 0)).all():
            raise InvalidParameter(f"parameter 'coalition_weights': expected {len(array)} positive numbers")
        inner = (array.sum(axis=1) > 0) & (array.sum(axis=1) < players)
        return cls(array[inner], scale[inner], complete=False)


def all_coalitions(players: int) -> np.ndarray:
    """All 2^G coalitions [2^G, G] as 0 and 1, the empty one first and the full one last."""
    numbers = np.arange(2**players)[:, None]
    return ((numbers >> np.arange(players)) & 1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Sample:
    """Coalitions drawn one after another: `listed` whole sizes with their `weights`, and `pairs` [P, G], each standing
    for itself and its complement, with the number of the pair that each draw gave (`order` [D]); all draws together
    weigh `left`."""

    listed: np.ndarray
    weights: np.ndarray
    pairs: np.ndarray
    order: np.ndarray
    left: float

    @property
    def whole(self) -> Coalitions:
        """All that was listed and drawn."""
        return self.upto(len(self.order))

    @kept(lambda coalitions: 2 * coalitions.masks.size)
    def upto(self, draws: int) -> Coalitions:
        """What the first draws give: distinct pairs, each weighing as often as it was drawn."""
        counts = np.bincount(self.order[:draws]).astype(np.float64)
        shares = np.repeat(counts / (2 * counts.sum()) * self.left, 2) if draws else np.zeros(0)
        seen = self.pairs[: len(counts)] if draws else self.pairs[:0]
        both = np.stack([seen, 1.0 - seen], axis=1).reshape(-1, self.listed.shape[1])
        masks = np.vstack([self.listed, both])
        return Coalitions(masks, np.concatenate([self.weights, shares]), self.left == 0.0, counts if draws else None)


@kept(lambda sample: sample.listed.size + sample.pairs.size)
def sample_coalitions(players: int, budget: int, seed: int) -> Sample:
    """At most `budget` coalitions: whole sizes from the outside in while they fit, then pairs drawn at random.

    A coalition is drawn with its complement (Covert & Lee 2021), duplicates are evaluated once and counted; the
    weights of each size add up to what the Shapley kernel gives it. Raises InvalidParameter for too small a budget.
    """
    nothing = np.zeros((0, players)), np.zeros(0, dtype=np.int64)
    if players == 1:
        return Sample(np.zeros((0, 1)), np.zeros(0), *nothing, 0.0)
    if budget < min(2 * players, 2**players - 2):
        raise InvalidParameter(f"parameter 'n_samples': came {budget}, expected at least {2 * players}")
    if 2**players - 2 <= budget:
        masks = all_coalitions(players)[1:-1]
        sizes = masks.sum(axis=1).astype(int)
        each = np.array([_size_weight(players, s) / comb(players, s) for s in range(players + 1)])
        return Sample(masks, each[sizes], *nothing, 0.0)
    listed, weights, open_sizes = _whole_sizes(players, budget)
    pairs, order = _drawn_pairs(players, budget - len(listed), open_sizes, seed)
    left = sum(_size_weight(players, size) for size in open_sizes)
    return Sample(np.array(listed), weights, pairs, order, left)


def _size_weight(players: int, size: int) -> float:
    """Weight of all coalitions of one size together in the Shapley kernel (up to a common factor)."""
    return (players - 1) / (size * (players - size)) if 0 < size < players else 0.0


def _whole_sizes(players: int, budget: int) -> tuple[list[np.ndarray], np.ndarray, list[int]]:
    """Sizes 1 and M-1, 2 and M-2, ... listed whole, and the sizes left open.

    Sizes 1 and M-1 always (without them few coalitions tell the players apart), the others while their share of the
    budget pays for it: a size that is listed at the cost of heavier ones would make the rest a matter of luck.
    """
    masks: list[np.ndarray] = []
    weights: list[float] = []
    open_sizes = list(range(1, players))
    for size in range(1, players // 2 + 1):
        pair = sorted({size, players - size})
        count = sum(comb(players, s) for s in pair)
        share = sum(_size_weight(players, s) for s in pair) / sum(_size_weight(players, s) for s in open_sizes)
        if size > 1 and (budget - len(masks)) * share < count:
            break
        for s in pair:
            for members in combinations(range(players), s):
                row = np.zeros(players)
                row[list(members)] = 1.0
                masks.append(row)
                weights.append(_size_weight(players, s) / comb(players, s))
            open_sizes.remove(s)
    return masks, np.array(weights), open_sizes


def _drawn_pairs(players: int, budget: int, sizes: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random coalitions of the open sizes, each with its complement one pair, until the budget of distinct ones is
    spent: the pairs [P, G] in the order in which they first came, and the number of the pair of each draw."""
    random = np.random.default_rng(seed)
    chances = np.array([_size_weight(players, size) for size in sizes])
    found: dict[bytes, int] = {}
    pairs: list[np.ndarray] = []
    order: list[int] = []
    block = max(64, budget // 2)
    for _ in range(8):
        drawn = random.choice(sizes, size=block, p=chances / chances.sum())
        ranks = random.random((block, players)).argsort(axis=1).argsort(axis=1)
        for row in (ranks < drawn[:, None]).astype(np.float64):
            if 2 * len(pairs) + 2 > budget:
                return np.array(pairs).reshape(-1, players), np.array(order, dtype=np.int64)
            key = row.tobytes()
            if key not in found:
                found[key] = found[(1.0 - row).tobytes()] = len(pairs)
                pairs.append(row)
            order.append(found[key])
    return np.array(pairs).reshape(-1, players), np.array(order, dtype=np.int64)

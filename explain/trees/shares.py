"""What each player of a leaf gets, for every set of players that a row fails: interventional SHAP of one leaf.

Let a row fail the set u of a leaf's d players and a background row the set v. Where u and v meet, no mixture reaches
the leaf. Otherwise, with a = |v| and b = |u|, a player in v gets (a-1)! b! / (a+b)! and one in u gets
-a! (b-1)! / (a+b)! of the leaf's value, and the others nothing (Lundberg et al. 2020, arXiv:1905.04610; tables over
all u as in WOODELF, Nadel & Wettenstein 2025, arXiv:2511.09376). The sums over the background are subset sums: the
factorials are the integral of t^(a-1) (1-t)^b over [0, 1], exact by Gauss's rule of d/2 points, and at each point
the weight of v is a product over its players.
"""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np


def subset_sums(values: np.ndarray, players: int) -> np.ndarray:
    """Sums over all subsets, of values [..., 2^d] by set of players."""
    sums = values.copy()
    for bit in range(players):
        halves = sums.reshape(*sums.shape[:-1], -1, 2, 1 << bit)
        halves[..., 1, :] += halves[..., 0, :]
    return sums


def sizes_of(players: int) -> np.ndarray:
    """How many players each set has, [2^d]."""
    sizes = np.zeros(1, dtype=np.int64)
    for _ in range(players):
        sizes = np.concatenate([sizes, sizes + 1])
    return sizes


def rule(players: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss's points and weights on [0, 1], exact for the polynomials of a path of so many players."""
    points, weights = np.polynomial.legendre.leggauss(max(1, (players + 1) // 2))
    return (points + 1) / 2, weights / 2


def shares(weights: np.ndarray) -> np.ndarray:
    """Of `weights` [L, 2^d] of the background by failed set, the share [L, 2^d, d] of each player by the row's set."""
    players = weights.shape[1].bit_length() - 1
    sizes, everything = sizes_of(players), np.arange(weights.shape[1])
    result = np.zeros((*weights.shape, players))
    for point, share in zip(*rule(players), strict=True):
        sums = subset_sums(weights * point**sizes, players)[:, ::-1]  # by failed set: over the sets it leaves open
        for player in range(players):
            joined = everything | (1 << player)
            result[:, :, player] += share / point * (1 - point) ** sizes * (sums - sums[:, joined])
    fails = (everything[:, None] >> np.arange(players)) & 1 == 1
    given = result.sum(axis=2) + weights[:, :1]  # all shares together are -(weight of rows that fail nobody)
    return np.where(fails, -(given / np.maximum(sizes, 1))[:, :, None], result)


def pair_shares(weights: np.ndarray) -> np.ndarray:
    """Of `weights` [L, 2^d] as in `shares`, half the Shapley interaction index [L, 2^d, d (d-1) / 2] of each pair.

    A pair in v gets (a-2)! b! / (a+b-1)!, one in u a! (b-2)! / (a+b-1)!, and one of each -(a-1)! (b-1)! / (a+b-1)!
    of the leaf's value (Grabisch & Roubens 1999 applied to one leaf); pairs are (0, 1), (0, 2), ..., (1, 2), ...
    """
    players = weights.shape[1].bit_length() - 1
    sizes, everything = sizes_of(players), np.arange(weights.shape[1])
    pairs = list(combinations(range(players), 2))
    result = np.zeros((*weights.shape, len(pairs)))
    fails = [(everything >> player) & 1 == 1 for player in range(players)]
    for point, share in zip(*rule(players), strict=True):
        sums = subset_sums(weights * point**sizes, players)[:, ::-1]
        without = [sums - sums[:, everything | (1 << player)] for player in range(players)]
        here = share * (1 - point) ** sizes / 2
        for k, (i, j) in enumerate(pairs):
            both = (without[i] - without[i][:, everything | (1 << j)]) / point**2
            crossed = -np.where(fails[i], without[j], without[i]) / (point * (1 - point))
            same = np.where(fails[i], sums / (1 - point) ** 2, both)
            result[:, :, k] += here * np.where(fails[i] == fails[j], same, crossed)
    return result


def gain(failed: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """(a-1)! b! / (a+b)! for a = `failed` (0 where a is 0) and b = `missing`."""
    top = int(max(failed.max(initial=0), missing.max(initial=0)))
    table = [
        [factorial(a - 1) * factorial(b) / factorial(a + b) if a else 0.0 for b in range(top + 1)]
        for a in range(top + 1)
    ]
    return np.asarray(np.array(table)[failed, missing])

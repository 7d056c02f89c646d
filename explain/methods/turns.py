"""What samples are drawn from: random numbers by sample number, and which row of a background each starts from."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypedDict

import numpy as np

from ..plans import Differences, Statistic, mean_of_draws, mean_of_turns
from ..request import Arrays

BLOCK = 64  # samples whose random numbers are made together


class Uniforms:
    """`width` numbers of [0, 1) for each sample: a function of the seed and the sample's number alone."""

    def __init__(self, seed: int, width: int) -> None:
        self._block = lru_cache(maxsize=32)(lambda block: np.random.default_rng([seed, block]).random((BLOCK, width)))

    def of(self, first: int, count: int) -> np.ndarray:
        """Numbers [count, width] of samples from `first` on."""
        start = first // BLOCK
        blocks = [self._block(block) for block in range(start, (first + count - 1) // BLOCK + 1)]
        return np.concatenate(blocks)[first - start * BLOCK :][:count]


class Judging(TypedDict, total=False):
    """How a sampled plan estimates its error."""

    statistic: Statistic
    turn: int
    known: Differences


class Turns:
    """Rows of a background by sample number. Rows of equal weight take turns, two samples each; others are drawn.

    `judged(...)` says how a plan has to judge the mean, `whole(n)` is the number of samples up to n that it can be made
    of.
    """

    def __init__(self, weight: np.ndarray, seed: int) -> None:
        self.equal, self.size = bool(np.ptp(weight) == 0), len(weight)
        self._weight, self._upto, self._seed = weight, np.cumsum(weight), seed
        self._order = lru_cache(maxsize=2)(lambda turn: np.random.default_rng([seed, turn, 1]).permutation(self.size))
        self._draws = Uniforms(seed + (1 << 64), 1)

    def judged(self, inputs: Arrays, rows: Arrays, **parts: Any) -> Judging:
        """Parameters of a sampled plan, of items that are compared with these rows by these `parts`."""
        known = Differences(inputs, rows, self.of, self._weight, **parts)
        if not self.equal:
            return {"statistic": mean_of_draws, "turn": 0, "known": known}
        return {"statistic": mean_of_turns(self.size), "turn": 2 * self.size, "known": known}

    def whole(self, count: int) -> int:
        """At most `count` samples, in pairs where rows take turns."""
        return max(2, count // 2 * 2 if self.equal else count)

    def of(self, first: int, count: int) -> np.ndarray:
        """The rows [count] of samples from `first` on."""
        if not self.equal:
            draws = self._draws.of(first, count)[:, 0]
            return np.minimum(np.searchsorted(self._upto, draws, side="right"), self.size - 1)
        pairs = np.arange(first, first + count) // 2
        start, stop = int(pairs[0]) // self.size, int(pairs[-1]) // self.size
        return np.concatenate([self._order(turn) for turn in range(start, stop + 1)])[pairs - start * self.size]

    def row(self, k: int) -> int:
        """The row of sample k."""
        return int(self.of(k, 1)[0])

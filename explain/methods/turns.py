"""Which row of a background each sample starts from."""

from __future__ import annotations

from functools import lru_cache
from typing import TypedDict

import numpy as np

from ..plans import Statistic, mean, mean_of_turns


class Judging(TypedDict, total=False):
    """How a sampled plan estimates its error."""

    statistic: Statistic
    turn: int


class Turns:
    """Rows of a background by sample number. Rows of equal weight take turns, two samples each; others are drawn.

    `judged` says how a plan has to judge the mean, `whole(n)` is the number of samples up to n that it can be made of.
    """

    def __init__(self, weight: np.ndarray, seed: int) -> None:
        self.equal, self.size = bool(np.ptp(weight) == 0), len(weight)
        self._upto = np.cumsum(weight)
        self._order = lru_cache(maxsize=2)(lambda turn: np.random.default_rng([seed, turn, 1]).permutation(self.size))

    @property
    def judged(self) -> Judging:
        """Parameters of a sampled plan."""
        if not self.equal:
            return {"statistic": mean, "turn": 0}
        return {"statistic": mean_of_turns(self.size), "turn": 2 * self.size}

    def whole(self, count: int) -> int:
        """At most `count` samples, in pairs where rows take turns."""
        return max(2, count // 2 * 2 if self.equal else count)

    def row(self, k: int, random: np.random.Generator) -> int:
        """The row of sample k."""
        if self.equal:
            return int(self._order(k // 2 // self.size)[k // 2 % self.size])
        return min(int(np.searchsorted(self._upto, random.random(), side="right")), self.size - 1)

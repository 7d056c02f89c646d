"""Coalitions drawn at random, until the error of what they tell is small enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..request import Arrays, Request
from .base import Outcome, Step
from .budget import Budget
from .sampled import SampledPlan, Statistic, mean
from .worths import Worths

PILOT = 8
ROWS = 1 << 15  # evaluations of the model that one round may hold


@dataclass(frozen=True)
class Drawn:
    """One sample: masks [m, G], and for each the row of the background it is paired with [m] (None: all of them)."""

    masks: np.ndarray
    rows: np.ndarray | None = None


Reduce = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class CoalitionPlan(SampledPlan):
    """Means of `reduce(masks [s, m, G], f [n, s, m], full [n], empty [n])` -> [n, s, G] over samples of m coalitions.

    `by_group` takes values [N, G] to arrays by name; `complete` says that every sample adds up to full - empty.
    """

    def __init__(
        self,
        request: Request,
        worths: Worths,
        draw: Callable[[int], Drawn],
        reduce: Reduce,
        budget: Budget,
        by_group: Callable[[np.ndarray], Arrays],
        *,
        complete: bool,
        pilot: int = PILOT,
        look: int = 1,
        statistic: Statistic = mean,
        turn: int = 0,
    ) -> None:
        super().__init__(request, worths.program, budget, statistic=statistic, look=look, pilot=pilot, turn=turn)
        self.worths, self.draw, self.reduce, self.by_group, self.complete = worths, draw, reduce, by_group, complete
        self.each = len(draw(0).masks)

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model spent on each item."""
        return self.worths.evaluations

    def first_steps(self) -> Iterator[Step]:
        """f at both ends."""
        return self.worths.ends(empty=self.complete)

    def most(self) -> int:
        """Samples of bounded work."""
        return max(self.look, ROWS // (self.each * self.worths.rows) // self.look * self.look)

    def samples(self, items: np.ndarray, first: int, size: int) -> Iterator[Step]:
        """The coalitions of some samples, for all these items."""
        drawn = [self.draw(first + k) for k in range(size)]
        masks = np.stack([sample.masks for sample in drawn])
        rows = [sample.rows for sample in drawn if sample.rows is not None]
        f = np.zeros((len(items), size * self.each))
        flat = masks.reshape(size * self.each, -1)
        yield from self.worths.steps(items, flat, f, np.concatenate(rows) if rows else None)
        full, empty = self.worths.full[items], self.worths.empty[items]
        self.add(items, self.reduce(masks, f.reshape(len(items), size, self.each), full, empty))

    def parted(self, flat: np.ndarray) -> Arrays:
        """By element or group."""
        return self.by_group(flat)

    def outcome(self) -> Outcome:
        """The means so far, with their errors."""
        base = self.worths.empty if self.complete else None
        return self.estimated(self.worths.full, base, self.complete)

"""Coalitions drawn at random, until the error of what they tell is small enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..request import Arrays, Request
from .base import Outcome, Step, capacity
from .budget import Budget
from .sampled import Known, SampledPlan, Statistic, mean
from .worths import Worths

RUNS = 8  # that one round may take


@dataclass(frozen=True)
class Drawn:
    """Samples: masks [s, m, G], and for each the row of the background it is paired with [s, m] (None: all of them)."""

    masks: np.ndarray
    rows: np.ndarray | None = None


class Sampler(Protocol):
    """What draws coalitions, and says what they tell."""

    @property
    def each(self) -> int:
        """m, the coalitions of one sample."""

    def draw(self, first: int, count: int) -> Drawn:
        """The coalitions of samples first to first + count, functions of the sample's number."""

    def reduce(self, first: int, f: np.ndarray, full: np.ndarray, empty: np.ndarray) -> np.ndarray:
        """Samples [n, s, G] from worths f [n, s, m], and those at both ends [n]."""


class CoalitionPlan(SampledPlan):
    """Means of what a `sampler` draws. `by_group` takes values [N, G] to arrays by name; `complete` says that every
    sample adds up to full - empty."""

    def __init__(
        self,
        request: Request,
        worths: Worths,
        sampler: Sampler,
        budget: Budget,
        by_group: Callable[[np.ndarray], Arrays],
        *,
        complete: bool,
        pilot: int,
        look: int,
        statistic: Statistic = mean,
        turn: int = 0,
        known: Known | None = None,
    ) -> None:
        options = {"look": look, "pilot": pilot, "turn": turn}
        super().__init__(request, worths.program, budget, statistic=statistic, known=known, **options)
        self.worths, self.sampler, self.by_group, self.complete = worths, sampler, by_group, complete

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model spent on each item."""
        return self.worths.evaluations

    def first_steps(self) -> Iterator[Step]:
        """f at both ends."""
        return self.worths.ends(empty=self.complete)

    def most(self) -> int:
        """Samples of bounded work."""
        rows = RUNS * capacity(self.request.model, self.request.inputs)
        return max(self.look, rows // (self.sampler.each * self.worths.rows) // self.look * self.look)

    def _round(self, count: int) -> int:
        """As many as one round holds, where neither time nor an error has to be looked at in between."""
        watched = self.budget.tolerance or self.budget.budget_ms is not None
        return super()._round(count) if watched else self.most()

    def samples(self, items: np.ndarray, first: int, size: int) -> Iterator[Step]:
        """The coalitions of some samples, for all these items."""
        drawn, each = self.sampler.draw(first, size), self.sampler.each
        f = np.zeros((len(items), size * each))
        flat, rows = drawn.masks.reshape(size * each, -1), drawn.rows
        yield from self.worths.steps(items, flat, f, None if rows is None else rows.reshape(-1))
        full, empty = self.worths.full[items], self.worths.empty[items]
        self.add(items, self.sampler.reduce(first, f.reshape(len(items), size, each), full, empty))

    def parted(self, flat: np.ndarray) -> Arrays:
        """By element or group."""
        return self.by_group(flat)

    def outcome(self) -> Outcome:
        """The means so far, with their errors."""
        base = self.worths.empty if self.complete else None
        return self.estimated(self.worths.full, base, self.complete)

"""A regression on coalitions drawn one after another, until its error is small enough.

As in `sampled.py`, the first draws only say how many are needed. The regression goes through all of them: what the
estimate of its error owes to the first is the smaller the more follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from ..intervals import t_quantile
from ..request import Arrays, Request
from .base import Outcome, Step
from .budget import TOLERANCE, Budget, largest
from .sampled import MARGIN
from .worths import OnWorths, Worths


class Drawn(Protocol):
    """Coalitions [K, G], those of more draws beginning with those of fewer."""

    @property
    def masks(self) -> np.ndarray: ...


Solved = tuple[np.ndarray, np.ndarray, np.ndarray]  # attributions, standard errors and degrees of freedom [n, G]
Solve = Callable[..., Solved]


class RegressionPlan(OnWorths):
    """`solve(coalitions, f [n, K + 2])` after `upto(draws)` coalitions, f beginning with none and ending with all.

    `draws` are the most there are; without a tolerance they are taken at once. `complete` says that what is solved for
    adds up to what lies between none and all.
    """

    def __init__(
        self,
        request: Request,
        upto: Callable[[int], Drawn],
        draws: int,
        solve: Solve,
        budget: Budget,
        by_group: Callable[[np.ndarray], Arrays],
        *,
        pilot: int,
        complete: bool = True,
    ) -> None:
        self.complete = complete
        self.request, self.upto, self.solve, self.budget, self.by_group = request, upto, solve, budget, by_group
        self.draws, self.pilot = draws, pilot
        self.worths = Worths(request)
        self.f = np.zeros((request.items, 0))
        self.taken = np.zeros(request.items, dtype=np.int64)
        self.costs = np.zeros(request.items, dtype=np.int64)
        self.stopped: list[str | None] = [None] * request.items
        self.ready = False

    def steps(self) -> Iterator[Step]:
        """Both ends, then coalitions in rounds for the items that are not done."""
        yield from self.worths.ends(empty=self.complete)
        goals = np.full(self.request.items, min(self.pilot, self.draws) if self._anytime else self.draws)
        active = np.arange(self.request.items)
        while len(active):
            count = int(goals[active].min())
            yield from self._evaluate(active, count)
            self.ready = True
            for item in active[goals[active] == count]:
                goals[item] = self._judge(int(item), count)
            active = np.array([item for item in active if self.stopped[item] is None and goals[item] > count])

    def outcome(self) -> Outcome:
        """The regression on what each item has had."""
        parts = [np.zeros((self.request.items, self.request.groups.count)) for _ in range(3)]
        for count in np.unique(self.taken):
            items = np.flatnonzero(self.taken == count)
            phi, errors, freedom = self._solved(items, int(count))
            found = (phi, errors, errors * t_quantile(freedom))
            for part, values in zip(parts, found, strict=True):
                part[items] = values
        named = [self.by_group(part) for part in parts]
        return Outcome(
            named[0],
            self.worths.full,
            self.worths.empty if self.complete else None,
            errors=named[1],
            half_widths=named[2],
            complete=self.complete,
            stopped=tuple(self.stopped) if self._anytime else (),
        )

    @property
    def _anytime(self) -> bool:
        return self.draws > 0 and (self.budget.tolerance > 0 or self.budget.budget_ms is not None)

    def _evaluate(self, items: np.ndarray, draws: int) -> Iterator[Step]:
        """The coalitions that these items have not had."""
        masks, had = self.upto(draws).masks, int(self.costs[items[0]])
        if len(masks) > self.f.shape[1]:
            self.f = np.pad(self.f, ((0, 0), (0, len(masks) - self.f.shape[1])))
        if len(masks) > had:
            f = np.zeros((len(items), len(masks) - had))
            yield from self.worths.steps(items, masks[had:], f)
            self.f[items, had : len(masks)] = f
        self.taken[items], self.costs[items] = draws, len(masks)

    def _solved(self, items: np.ndarray, draws: int) -> Solved:
        coalitions = self.upto(draws)
        f = self.f[items, : len(coalitions.masks)]
        return self.solve(coalitions, np.column_stack([self.worths.empty[items], f, self.worths.full[items]]))

    def _judge(self, item: int, count: int) -> int:
        """How many draws the item needs; `count` where it is done, and then why."""
        if not self._anytime:
            return count
        phi, errors, _ = self._solved(np.array([item]), count)
        allowed, error = self.budget.allowed(phi[0]), largest(errors[0])
        if error == 0.0 or (count > self.pilot and self.budget.tolerance > 0 and error <= allowed):
            self.stopped[item] = TOLERANCE
        elif count >= self.draws or self.budget.late:
            self.stopped[item] = self.budget.spent(count, 1)
        if self.stopped[item]:
            return count
        needed = MARGIN * count * (error / allowed) ** 2 if allowed > 0 else count + self.pilot
        most = self.draws if self.budget.budget_ms is None else min(self.draws, 2 * count)
        return min(most, max(2 * self.pilot, count + 1, int(np.ceil(min(needed, self.draws)))))

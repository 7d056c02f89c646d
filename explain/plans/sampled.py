"""Means of samples, taken in rounds until the error of each item is small enough.

Sample k is drawn from (seed, k) alone: never from the batch or the position in it, and the same for every item. An item
that is done leaves the rounds; how many samples it gets does not depend on its company. Sums of powers are kept in
float64.

Where samples start from rows of a background, they come in pairs: two from one row, and the rows in random order until
all have had their turn, as often as the samples last. Then only a part of a turn adds what the rows differ by to the
error, and what two samples from one row differ by is the rest of it (Cochran 1977, Sampling Techniques, 5.3). How far
each row is from an item is known before anything is run (differences.py), and says what the rows that were not met
would have added, and how few of them make the error.

A run that stops when its estimated error is small stops too early where the estimate is low by chance, and an interval
made of that estimate is too narrow. So the first `pilot` samples only say how many are needed, and where a run ends by
its tolerance the error is estimated from the samples after them (Stein 1945, doi:10.1214/aoms/1177731088).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from ..intervals import freedom_of_sum, t_quantile, unevenness
from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Step
from .budget import TOLERANCE, Budget, largest

ROUND = 64
POWERS = 4  # of samples; behind their sums stand those of squares and fourth powers of what pairs differ by
SQUARE, FOURTH = POWERS, POWERS + 1
FAR, FAR_SQUARED, BENT, BENT_SQUARED = range(POWERS + 2, POWERS + 6)  # and what was known of the samples
SUMS = POWERS + 6
LEAP = 4  # times the samples so far, at most, before the need is judged anew: the largest value may be small by chance
MARGIN = 1.2  # samples beyond those that the pilot calls for, since its error is itself a guess
Judged = tuple[np.ndarray, np.ndarray, np.ndarray]
Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray], Judged]


def mean(moments: np.ndarray, counts: np.ndarray, _: np.ndarray) -> Judged:
    """E[g], the variance of one sample, and what that estimate is worth."""
    m1, m2, m3, m4 = moments[:POWERS]
    spread = np.maximum(m2 - m1**2, 0.0)
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return m1, spread * counts / np.maximum(counts - 1, 1), _freedom(spread, fourth, counts)


def mean_of_draws(moments: np.ndarray, counts: np.ndarray, total: np.ndarray) -> Judged:
    """As `mean`, of samples from rows that are drawn; what is known of them is used as `mean_of_turns` uses it."""
    values, variance, freedom = mean(moments, counts, total)
    known = moments[FAR_SQUARED] / _met(moments[FAR]) ** 2 / counts
    return values, variance / _met(moments[FAR]), _degrees((known + 1 / freedom) / 2, counts)


def mean_of_turns(rows: int) -> Statistic:
    """The mean of pairs from rows that take turns, and the variance of one sample as the mean of `total` has it.

    Within a row it is half the mean squared difference w of a pair. Between rows it is that of the pairs' means less
    w / 2, and counts for the rows of the last turn, m of them, if that is not whole: by 2 m (1 - m / rows) / pairs.
    Both are about proportional to what is known of the samples, `bent` and `far`, whose means over all rows are 1: so
    they are divided by its mean over the samples (ratio estimates, Cochran 1977, 6.2).

    The degrees of freedom of such a sum are by Satterthwaite 1946, from how unevenly the rows make it. Within rows that
    is half what is measured and half what is known: measured it is low where the variance is low by chance, so that the
    interval would be too narrow just where it must not be; known it is not, but rests on an expansion to first order.
    """

    def statistic(moments: np.ndarray, counts: np.ndarray, total: np.ndarray) -> Judged:
        pairs = np.maximum(counts // 2, 2)
        squares, fourths = moments[SQUARE] * counts / pairs, moments[FOURTH] * counts / pairs
        spread = np.maximum(moments[1] - squares / 4 - moments[0] ** 2, 0.0) * pairs / (pairs - 1)
        open_rows = (total // 2) % rows
        share = 2 * open_rows * (1 - open_rows / rows) / np.maximum(total // 2, 1)
        within = squares / 2 / _met(moments[BENT])
        between = share * np.maximum(spread - squares / 4, 0.0) / _met(moments[FAR])
        known, known_between = (moments[at + 1] / _met(moments[at]) ** 2 / pairs for at in (BENT, FAR))
        uneven = (known + unevenness(squares * pairs, fourths * pairs)) / 2
        variance = within + between
        parts = within**2 * uneven + between**2 * known_between
        together = np.divide(parts, variance**2, out=np.ones_like(parts), where=variance > 0)
        return moments[0], variance, _degrees(together, pairs)

    return statistic


def _degrees(uneven: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """One part in how unevenly so many values make a sum, fewer than there are values."""
    return np.asarray(np.clip(1.0 / np.maximum(uneven, 1e-12), 1.0, np.maximum(counts - 1, 1)))


def _met(known: np.ndarray) -> np.ndarray:
    """What is known of the samples, 1 where none of them could differ."""
    return np.where(known > 0, known, 1.0)


def _freedom(second: np.ndarray, fourth: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Degrees of freedom of a variance estimated from `counts` values with these central moments."""
    return freedom_of_sum(second * counts, fourth * counts, counts, np.maximum(counts - 1, 1))


class Known(Protocol):
    """What is known of how samples spread before they are taken."""

    def sums(self, items: np.ndarray, first: int, count: int) -> np.ndarray:
        """Sums [4, n, P] over samples from `first` on: of `far`, far^2, `bent`, bent^2 as differences.py has them."""


class SampledPlan(ABC):
    """`statistic` of samples [P] of every item.

    `statistic` takes the moments E[g^1..4], of what pairs differ by, E[d^2] and E[d^4], and what is `known` (each
    [N, P], per sample), the numbers of samples [N, 1] that they are of, and of all samples, to values, the variance of
    one sample and the degrees of freedom of that. `budget.max_evals` counts samples. Errors are looked at every `look`
    samples, `pilot` of them first. `turn` samples are a whole turn of the rows, 0 for none.
    """

    def __init__(
        self,
        request: Request,
        program: Program,
        budget: Budget,
        *,
        statistic: Statistic = mean,
        look: int,
        pilot: int,
        turn: int = 0,
        known: Known | None = None,
    ) -> None:
        self.request, self._program, self.statistic, self.budget = request, program, statistic, budget
        self.look, self.pilot, self.turn, self.known = look, pilot, turn, known
        self.sums = np.zeros((SUMS, request.items, 0))
        self.at_pilot, self.unpaired = self.sums, self.sums[0]
        self.counts = np.zeros(request.items, dtype=np.int64)
        self.goals = np.full(request.items, pilot)
        self.stopped: list[str | None] = [None] * request.items

    @property
    def program(self) -> Program:
        """The program that is run at the samples."""
        return self._program

    @property
    def ready(self) -> bool:
        """Whether every item has two samples, so that there is an error."""
        return bool((self.counts > 1).all())

    def steps(self) -> Iterator[Step]:
        """What comes first, then samples in rounds for the items that are not done."""
        yield from self.first_steps()
        count, active = 0, np.arange(self.request.items)
        while len(active):
            size = min(self.most(), self._round(count), self.budget.max_evals - count)
            yield from self.samples(active, count, size)
            count += size
            self._stop(active, count)
            active = np.array([item for item in active if self.stopped[item] is None], dtype=np.int64)

    @abstractmethod
    def first_steps(self) -> Iterator[Step]:
        """What is evaluated once, before the samples."""

    @abstractmethod
    def most(self) -> int:
        """How many samples one round may hold."""

    @abstractmethod
    def samples(self, items: np.ndarray, first: int, size: int) -> Iterator[Step]:
        """Samples first to first + size of these items; each is handed to `add`."""

    @abstractmethod
    def parted(self, flat: np.ndarray) -> Arrays:
        """[N, P] as arrays by name."""

    def add(self, items: np.ndarray, samples: np.ndarray) -> None:
        """Take samples [n, count, P] of these items."""
        if not self.sums.shape[2]:
            self.sums = np.zeros((SUMS, self.request.items, samples.shape[2]))
            self.at_pilot, self.unpaired = self.sums.copy(), self.sums[0].copy()
        power = samples
        for place in range(POWERS):
            self.sums[place, items] += power.sum(axis=1)
            power = power * samples
        self._pair(items, samples)
        first, count = int(self.counts[items[0]]), samples.shape[1]
        self.sums[FAR:, items] += float(count) if self.known is None else self.known.sums(items, first, count)
        self.counts[items] += count

    def _pair(self, items: np.ndarray, samples: np.ndarray) -> None:
        """Add what samples 2j and 2j + 1 differ by; the first of them may have come with the round before."""
        if self.counts[items[0]] % 2:
            samples = np.concatenate([self.unpaired[items][:, None], samples], axis=1)
        whole = samples.shape[1] // 2 * 2
        apart = (samples[:, 0:whole:2] - samples[:, 1:whole:2]) ** 2
        self.sums[SQUARE, items] += apart.sum(axis=1)
        self.sums[FOURTH, items] += (apart**2).sum(axis=1)
        self.unpaired[items] = samples[:, -1]

    def estimated(self, explained: np.ndarray, base: np.ndarray | None, complete: bool) -> Outcome:
        """The statistic of the samples so far, with the standard error and the interval of every value."""
        values, variance, freedom = self._estimates()
        errors = np.sqrt(np.maximum(variance, 0.0) / self.counts[:, None])
        half = errors * t_quantile(freedom)
        found = tuple(self.parted(flat) for flat in (values, errors, half))
        return Outcome(
            found[0],
            explained,
            base,
            errors=found[1],
            half_widths=found[2],
            complete=complete,
            stopped=tuple(self.stopped),
        )

    def _round(self, count: int) -> int:
        if not self.budget.tolerance:
            return ROUND
        ahead = self.goals[[why is None for why in self.stopped]] - count
        return int(min([self.look - count % self.look, *ahead[ahead > 0]]))

    def _estimates(self) -> Judged:
        """Values, variances of one sample and degrees of freedom of these, [N, P] each.

        An item that has samples behind its pilot and ends by its tolerance takes the variance from these alone.
        """
        counts = self.counts[:, None]
        values, variance, free = self.statistic(self.sums / counts, counts, counts)
        later = self.counts - self.pilot
        told = np.array([why in (None, TOLERANCE) for why in self.stopped]) & (later > 3) & bool(self.budget.tolerance)
        if told.any():
            after = np.maximum(later, 4)[:, None]
            _, second, freer = self.statistic((self.sums - self.at_pilot) / after, after, counts)
            variance, free = np.where(told[:, None], second, variance), np.where(told[:, None], freer, free)
        return values, variance, free

    def _stop(self, active: np.ndarray, count: int) -> None:
        """Note why items are done: the samples that a goal called for are there and the error is small, or all are."""
        if count < 2:
            return
        due = active[(self.goals[active] <= count) | (count >= self.budget.max_evals)]
        if self.budget.tolerance and count >= self.pilot and len(due):
            if count == self.pilot:
                self.at_pilot = self.sums.copy()
            values, variance, _ = self._estimates()
            for item in due:
                self._judge(int(item), values[item], np.sqrt(np.maximum(variance[item], 0.0)), count)
        for item in active:
            self.stopped[item] = self.stopped[item] or self.budget.spent(count, 1)

    def _judge(self, item: int, values: np.ndarray, deviation: np.ndarray, count: int) -> None:
        """Done, or how many samples it takes: as many as bring the largest error down to what is allowed."""
        allowed, spread = self.budget.allowed(values), largest(deviation)
        if spread == 0.0 or (count > self.pilot and spread / np.sqrt(count) <= allowed):
            self.stopped[item] = TOLERANCE
            return
        needed = min(MARGIN * (spread / allowed) ** 2 if allowed > 0 else np.inf, LEAP * count)
        if self.turn and allowed > 0:
            needed = min(needed, self._in_turns(item, allowed))
        wanted = int(np.ceil(min(max(needed, 2 * self.pilot, count + 1), self.budget.max_evals)))
        turns = self.turn and wanted % self.turn == 0
        self.goals[item] = wanted if turns or wanted >= self.budget.max_evals else -(-wanted // self.look) * self.look

    def _in_turns(self, item: int, allowed: float) -> float:
        """How many samples are enough if all rows have had as many."""
        counts = self.counts[item : item + 1, None]
        _, variance, _ = self.statistic(self.sums[:, item : item + 1] / counts, counts, np.full((1, 1), self.turn))
        needed = MARGIN * largest(variance) / allowed**2
        return float(np.ceil(needed / self.turn) * self.turn)

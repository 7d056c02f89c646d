"""Means, mean squares and variances of gradients at random points, until their error is small enough.

Sample k is drawn from (seed, k) alone: never from the batch or the position in it, and the same for every item. An item
that is done leaves the rounds; how many samples it gets does not depend on its company. Every sample's gradient comes
back alone (the weighting is the identity), so that errors are those of single features. Sums of powers are kept in
float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Step, capacity, filled, flat_outputs, parted, target_feeds
from .budget import TOLERANCE, Budget
from .ends import Ends

ROUND = 64
LOOK = 16  # samples between two looks at the error, whatever the size of a round


@dataclass(frozen=True)
class Draw:
    """One sample: where on the path, from which baseline rows [item...] and with which noise [item...], by input."""

    alpha: float
    baseline: Arrays
    noise: Arrays


class SamplePlan:
    """`statistic` of `<input>.<of>` over the samples that `draw(k)` makes.

    `statistic` takes the moments E[g^1..4] (each [N, P]) and the numbers of samples [N, 1] to values and the variance
    of one sample. `scale` by input ([N, item...]) multiplies the noise of each item.
    """

    def __init__(
        self,
        request: Request,
        program: Program,
        draw: Callable[[int], Draw],
        scale: Arrays,
        of: str,
        statistic: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
        budget: Budget,
        ends: Ends,
    ) -> None:
        self.request, self._program, self.draw, self.scale, self.of = request, program, draw, scale, of
        self.statistic, self.budget, self.ends = statistic, budget, ends
        self.moments = np.zeros((4, request.items, 0))
        self.counts = np.zeros(request.items, dtype=np.int64)
        self.stopped: list[str | None] = [None] * request.items
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def program(self) -> Program:
        """`path_gradient`."""
        return self._program

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations spent on each item."""
        return self.counts + self.ends.evaluations

    @property
    def ready(self) -> bool:
        """Whether every item has two samples, so that there is an error."""
        return bool((self.counts > 1).all())

    def steps(self) -> Iterator[Step]:
        """f at both ends, then samples in rounds for the items that are not done."""
        yield from self.ends.steps()
        limit, count = capacity(self.request.model, self.request.inputs), 0
        active = np.arange(self.request.items)
        while len(active):
            size = min(limit, self._round(count), self.budget.max_evals - count)
            draws = [self.draw(count + k) for k in range(size)]
            rows = max(1, limit // size)
            for first in range(0, len(active), rows):
                items = active[first : first + rows]
                yield Step(self._program, self._feeds(items, draws), partial(self._take, items))
            count += size
            self._stop(active, count)
            active = np.array([item for item in active if self.stopped[item] is None], dtype=np.int64)

    def outcome(self) -> Outcome:
        """The statistic of the samples so far, with the standard error of every value."""
        found = (filled(self.request, parted(flat, self._shapes)) for flat in self._estimates())
        values, errors = found
        explained, base = self.ends.values()
        return Outcome(values, explained, base, errors, "standard_error", base is not None, tuple(self.stopped))

    def _round(self, count: int) -> int:
        return LOOK - count % LOOK if self.budget.tolerance else ROUND

    def _estimates(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and standard errors [N, P]."""
        counts = self.counts[:, None]
        values, variance = self.statistic(self.moments / counts, counts)
        return values, np.sqrt(np.maximum(variance, 0.0) / counts)

    def _stop(self, active: np.ndarray, count: int) -> None:
        """Note why items are done. Errors are looked at after fixed numbers of samples; one sample has none."""
        if count < 2:
            return
        if self.budget.tolerance and count % LOOK == 0:
            for item, phi, error in zip(active, *(found[active] for found in self._estimates()), strict=True):
                self.stopped[item] = TOLERANCE if self.budget.small(phi, error) else None
        for item in active:
            self.stopped[item] = self.stopped[item] or self.budget.spent(count, 1)

    def _feeds(self, items: np.ndarray, draws: list[Draw]) -> Arrays:
        dtype, size = np.dtype(self.request.explained.dtype), len(draws)
        feeds = {name: array[items] for name, array in self.request.inputs.items()}
        for name, array in self.request.inputs.items():
            if f"{name}.baseline" in self._program.inputs:
                feeds[f"{name}.baseline"] = self._baseline(name, array[items], draws)
            if f"{name}.noise" in self._program.inputs:
                noise = np.stack([draw.noise[name] for draw in draws])
                feeds[f"{name}.noise"] = (self.scale[name][items, None] * noise).astype(array.dtype)
        feeds["alpha"] = np.tile(np.array([draw.alpha for draw in draws], dtype=dtype), (len(items), 1))
        feeds["weight"] = np.tile(np.eye(size, dtype=dtype), (len(items), 1, 1))
        return feeds | target_feeds(self.request, items)

    def _baseline(self, name: str, array: np.ndarray, draws: list[Draw]) -> np.ndarray:
        """[N, J, item...]: what was drawn, the same for every item; where nothing was, the item itself."""
        given = [draw.baseline[name] for draw in draws if name in draw.baseline]
        return np.stack([np.stack(given)] * len(array)) if given else array[:, None]

    def _take(self, items: np.ndarray, outputs: Mapping[str, np.ndarray]) -> None:
        g = flat_outputs(outputs, self.of, self._shapes)
        if not self.moments.shape[2]:
            self.moments = np.zeros((4, self.request.items, g.shape[2]))
        for power in range(4):
            self.moments[power, items] += (g ** (power + 1)).sum(axis=1)
        self.counts[items] += g.shape[1]

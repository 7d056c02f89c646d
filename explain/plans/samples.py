"""Means, mean squares and variances of gradients at random points, until their error is small enough.

Every sample's gradient comes back alone (the weighting is the identity), so that errors are those of single features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Step, capacity, filled, flat_outputs, parted, target_feeds
from .budget import Budget
from .ends import Ends
from .sampled import Known, SampledPlan, Statistic, mean

LOOK, PILOT = 16, 32


@dataclass(frozen=True)
class Draw:
    """One sample: where on the path, from which baseline rows [item...] and with which noise [item...], by input."""

    alpha: float
    baseline: Arrays
    noise: Arrays


class SamplePlan(SampledPlan):
    """`statistic` of `<input>.<of>` over the samples that `draw(k)` makes.

    `scale` by input ([N, item...]) multiplies the noise of each item.
    """

    def __init__(
        self,
        request: Request,
        program: Program,
        draw: Callable[[int], Draw],
        scale: Arrays,
        of: str,
        budget: Budget,
        ends: Ends,
        *,
        statistic: Statistic = mean,
        turn: int = 0,
        known: Known | None = None,
    ) -> None:
        options = {"look": LOOK, "pilot": PILOT, "turn": turn}
        super().__init__(request, program, budget, statistic=statistic, known=known, **options)
        self.draw, self.scale, self.of, self.ends = draw, scale, of, ends
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations spent on each item."""
        return self.counts + self.ends.evaluations

    def first_steps(self) -> Iterator[Step]:
        """f at both ends."""
        return self.ends.steps()

    def most(self) -> int:
        """As many as one run holds."""
        return capacity(self.request.model, self.request.inputs)

    def samples(self, items: np.ndarray, first: int, size: int) -> Iterator[Step]:
        """Runs of `path_gradient`, each with the same draws for some of the items."""
        draws = [self.draw(first + k) for k in range(size)]
        rows = max(1, self.most() // size)
        for at in range(0, len(items), rows):
            chosen = items[at : at + rows]
            yield Step(self._program, self._feeds(chosen, draws), partial(self._take, chosen))

    def parted(self, flat: np.ndarray) -> Arrays:
        """By input, zeros where no gradient comes from."""
        return filled(self.request, parted(flat, self._shapes))

    def outcome(self) -> Outcome:
        """The statistic of the samples so far, with the standard error of every value."""
        explained, base = self.ends.values()
        return self.estimated(explained, base, base is not None)

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
        self.add(items, flat_outputs(outputs, self.of, self._shapes))

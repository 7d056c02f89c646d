"""When an anytime plan stops: its error is small enough, or evaluations or time are spent."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EVALUATIONS, TIME, TOLERANCE = "max_evals", "budget_ms", "tolerance"


@dataclass(frozen=True)
class Budget:
    """What may be spent on each item.

    `tolerance`: largest error of an attribution relative to the largest |attribution| of the item (0: go on whatever
    the error); `max_evals` evaluations of an item; `budget_ms` from now on for all items, None for no limit.
    """

    tolerance: float
    max_evals: int
    budget_ms: float | None
    started: float = field(default_factory=lambda: time.monotonic())

    @classmethod
    def of(cls, parameters: Mapping[str, Any], max_evals: int) -> Budget:
        """The budget that a method's parameters state."""
        return cls(float(parameters["tolerance"]), max_evals, parameters["budget_ms"])

    @property
    def late(self) -> bool:
        """Whether the time is spent."""
        return self.budget_ms is not None and (time.monotonic() - self.started) * 1000 >= self.budget_ms

    def allowed(self, phi: np.ndarray) -> float:
        """The largest error that attributions phi [P] may have."""
        return self.tolerance * largest(phi)

    def small(self, phi: np.ndarray, error: np.ndarray) -> bool:
        """Whether the errors [P] of attributions phi [P] are within the tolerance."""
        return self.tolerance > 0 and largest(error) <= self.allowed(phi)

    def spent(self, evaluations: int, next_cost: int) -> str | None:
        """What is spent when an item has had so many evaluations and the next step takes `next_cost`, or None."""
        if evaluations + next_cost > self.max_evals:
            return EVALUATIONS
        return TIME if self.late else None


def largest(values: np.ndarray) -> float:
    """The largest size; what is not finite cannot become small and does not keep the others from being done."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))

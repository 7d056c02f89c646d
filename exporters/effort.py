"""How much a certificate is measured on, and how long one explanation takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from .case import Case


@dataclass(frozen=True)
class Effort:
    """How many rows each check takes at most; 0 leaves a check out.

    rows          completeness and gradients
    judged        judges
    random_rows   randomisation, with `draws` networks of random weights
    seeded_rows   error bars and reasons, over `seeds` seeds; against the mean over `more` others
    seconds       about what one check of one method may take; it then takes fewer rows. None: no limit, and for methods
                  that compare with a background few samples and rows, so that the same comes out each time
    """

    rows: int
    judged: int
    random_rows: int = 0
    draws: int = 3
    seeded_rows: int = 0
    seeds: int = 20
    more: int = 16
    seconds: float | None = None


QUICK = Effort(rows=8, judged=2)
FULL = Effort(rows=500, judged=4, random_rows=200, seeded_rows=200, seconds=30.0)
MODERATE = Effort(rows=32, judged=2, random_rows=16, draws=2, seeded_rows=8, seeds=5, more=8, seconds=5.0)


@dataclass
class Pace:
    """Seconds that the explanation of one row takes, found by trying once."""

    case: Case
    known: dict[tuple[str, str], float] = field(default_factory=dict)

    def seconds(self, method: str, **parameters: Any) -> float:
        """Of one row by a method. Raises what the explanation raises."""
        key = (method, repr(sorted(parameters.items())))
        if key not in self.known:
            one = self.case.first(1)
            one.explained(method, **parameters)  # compiles
            start = time.perf_counter()
            one.explained(method, **parameters)
            self.known[key] = time.perf_counter() - start
        return self.known[key]

    def rows(self, effort: Effort, most: int, method: str, times: float = 1.0, **parameters: Any) -> int:
        """How many rows fit, if each is explained so many times; 0 if not one does."""
        most = min(most, len(self.case.rows))
        if effort.seconds is None:
            return most
        return min(most, int(effort.seconds / max(1e-6, times * self.seconds(method, **parameters))))

"""What is reported of a figure over a data set: its middle, its spread, its worst row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Distribution:
    """Median, quartiles and the worst of `rows` numbers, the worst with its row; `undefined` rows had no number.

    Everything is None where no row had a number.
    """

    rows: int
    undefined: int
    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None
    worst: float | None
    worst_row: int | None

    @classmethod
    def of(cls, values: Any, *, worst: str = "largest") -> Distribution:
        """Of one number per row (None or NaN where there is none); `worst`: "largest" or "smallest"."""
        found = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        known = np.isfinite(found)
        if not known.any():
            return cls(len(found), len(found), None, None, None, None, None)
        lower, median, upper = (float(q) for q in np.percentile(found[known], [25, 50, 75]))
        signed = np.where(known, found if worst == "largest" else -found, -np.inf)
        row = int(np.argmax(signed))
        return cls(len(found), int((~known).sum()), median, lower, upper, float(found[row]), row)

    def to_dict(self) -> dict[str, Any]:
        """The same as a plain dict."""
        return asdict(self)

"""Every item against every row of a background, given or in the program: `deeplift`, averaged over the background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Task, blocks, capacity, filled, target_feeds
from .fixed import FixedPlan


class PairPlan(FixedPlan):
    """`deeplift` from each row of `background` [B, item...] by input, in parts where it does not fit into one run."""

    def __init__(self, request: Request, program: Program, background: Arrays) -> None:
        self.size = len(next(iter(background.values())))
        super().__init__(request, program, 1 + self.size)
        self.background = {name: rows for name, rows in background.items() if f"{name}.baseline" in program.inputs}
        self.totals: Arrays = {}
        self.explained, self.base = np.full(request.items, np.nan), np.zeros(request.items)

    def tasks(self) -> Iterator[Task]:
        """Blocks of items and background rows."""
        model, inputs = self.request.model, self.request.inputs
        width = min(self.size, capacity(model, inputs))
        for task in blocks(model, inputs, 1, width):
            for first in range(0, self.size, width):
                yield Task(task.rows, task.evaluations, slice(first, min(first + width, self.size)))

    def feeds(self, task: Task) -> Arrays:
        """Inputs of `deeplift`."""
        dtype = np.dtype(self.request.explained.dtype)
        feeds = {name: array[task.rows] for name, array in self.request.inputs.items()}
        feeds |= {f"{name}.baseline": rows[task.background] for name, rows in self.background.items()}
        if "baseline.weight" in self.program.inputs:
            feeds["baseline.weight"] = self.request.background_weight[task.background].astype(dtype)
        return feeds | target_feeds(self.request, task.rows)

    def collect(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        """Add a part's share of the means."""
        self.explained[task.rows] = outputs["value"]
        self.base[task.rows] += outputs["baseline_value"] @ self.request.background_weight[task.background]
        for name, array in outputs.items():
            if name.endswith(".attribution"):
                key = name.removesuffix(".attribution")
                if key not in self.totals:
                    self.totals[key] = np.zeros((self.request.items, *array.shape[1:]))
                self.totals[key][task.rows] += array

    def outcome(self) -> Outcome:
        """Means over the background."""
        return Outcome(filled(self.request, self.totals), self.explained, self.base, complete=True)

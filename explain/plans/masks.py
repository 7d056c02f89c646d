"""The explained output under coalitions of features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Task, blocks, capacity, pick
from .fixed import FixedPlan


class MaskPlan(FixedPlan):
    """The explained output under K coalitions: masks [K, G]; `reduce(f)` takes f [N, K] to the outcome.

    Each coalition is averaged over the background, in parts where it does not fit into one run.
    """

    def __init__(
        self, request: Request, program: Program, masks: np.ndarray, reduce: Callable[[np.ndarray], Outcome]
    ) -> None:
        background = request.background
        if background is None:
            raise ValueError("a mask plan needs a background")
        self.size = len(next(iter(background.values())))
        super().__init__(request, program, len(masks) * self.size)
        self.masks, self.reduce, self.background = masks, reduce, background
        self.f = np.zeros((request.items, len(masks)))

    def tasks(self) -> Iterator[Task]:
        """Blocks of items, coalitions and background rows."""
        model, inputs = self.request.model, self.request.inputs
        width = min(self.size, capacity(model, inputs))
        for task in blocks(model, inputs, len(self.masks), width):
            for first in range(0, self.size, width):
                yield Task(task.rows, task.evaluations, slice(first, min(first + width, self.size)))

    def feeds(self, task: Task) -> Arrays:
        """Inputs of `masked_forward`."""
        dtype = np.dtype(self.request.explained.dtype)
        count = task.rows.stop - task.rows.start
        feeds = {name: array[task.rows] for name, array in self.request.inputs.items()}
        feeds |= {f"{name}.groups": index for name, index in self.request.groups.index.items()}
        feeds |= {f"{name}.background": rows[task.background] for name, rows in self.background.items()}
        feeds["mask"] = np.tile(self.masks[task.evaluations].astype(dtype), (count, 1, 1))
        width = task.background.stop - task.background.start
        feeds["background.weight"] = np.full(width, 1.0 / width, dtype=dtype)
        return feeds

    def collect(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        """Pick the target out of every element of the output."""
        value = outputs["value"].astype(np.float64)
        share = (task.background.stop - task.background.start) / self.size
        self.f[task.rows, task.evaluations] += share * pick(self.request, value, task.rows)

    def outcome(self) -> Outcome:
        """The reduction of f over the coalitions."""
        return self.reduce(self.f)

"""`tree_shap` on every item: one run for each block of them, for all targets at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Task, capacity, pick
from .fixed import FixedPlan


class TreePlan(FixedPlan):
    """Attributions of every output for each item, of which its target picks its own."""

    def __init__(self, request: Request, program: Program) -> None:
        super().__init__(request, program, 1)
        self.values: Arrays = {}
        self.explained, self.base = np.full(request.items, np.nan), np.full(request.items, np.nan)

    def tasks(self) -> Iterator[Task]:
        """Blocks of items of the size that the program asks for."""
        rows = min(capacity(self.request.model, self.request.inputs), int(self.program.options["rows"]))
        for first in range(0, self.request.items, rows):
            yield Task(slice(first, min(first + rows, self.request.items)), slice(0, 1))

    def feeds(self, task: Task) -> Arrays:
        """The model's own inputs."""
        return {name: array[task.rows] for name, array in self.request.inputs.items()}

    def collect(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        """Pick each item's target out of all outputs."""
        rows, value = task.rows, outputs["value"].astype(np.float64)
        base = np.broadcast_to(outputs["base_value"].astype(np.float64), value.shape)
        self.explained[rows] = pick(self.request, value[:, None], rows)[:, 0]
        self.base[rows] = pick(self.request, base[:, None], rows)[:, 0]
        for name, array in outputs.items():
            if name.endswith((".attribution", ".interaction")):
                key, shape = name.rpartition(".")[0], array.shape[2:]
                flat = array.reshape(*array.shape[:2], -1).transpose(0, 2, 1).astype(np.float64)
                picked = pick(self.request, flat, rows)
                self.values.setdefault(key, np.zeros((self.request.items, *shape)))[rows] = picked.reshape(-1, *shape)

    def outcome(self) -> Outcome:
        """All of them."""
        return Outcome(self.values, self.explained, self.base, complete=True)

"""Gradients along straight paths, at points laid out beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Task, blocks, target_feeds
from .fixed import FixedPlan


class PathPlan(FixedPlan):
    """Gradients along paths: alphas [K], weights [K, R], baselines [N, J, ...] by input with J = 1 or K.

    `reduce(totals, values)` turns the accumulated `<input>.<of>` [N, R, ...] and f along the path [N, K] into the
    outcome; `of` is "attribution" or "gradient".
    """

    def __init__(
        self,
        request: Request,
        program: Program,
        alphas: np.ndarray,
        weights: np.ndarray,
        baselines: Arrays,
        of: str,
        reduce: Callable[[Arrays, np.ndarray], Outcome],
    ) -> None:
        super().__init__(request, program, len(alphas))
        self.reduce = reduce
        self.alphas, self.weights, self.baselines, self.of = alphas, weights, baselines, of
        self.totals: Arrays = {}
        self.along = np.full((request.items, self.planned), np.nan)

    def tasks(self) -> Iterator[Task]:
        """Blocks of items and points."""
        return blocks(self.request.model, self.request.inputs, self.planned)

    def feeds(self, task: Task) -> Arrays:
        """Inputs of `path_gradient`."""
        rows, points = task.rows, task.evaluations
        count, dtype = rows.stop - rows.start, np.dtype(self.request.explained.dtype)
        feeds = {name: array[rows] for name, array in self.request.inputs.items()}
        for name, baseline in self.baselines.items():
            feeds[f"{name}.baseline"] = baseline[rows, points] if baseline.shape[1] > 1 else baseline[rows]
        feeds["alpha"] = np.tile(self.alphas[points].astype(dtype), (count, 1))
        feeds["weight"] = np.tile(self.weights[points].astype(dtype), (count, 1, 1))
        return feeds | target_feeds(self.request, rows)

    def collect(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        """Add a block's part of the sums."""
        self.along[task.rows, task.evaluations] = outputs["value"]
        for name, array in outputs.items():
            if name.endswith(f".{self.of}"):
                key = name.removesuffix(f".{self.of}")
                if key not in self.totals:
                    self.totals[key] = np.zeros((self.request.items, *array.shape[1:]))
                self.totals[key][task.rows] += array

    def outcome(self) -> Outcome:
        """The reduction of what has been added up so far."""
        return self.reduce(self.totals, self.along)

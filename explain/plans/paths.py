"""Gradients along straight paths, at points or over stretches laid out beforehand."""

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
        """Take a block's part of the sums, and f along it."""
        self.along[task.rows, task.evaluations] = outputs["value"]
        self._add(task, outputs)

    def _add(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        for name, array in outputs.items():
            if name.endswith(f".{self.of}"):
                key = name.removesuffix(f".{self.of}")
                if key not in self.totals:
                    self.totals[key] = np.zeros((self.request.items, *array.shape[1:]))
                self.totals[key][task.rows] += array

    def outcome(self) -> Outcome:
        """The reduction of what has been added up so far."""
        return self.reduce(self.totals, self.along)


class SecantPlan(PathPlan):
    """`path_secant` over `count` equal stretches of paths from `baselines` [N, 1, ...] by input."""

    def __init__(
        self,
        request: Request,
        program: Program,
        count: int,
        baselines: Arrays,
        reduce: Callable[[Arrays, np.ndarray], Outcome],
    ) -> None:
        stops, lengths = np.arange(1, count + 1) / count, np.full((count, 1), 1 / count)
        super().__init__(request, program, stops, lengths, baselines, "attribution", reduce)
        self.along = np.full((request.items, count + 1), np.nan)

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model for each item, were all stretches in one run."""
        each = 2 * self.planned if self.program.options["points"] == "paired" else self.planned + 1
        return np.full(self.request.items, each)

    def feeds(self, task: Task) -> Arrays:
        """Inputs of `path_secant`: where the stretches of the block stop, and where the first of them starts."""
        feeds, first = super().feeds(task), task.evaluations.start
        stops, count = feeds["alpha"], task.evaluations.stop - first
        start = np.full((len(stops), 1), self.alphas[first - 1] if first else 0.0, dtype=stops.dtype)
        places = np.tile(np.arange(count), (len(stops), 1))
        return feeds | {"alpha": np.concatenate([start, stops], axis=1), "start": places, "stop": places + 1}

    def collect(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        """Take a block's part of the sums, and f where its stretches start and stop."""
        first, last = task.evaluations.start, task.evaluations.stop
        self.along[task.rows, first] = outputs["value"][:, 0]
        self.along[task.rows, first + 1 : last + 1] = outputs["value.stop"]
        self._add(task, outputs)

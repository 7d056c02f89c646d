"""Plans: the small arrays that say at which points a program is run, and how its outputs add up.

A plan knows its program, how many evaluations each item needs, and what to feed for a block of rows and evaluations.
It accumulates in float64 and never looks at who else shared a run. Chunk sizes depend on the size of one item, never
on how many items came together, so that the same request gives the same attribution whatever else was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from .errors import MethodUnavailable
from .model import Model
from .programs import Program
from .request import Arrays, Request

ELEMENTS_PER_RUN = 1 << 21
ROWS_PER_RUN = 4096


@dataclass(frozen=True)
class Task:
    """A block of items and evaluations (and background rows) that one run answers."""

    rows: slice
    evaluations: slice
    background: slice = field(default_factory=lambda: slice(0, 1))


@dataclass(frozen=True)
class Outcome:
    """What a plan found: attributions, their errors, and the explained function at the item and at its reference."""

    values: Arrays
    explained_value: np.ndarray
    base_values: np.ndarray | None = None
    errors: Arrays | None = None
    complete: bool = False


class Plan(Protocol):
    """What a run needs of a plan."""

    program: Program
    evaluations: int

    def tasks(self) -> Iterator[Task]:
        """The blocks of work, in order."""

    def feeds(self, task: Task) -> Arrays:
        """Inputs of the program for one block."""

    def collect(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        """Take the program's outputs for one block."""

    def outcome(self) -> Outcome:
        """The attribution so far."""


def blocks(model: Model, inputs: Arrays, evaluations: int, width: int = 1) -> Iterator[Task]:
    """Cut N items times K evaluations, each of `width` rows of the model, into runs of bounded size."""
    limit = max(1, capacity(model, inputs) // width)
    step = min(evaluations, limit)
    rows = max(1, limit // step)
    items = len(next(iter(inputs.values())))
    for first in range(0, items, rows):
        for start in range(0, evaluations, step):
            stop = min(start + step, evaluations)
            yield Task(slice(first, min(first + rows, items)), slice(start, stop))


def capacity(model: Model, inputs: Arrays) -> int:
    """How many rows of the model one run may hold: set by the size of one item, and 1 for a model that takes one."""
    if model.row_by_row:
        return 1
    size = max(1, max(int(np.prod(array.shape[1:])) for array in inputs.values()))
    return max(1, min(ROWS_PER_RUN, ELEMENTS_PER_RUN // size))


def target_feeds(request: Request, rows: slice) -> Arrays:
    """The feeds that say what is explained."""
    return {"target": request.target.index[rows], "target.weight": request.target.weight[rows]}


class PathPlan:
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
        self.request, self.program, self.reduce = request, program, reduce
        self.alphas, self.weights, self.baselines, self.of = alphas, weights, baselines, of
        self.evaluations = len(alphas)
        self.totals: Arrays = {}
        self.along = np.full((request.items, self.evaluations), np.nan)

    def tasks(self) -> Iterator[Task]:
        """Blocks of items and points."""
        return blocks(self.request.model, self.request.inputs, self.evaluations)

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


class MapPlan:
    """One run of `activation_map` per item; `reduce(map, value)` makes the outcome."""

    evaluations = 1

    def __init__(self, request: Request, program: Program, reduce: Callable[[np.ndarray, np.ndarray], Outcome]) -> None:
        self.request, self.program, self.reduce = request, program, reduce
        self.map = np.zeros(0)
        self.value = np.full(request.items, np.nan)

    def tasks(self) -> Iterator[Task]:
        """Blocks of items."""
        return blocks(self.request.model, self.request.inputs, 1)

    def feeds(self, task: Task) -> Arrays:
        """Inputs of `activation_map`."""
        feeds = {name: array[task.rows] for name, array in self.request.inputs.items()}
        return feeds | target_feeds(self.request, task.rows)

    def collect(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        """Keep a block's maps; raises MethodUnavailable where the layer does not hold one map for each item."""
        if len(outputs["map"]) != task.rows.stop - task.rows.start:
            layer = self.program.options["layer"]
            raise MethodUnavailable(f"layer {layer!r} does not hold one map for each item; name another layer")
        if not self.map.size:
            self.map = np.zeros((self.request.items, *outputs["map"].shape[1:]))
        self.map[task.rows], self.value[task.rows] = outputs["map"], outputs["value"]

    def outcome(self) -> Outcome:
        """The reduction of the maps."""
        return self.reduce(self.map, self.value)


class MaskPlan:
    """The explained output under K coalitions: masks [K, G]; `reduce(f)` takes f [N, K] to the outcome.

    Each coalition is averaged over the background, in parts where it does not fit into one run.
    """

    def __init__(
        self, request: Request, program: Program, masks: np.ndarray, reduce: Callable[[np.ndarray], Outcome]
    ) -> None:
        background = request.background
        if background is None:
            raise ValueError("a mask plan needs a background")
        self.request, self.program, self.masks, self.reduce = request, program, masks, reduce
        self.background = background
        self.size = len(next(iter(background.values())))
        self.evaluations = len(masks) * self.size
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


def pick(request: Request, value: np.ndarray, rows: slice) -> np.ndarray:
    """f [N, K] from `value` [N, K, C]: the targets' weighted sum, C in the order of the output's elements."""
    index, weight = request.target.index[rows], request.target.weight[rows]
    shape = request.outputs[request.explained.output].shape[1:]
    places = np.ravel_multi_index(tuple(np.moveaxis(index, 2, 0)), shape) if shape else np.zeros(index.shape[:2], int)
    picked = np.take_along_axis(value, np.asarray(places)[:, None, :], axis=2)
    return np.asarray((picked * weight[:, None, :]).sum(axis=2))

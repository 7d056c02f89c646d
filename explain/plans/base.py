"""Plans: the small arrays that say at which points a program is run, and how its outputs add up.

A plan knows its program and hands out steps: a program, what to feed it, and who takes the outputs. It accumulates in
float64 and never looks at who else shared a run. Chunk sizes depend on the size of one item, never on how many items
came together, so that the same request gives the same attribution whatever else was asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ..errors import ExplainError
from ..model import Model
from ..programs import Program
from ..request import Arrays, Request

# Measured on CPUs (benchmarks/explain.py): larger runs leave the caches, smaller ones waste the calls.
ELEMENTS_PER_RUN = 1 << 19
ROWS_PER_RUN = 4096


@dataclass(frozen=True)
class Step:
    """One run: a program, its feeds, and who takes the outputs. Steps are answered in the order they are handed out."""

    program: Program
    feeds: Arrays
    collect: Callable[[Mapping[str, np.ndarray]], None]


@dataclass(frozen=True)
class Task:
    """A block of items and evaluations (and background rows) that one run answers."""

    rows: slice
    evaluations: slice
    background: slice = field(default_factory=lambda: slice(0, 1))


@dataclass(frozen=True)
class Outcome:
    """What a plan found: attributions, their errors, and the explained function at the item and at its reference.

    `error_kind` names the errors ("standard_error" of a sample, "quadrature_error" of a rule); `half_widths` are those
    of 95 % confidence intervals, where there are such. `complete` says that the attributions promise to add up to
    explained_value - base_values. `stopped` says for each item why an anytime plan ended ("tolerance",
    "max_evals", "budget_ms"; None while it goes on), and is empty for plans of a fixed size.
    """

    values: Arrays
    explained_value: np.ndarray
    base_values: np.ndarray | None = None
    errors: Arrays | None = None
    error_kind: str = "standard_error"
    half_widths: Arrays | None = None
    complete: bool = False
    stopped: tuple[str | None, ...] = ()


class Plan(Protocol):
    """What a run needs of a plan."""

    @property
    def program(self) -> Program:
        """The program that makes the attributions; its digest is recorded."""

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model spent on each item so far."""

    @property
    def ready(self) -> bool:
        """Whether `outcome` means something: after the first full estimate, or at the end."""

    def steps(self) -> Iterator[Step]:
        """The work, in order. A step may depend on the outputs of those before it."""

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
    """How many rows of the model one run may hold: set by the size of one item (of its encoding, for codes) and by the
    model's `run_rows`, and 1 for a model that takes one."""
    if model.row_by_row:
        return 1
    widths = model.remember("widths of encodings", lambda: _widths(model))
    size = max(1, max(math.prod(array.shape[1:]) * widths.get(name, 1) for name, array in inputs.items()))
    return max(1, min(ROWS_PER_RUN, ELEMENTS_PER_RUN // size, model.run_rows or ROWS_PER_RUN))


def _widths(model: Model) -> dict[str, int]:
    """How many numbers one element of an input becomes where it is encoded, as far as that is known."""
    try:
        leaves = model.leaves(model.explained())
    except ExplainError:
        return {}
    shapes = {leaf: (model.graph.type(leaf.value).shape or ())[-leaf.trailing :] for leaf in leaves if leaf.trailing}
    return {leaf.input: math.prod(dim for dim in shape if isinstance(dim, int)) for leaf, shape in shapes.items()}


def target_feeds(request: Request, rows: slice | np.ndarray) -> Arrays:
    """The feeds that say what is explained."""
    return {"target": request.target.index[rows], "target.weight": request.target.weight[rows]}


def pick(request: Request, value: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """f [N, K] from `value` [N, K, C]: the targets' weighted sum, C in the order of the output's elements."""
    index, weight = request.target.index[rows], request.target.weight[rows]
    sizes = request.outputs[request.explained.output].shape[1:]
    places = index[:, :, 0] if sizes else np.zeros(index.shape[:2], dtype=np.int64)
    for axis, size in enumerate(sizes[1:], 1):
        places = places * size + index[:, :, axis]
    picked = value.transpose(0, 2, 1)[np.arange(len(value))[:, None], places]  # [N, S, K]
    return np.asarray((picked * weight[:, :, None]).sum(axis=1))


def flat_outputs(outputs: Mapping[str, np.ndarray], of: str, shapes: dict[str, tuple[int, ...]]) -> np.ndarray:
    """Outputs `<input>.<of>` [N, R, ...] beside each other as float64 [N, R, P]; `shapes` takes the inputs' shapes."""
    parts = []
    for name, array in outputs.items():
        if name.endswith(f".{of}"):
            shapes[name.removesuffix(f".{of}")] = array.shape[2:]
            parts.append(array.reshape(*array.shape[:2], -1))
    return np.concatenate(parts, axis=2).astype(np.float64)


def parted(flat: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """[N, P] as arrays [N, shape...] by name, in the order of `shapes`."""
    found, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        found[name] = flat[:, start : start + size].reshape(len(flat), *shape)
        start += size
    return found


def filled(request: Request, values: Arrays) -> Arrays:
    """Attributions of every input that could have one: 0 for numbers no gradient comes from."""
    rest = {
        name: np.zeros(x.shape) for name, x in request.features.items() if x.dtype.kind == "f" and name not in values
    }
    return values | rest

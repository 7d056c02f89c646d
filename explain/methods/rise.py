"""RISE: how well the output does on average when an element is kept, over random masks."""

from __future__ import annotations

import numpy as np

from ..plans import Budget, CoalitionPlan, Drawn, Worths
from ..positions import by_position
from ..request import Request
from .ablation import LAYOUT
from .base import BUDGET, TOLERANCE, Method, Parameter, by_group


def _rise(request: Request) -> CoalitionPlan:
    """E[f(mask) mask] / E[mask]: smooth masks over a picture's positions, or groups kept independently."""
    keep, sizes = float(request.parameters["keep"]), None
    if request.groups.names is None and len(request.inputs) == 1:
        request, sizes = by_position(request, "rise", request.parameters["layout"])
    smooth = sizes is not None and len(sizes) == 2
    cells = [min(request.parameters["cells"], size) for size in sizes or ()]

    def draw(k: int) -> Drawn:
        random = np.random.default_rng([request.seed, k])
        if smooth and sizes is not None:
            return Drawn(_grid(random, sizes, cells, keep).reshape(1, -1))
        return Drawn((random.random((1, request.groups.count)) < keep).astype(np.float64))

    def reduce(masks: np.ndarray, f: np.ndarray, *_: np.ndarray) -> np.ndarray:
        return np.asarray(f * masks[:, 0] / keep)

    budget = Budget.of(request.parameters, request.parameters["n_masks"])
    worths = Worths(request, binary=not smooth)
    return CoalitionPlan(request, worths, draw, reduce, budget, by_group(request), complete=False, pilot=64, look=32)


def _grid(random: np.random.Generator, sizes: tuple[int, ...], cells: list[int], keep: float) -> np.ndarray:
    """A coarse grid of kept cells, enlarged bilinearly by one cell more than the picture and cut out at random."""
    steps = [-(-size // count) for size, count in zip(sizes, cells, strict=True)]
    grid = (random.random([count + 1 for count in cells]) < keep).astype(np.float64)
    for axis, (size, step) in enumerate(zip(sizes, steps, strict=True)):
        places = (np.arange(size) + int(random.integers(step))) / step
        low = np.floor(places).astype(np.int64)
        share = np.expand_dims(places - low, [other for other in range(len(sizes)) if other != axis])
        high = np.minimum(low + 1, grid.shape[axis] - 1)
        grid = np.take(grid, low, axis) * (1 - share) + np.take(grid, high, axis) * share
    return grid


RISE = Method(
    "rise",
    "How the output does where an element is kept, averaged over random masks.",
    "Petsiuk, Das, Saenko 2018, arXiv:1806.07421",
    frozenset({"reference", "masks"}),
    "n_masks F per reference row",
    (
        Parameter("n_masks", 1000, {"type": "integer", "minimum": 2, "maximum": 65536}, "most masks of an item"),
        Parameter("keep", 0.5, {"type": "number", "minimum": 0.01, "maximum": 0.99}, "chance of a cell to be kept"),
        Parameter("cells", 8, {"type": "integer", "minimum": 1, "maximum": 64}, "cells of a picture's mask, each way"),
        LAYOUT,
        TOLERANCE,
        BUDGET,
    ),
    _rise,
    states="importance",
)

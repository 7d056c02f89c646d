"""RISE: how well the output does on average when an element is kept, over random masks."""

from __future__ import annotations

import numpy as np

from ..plans import Budget, CoalitionPlan, Drawn, Worths
from ..positions import by_position
from ..request import Request
from .ablation import LAYOUT
from .base import BUDGET, TOLERANCE, Method, Parameter, by_group
from .turns import Uniforms


class Masks:
    """Random masks by sample number: smooth ones over a picture of these `sizes`, or of groups, each group alone."""

    each = 1

    def __init__(self, request: Request, sizes: tuple[int, ...] | None, keep: float, cells: list[int]) -> None:
        self.request, self.sizes, self.keep, self.cells = request, sizes, keep, cells
        self._uniforms = Uniforms(request.seed, request.groups.count)

    def of(self, first: int, count: int) -> np.ndarray:
        """Masks [count, G] of these samples."""
        if self.sizes is None:
            return (self._uniforms.of(first, count) < self.keep).astype(np.float64)
        random = (np.random.default_rng([self.request.seed, k]) for k in range(first, first + count))
        return np.array([_grid(draw, self.sizes, self.cells, self.keep).reshape(-1) for draw in random])

    def draw(self, first: int, count: int) -> Drawn:
        """One mask a sample."""
        return Drawn(self.of(first, count)[:, None])

    def reduce(self, first: int, f: np.ndarray, *_: np.ndarray) -> np.ndarray:
        """f(mask) mask / E[mask]."""
        return np.asarray(f * self.of(first, f.shape[1]) / self.keep)


def _rise(request: Request) -> CoalitionPlan:
    """E[f(mask) mask] / E[mask]: smooth masks over a picture's places, or groups kept independently."""
    given, sizes = request.parameters, None
    if request.groups.names is None and len(request.features) == 1:
        request, sizes = by_position(request, "rise", given["layout"])
    smooth = sizes is not None and len(sizes) == 2
    cells = [min(given["cells"], size) for size in sizes or ()]
    masks = Masks(request, sizes if smooth else None, float(given["keep"]), cells)
    budget, worths = Budget.of(given, given["n_masks"]), Worths(request, binary=not smooth)
    return CoalitionPlan(request, worths, masks, budget, by_group(request), complete=False, pilot=64, look=32)


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

"""f at the items and, where there is a background, its mean there: the other end of what is attributed.

The background is evaluated once for all items: each picks its own target out of the mean of the whole output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Step, blocks, pick


class Ends:
    """Steps of `masked_forward` with nothing masked.

    `background` is None where nothing is compared; its rows count by `weight` [B] (the request's, unless given).
    """

    def __init__(
        self, request: Request, program: Program, background: Arrays | None, weight: np.ndarray | None = None
    ) -> None:
        self.request, self.program, self.background = request, program, background
        self.weight = request.background_weight if weight is None else weight
        self.rows = 0 if background is None else len(next(iter(background.values())))
        self._explained = np.full(request.items, np.nan)
        self._mean: np.ndarray | None = None

    @property
    def evaluations(self) -> int:
        """Of each item: one, and those of the background, which all items share."""
        return 1 + self.rows

    def steps(self) -> Iterator[Step]:
        """One evaluation of every item and of every row of the background."""
        inputs, others = self.request.inputs, self.background or {}
        for task in blocks(self.request.model, inputs, 1):
            first = {name: array[task.rows][:1] for name, array in inputs.items()}
            feeds = self._feeds({name: array[task.rows] for name, array in inputs.items()}, first, np.ones(1), 1.0)
            yield Step(self.program, feeds, partial(self._at_items, task.rows))
        for task in blocks(self.request.model, others, 1) if others else ():
            rows = {name: array[task.rows] for name, array in others.items()}
            one = {name: array[:1] for name, array in rows.items()}
            yield Step(self.program, self._feeds(one, rows, self.weight[task.rows], 0.0), self._at_background)

    def values(self) -> tuple[np.ndarray, np.ndarray | None]:
        """f at the items [N], and its mean over the background [N] or None."""
        if self._mean is None:
            return self._explained, None
        spread = np.broadcast_to(self._mean, (self.request.items, 1, len(self._mean)))
        return self._explained, pick(self.request, spread, slice(0, self.request.items))[:, 0]

    def _feeds(self, items: Arrays, rows: Arrays, weight: np.ndarray, kept: float) -> Arrays:
        """Items with everything `kept` (1), or with all of it taken from these rows (0), which count by `weight`."""
        dtype, count = np.dtype(self.request.explained.dtype), len(next(iter(items.values())))
        feeds = items | {f"{name}.background": array for name, array in rows.items()}
        feeds |= {f"{name}.groups": np.zeros(array.shape[1:], dtype=np.int64) for name, array in items.items()}
        return feeds | {"mask": np.full((count, 1, 1), kept, dtype=dtype), "background.weight": weight.astype(dtype)}

    def _at_items(self, rows: slice, outputs: Mapping[str, np.ndarray]) -> None:
        self._explained[rows] = pick(self.request, outputs["value"].astype(np.float64), rows)[:, 0]

    def _at_background(self, outputs: Mapping[str, np.ndarray]) -> None:
        """Add a part's share of the mean: the weights of the parts together sum to 1."""
        total = outputs["value"][0, 0].astype(np.float64)
        self._mean = total if self._mean is None else self._mean + total

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
        for task in blocks(self.request.model, self.request.inputs, 1):
            yield Step(self.program, self._feeds(self.request.inputs, task.rows), partial(self._at_items, task.rows))
        others = self.background or {}
        for task in blocks(self.request.model, others, 1) if others else ():
            yield Step(self.program, self._feeds(others, task.rows), partial(self._at_background, task.rows))

    def values(self) -> tuple[np.ndarray, np.ndarray | None]:
        """f at the items [N], and its mean over the background [N] or None."""
        if self._mean is None:
            return self._explained, None
        spread = np.broadcast_to(self._mean, (self.request.items, 1, len(self._mean)))
        return self._explained, pick(self.request, spread, slice(0, self.request.items))[:, 0]

    def _feeds(self, arrays: Arrays, rows: slice) -> Arrays:
        dtype = np.dtype(self.request.explained.dtype)
        feeds = {name: array[rows] for name, array in arrays.items()}
        for name, array in arrays.items():
            feeds[f"{name}.groups"] = np.zeros(array.shape[1:], dtype=np.int64)
            feeds[f"{name}.background"] = array[rows][:1]
        feeds["mask"] = np.ones((rows.stop - rows.start, 1, 1), dtype=dtype)
        return feeds | {"background.weight": np.ones(1, dtype=dtype)}

    def _at_items(self, rows: slice, outputs: Mapping[str, np.ndarray]) -> None:
        self._explained[rows] = pick(self.request, outputs["value"].astype(np.float64), rows)[:, 0]

    def _at_background(self, rows: slice, outputs: Mapping[str, np.ndarray]) -> None:
        total = self.weight[rows] @ outputs["value"][:, 0].astype(np.float64)
        self._mean = total if self._mean is None else self._mean + total

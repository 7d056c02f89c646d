"""The explained output under coalitions of features that are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..request import Request
from .base import Outcome, Step
from .worths import OnWorths, Worths

Reduce = Callable[[np.ndarray, np.ndarray, np.ndarray], Outcome]


class MaskPlan(OnWorths):
    """f under K coalitions: masks [K, G]; `reduce(f, full, empty)` takes f [N, K] to the outcome, given f with every
    group [N] and, where it is `compared`, with none [N]."""

    def __init__(self, request: Request, masks: np.ndarray, reduce: Reduce, *, compared: bool = True) -> None:
        self.request, self.masks, self.reduce, self.compared = request, masks, reduce, compared
        self.worths = Worths(request)
        self.f = np.zeros((request.items, len(masks)))
        self.ready = False

    def steps(self) -> Iterator[Step]:
        """Both ends, then the coalitions."""
        yield from self.worths.ends(empty=self.compared)
        if len(self.masks):
            yield from self.worths.steps(np.arange(self.request.items), self.masks, self.f)
        self.ready = True

    def outcome(self) -> Outcome:
        """The reduction of f over the coalitions."""
        return self.reduce(self.f, self.worths.full, self.worths.empty)

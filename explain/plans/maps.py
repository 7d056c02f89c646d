"""Class activation maps: one evaluation of each item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..errors import MethodUnavailable
from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Task, blocks, target_feeds
from .fixed import FixedPlan


class MapPlan(FixedPlan):
    """One run of `activation_map` per item; `reduce(map, value)` makes the outcome."""

    def __init__(self, request: Request, program: Program, reduce: Callable[[np.ndarray, np.ndarray], Outcome]) -> None:
        super().__init__(request, program, 1)
        self.reduce = reduce
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

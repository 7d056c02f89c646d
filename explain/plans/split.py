"""Items whose groups differ in number: each kind by itself, so that an item's answer does not depend on its company."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Plan, Step


class SplitPlan:
    """The plans of parts of the items, `parts` being (items, plan); values of groups an item has not are 0."""

    def __init__(self, request: Request, parts: list[tuple[np.ndarray, Plan]]) -> None:
        self.request, self.parts = request, parts

    @property
    def program(self) -> Program:
        """The same for all parts."""
        return self.parts[0][1].program

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model spent on each item."""
        return self._joined({k: plan.evaluations for k, (_, plan) in enumerate(self.parts)})

    @property
    def ready(self) -> bool:
        """Whether every part has an estimate."""
        return all(plan.ready for _, plan in self.parts)

    def steps(self) -> Iterator[Step]:
        """One part after another."""
        for _, plan in self.parts:
            yield from plan.steps()

    def outcome(self) -> Outcome:
        """The outcomes of the parts, in the order of the items."""
        found = [plan.outcome() for _, plan in self.parts]
        stopped: list[str | None] = [None] * self.request.items
        for (items, _), outcome in zip(self.parts, found, strict=True):
            for item, why in zip(items, outcome.stopped, strict=False):
                stopped[item] = why
        bases = {k: outcome.base_values for k, outcome in enumerate(found) if outcome.base_values is not None}
        return replace(
            found[0],
            values=self._named([outcome.values for outcome in found]),
            explained_value=self._joined({k: outcome.explained_value for k, outcome in enumerate(found)}),
            base_values=self._joined(bases) if bases else None,
            errors=self._optional([outcome.errors for outcome in found]),
            half_widths=self._optional([outcome.half_widths for outcome in found]),
            stopped=tuple(stopped) if found[0].stopped else (),
        )

    def _optional(self, parts: list[Arrays | None]) -> Arrays | None:
        given = [part for part in parts if part is not None]
        return self._named(given) if len(given) == len(parts) else None

    def _named(self, parts: list[Arrays]) -> Arrays:
        return {name: self._joined({k: part[name] for k, part in enumerate(parts)}) for name in parts[0]}

    def _joined(self, parts: Mapping[int, np.ndarray]) -> np.ndarray:
        """Rows in the order of the items, as wide as the widest part."""
        shapes = [part.shape[1:] for part in parts.values()]
        whole = np.zeros((self.request.items, *np.max(shapes, axis=0).astype(int)), dtype=parts[0].dtype)
        for k, part in parts.items():
            narrow = whole[(slice(None), *(slice(size) for size in part.shape[1:]))]
            narrow[self.parts[k][0]] = part
        return whole

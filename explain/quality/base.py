"""What a check is: a question to a finished attribution that takes further evaluations, asked only on request.

What flows through: the method's plan is finished; a check takes its outcome, hands out steps like any plan, and says
figures for each item. Like plans, checks draw by (seed, sample number) and never look at who else shared a run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..methods import Method, Parameter, resolved, schema_of
from ..plans import Outcome, Step
from ..request import Request


@dataclass(frozen=True)
class Subject:
    """What is checked: a request, its method and what came out, with the check's own parameters."""

    request: Request
    method: Method
    outcome: Outcome
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Figures:
    """What a check says about one item: `figures`, one number each (None where there is none), and `details`."""

    figures: dict[str, float | None]
    details: dict[str, Any] = field(default_factory=dict)


class CheckPlan(Protocol):
    """What a run needs of a check."""

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model that the check takes for each item."""

    def steps(self) -> Iterator[Step]:
        """The work, in order."""

    def results(self) -> list[Figures]:
        """One for each item; valid when all steps were answered."""


@dataclass(frozen=True)
class Check:
    """A check that can be asked for.

    `source` is the paper, `passes` what it costs in forward passes (F) or explanations (E) of one item, `caution` when
    not to trust it. `refuse(asked)` says why it cannot be made, or None; `figures` names its numbers.
    """

    name: str
    summary: str
    source: str
    passes: str
    figures: tuple[str, ...]
    settings: tuple[Parameter, ...]
    plan: Callable[[Subject], CheckPlan]
    refuse: Callable[[Asked], str | None]
    caution: str

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the parameters."""
        return schema_of(self.settings)

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, defaulted ones included; raises InvalidParameter."""
        return resolved(f"check {self.name}", self.settings, given)


@dataclass(frozen=True)
class Asked:
    """What is known when a check is asked for: the method with its settings, the check's own `parameters`, and which
    references there are, of a "baseline" and a "background"."""

    method: Method
    settings: Mapping[str, Any]
    parameters: Mapping[str, Any]
    references: Collection[str]


def number(value: Any) -> float | None:
    """A float, or None where it is no number."""
    return float(value) if np.isfinite(value) else None


def numbers(values: np.ndarray) -> list[float | None]:
    """A list of floats, None where one is no number."""
    return [number(value) for value in values]

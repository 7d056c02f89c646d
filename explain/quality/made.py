"""The checks of one run: their work after the method's own, and their figures among those of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..methods import Method
from ..plans import Plan, Step
from ..request import Request
from .apart import check_plan
from .base import Check, CheckPlan, Figures, Subject


class Checks:
    """The checks of one run, in the order they were asked for; `asked` are pairs of a check and its parameters."""

    def __init__(self, asked: tuple[tuple[Check, dict[str, Any]], ...] = ()) -> None:
        self.asked = asked
        self._done: dict[str, CheckPlan] = {}

    def steps(self, request: Request, method: Method, plan: Plan) -> Iterator[Step]:
        """The work of every check on what the plan found."""
        for check, parameters in self.asked:
            made = check_plan(check, Subject(request, method, plan.outcome(), parameters))
            yield from made.steps()
            self._done[check.name] = made

    def add_to(self, quality: list[dict[str, Any]]) -> None:
        """Add to the figures of each item those of the checks: None for a check that is not finished.

        `checks` holds their parameters, evaluations and details by name, `check_evaluations` the sum of evaluations.
        """
        for check, parameters in self.asked:
            done = self._done.get(check.name)
            found = [] if done is None else done.results()
            for item, entry in enumerate(quality):
                mine = found[item] if found else Figures(dict.fromkeys(check.figures))
                spent = int(done.evaluations[item]) if done is not None else 0
                entry |= mine.figures
                entry["check_evaluations"] = entry.get("check_evaluations", 0) + spent
                details = {"parameters": dict(parameters), "evaluations": spent, **mine.details}
                entry.setdefault("checks", {})[check.name] = details if found else None

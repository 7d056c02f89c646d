"""Items whose groups differ in number are checked apart, so that a figure does not depend on an item's company."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..plans import Step
from .base import Check, CheckPlan, Figures, Subject


def check_plan(check: Check, subject: Subject) -> CheckPlan:
    """The plan of a check, or of its parts."""
    counts = subject.request.groups.counts(subject.request.items)
    if len(set(counts.tolist())) == 1 and counts[0] == subject.request.groups.count:
        return check.plan(subject)
    kinds = [(np.flatnonzero(counts == count), int(count)) for count in np.unique(counts)]
    return Apart([(items, check.plan(_part(subject, items, count))) for items, count in kinds])


def _part(subject: Subject, items: np.ndarray, groups: int) -> Subject:
    """What is checked of some of the items, which have the first `groups` of the groups."""
    found = {name: value[items] for name, value in subject.outcome.values.items()}
    if "groups" in found:
        found["groups"] = found["groups"][:, :groups]
    outcome = replace(subject.outcome, values=found, explained_value=subject.outcome.explained_value[items])
    return replace(subject, request=subject.request.part(items, groups), outcome=outcome)


class Apart:
    """Plans of one check for parts of the items, `parts` being (items, plan)."""

    def __init__(self, parts: list[tuple[np.ndarray, CheckPlan]]) -> None:
        self.parts = parts

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of each item."""
        found = np.zeros(sum(len(items) for items, _ in self.parts), dtype=np.int64)
        for items, plan in self.parts:
            found[items] = plan.evaluations
        return found

    def steps(self) -> Iterator[Step]:
        """One part after another."""
        for _, plan in self.parts:
            yield from plan.steps()

    def results(self) -> list[Figures]:
        """In the order of the items."""
        found = {int(i): each for items, plan in self.parts for i, each in zip(items, plan.results(), strict=True)}
        return [found[item] for item in sorted(found)]

"""Conditions on one column as step functions: which numbers meet them, and whether a missing one does.

A branch of a tree, whatever its mode, is such a function, and so are several branches on one column met together. On
the numbers of a column it is a sum of comparisons, which makes places in tables products of matrices.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Step:
    """`states[k]` for numbers greater than k of the ascending `breaks`, `missing` for NaN; breaks change the state."""

    breaks: tuple[float, ...]
    states: tuple[bool, ...]
    missing: bool

    @classmethod
    def of(cls, breaks: tuple[float, ...], states: tuple[bool, ...], missing: bool) -> Step:
        """The function with breaks that change nothing left out."""
        kept = [k for k in range(len(breaks)) if states[k] != states[k + 1]]
        return cls(tuple(breaks[k] for k in kept), (states[0], *(states[k + 1] for k in kept)), missing)

    def __call__(self, column: np.ndarray) -> np.ndarray:
        """Which numbers of a column meet the condition, bool of its shape."""
        met = np.array(self.states)[np.searchsorted(np.array(self.breaks, dtype=column.dtype), column, side="left")]
        return np.where(np.isnan(column), self.missing, met)

    def __invert__(self) -> Step:
        """The opposite condition."""
        return Step(self.breaks, tuple(not state for state in self.states), not self.missing)

    def __and__(self, other: Step) -> Step:
        """Both conditions."""
        breaks = merged(self, other)
        states = tuple(a and b for a, b in zip(self.at(breaks), other.at(breaks), strict=True))
        return Step.of(breaks, states, self.missing and other.missing)

    def at(self, breaks: tuple[float, ...]) -> tuple[bool, ...]:
        """States between breaks that hold its own."""
        return (self.states[0], *(self.states[bisect_right(self.breaks, value)] for value in breaks))


def merged(*steps: Step) -> tuple[float, ...]:
    """All breaks of several functions, ascending."""
    return tuple(sorted({value for step in steps for value in step.breaks}))


def branch(mode: str, split: np.generic, members: tuple[float, ...], follows_missing: bool) -> Step | None:
    """The numbers that a branch sends to its true side, or None for an unknown mode.

    Comparisons are those of the split's dtype: x >= t is x > s for the greatest number s below t.
    """
    at, below = float(split), float(np.nextafter(split, -np.inf, dtype=split.dtype))
    match mode:
        case "BRANCH_LEQ":
            return Step((at,), (True, False), follows_missing)
        case "BRANCH_LT":
            return Step((below,), (True, False), follows_missing)
        case "BRANCH_GT":
            return Step((at,), (False, True), follows_missing)
        case "BRANCH_GTE":
            return Step((below,), (False, True), follows_missing)
        case "BRANCH_EQ":
            return Step((below, at), (False, True, False), follows_missing)
        case "BRANCH_NEQ":
            return Step((below, at), (True, False, True), True)
        case "BRANCH_MEMBER":
            return _members(split, members, follows_missing)
    return None


def _members(split: np.generic, members: tuple[float, ...], follows_missing: bool) -> Step:
    """Numbers of a set."""
    neither = Step((), (True,), not follows_missing)
    for value in members:
        equal = branch("BRANCH_EQ", split.dtype.type(value), (), False)
        assert equal is not None  # noqa: S101 - a mode that is known
        neither = neither & Step(equal.breaks, tuple(not state for state in equal.states), True)
    return ~Step(neither.breaks, neither.states, not follows_missing)

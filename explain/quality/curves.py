"""Deletion and insertion: f as elements are removed from the item, or put into the reference, the most important first.

A faithful attribution makes f fall fast under deletion and rise fast under insertion (Petsiuk, Das, Saenko 2018).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..methods import Parameter
from ..plans import Step
from .base import Check, Figures, Subject, number, numbers
from .players import REFERENCE, players_of, refuse_without, removals

HELD = 1 << 22  # numbers in masks that are made together

STEPS = Parameter("steps", 16, {"type": "integer", "minimum": 1, "maximum": 1024}, "steps of each curve")
ORDER = Parameter(
    "order",
    "value",
    {"enum": ["value", "absolute"]},
    "the most important are those that speak most for the target, or those with the largest |attribution|",
)


def places(scores: np.ndarray, order: str) -> np.ndarray:
    """The place [N, G] of each player when the most important comes first; equal ones keep their order, NaN is last."""
    sizes = np.abs(scores) if order == "absolute" else scores
    ranked = np.argsort(np.where(np.isnan(sizes), np.inf, -sizes), axis=1, kind="stable")
    return np.argsort(ranked, axis=1, kind="stable")


def counts_of(players: int, steps: int) -> np.ndarray:
    """How many players are gone after each of at most `steps` steps: from 0 to all of them, int64 [S + 1]."""
    taken = min(steps, players)
    return np.round(np.arange(taken + 1) * players / taken).astype(np.int64)


def area(fractions: np.ndarray, curve: np.ndarray) -> float:
    """Area under a curve by the trapezoidal rule."""
    return float((np.diff(fractions) * (curve[1:] + curve[:-1]) / 2).sum())


class Curves:
    """2 S evaluations for S steps: the item, the reference, and S - 1 points in between on each curve."""

    def __init__(self, subject: Subject) -> None:
        self.players = players_of(subject.request, subject.outcome.values)
        self.places = places(self.players.scores, subject.parameters["order"])
        self.counts = counts_of(self.players.count, subject.parameters["steps"])
        self.reference, self.worths = removals(subject, self.players)
        self.f = np.zeros((subject.request.items, 2 * self.size))

    @property
    def size(self) -> int:
        """S, the number of steps."""
        return len(self.counts) - 1

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of each item."""
        return self.worths.spent

    def steps(self) -> Iterator[Step]:
        """The masks of both curves, of as many items at once as may be held."""
        items, together = len(self.f), max(1, HELD // (2 * self.size * self.players.count))
        for first in range(0, items, together):
            rows = slice(first, min(first + together, items))
            yield from self.worths.steps(np.arange(items)[rows], self._masks(rows), self.f[rows])

    def results(self) -> list[Figures]:
        """Areas of both curves, raw and with f(x) as 1 and f(reference) as 0, and the curves."""
        f, fractions = self.f, self.counts / self.counts[-1]
        deletion = np.hstack([f[:, : self.size], f[:, self.size : self.size + 1]])
        insertion = np.hstack([f[:, self.size : self.size + 1], f[:, self.size + 1 :], f[:, :1]])
        return [self._figures(fractions, fall, rise) for fall, rise in zip(deletion, insertion, strict=True)]

    def _figures(self, fractions: np.ndarray, fall: np.ndarray, rise: np.ndarray) -> Figures:
        whole, nothing = float(fall[0]), float(fall[-1])
        areas = {"deletion_auc": area(fractions, fall), "insertion_auc": area(fractions, rise)}
        height = whole - nothing
        scaled = {f"{name}_normalised": (value - nothing) / height if height else None for name, value in areas.items()}
        return Figures(
            {name: None if value is None else number(value) for name, value in (areas | scaled).items()},
            {
                "reference": self.reference,
                "fractions": numbers(fractions),
                "deletion": numbers(fall),
                "insertion": numbers(rise),
            },
        )

    def _masks(self, rows: slice) -> np.ndarray:
        """[n, 2 S, G]: S deletions from none gone on; nothing left; S - 1 insertions from the first step on."""
        place, counts = self.places[rows, None, :], self.counts[None, :, None]
        fall, rise = place >= counts[:, :-1], place < counts[:, 1:-1]
        nothing = np.zeros((len(place), 1, self.players.count), dtype=bool)
        return np.concatenate([fall, nothing, rise], axis=1)


DELETION_INSERTION = Check(
    "deletion_insertion",
    "f as elements are removed, the most important first, and as they are put into the reference: areas of both.",
    "Petsiuk, Das, Saenko 2018, arXiv:1806.07421",
    "2 steps F per row of the reference",
    ("deletion_auc", "insertion_auc", "deletion_auc_normalised", "insertion_auc_normalised"),
    (STEPS, ORDER, REFERENCE),
    Curves,
    refuse_without,
    "what is left after a removal may be like nothing the model was trained on",
)

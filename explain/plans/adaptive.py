"""What adaptive integrated gradients share, whatever they cut the path in: pieces of an item's path, made in rounds.

A row of a run is one piece of one item, so an item's answer does not depend on its company.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Step, filled, parted, target_feeds
from .budget import TOLERANCE, Budget

ROUNDING = 8  # units of the arithmetic's precision, in what adds up to an attribution


class Piece(Protocol):
    """A part of an item's path."""

    item: int


P = TypeVar("P", bound=Piece)


class AdaptivePlan(ABC, Generic[P]):
    """Integrated gradients from `baselines` [N, 1, item...] by input, until the budget says stop.

    `pieces` are those of each item that have been evaluated, `ends` [2, N] f at its baseline and at itself.
    """

    def __init__(self, request: Request, program: Program, baselines: Arrays, budget: Budget) -> None:
        self.request, self._program, self.baselines, self.budget = request, program, baselines, budget
        self.pieces: list[list[P]] = [[] for _ in range(request.items)]
        self.stopped: list[str | None] = [None] * request.items
        self.ends = np.full((2, request.items), np.nan)
        self.dtype = np.dtype(request.explained.dtype)
        self.rounding = ROUNDING * float(np.finfo(self.dtype).eps)
        self.spent = np.zeros(request.items, dtype=np.int64)
        self.shapes: dict[str, tuple[int, ...]] = {}

    @property
    def program(self) -> Program:
        """The program that is run."""
        return self._program

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations spent on each item."""
        return self.spent

    @property
    def ready(self) -> bool:
        """Whether every item has been evaluated along its whole path."""
        return all(self.pieces)

    @abstractmethod
    def steps(self) -> Iterator[Step]:
        """Rounds of pieces; what a round evaluates depends on the round before."""

    def outcome(self) -> Outcome:
        """Sums over the pieces that have been evaluated."""
        sums = zip(*(self.sums(item) for item in range(self.request.items)), strict=True)
        values, errors = (filled(self.request, parted(np.array(flat), self.shapes)) for flat in sums)
        stopped = tuple(self.stopped)
        ends = {"explained_value": self.ends[1], "base_values": self.ends[0]}
        return Outcome(values, **ends, errors=errors, error_kind="quadrature_error", complete=True, stopped=stopped)

    @abstractmethod
    def sums(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Attributions and errors [P] of an item."""

    def done(self, item: int, phi: np.ndarray, error: np.ndarray, next_cost: int) -> bool:
        """Whether the item ends here, where its next step would take so many evaluations; notes why."""
        small = self.budget.small(phi, error)
        self.stopped[item] = TOLERANCE if small else self.budget.spent(int(self.spent[item]), next_cost)
        return self.stopped[item] is not None

    def left(self, item: int) -> int:
        """How many evaluations the item may still have."""
        return self.budget.max_evals - int(self.spent[item])

    def path_feeds(self, pieces: Sequence[P], alphas: np.ndarray, counts: Sequence[bool]) -> Arrays:
        """Feeds of a program along the path, a row for each piece: its points [rows, K], its slopes each alone.

        `counts` says which of the slopes are wanted: at the ends of a path only f is.
        """
        items = np.array([piece.item for piece in pieces])
        feeds = {name: array[items] for name, array in self.request.inputs.items()}
        feeds |= {f"{name}.baseline": rows[items] for name, rows in self.baselines.items()}
        each = np.tile(np.diag(np.array(counts, dtype=self.dtype)), (len(items), 1, 1))
        return feeds | {"alpha": alphas.astype(self.dtype), "weight": each} | target_feeds(self.request, items)

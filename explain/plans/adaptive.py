"""Integrated gradients to a stated error: panels of the path are halved where the rule disagrees with itself.

Each panel is evaluated with the 15 points of the Gauss-Kronrod rule (Kronrod 1965; nodes and weights from QUADPACK,
Piessens et al. 1983); the 7-point Gauss rule inside it gives the error, |K15 - G7|, feature by feature. Finished panels
are kept. One row of a run is one panel of one item, so an item's answer does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Step, capacity, filled, flat_outputs, parted, target_feeds
from .budget import TOLERANCE, Budget

_HALF = [0.99145537112081264, 0.94910791234275852, 0.86486442335976907, 0.74153118559939444]
_HALF += [0.58608723546769113, 0.40584515137739717, 0.20778495500789847]
_KRONROD = [0.022935322010529225, 0.063092092629978553, 0.10479001032225018, 0.14065325971552592]
_KRONROD += [0.16900472663926790, 0.19035057806478541, 0.20443294007529889]
_GAUSS = [0.12948496616886969, 0.27970539148927667, 0.38183005050511894]
_NODES = np.array([*(-x for x in _HALF), 0.0, *reversed(_HALF)])
_K15 = np.array([*_KRONROD, 0.20948214108472783, *reversed(_KRONROD)])
_G7 = np.zeros(15)
_G7[1:7:2], _G7[7], _G7[9:14:2] = _GAUSS, 0.41795918367346939, _GAUSS[::-1]
POINTS = len(_NODES)


@dataclass(eq=False)
class Panel:
    """A stretch of an item's path: what its points give [15, P] as it comes in, then its attributions and errors [P].

    `parent` is the panel it is a half of, while that still counts; `done` are its own halves that have been evaluated.
    """

    item: int
    start: float
    stop: float
    parent: Panel | None = None
    slopes: list[np.ndarray] = field(default_factory=list)
    done: list[Panel] = field(default_factory=list)
    phi: np.ndarray = field(default_factory=lambda: np.zeros(0))
    error: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def points(self) -> np.ndarray:
        """Where on the path it is evaluated."""
        return self.start + (self.stop - self.start) * (_NODES + 1) / 2

    @property
    def worst(self) -> float:
        """The largest error of a feature that has a finite one."""
        return float(self.error[np.isfinite(self.error)].max(initial=0.0))

    def halves(self) -> list[Panel]:
        """The two panels that replace it."""
        middle = (self.start + self.stop) / 2
        return [Panel(self.item, self.start, middle, self), Panel(self.item, middle, self.stop, self)]

    def take(self, slopes: np.ndarray) -> bool:
        """Keep what some of its points gave; with the last of them it is estimated, and True comes back."""
        self.slopes.append(slopes)
        if sum(map(len, self.slopes)) < POINTS:
            return False
        joined, half = np.concatenate(self.slopes), (self.stop - self.start) / 2
        self.phi, self.error, self.slopes = half * (_K15 @ joined), half * np.abs((_K15 - _G7) @ joined), []
        return True


class AdaptivePlan:
    """Adaptive integrated gradients from `baselines` [N, 1, item...] by input, until the budget says stop."""

    def __init__(self, request: Request, program: Program, baselines: Arrays, budget: Budget) -> None:
        self.request, self._program, self.baselines, self.budget = request, program, baselines, budget
        self.ends = np.full((request.items, 2), np.nan)
        self.panels: list[list[Panel]] = [[] for _ in range(request.items)]
        self.stopped: list[str | None] = [None] * request.items
        self._spent = np.zeros(request.items, dtype=np.int64)
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def program(self) -> Program:
        """`path_gradient`."""
        return self._program

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations spent on each item."""
        return self._spent

    @property
    def ready(self) -> bool:
        """Whether every item has been evaluated along its whole path."""
        return all(self.panels)

    def steps(self) -> Iterator[Step]:
        """Both ends of every path, then rounds of panels; what a round evaluates depends on the round before."""
        everyone = list(range(self.request.items))
        for end in (0, 1):
            yield from self._runs(everyone, [np.array([float(end)])] * len(everyone), partial(self._take_end, end))
        todo = [Panel(item, 0.0, 1.0) for item in everyone]
        while todo:
            yield from self._runs([panel.item for panel in todo], [p.points for p in todo], partial(self._take, todo))
            todo = [half for item in everyone if self.stopped[item] is None for half in self._refine(item)]

    def outcome(self) -> Outcome:
        """Sums over the panels that have been evaluated; a panel being halved counts until both halves are there."""
        sums = zip(*(self._sums(item) for item in range(self.request.items)), strict=True)
        values, errors = (filled(self.request, parted(np.array(flat), self._shapes)) for flat in sums)
        return Outcome(values, self.ends[:, 1], self.ends[:, 0], errors, "quadrature_error", True, tuple(self.stopped))

    def _runs(
        self,
        items: Sequence[int],
        points: Sequence[np.ndarray],
        take: Callable[[slice, Mapping[str, np.ndarray]], None],
    ) -> Iterator[Step]:
        """Rows of (item, points), as many in a run as it may hold; rows that are too long for one come in parts."""
        limit, count = capacity(self.request.model, self.request.inputs), len(points[0])
        width, rows = -(-count // -(-count // limit)), max(1, limit // count)
        for first in range(0, len(items), rows):
            chosen = slice(first, min(first + rows, len(items)))
            alphas = np.stack(points[chosen])
            for cut in range(0, count, width):
                feeds = self._feeds(np.array(items[chosen]), alphas[:, cut : cut + width])
                yield Step(self._program, feeds, partial(self._collect, items[chosen], partial(take, chosen)))

    def _feeds(self, items: np.ndarray, alphas: np.ndarray) -> Arrays:
        dtype, width = np.dtype(self.request.explained.dtype), alphas.shape[1]
        feeds = {name: array[items] for name, array in self.request.inputs.items()}
        feeds |= {f"{name}.baseline": rows[items] for name, rows in self.baselines.items()}
        feeds |= {"alpha": alphas.astype(dtype), "weight": np.tile(np.eye(width, dtype=dtype), (len(items), 1, 1))}
        return feeds | target_feeds(self.request, items)

    def _collect(
        self, items: Sequence[int], take: Callable[[Mapping[str, np.ndarray]], None], outputs: Mapping[str, np.ndarray]
    ) -> None:
        np.add.at(self._spent, np.array(items), outputs["value"].shape[1])
        take(outputs)

    def _take_end(self, end: int, chosen: slice, outputs: Mapping[str, np.ndarray]) -> None:
        self.ends[chosen, end] = outputs["value"][:, 0]

    def _take(self, panels: list[Panel], chosen: slice, outputs: Mapping[str, np.ndarray]) -> None:
        for panel, slopes in zip(panels[chosen], flat_outputs(outputs, "attribution", self._shapes), strict=True):
            if panel.take(slopes):
                self._place(panel)

    def _place(self, panel: Panel) -> None:
        """Halves take the place of the panel they came from, both at once."""
        own, parent = self.panels[panel.item], panel.parent
        if parent is None:
            own.append(panel)
            return
        parent.done.append(panel)
        if len(parent.done) == 2:
            own.remove(parent)
            own.extend(parent.done)
            for half in parent.done:
                half.parent = None

    def _refine(self, item: int) -> list[Panel]:
        """Halves of the panels with the largest errors, or nothing where the item is done."""
        own, spent = self.panels[item], int(self._spent[item])
        small = self.budget.small(*self._sums(item))
        self.stopped[item] = TOLERANCE if small else self.budget.spent(spent, 2 * POINTS)
        if self.stopped[item] is not None:
            return []
        worst = max(panel.worst for panel in own)
        ranked = sorted((panel for panel in own if panel.worst >= worst / 2), key=lambda panel: -panel.worst)
        return [half for panel in ranked[: (self.budget.max_evals - spent) // (2 * POINTS)] for half in panel.halves()]

    def _sums(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Attributions and errors [P] of an item."""
        own = self.panels[item]
        return np.sum([panel.phi for panel in own], axis=0), np.sum([panel.error for panel in own], axis=0)

"""Integrated gradients to a stated error where the gradient is smooth: a rule of nested points on panels of the path.

The whole path is evaluated at the 7 points of Patterson's rule and, if these disagree, at 8 more, which make the rule
of 15 (Patterson 1968, doi:10.1090/S0025-5718-68-99866-9; the 7 are Kronrod's extension of Gauss's 3). Where 15
disagree, a panel is halved and its pieces are evaluated at 15 points each. Every point's gradient comes back alone,
finished panels are kept. One row of a run is one panel of one item, so an item's answer does not depend on its company.

The error, feature by feature. The difference between a rule and the one inside is often small by chance where gradients
jump. It is one of the null rules of these points: weightings that vanish for polynomials up to some degree. Those of
highest degree, of equal norm (Berntsen & Espelid 1991, doi:10.1145/103147.103149), are as many independent looks at the
same roughness; the root of the sum of their squares is two of its standard deviations. Where gradients jump, panels err
independently, so their errors add as squares; where they are smooth, the null rules overstate the error by orders of
magnitude. To this comes the rounding of the model's own arithmetic, `ROUNDING` units of it in the integral of
|gradient|, which no panel is too narrow for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np

from .adaptive import AdaptivePlan
from .base import Step, capacity, flat_outputs
from .budget import largest

_HALF = [0.99383196321275502, 0.96049126870802028, 0.88845923287225700, 0.77459666924148338]
_HALF += [0.62110294673722640, 0.43424374934680256, 0.22338668642896688]
NODES = np.array([*(-x for x in _HALF), 0.0, *reversed(_HALF)])
POINTS, PIECES = len(NODES), 8


@dataclass(frozen=True)
class Rule:
    """Points on [-1, 1] with their weights, and its `nulls` [count, points]: null rules as large as its difference to
    the rule at every second of its points."""

    points: np.ndarray
    weights: np.ndarray
    nulls: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, count: int) -> Rule:
        """The rule that is exact for polynomials of as high a degree as there are points, with `count` null rules."""
        weights, inside = _weights(points), np.zeros(len(points))
        inside[1::2] = _weights(points[1::2])
        orthogonal, _ = np.linalg.qr(np.polynomial.legendre.legvander(points, len(points) - 1))
        nulls = orthogonal[:, len(points) - count :].T * np.linalg.norm(weights - inside)
        return cls(points, weights, np.asarray(nulls))


def _weights(points: np.ndarray) -> np.ndarray:
    """Weights that integrate Legendre polynomials of degree 0 to n - 1 exactly: 2 for the first, 0 for the others."""
    integrals = np.eye(len(points))[0] * 2
    return np.linalg.solve(np.polynomial.legendre.legvander(points, len(points) - 1).T, integrals)


SEVEN, FIFTEEN = Rule.of(NODES[1::2], 2), Rule.of(NODES, 4)


@dataclass(eq=False)
class Panel:
    """A stretch of an item's path: what its points give as it comes in, then its attributions and errors [P].

    `parent` is the panel it is a piece of, while that still counts; `pieces` are its own that have been evaluated, out
    of `cut`. The panel that is the whole path is evaluated at 7 points and its ends first, for f there; `seven` is what
    the 7 gave, until it is evaluated at the other 8.
    """

    item: int
    start: float = 0.0
    stop: float = 1.0
    parent: Panel | None = None
    cut: int = 0
    pieces: list[Panel] = field(default_factory=list)
    parts: list[np.ndarray] = field(default_factory=list)
    seven: np.ndarray | None = None
    phi: np.ndarray = field(default_factory=lambda: np.zeros(0))
    error: np.ndarray = field(default_factory=lambda: np.zeros(0))
    size: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def points(self) -> np.ndarray:
        """Where on the path it is evaluated next."""
        if self.parent is not None:
            return self.start + (self.stop - self.start) * (NODES + 1) / 2
        return (np.array([-1.0, *SEVEN.points, 1.0]) + 1) / 2 if self.seven is None else (NODES[::2] + 1) / 2

    @property
    def worst(self) -> float:
        """The largest error of a feature that has a finite one."""
        return float(self.error[np.isfinite(self.error)].max(initial=0.0))

    def split(self, pieces: int) -> list[Panel]:
        """The panels that replace it."""
        self.cut, at = pieces, np.linspace(self.start, self.stop, pieces + 1).tolist()
        return [Panel(self.item, start, stop, self) for start, stop in pairwise(at)]

    def take(self, slopes: np.ndarray) -> bool:
        """Keep what some of its points gave; with the last of them it is estimated, and True comes back."""
        self.parts.append(slopes)
        joined = np.concatenate(self.parts)
        if len(joined) < len(self.points):
            return False
        self.parts, rule = [], FIFTEEN
        if self.parent is None and self.seven is None:
            rule, joined = SEVEN, joined[1:-1]
            self.seven = joined
        elif self.seven is not None:
            eight, joined = joined, np.empty((POINTS, joined.shape[1]))
            joined[1::2], joined[::2], self.seven = self.seven, eight, None
        half = (self.stop - self.start) / 2
        self.phi, self.size = half * (rule.weights @ joined), half * (rule.weights @ np.abs(joined))
        self.error = half * np.sqrt(((rule.nulls @ joined) ** 2).sum(axis=0))
        return True


class PanelPlan(AdaptivePlan[Panel]):
    """Points on panels of the path; a panel being cut counts until all its pieces are there."""

    def steps(self) -> Iterator[Step]:
        """Rounds of panels; what a round evaluates depends on the round before."""
        todo = [Panel(item) for item in range(self.request.items)]
        while todo:
            yield from self._round(todo)
            open_items = [item for item, reason in enumerate(self.stopped) if reason is None]
            todo = [piece for item in open_items for piece in self._refine(item)]

    def _round(self, panels: list[Panel]) -> Iterator[Step]:
        """One row per panel, as many in a run as it may hold; rows that are too long for one come in parts."""
        limit, count = capacity(self.request.model, self.request.inputs), len(panels[0].points)
        width, rows = -(-count // -(-count // limit)), max(1, limit // count)
        for first in range(0, len(panels), rows):
            chosen = panels[first : first + rows]
            alphas = np.stack([panel.points for panel in chosen])
            for part in (alphas[:, cut : cut + width] for cut in range(0, count, width)):
                feeds = self.path_feeds(chosen, part, [0 < at < 1 for at in part[0]])
                yield Step(self.program, feeds, partial(self._take, chosen, part))

    def _take(self, panels: list[Panel], alphas: np.ndarray, outputs: Mapping[str, np.ndarray]) -> None:
        slopes = flat_outputs(outputs, "attribution", self.shapes)
        for panel, given, at, value in zip(panels, slopes, alphas, outputs["value"], strict=True):
            self.spent[panel.item] += len(value)
            for end in (0, 1):
                self.ends[end, panel.item] = value[at == end][0] if (at == end).any() else self.ends[end, panel.item]
            if panel.take(given):
                self._place(panel)

    def _place(self, panel: Panel) -> None:
        """Pieces take the place of the panel they came from, all at once."""
        own, parent = self.pieces[panel.item], panel.parent
        if parent is None:
            own[:] = [panel]
            return
        parent.pieces.append(panel)
        if len(parent.pieces) == parent.cut:
            own.remove(parent)
            own.extend(parent.pieces)
            parent.pieces, parent.phi, parent.error, parent.size = [], *[np.zeros(0)] * 3

    def _refine(self, item: int) -> list[Panel]:
        """What of the path is evaluated next, or nothing where the item is done: pieces of the panels with the largest
        errors.

        Where gradients jump, the error falls as the number of panels grows; so many halvings are made at once (8 pieces
        at most) as the tolerance asks for then. What a panel gave before it was cut is lost: fewer cuts lose less.
        """
        own, left = self.pieces[item], self.left(item)
        phi, error = self.sums(item)
        again = own[0].seven is not None
        if self.done(item, phi, error, POINTS - len(SEVEN.points) if again else 2 * POINTS):
            return []
        if again:
            return own
        allowed, pieces = self.budget.allowed(phi), 2
        while pieces < PIECES and pieces * allowed < largest(error) and 2 * pieces * POINTS <= left:
            pieces *= 2
        worst = max(panel.worst for panel in own)
        ranked = sorted((panel for panel in own if panel.worst >= worst / 2), key=lambda panel: -panel.worst)
        return [piece for panel in ranked[: left // (pieces * POINTS)] for piece in panel.split(pieces)]

    def sums(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Attributions and errors [P] of an item."""
        own = self.pieces[item]
        rough = np.sqrt(np.sum([panel.error**2 for panel in own], axis=0))
        size = np.sum([panel.size for panel in own], axis=0)
        return np.sum([panel.phi for panel in own], axis=0), rough + self.rounding * size

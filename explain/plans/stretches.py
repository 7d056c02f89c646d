"""Integrated gradients along stretches of the path: the slope of a stretch places the jumps of a gradient inside it.

`path_secant` averages the gradient of a network with kinks over a stretch up to second order, where a point says
nothing of where its neighbours jump: on trained networks of ReLU a rule of stretches needs a tenth of the evaluations
of a rule of points for the same error, or fewer (benchmarks/results/adaptive.md).

The error, feature by feature. A stretch is compared with its two halves. Where gradients jump, the difference is
chance: it falls 2^1.5 times in a halving (of the stretches in which two jumps meet half are left, and what they do in
one is half as much). So what the halves still miss has 1 / (2^1.5 - 1) of its standard deviation, and what many
stretches miss adds as squares. Of this, 95 % intervals are claimed, of Student's t where few stretches make up the sum
(degrees of freedom by Satterthwaite 1946, doi:10.2307/3002019). The difference one halving before, which has fallen
since, is a second look, of which the larger counts; where all differences have one sign, as for curvature, they add up
whole. Because single features agree by chance, the total over all features is held against how much their slopes change
along the path, and no feature claims less than its share of that. What all of them lack to the change of f is an error
too, of the largest at least: halves may agree with the whole on what neither sees. To this comes the rounding of the
model's arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..request import Arrays
from .adaptive import AdaptivePlan
from .base import Step, capacity, flat_outputs
from .budget import largest

PIECES, FALL = 16, 2**1.5
# Student's t for 97.5 %, by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 7: 2.365, 10: 2.228, 20: 2.086, 60: 2.000, np.inf: 1.960}


@dataclass(frozen=True)
class Layout:
    """Points [K] as shares of a stretch, and the pieces between them: pairs of points."""

    points: tuple[float, ...]
    pieces: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, count: int, *widths: int) -> Layout:
        """`count` equal steps; pieces that are so many steps long, one after another, for each of the `widths`."""
        pieces = [(at, at + width) for width in widths for at in range(0, count, width)]
        return cls(tuple(at / count for at in range(count + 1)), tuple(pieces))

    def parts(self, limit: int, paired: bool) -> Iterator[Layout]:
        """The same pieces in layouts that evaluate the model at most `limit` times, or have one piece."""
        chosen: list[tuple[int, int]] = []
        for piece in (*self.pieces, None):
            more = [*chosen, *([piece] if piece else [])]
            if chosen and (piece is None or _evaluations(more, paired) > limit):
                used = sorted({at for pair in chosen for at in pair})
                place = {at: index for index, at in enumerate(used)}
                yield Layout(tuple(self.points[at] for at in used), tuple((place[a], place[b]) for a, b in chosen))
                more = [piece] if piece else []
            chosen = more


def _evaluations(pieces: list[tuple[int, int]], paired: bool) -> int:
    return 2 * len(pieces) if paired else max(len(pieces), len({at for pair in pieces for at in pair}))


FIRST, AGAIN = Layout.of(PIECES, 1, 2, 4), Layout.of(4, 1)


@dataclass(eq=False)
class Stretch:
    """A part of an item's path: its attributions as one [P], and those of its halves [2, P] once they are known.

    `before` is the difference that the stretch it came from had to its halves, halved for each half and once more.
    `slopes` are what the pieces of its layout gave, as it comes in.
    """

    item: int
    start: float = 0.0
    stop: float = 1.0
    whole: np.ndarray = field(default_factory=lambda: np.zeros(0))
    halves: np.ndarray = field(default_factory=lambda: np.zeros((2, 0)))
    before: np.ndarray = field(default_factory=lambda: np.zeros(0))
    slopes: list[np.ndarray] = field(default_factory=list)

    @property
    def difference(self) -> np.ndarray:
        """[P]: as one, less its halves."""
        return np.asarray(self.whole - self.halves.sum(axis=0))

    @property
    def worst(self) -> float:
        """The largest difference of a feature, now or one halving before."""
        return max(largest(self.difference), largest(self.before))

    def split(self, quarters: np.ndarray) -> list[Stretch]:
        """Its halves as stretches of their own, whose halves are these quarters [4, P]."""
        middle, before = (self.start + self.stop) / 2, self.difference / (FALL * np.sqrt(2))
        ends = (self.start, middle), (middle, self.stop)
        return [Stretch(self.item, *ends[i], self.halves[i], quarters[2 * i : 2 * i + 2], before) for i in (0, 1)]


class StretchPlan(AdaptivePlan[Stretch]):
    """Stretches of the path, halved where that changes what they say; an evaluation is one of the model, or one slope,
    whichever were more."""

    @property
    def paired(self) -> bool:
        """Whether the program runs the model at both ends of every piece, whatever ends they share."""
        return bool(self.program.options["points"] == "paired")

    def steps(self) -> Iterator[Step]:
        """Rounds of stretches; what a round evaluates depends on the round before."""
        first = [Stretch(item) for item in range(self.request.items)]
        yield from self._round(first, FIRST)
        for stretch in first:
            self.pieces[stretch.item] = _begun(stretch)
        while todo := [stretch for item in range(self.request.items) for stretch in self._refine(item)]:
            yield from self._round(todo, AGAIN)
            for stretch in todo:
                own = self.pieces[stretch.item]
                own[own.index(stretch) : own.index(stretch) + 1] = stretch.split(np.concatenate(stretch.slopes))
                stretch.slopes.clear()

    def _round(self, stretches: list[Stretch], layout: Layout) -> Iterator[Step]:
        """One row for each stretch, as many in a run as it may hold; a layout too large for one comes in parts."""
        limit = capacity(self.request.model, self.request.inputs)
        for part in layout.parts(limit, self.paired):
            rows = max(1, limit // _evaluations(list(part.pieces), self.paired))
            for first in range(0, len(stretches), rows):
                chosen = stretches[first : first + rows]
                yield Step(self.program, self._feeds(chosen, part), partial(self._take, chosen, part))

    def _feeds(self, stretches: list[Stretch], layout: Layout) -> Arrays:
        alphas = np.array([[s.start + (s.stop - s.start) * at for at in layout.points] for s in stretches])
        ends = np.tile(np.array(layout.pieces, dtype=np.int64), (len(stretches), 1, 1))
        feeds = self.path_feeds(stretches, alphas, [True] * len(layout.pieces))
        return feeds | {"start": ends[:, :, 0], "stop": ends[:, :, 1]}

    def _take(self, stretches: list[Stretch], layout: Layout, outputs: Mapping[str, np.ndarray]) -> None:
        lengths = np.array([layout.points[stop] - layout.points[start] for start, stop in layout.pieces])
        slopes, values = flat_outputs(outputs, "attribution", self.shapes), (outputs["value"], outputs["value.stop"])
        for row, stretch in enumerate(stretches):
            self.spent[stretch.item] += _evaluations(list(layout.pieces), self.paired)
            stretch.slopes.append(slopes[row] * (lengths * (stretch.stop - stretch.start))[:, None])
            for end in (0, 1) if stretch.whole.size == 0 else ():
                at = [place for place, piece in enumerate(layout.pieces) if layout.points[piece[end]] == end]
                self.ends[end, stretch.item] = values[end][row, at[0]] if at else self.ends[end, stretch.item]

    def _refine(self, item: int) -> list[Stretch]:
        """The stretches to be halved, or none where the item is done: those without which the differences would be half
        of what is allowed, and half of what they are."""
        cost, (phi, error) = _evaluations(list(AGAIN.pieces), self.paired), self.sums(item)
        if self.done(item, phi, error, cost):
            return []
        ranked = sorted(self.pieces[item], key=lambda stretch: stretch.worst)
        total = np.sqrt(np.cumsum([stretch.worst**2 for stretch in ranked]))
        kept = int((total < min(self.budget.allowed(phi), total[-1]) / 2).sum())
        return ranked[kept:][::-1][: self.left(item) // cost]

    def sums(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        """Attributions and errors [P] of an item."""
        own = self.pieces[item]
        halves, before = np.array([s.halves for s in own]), np.array([s.before for s in own])
        now = np.array([s.difference for s in own])
        chance = np.maximum(*(np.sqrt((look**2).sum(axis=0)) for look in (now, before)))
        error = np.maximum(np.abs(now.sum(axis=0)), chance * max(1.0, _interval(now, before) / (FALL - 1)))
        change = np.sqrt(2 * ((halves[:, 1] - halves[:, 0]) ** 2).sum(axis=0))
        known = np.isfinite(error) & np.isfinite(change)
        total = float((change[known] ** 2).sum())
        level = np.sqrt(float((error[known] ** 2).sum()) / total) if total else 0.0
        rounding = self.rounding * np.abs(halves).sum(axis=(0, 1))
        phi = halves.sum(axis=(0, 1))
        return phi, np.maximum(np.maximum(error, level * change), self._missing(item, phi)) + rounding

    def _missing(self, item: int, phi: np.ndarray) -> np.ndarray:
        """What attributions [P] lack to the change of f, as a share of each as large as it is."""
        size, gap = np.abs(phi), float(self.ends[1, item] - self.ends[0, item] - phi[np.isfinite(phi)].sum())
        top = largest(phi)
        return size * (abs(gap) / top) if top and np.isfinite(gap) else np.full_like(phi, abs(gap))


def _interval(*looks: np.ndarray) -> float:
    """Student's t for differences [S, P] of S stretches, by how many of these make up the sum of squares."""
    squares = np.sum([np.where(np.isfinite(look), look, 0.0) ** 2 for look in looks], axis=(0, 2))
    top = squares.max(initial=0.0)
    freedom = float((squares / top).sum() ** 2 / ((squares / top) ** 2).sum()) if top else 1.0
    return float(np.interp(-1 / freedom, [-1 / degrees for degrees in STUDENT], list(STUDENT.values())))


def _begun(stretch: Stretch) -> list[Stretch]:
    """The stretches of a path of which the first layout is known: pieces, pairs of them, and pairs of those."""
    pieces = np.concatenate(stretch.slopes)
    stretch.slopes.clear()
    ones, twos, fours = np.split(pieces, [PIECES, PIECES + PIECES // 2])
    before = (fours - twos.reshape(-1, 2, twos.shape[1]).sum(axis=1)) / (FALL * np.sqrt(2))
    ends = np.linspace(0.0, 1.0, len(twos) + 1)
    return [
        Stretch(stretch.item, ends[i], ends[i + 1], twos[i], ones[2 * i : 2 * i + 2], before[i // 2])
        for i in range(len(twos))
    ]

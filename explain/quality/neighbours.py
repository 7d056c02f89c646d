"""How much an explanation changes when the item is moved a little: the method is asked again, beside the item.

What is explained is held: targets, parameters and seed are those of the item, so that a method that draws draws the
same. Max-sensitivity (Yeh et al. 2019) is the largest |phi(x') - phi(x)| / |phi(x)|, the local Lipschitz estimate
(Alvarez-Melis & Jaakkola 2018) the largest |phi(x') - phi(x)| / |x' - x|, lengths being Euclidean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from ..methods import Parameter, spreads
from ..plans import Plan, Step
from ..request import Arrays, Request, Target
from .base import Asked, Check, Figures, Subject, number
from .figures import joined

HELD = 1 << 22  # attributed numbers that explanations made together may hold
DRAWS = 2  # in the seeds of draws: no two checks draw the same


def nearby(request: Request, moves: list[Arrays]) -> Request:
    """The same question about the items moved by each of `moves` ([N, item...] by input), K * N items in that order."""
    times, items = len(moves), request.items

    def repeated(arrays: Mapping[str, np.ndarray]) -> Arrays:
        return {name: np.concatenate([a] * times) if len(a) == items else a for name, a in arrays.items()}

    inputs = {
        name: np.concatenate([(x + move[name]).astype(x.dtype) if name in move else x for move in moves])
        for name, x in request.inputs.items()
    }
    outputs = {name: np.concatenate([array] * times) for name, array in request.outputs.items()}
    target = Target(np.concatenate([request.target.index] * times), np.concatenate([request.target.weight] * times))
    baseline = None if request.baseline is None else repeated(request.baseline)
    removal, groups = request.removal, request.groups
    if removal is not None and removal.per_item:
        removal = replace(removal, rows=repeated(removal.rows))
    if groups.per_item:
        groups = replace(groups, index=repeated(groups.index))
    moved = replace(request, inputs=inputs, outputs=outputs, target=target)
    return replace(moved, baseline=baseline, removal=removal, groups=groups)


class Neighbours:
    """The explanation again at K points near each item, as many at once as may be held."""

    def __init__(self, subject: Subject, figure: str) -> None:
        self.subject, self.figure, self.count = subject, figure, subject.parameters["n_samples"]
        items = subject.request.items
        self.evaluations = np.zeros(items, dtype=np.int64)
        self.ratios = np.full((items, self.count), np.nan)
        self.scale = self._scale()
        self.phi = np.stack([joined(subject.outcome.values, item) for item in range(items)])

    def _scale(self) -> Arrays:
        """Half the width of the box around each element."""
        request, parameters = self.subject.request, self.subject.parameters
        width = parameters["absolute_radius"]
        if width is None:
            return {name: parameters["radius"] * spread for name, spread in spreads(request).items()}
        return {name: np.full(x.shape, float(width)) for name, x in request.features.items() if x.dtype.kind == "f"}

    def move(self, k: int) -> Arrays:
        """The k-th move [N, item...] by input: uniform in the box, the same draw for every item, times its scale."""
        random = np.random.default_rng([self.subject.request.seed, DRAWS, k])
        return {name: width * random.uniform(-1.0, 1.0, width.shape[1:]) for name, width in self.scale.items()}

    def steps(self) -> Iterator[Step]:
        """The method's own steps at the moved items."""
        request, method = self.subject.request, self.subject.method
        together = max(1, HELD // self.phi.size)
        for first in range(0, self.count, together):
            moves = [self.move(k) for k in range(first, min(first + together, self.count))]
            moved = nearby(request, moves)
            plan = method.plan(moved)
            yield from plan.steps()
            self._take(first, moved, plan)

    def _take(self, first: int, moved: Request, plan: Plan) -> None:
        items, values = self.subject.request.items, plan.outcome().values
        self.evaluations += plan.evaluations.reshape(-1, items).sum(axis=0)
        for row in range(moved.items):
            k, item = divmod(row, items)
            change = float(np.linalg.norm(joined(values, row) - self.phi[item]))
            size = float(np.linalg.norm(self.phi[item])) if self.figure == "max_sensitivity" else self._way(moved, row)
            self.ratios[item, first + k] = change / size if size else np.nan

    def _way(self, moved: Request, row: int) -> float:
        """|x' - x| over all numbers, as the dtype of the input holds them."""
        item = row % self.subject.request.items
        ways = [
            (moved.inputs[name][row].astype(np.float64) - self.subject.request.inputs[name][item]).reshape(-1)
            for name in self.scale
        ]
        return float(np.linalg.norm(np.concatenate(ways)))

    def results(self) -> list[Figures]:
        """The largest ratio, None where nothing was attributed or one is no number, and the mean."""
        return [Figures({self.figure: number(row.max())}, {"mean": number(row.mean())}) for row in self.ratios]


def _refuse(asked: Asked) -> str | None:
    if asked.settings.get("budget_ms") is not None:
        return "an explanation that is cut by time cannot be repeated; leave out budget_ms"
    return None


def _settings(n_samples: int) -> tuple[Parameter, ...]:
    return (
        Parameter("n_samples", n_samples, {"type": "integer", "minimum": 1, "maximum": 4096}, "points near each item"),
        Parameter(
            "radius",
            0.02,
            {"type": "number", "minimum": 0},
            "how far each element may move either way, in spreads (the deviation over the background, else the range "
            "of the item)",
        ),
        Parameter(
            "absolute_radius", None, {"type": ["number", "null"], "minimum": 0}, "the same in input units, where given"
        ),
    )


MAX_SENSITIVITY = Check(
    "max_sensitivity",
    "The largest relative change of the attributions when the item is moved a little.",
    "Yeh et al. 2019, arXiv:1901.09392",
    "n_samples E",
    ("max_sensitivity",),
    _settings(10),
    lambda subject: Neighbours(subject, "max_sensitivity"),
    _refuse,
    "an explanation that never changes has the best figure; the largest of a sample is at most the true one",
)
LOCAL_LIPSCHITZ = Check(
    "local_lipschitz",
    "The largest change of the attributions per length of the way the item is moved.",
    "Alvarez-Melis & Jaakkola 2018, arXiv:1806.08049",
    "n_samples E",
    ("local_lipschitz",),
    _settings(50),
    lambda subject: Neighbours(subject, "local_lipschitz"),
    _refuse,
    "it has units of attribution per unit of input: compare it on one model, with inputs of one scale",
)

"""Gradients without a derivative: central differences of the served file, one element after another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..case import Case
from ..exported import Array
from .served import Served
from .verdict import Unjudged

STEPS = (3e-2, 1e-2, 3e-3, 1e-3)
MOST_ELEMENTS = 64


class Differences:
    """∂f/∂x of what `Served` explains, for the floating-point inputs.

    Steps are in units of each element's spread. Of the four slopes of an element, that of the step which agrees best
    with the next shorter one counts: long steps cross kinks, short ones drown in rounding.
    """

    name = "central differences of the served file"
    tolerance = 5e-2
    exact = False

    def __init__(self, case: Case) -> None:
        refuse_steps(case)
        self.served = Served.of(case)
        self.version = case.engine.info().version
        self._floats = [name for name, array in case.inputs.items() if array.dtype.kind == "f"]
        elements = sum(case.inputs[name][0].size for name in self._floats)
        if not 0 < elements <= MOST_ELEMENTS:
            raise Unjudged(
                f"there is no source network, and differences of {elements} elements are "
                + ("too many predictions" if elements else "no judge of codes")
            )
        self.spread = {name: spread(case, name) for name in self._floats}

    @property
    def options(self) -> dict[str, object]:
        """What makes explain/ explain the same."""
        return {"target": self.served.target, "space": self.served.space}

    def encoded(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs themselves. Raises Unjudged where there are codes."""
        if len(self._floats) != len(inputs):
            raise Unjudged("there is no source network, and a path between two codes leads through no prediction")
        return dict(inputs)

    def gradient(self, inputs: Mapping[str, Array], items: Array) -> dict[str, Array]:
        """∂f/∂x [M, ...item] at M points, each with the target of the item [M] it belongs to."""
        return {name: self._of(name, inputs, items) for name in self._floats}

    def _of(self, name: str, inputs: Mapping[str, Array], items: Array) -> Array:
        array, scale = inputs[name].astype(np.float64), self.spread[name].reshape(-1)
        size = scale.size
        slopes = np.zeros((len(STEPS), len(items), size))
        for number, step in enumerate(STEPS):
            moves = step * scale[:, np.newaxis] * np.eye(size)
            both = np.stack([array.reshape(-1, 1, size) + sign * moves for sign in (1.0, -1.0)])
            points = both.astype(self.served.case.inputs[name].dtype)
            ends = [self._values(name, inputs, items, each) for each in points]
            width = (points[0].astype(np.float64) - points[1]) @ np.ones(size)
            if not width.all():
                raise Unjudged("a step of a spread vanishes beside the numbers of a row")
            slopes[number] = (ends[0] - ends[1]) / width
        best = np.abs(np.diff(slopes, axis=0)).argmin(axis=0)
        chosen = np.take_along_axis(slopes, best[np.newaxis], axis=0)[0]
        return np.asarray(chosen.reshape(array.shape))

    def _values(self, name: str, inputs: Mapping[str, Array], items: Array, points: Array) -> Array:
        """f [M, E] where one element after another of the input was moved: points [M, E, E]."""
        count = points.shape[1]
        kinds = {other: array.dtype for other, array in self.served.case.inputs.items()}
        feeds = {other: np.repeat(array, count, axis=0).astype(kinds[other]) for other, array in inputs.items()}
        feeds[name] = points.reshape(-1, *inputs[name].shape[1:])
        return self.served.value(feeds, np.repeat(items, count)).reshape(-1, count)


def refuse_steps(case: Case) -> None:
    """Raise Unjudged where the model rounds: its differences are those of a staircase, its gradients pass it by."""
    if case.rounds:
        raise Unjudged("the model is quantised, and differences of its predictions are those of its steps")


def spread(case: Case, name: str) -> Array:
    """The deviation of each element over the background, or of all where an element hardly varies or none is known."""
    rows = (case.background or case.inputs)[name].astype(np.float64)
    overall = float(rows.std()) or 1.0
    if case.manifest.input(name).kind != "tabular":
        return np.full(rows.shape[1:], overall)
    deviation = rows.std(axis=0)
    return np.where(deviation > 0, deviation, 1.0)

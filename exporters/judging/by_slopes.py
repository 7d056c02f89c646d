"""Methods on gradients, by their formulas, with gradients that somebody else computes.

Whoever judges gives `gradient(points, items)`: torch's autograd of the source network, or differences of predictions.
What a method draws at random (alpha, rows, noise) is read from its plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

import explain

from ..case import Case
from ..exported import Array
from .verdict import Judgement, attribution_errors, joined

SAMPLES, STEPS, ROWS = 8, 16, 8
Points = Mapping[str, Array]


class Slopes(Protocol):
    """Who computes gradients. `encoded` gives inputs as the numbers that gradients are taken of, with further axes
    behind the input's own where a code is encoded; `options` make explain/ explain the same value."""

    name: str
    version: str
    tolerance: float

    @property
    def options(self) -> dict[str, object]: ...
    def encoded(self, inputs: Points) -> dict[str, Array]: ...
    def gradient(self, inputs: Points, items: Array) -> dict[str, Array]: ...


Formula = Callable[[Slopes, Case, Any], dict[str, Array]]


def saliency(slopes: Slopes, case: Case, _: Any) -> dict[str, Array]:
    """|∂f/∂x|; of a code the norm of its encoding's."""
    found = slopes.gradient(_reachable(slopes, case), _items(case))
    return {name: _norm(g, case.inputs[name].ndim) for name, g in found.items()}


def input_x_gradient(slopes: Slopes, case: Case, _: Any) -> dict[str, Array]:
    """x · ∂f/∂x."""
    found = slopes.gradient(case.inputs, _items(case))
    return {name: g * case.inputs[name] for name, g in found.items()}


def integrated_gradients(slopes: Slopes, case: Case, _: Any) -> dict[str, Array]:
    """(x − b) · Σₖ wₖ ∂f/∂x(b + αₖ(x − b)) with the Gauss-Legendre αₖ, wₖ of [0, 1], as captum 0.9 has it by default.

    Source: Sundararajan, Taly, Yan (2017), arXiv 1703.01365.
    """
    x, b = slopes.encoded(case.inputs), slopes.encoded(_spread_out(case.baseline or {}, case))
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    total: dict[str, Any] = dict.fromkeys(x, 0.0)
    for alpha, weight in zip((points + 1) / 2, weights / 2, strict=True):
        there = {name: b[name] + alpha * (x[name] - b[name]) for name in x}
        for name, g in slopes.gradient(there, _items(case)).items():
            total[name] = total[name] + weight * g
    return {name: _summed((x[name] - b[name]) * total[name], case.inputs[name].ndim) for name in x}


def expected_gradients(slopes: Slopes, case: Case, plan: Any) -> dict[str, Array]:
    """The mean of d · ∂f/∂x(b + αd) over draws of a row b and a place α; d = x − b, and with noise, x + noise − b.

    Source: Erion et al. (2021), arXiv 1906.10670; with noise as captum's GradientShap has it.
    """
    x, scale = slopes.encoded(case.inputs), _deviations(case, "gradient_shap", case.background)
    total: dict[str, Any] = dict.fromkeys(x, 0.0)
    for k in range(SAMPLES):
        draw = plan.draw(k)
        row = {name: draw.baseline[name][np.newaxis] for name in case.inputs}
        b = slopes.encoded(_spread_out(row, case))
        noise = {name: scale[name] * z for name, z in draw.noise.items()}
        d = {name: x[name] + noise.get(name, 0.0) - b[name] for name in x}
        found = slopes.gradient({name: b[name] + draw.alpha * d[name] for name in x}, _items(case))
        for name, g in found.items():
            total[name] = total[name] + d[name] * g / SAMPLES
    return {name: _summed(total[name], case.inputs[name].ndim) for name in x}


def _smooth(reduce: Callable[[Array], Array]) -> Formula:
    """A statistic over draws of the gradient at x + noise: [draws, N, ...item] -> [N, ...item]."""

    def formula(slopes: Slopes, case: Case, plan: Any) -> dict[str, Array]:
        scale, found = _deviations(case, "smooth_grad", None), []
        for k in range(SAMPLES):
            noise = plan.draw(k).noise
            there = {
                name: array + scale[name] * noise[name] if name in noise else array
                for name, array in case.inputs.items()
            }
            found.append(slopes.gradient(there, _items(case)))
        return {name: reduce(np.stack([each[name] for each in found])) for name in found[0]}

    return formula


SLOPE_METHODS: dict[str, Formula] = {
    "saliency": saliency,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "expected_gradients": expected_gradients,
    "gradient_shap": expected_gradients,
    "smooth_grad": _smooth(lambda g: np.asarray(g.mean(axis=0))),
    "smooth_grad_squared": _smooth(lambda g: np.asarray((g**2).mean(axis=0))),
    "var_grad": _smooth(lambda g: np.asarray(g.var(axis=0))),
}
_SAMPLED = ("expected_gradients", "gradient_shap", "smooth_grad", "smooth_grad_squared", "var_grad")


def judged_by_slopes(case: Case, method: str, slopes: Slopes, rounded: Slopes | None = None) -> Judgement:
    """The method's errors on the case's rows, with few steps or samples and a part of its background. Raises Unjudged.

    `rounded` is the same judge in float32. Where it is further from the exact one than the tolerance, as after
    thousands of ReLUs and max-pools at points that no one chose, ten times that distance is allowed: no float32
    program can be held to less.
    """
    case = case.first(len(case.rows), ROWS)
    asked: dict[str, Any] = {"n_samples": SAMPLES} if method in _SAMPLED else {}
    if method == "integrated_gradients":
        asked = {"n_steps": STEPS}
    plan = case.begun(method, **slopes.options, **asked).plan
    formula = SLOPE_METHODS[method]
    judged = formula(slopes, case, plan)
    found = case.explained(method, **slopes.options, **asked).values
    tolerance = slopes.tolerance
    if rounded is not None:
        tolerance = max(tolerance, 10 * float(attribution_errors(formula(rounded, case, plan), judged).max()))
    what = f"attribution error against its formula by {slopes.name}"
    errors = attribution_errors(found, judged, _floor(slopes, case, plan, method))
    return Judgement(errors, tolerance, what, slopes.name, slopes.version)


def _floor(slopes: Slopes, case: Case, plan: Any, method: str) -> Array | float:
    """What is nothing beside the rounding of the judge: a variance smaller than the square of a gradient's error."""
    if method != "var_grad":
        return 0.0
    squares = SLOPE_METHODS["smooth_grad_squared"](slopes, case, plan)
    return np.asarray((slopes.tolerance / 50) ** 2 * joined(squares, squares).max(axis=1))


def _items(case: Case) -> Array:
    return np.arange(len(case.rows))


def _reachable(slopes: Slopes, case: Case) -> Points:
    """The rows encoded, or as they are where the judge has no way into codes and judges the numbers alone."""
    return slopes.encoded(case.inputs) if getattr(slopes, "exact", True) else case.inputs


def _spread_out(rows: Points, case: Case) -> dict[str, Array]:
    """One row for each of the case's."""
    return {name: np.broadcast_to(array, case.inputs[name].shape) for name, array in rows.items()}


def _deviations(case: Case, method: str, background: Points | None) -> dict[str, Array]:
    """The deviation of a method's noise: its default share of the deviation over the background, or without one of
    the range of each item."""
    level, found = explain.METHODS[method].resolve({})["noise_level"], {}
    for name, array in case.inputs.items():
        if array.dtype.kind != "f":
            continue
        wide = array.astype(np.float64)
        if background is not None:
            found[name] = level * background[name].astype(np.float64).std(axis=0)
        else:
            axes = tuple(range(1, wide.ndim))
            found[name] = level * (wide.max(axis=axes, keepdims=True) - wide.min(axis=axes, keepdims=True))
    return found


def _summed(values: Array, rank: int) -> Array:
    return np.asarray(values.sum(axis=tuple(range(rank, values.ndim))))


def _norm(values: Array, rank: int) -> Array:
    axes = tuple(range(rank, values.ndim))
    return np.sqrt((values**2).sum(axis=axes)) if axes else np.abs(values)

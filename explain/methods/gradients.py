"""Methods on gradients at the input and along a straight path from a baseline."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..compiler import compile as compile_program
from ..errors import MethodUnavailable
from ..plans import Budget, Outcome, PanelPlan, PathPlan, SecantPlan, StretchPlan, filled
from ..programs import has_kinks
from ..request import Arrays, Request
from .base import BUDGET, TOLERANCE, Method, Parameter


def _program(request: Request, name: str = "path_gradient") -> Any:
    explained = request.explained
    return compile_program(request.model, name, output=explained.output, space=explained.space)


def _along(request: Request, program: Any, baseline: Arrays) -> Arrays:
    """Baselines [N, 1, item...] of the inputs the program walks."""
    walked = {name: rows for name, rows in baseline.items() if f"{name}.baseline" in program.inputs}
    return {name: np.broadcast_to(rows, request.inputs[name].shape)[:, None] for name, rows in walked.items()}


def _saliency(request: Request) -> PathPlan:
    """One gradient, at x: the end of a path of no length. A token or category has the norm of its encoding's."""

    def reduce(totals: Arrays, along: np.ndarray) -> Outcome:
        values = {name: total[:, 0] for name, total in totals.items()}
        if request.parameters["absolute"]:
            values = {name: np.abs(value) for name, value in values.items()}
        for name, array in request.inputs.items():
            extra = tuple(range(array.ndim, values[name].ndim)) if name in values else ()
            if extra:
                values[name] = np.sqrt((values[name] ** 2).sum(axis=extra))
        return Outcome(filled(request, values), along[:, -1])

    program = _program(request)
    for name in request.inputs:
        if f"{name}.baseline" in program.inputs and f"{name}.gradient" not in program.outputs:
            raise MethodUnavailable(f"saliency: input {name!r} is encoded in several places; use integrated_gradients")
    baselines = _along(request, program, request.inputs)
    return PathPlan(request, program, np.ones(1), np.ones((1, 1)), baselines, "gradient", reduce)


def _input_x_gradient(request: Request) -> PathPlan:
    """The gradient at x times x (minus a baseline, if one is given): the end of the path from it."""

    def reduce(totals: Arrays, along: np.ndarray) -> Outcome:
        return Outcome(filled(request, {name: total[:, 0] for name, total in totals.items()}), along[:, -1])

    program = _program(request)
    baseline = request.baseline
    if baseline is None:
        codes = [name for name, x in request.inputs.items() if x.dtype.kind != "f"]
        codes = [name for name in codes if f"{name}.baseline" in program.inputs]
        if codes:
            raise MethodUnavailable(f"input_x_gradient: codes like {codes[0]!r} have no zero; give a baseline")
        baseline = {name: np.zeros((1, *x.shape[1:]), dtype=x.dtype) for name, x in request.inputs.items()}
    baselines = _along(request, program, baseline)
    return PathPlan(request, program, np.ones(1), np.ones((1, 1)), baselines, "attribution", reduce)


def quadrature(rule: str, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of a rule on [0, 1]; the weights sum to 1."""
    if rule == "midpoint":
        return (np.arange(n_steps) + 0.5) / n_steps, np.full(n_steps, 1.0 / n_steps)
    points, weights = gauss_legendre(n_steps)
    return (points + 1) / 2, weights / 2


@lru_cache(maxsize=64)
def gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights on [-1, 1], exact for polynomials of degree 2 count - 1, by Newton's method on the Legendre
    polynomial (Press et al. 2007, Numerical Recipes, section 4.6): numpy's needs seconds for thousands of points."""
    x = -np.cos(np.pi * (np.arange(count) + 0.75) / (count + 0.5))
    slope = np.ones(count)
    for _ in range(100):
        below, here = np.ones(count), x
        for degree in range(2, count + 1):
            below, here = here, ((2 * degree - 1) * x * here - (degree - 1) * below) / degree
        slope = count * (x * here - below) / (x**2 - 1)
        step = here / slope
        x = x - step
        if np.abs(step).max() < 1e-14:
            break
    weights = 2 / ((1 - x**2) * slope**2)
    x.flags.writeable = weights.flags.writeable = False  # every caller gets the same arrays
    return x, weights


def _integrated_gradients(request: Request) -> PathPlan | PanelPlan | StretchPlan:
    """The two ends of the path are evaluated with weight 0: they give f(x) and f(baseline) for the completeness gap."""
    rule, n_steps = request.parameters["rule"], request.parameters["n_steps"]
    if rule == "adaptive":
        return _adaptive(request)

    def reduce(totals: Arrays, along: np.ndarray) -> Outcome:
        values = {name: total[:, 0] for name, total in totals.items()}
        return Outcome(filled(request, values), along[:, -1], along[:, 0], complete=True)

    program = _program(request, "path_secant" if rule == "secant" else "path_gradient")
    baselines = _along(request, program, request.baseline or {})
    if rule == "secant":
        return SecantPlan(request, program, n_steps, baselines, reduce)
    points, weights = quadrature(rule, n_steps)
    alphas = np.concatenate([[0.0], points, [1.0]])
    columns = np.concatenate([[0.0], weights, [0.0]])[:, None]
    return PathPlan(request, program, alphas, columns, baselines, "attribution", reduce)


def _adaptive(request: Request) -> PanelPlan | StretchPlan:
    """Where the gradient may jump, stretches of the path; where it is smooth, points of a rule of high order."""
    budget = Budget.of(request.parameters, request.parameters["max_evals"])
    jumps = has_kinks(request.model, request.explained)
    program = _program(request, "path_secant" if jumps else "path_gradient")
    baselines = _along(request, program, request.baseline or {})
    return (StretchPlan if jumps else PanelPlan)(request, program, baselines, budget)


SALIENCY = Method(
    "saliency",
    "How strongly the explained value reacts to each element: the gradient at the input.",
    "Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034",
    frozenset({"gradient"}),
    "about 2 F",
    (Parameter("absolute", True, {"type": "boolean"}, "absolute value of the gradient, as the paper has it"),),
    _saliency,
    states="slope",
)
INPUT_X_GRADIENT = Method(
    "input_x_gradient",
    "The gradient times the input; sums to the value only for networks without biases.",
    "Shrikumar, Greenside, Shcherbina, Kundaje 2016, arXiv:1605.01713",
    frozenset({"gradient"}),
    "about 2 F",
    (),
    _input_x_gradient,
)
INTEGRATED_GRADIENTS = Method(
    "integrated_gradients",
    "The gradient integrated from a baseline to the input; sums to f(x) - f(baseline).",
    "Sundararajan, Taly, Yan 2017, arXiv:1703.01365",
    frozenset({"gradient", "baseline"}),
    "about 2 (n_steps + 2) F",
    (
        Parameter(
            "n_steps",
            50,
            {"type": "integer", "minimum": 1, "maximum": 4096},
            "points of the quadrature rule, or stretches of the secant rule",
        ),
        Parameter(
            "rule",
            "gauss_legendre",
            {"enum": ["gauss_legendre", "midpoint", "secant", "adaptive"]},
            "quadrature rule; secant places jumps of the gradient between points, adaptive halves the path where it "
            "disagrees with itself and states its error",
        ),
        Parameter("tolerance", 0.01, TOLERANCE.schema, f"adaptive rule: {TOLERANCE.help}"),
        Parameter("max_evals", 512, {"type": "integer", "minimum": 9}, "adaptive rule: most evaluations of an item"),
        Parameter("budget_ms", None, BUDGET.schema, f"adaptive rule: {BUDGET.help}"),
    ),
    _integrated_gradients,
)

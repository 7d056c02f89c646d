"""Gradients averaged over noise, baselines and points of the path: SmoothGrad and its kin, expected gradients.

All of them are one program with different draws. Noise is Gaussian; its deviation is `stdev` where given, else
`noise_level` times the spread of each element: its standard deviation over the background, or without one the range
(max - min) of the item, as the SmoothGrad paper has it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiler import compile as compile_program
from ..plans import Budget, Draw, Ends, Judged, SamplePlan, mean
from ..request import Arrays, Request
from .base import BUDGET, TOLERANCE, Method, Parameter, States
from .turns import Turns

SAMPLES = Parameter("n_samples", 50, {"type": "integer", "minimum": 2, "maximum": 65536}, "most samples of an item")
STDEV = Parameter("stdev", None, {"type": ["number", "null"], "minimum": 0}, "deviation of the noise, in input units")


def mean_square(moments: np.ndarray, counts: np.ndarray, _: np.ndarray) -> Judged:
    """E[g^2], and the variance of one g^2."""
    return moments[1], (moments[3] - moments[1] ** 2) * counts / np.maximum(counts - 1, 1), plain(moments, counts)


def variance(moments: np.ndarray, counts: np.ndarray, _: np.ndarray) -> Judged:
    """E[g^2] - E[g]^2, and the variance of its estimate times the count: mu_4 - sigma^4."""
    m1, m2, m3, m4 = moments[:4]
    spread = np.maximum(m2 - m1**2, 0.0)
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    each = np.maximum(fourth - spread**2, 0.0) * counts / np.maximum(counts - 1, 1)
    return spread, each, plain(moments, counts)


def plain(moments: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Degrees of freedom [N, P] of a variance where nothing more is known than the number of samples."""
    return np.broadcast_to(np.maximum(counts - 1.0, 1.0), moments[0].shape)


def _programs(request: Request, *, noise: bool) -> tuple[Any, Any]:
    options = {"output": request.explained.output, "space": request.explained.space}
    path = compile_program(request.model, "path_gradient", noise=noise, **options)
    return path, compile_program(request.model, "masked_forward", **options)


def _scale(request: Request) -> Arrays:
    """The deviation of the noise for every element of every item."""
    stdev, level = request.parameters["stdev"], request.parameters["noise_level"]
    if stdev is None:
        return {name: level * spread for name, spread in spreads(request).items()}
    return {name: np.full(x.shape, float(stdev)) for name, x in request.features.items() if x.dtype.kind == "f"}


def spreads(request: Request) -> Arrays:
    """How far each element of each floating-point input spreads [N, item...], float64: its standard deviation over the
    background, or without one the range (max - min) of the item."""
    found = {}
    for name, x in request.features.items():
        if x.dtype.kind != "f":
            continue
        if request.background is not None:
            spread = request.background[name].astype(np.float64).std(axis=0)
        else:
            spread = np.ptp(x.astype(np.float64), axis=tuple(range(1, x.ndim)), keepdims=True)
        found[name] = np.asarray(np.broadcast_to(spread, x.shape), dtype=np.float64)
    return found


def _noise(request: Request, random: np.random.Generator) -> Arrays:
    return {name: random.standard_normal(x.shape[1:]) for name, x in request.features.items() if x.dtype.kind == "f"}


def _smooth(statistic: Any) -> Any:
    def plan(request: Request) -> SamplePlan:
        path, masked = _programs(request, noise=True)
        budget = Budget.of(request.parameters, request.parameters["n_samples"])

        def draw(k: int) -> Draw:
            return Draw(1.0, {}, _noise(request, np.random.default_rng([request.seed, k])))

        ends = Ends(request, masked, None)
        return SamplePlan(request, path, draw, _scale(request), "gradient", budget, ends, statistic=statistic)

    return plan


def _expected(*, noisy: bool) -> Any:
    """A baseline from the background, a point on the way to it, d times the gradient there."""

    def plan(request: Request) -> SamplePlan:
        path, masked = _programs(request, noise=noisy)
        background = request.background or {}
        turns = Turns(request.background_weight, request.seed)
        budget = Budget.of(request.parameters, turns.whole(request.parameters["n_samples"]))

        def draw(k: int) -> Draw:
            random = np.random.default_rng([request.seed, k])
            row, alpha = turns.row(k), float(random.random())
            rows = {key: values[row] for key, values in background.items()}
            return Draw(alpha, rows, _noise(request, random) if noisy else {})

        scale = _scale(request) if noisy else {}
        ends = Ends(request, masked, background)
        names = [name.removesuffix(".attribution") for name in path.outputs if name.endswith(".attribution")]
        judged = turns.judged(request.inputs, background, names=names, noise=scale)
        return SamplePlan(request, path, draw, scale, "attribution", budget, ends, **judged)

    return plan


def _smoothing(name: str, summary: str, source: str, statistic: Any) -> Method:
    level = Parameter("noise_level", 0.15, {"type": "number", "minimum": 0}, "deviation of the noise, in spreads")
    needs, settings = frozenset({"gradient", "numbers"}), (SAMPLES, level, STDEV, TOLERANCE, BUDGET)
    states: States = "slope" if statistic is mean else "squared slope"
    return Method(name, summary, source, needs, "about 2 n_samples F", settings, _smooth(statistic), states=states)


SMOOTH_GRAD = _smoothing(
    "smooth_grad", "The gradient averaged over noise added to the input.", "Smilkov et al. 2017, arXiv:1706.03825", mean
)
SMOOTH_GRAD_SQUARED = _smoothing(
    "smooth_grad_squared",
    "The squared gradient averaged over noise added to the input.",
    "Hooker et al. 2019, arXiv:1806.10758",
    mean_square,
)
VAR_GRAD = _smoothing(
    "var_grad",
    "The variance of the gradient under noise added to the input.",
    "Adebayo et al. 2018, arXiv:1810.03307",
    variance,
)
EXPECTED_GRADIENTS = Method(
    "expected_gradients",
    "Integrated gradients averaged over baselines drawn from the background; sums to f(x) - mean f(background).",
    "Erion et al. 2021, arXiv:1906.10670",
    frozenset({"gradient", "background"}),
    "about 2 n_samples F",
    (Parameter("n_samples", 200, SAMPLES.schema, SAMPLES.help), TOLERANCE, BUDGET),
    _expected(noisy=False),
)
GRADIENT_SHAP = Method(
    "gradient_shap",
    "Expected gradients with noise added to the input.",
    "Lundberg & Lee 2017, arXiv:1705.07874; Smilkov et al. 2017, arXiv:1706.03825",
    frozenset({"gradient", "background", "numbers"}),
    "about 2 n_samples F",
    (
        Parameter("n_samples", 200, SAMPLES.schema, SAMPLES.help),
        Parameter("noise_level", 0.1, {"type": "number", "minimum": 0}, "deviation of the noise, in spreads"),
        STDEV,
        TOLERANCE,
        BUDGET,
    ),
    _expected(noisy=True),
)

"""LIME: a weighted ridge regression of the output on which groups are present, near the item."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidParameter
from ..intervals import freedom_of_sum
from ..plans import Budget, RegressionPlan, Solved
from ..request import Request
from .base import BUDGET, TOLERANCE, Method, Parameter, bounded, by_group
from .coalitions import Coalitions


def _lime(request: Request) -> RegressionPlan:
    players, given = request.groups.count, request.parameters["coalitions"]
    bounded("lime", max(request.parameters["n_samples"], players), players)
    width, alpha = float(request.parameters["kernel_width"]), float(request.parameters["alpha"])
    masks = _drawn(request, players) if given is None else _given(given, players)
    weights = kernel(masks, width)

    def upto(draws: int) -> Coalitions:
        return Coalitions(masks[:draws], weights[:draws], complete=False)

    def solve(coalitions: Coalitions, f: np.ndarray) -> Solved:
        return ridge(coalitions.masks, coalitions.weights, f[:, 1:-1], alpha)

    budget = Budget.of(request.parameters, len(masks))
    pilot = max(64, 4 * players)
    return RegressionPlan(request, upto, len(masks), solve, budget, by_group(request), pilot=pilot, complete=False)


def _drawn(request: Request, players: int) -> np.ndarray:
    """Coalitions [K, G], each group present with chance 1/2; coalition k is a function of (seed, k)."""
    count = request.parameters["n_samples"]
    return np.array([np.random.default_rng([request.seed, k]).random(players) < 0.5 for k in range(count)], dtype=float)


def _given(coalitions: Any, players: int) -> np.ndarray:
    """As they came: empty and full ones count too."""
    try:
        masks = np.asarray(coalitions, dtype=np.float64)
    except (TypeError, ValueError):
        masks = np.zeros(0)
    if masks.ndim != 2 or masks.shape[1] != players or len(masks) < 2 or not np.isin(masks, (0.0, 1.0)).all():
        raise InvalidParameter(f"parameter 'coalitions': expected K rows of {players} numbers 0 and 1, K at least 2")
    return masks


def kernel(masks: np.ndarray, width: float) -> np.ndarray:
    """exp(-d^2 / width^2) of the cosine distance d between a coalition [G] and the full one."""
    distance = 1.0 - np.sqrt(masks.mean(axis=1))
    return np.asarray(np.exp(-(distance**2) / width**2))


def ridge(masks: np.ndarray, weights: np.ndarray, f: np.ndarray, alpha: float) -> Solved:
    """Slopes [N, G] of the weighted ridge regression of f [N, K] with an intercept that is not shrunk, their standard
    errors (HC2, MacKinnon & White 1985), and the degrees of freedom of these."""
    share = weights / weights.sum()
    x = masks - share @ masks
    normal = x.T @ (weights[:, None] * x) + alpha * np.eye(masks.shape[1])
    if np.linalg.matrix_rank(normal) < len(normal):
        raise InvalidParameter(f"parameter 'n_samples': {len(masks)} coalitions do not tell {len(normal)} groups apart")
    slopes = np.linalg.solve(normal, (weights[:, None] * x).T)
    y = f - (f @ share)[:, None]
    phi = y @ slopes.T
    leverage = (slopes.T * x).sum(axis=1) + share
    terms = (y - phi @ x.T) / np.sqrt(np.maximum(1.0 - leverage, 1e-9))
    variance, fourth = terms**2 @ slopes.T**2, terms**4 @ slopes.T**4
    left = max(1.0, len(masks) - float(leverage.sum()))
    return phi, np.sqrt(variance), freedom_of_sum(variance, fourth, left, left)


LIME = Method(
    "lime",
    "Slopes of a linear model fitted to the output near the item, where groups are present or replaced.",
    "Ribeiro, Singh, Guestrin 2016, arXiv:1602.04938",
    frozenset({"reference", "masks"}),
    "n_samples F per reference row",
    (
        Parameter("n_samples", 1000, {"type": "integer", "minimum": 2, "maximum": 65536}, "coalitions"),
        Parameter("kernel_width", 0.25, {"type": "number", "minimum": 0.001}, "width of the kernel (cosine distance)"),
        Parameter("alpha", 1.0, {"type": "number", "minimum": 0}, "how much the ridge shrinks the slopes"),
        Parameter("coalitions", None, {"type": ["array", "null"]}, "K coalitions of 0 and 1 to use instead of samples"),
        TOLERANCE,
        BUDGET,
    ),
    _lime,
)

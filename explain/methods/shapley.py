"""Shapley values: exact by enumeration, and kernel SHAP by a weighted regression on sampled coalitions.

The players are the groups of the request (one per element unless declared). A coalition keeps its players and takes
the others from the background; the worth is the mean of the explained output over the background. For a fixed set of
coalitions both methods are one constant matrix applied to the worths.
"""

from __future__ import annotations

from math import factorial

import numpy as np

from ..errors import InvalidParameter, MethodUnavailable
from ..plans import Budget, MaskPlan, Outcome, Plan, RegressionPlan
from ..request import Request
from .base import BUDGET, TOLERANCE, Method, Parameter, by_group
from .coalitions import Coalitions, all_coalitions, sample_coalitions

EXACT_LIMIT = 12


def exact_matrix(masks: np.ndarray) -> np.ndarray:
    """Shapley's formula as a matrix [G, 2^G] over all coalitions `masks` [2^G, G]."""
    players = masks.shape[1]
    sizes = masks.sum(axis=1).astype(int)
    joins = np.array([0] + [factorial(s - 1) * factorial(players - s) for s in range(1, players + 1)], float)
    stays = np.array([factorial(s) * factorial(players - s - 1) for s in range(players)] + [0], float)
    return np.asarray(np.where(masks.T == 1, joins[sizes], -stays[sizes]) / factorial(players))


def _exact_shap(request: Request) -> MaskPlan:
    players = request.groups.count
    if players > EXACT_LIMIT:
        raise MethodUnavailable(
            f"exact_shap enumerates 2^G coalitions and takes at most {EXACT_LIMIT} players; this model has {players}: "
            "declare groups, or use kernel_shap"
        )
    masks = all_coalitions(players)
    matrix, named = exact_matrix(masks), by_group(request)

    def reduce(f: np.ndarray, full: np.ndarray, empty: np.ndarray) -> Outcome:
        phi = np.column_stack([empty, f, full]) @ matrix.T
        return Outcome(named(phi), full, empty, complete=True)

    return MaskPlan(request, masks[1:-1], reduce)


def kernel_matrix(masks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted least squares of kernel SHAP as a matrix [G, K + 2].

    It applies to the worths of the empty coalition, the K coalitions `masks` [K, G], and the full one; the constraint
    that attributions sum to f(all) - f(none) is met exactly by eliminating the last player.
    """
    players = masks.shape[1]
    if players == 1:
        return np.array([[-1.0, *np.zeros(len(masks)), 1.0]])
    last = masks[:, -1]
    x = masks[:, :-1] - last[:, None]
    scaled = (x * weights[:, None]).T
    normal = scaled @ x
    if np.linalg.matrix_rank(normal) < players - 1:
        raise InvalidParameter(f"the coalitions do not tell all {players} players apart; take more, or other ones")
    # What the coalition's worth exceeds f(none) + last (f(all) - f(none)) by is regressed on x.
    inner = np.linalg.solve(normal, scaled)
    head = np.column_stack([-inner @ (1 - last), inner, -inner @ last])
    tail = -head.sum(axis=0)
    tail[0], tail[-1] = tail[0] - 1, tail[-1] + 1
    return np.vstack([head, tail])


def kernel_errors(coalitions: Coalitions, f: np.ndarray, phi: np.ndarray) -> tuple[np.ndarray, float]:
    """Standard error [N, G] of the regression, and its degrees of freedom: how far it would move with other coalitions.

    0 where all are there. f [N, K + 2] begins with the empty coalition and ends with the full one. By linearisation,
    one term for each draw: a coalition and its complement are drawn together and are one term, coalitions that were
    listed whole are the same in every sample and none. Residuals are divided by 1 - leverage (MacKinnon & White 1985),
    as a regression on few draws fits them too well. Where nothing was drawn and coalitions are missing nevertheless,
    every coalition counts as drawn: what the regression cannot fit is all that is known.
    """
    masks, weights, players = coalitions.masks, coalitions.weights, coalitions.masks.shape[1]
    if coalitions.complete or players == 1:
        return np.zeros_like(phi), np.inf
    x = masks[:, :-1] - masks[:, -1:]
    inverse = np.linalg.inv(x.T @ (weights[:, None] * x))
    slopes = x @ inverse * weights[:, None]
    leverage = (slopes * x).sum(axis=1)
    residual = f[:, 1:-1] - f[:, :1] - phi @ masks.T
    draws = np.ones(len(masks))
    if coalitions.draws is not None and coalitions.draws.sum() > 1:
        draws, first = coalitions.draws, len(masks) - 2 * len(coalitions.draws)
        slopes, leverage = slopes[first::2], 2 * leverage[first::2]
        residual = residual[:, first::2] - residual[:, first + 1 :: 2]
    terms = residual / np.maximum(1 - leverage, 1e-9)
    slopes = np.hstack([slopes, -slopes.sum(axis=1, keepdims=True)]) / draws[:, None]
    mean = terms * draws @ slopes / draws.sum()
    variance = (terms**2 * draws) @ slopes**2 - draws.sum() * mean**2
    return np.sqrt(np.maximum(variance, 0.0)), max(1.0, draws.sum() - leverage @ draws)


def _kernel_shap(request: Request) -> Plan:
    players, given = request.groups.count, request.parameters["coalitions"]
    beside = "n_samples" if given is not None else "coalition_weights"
    if request.parameters[beside] is not None:
        expected = "not together with" if given is not None else "only together with"
        raise InvalidParameter(f"parameter {beside!r}: expected {expected} 'coalitions'")
    if given is not None:
        chosen = Coalitions.given(given, request.parameters["coalition_weights"], players)
        draws, upto, most = 0, lambda _: chosen, 0
    else:
        asked = request.parameters["n_samples"]
        sample = sample_coalitions(players, 2 * players + 2048 if asked is None else asked, request.seed)
        draws, upto, most = len(sample.order), sample.upto, len(sample.order)
    budget = Budget.of(request.parameters, most)
    return RegressionPlan(request, upto, draws, _solve, budget, by_group(request), pilot=max(64, 4 * players))


def _solve(coalitions: Coalitions, f: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Attributions [N, G], their standard errors, and the degrees of freedom of these."""
    phi = f @ kernel_matrix(coalitions.masks, coalitions.weights).T
    return phi, *kernel_errors(coalitions, f, phi)


EXACT_SHAP = Method(
    "exact_shap",
    f"Shapley values over all coalitions of at most {EXACT_LIMIT} players (features or declared groups).",
    "Shapley 1953; Lundberg & Lee 2017, arXiv:1705.07874",
    frozenset({"background", "masks"}),
    "2^G F per background row",
    (),
    _exact_shap,
)
KERNEL_SHAP = Method(
    "kernel_shap",
    "Shapley values estimated by a weighted regression on sampled coalitions, in complementary pairs.",
    "Lundberg & Lee 2017, arXiv:1705.07874; Covert & Lee 2021, arXiv:2012.01536",
    frozenset({"background", "masks"}),
    "n_samples F per background row",
    (
        Parameter(
            "n_samples",
            None,
            {"type": ["integer", "null"], "minimum": 2, "maximum": 65536},
            "coalitions; default 2 M + 2048 for M players, or all of them where they are fewer",
        ),
        Parameter("coalitions", None, {"type": ["array", "null"]}, "K coalitions of 0 and 1 to use instead of samples"),
        Parameter("coalition_weights", None, {"type": ["array", "null"]}, "their K weights in the regression"),
        TOLERANCE,
        BUDGET,
    ),
    _kernel_shap,
)

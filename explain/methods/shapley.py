"""Shapley values: exact by enumeration, and kernel SHAP by a weighted regression on sampled coalitions.

The players are the groups of the request (one per element unless declared). A coalition keeps its players and takes
the others from the background; the worth is the mean of the explained output over the background. For a fixed set of
coalitions both methods are one constant matrix applied to the worths.
"""

from __future__ import annotations

from math import factorial

import numpy as np

from ..compiler import compile as compile_program
from ..errors import InvalidParameter, MethodUnavailable
from ..plans import MaskPlan, Outcome
from ..programs import Program
from ..request import Request
from .base import Method, Parameter, by_element
from .coalitions import Coalitions, all_coalitions, sample_coalitions

EXACT_LIMIT = 12


def _program(request: Request) -> Program:
    explained = request.explained
    return compile_program(request.model, "masked_forward", output=explained.output, space=explained.space)


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
    matrix = exact_matrix(masks)

    def reduce(f: np.ndarray) -> Outcome:
        phi = f @ matrix.T
        return Outcome(by_element(request, phi), f[:, -1], f[:, 0], complete=True)

    return MaskPlan(request, _program(request), masks, reduce)


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


def _kernel_errors(coalitions: Coalitions, f: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Standard error [N, G] of the regression: how far it would move with other coalitions; 0 where all are there.

    By linearisation, one term for each draw: a coalition and its complement are drawn together and are one term,
    coalitions that were listed whole are the same in every sample and none. Residuals are divided by 1 - leverage
    (MacKinnon & White 1985), as a regression on few draws fits them too well. Where nothing was drawn and coalitions
    are missing nevertheless, every coalition counts as drawn: what the regression cannot fit is all that is known.
    """
    masks, weights, players = coalitions.masks, coalitions.weights, coalitions.masks.shape[1]
    if coalitions.complete or players == 1:
        return np.zeros_like(phi)
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
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _kernel_shap(request: Request) -> MaskPlan:
    players, given = request.groups.count, request.parameters["coalitions"]
    beside = "n_samples" if given is not None else "coalition_weights"
    if request.parameters[beside] is not None:
        expected = "not together with" if given is not None else "only together with"
        raise InvalidParameter(f"parameter {beside!r}: expected {expected} 'coalitions'")
    if given is not None:
        coalitions = Coalitions.given(given, request.parameters["coalition_weights"], players)
    else:
        asked = request.parameters["n_samples"]
        coalitions = sample_coalitions(players, 2 * players + 2048 if asked is None else asked, request.seed)
    matrix = kernel_matrix(coalitions.masks, coalitions.weights)
    masks = np.vstack([np.zeros((1, players)), coalitions.masks, np.ones((1, players))])

    def reduce(f: np.ndarray) -> Outcome:
        phi = f @ matrix.T
        errors = by_element(request, _kernel_errors(coalitions, f, phi))
        return Outcome(by_element(request, phi), f[:, -1], f[:, 0], errors, complete=True)

    return MaskPlan(request, _program(request), masks, reduce)


EXACT_SHAP = Method(
    "exact_shap",
    f"Shapley values over all coalitions of at most {EXACT_LIMIT} players (features or declared groups).",
    "Shapley 1953; Lundberg & Lee 2017, arXiv:1705.07874",
    frozenset({"background"}),
    "2^G F per background row",
    (),
    _exact_shap,
)
KERNEL_SHAP = Method(
    "kernel_shap",
    "Shapley values estimated by a weighted regression on sampled coalitions, in complementary pairs.",
    "Lundberg & Lee 2017, arXiv:1705.07874; Covert & Lee 2021, arXiv:2012.01536",
    frozenset({"background"}),
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
    ),
    _kernel_shap,
)

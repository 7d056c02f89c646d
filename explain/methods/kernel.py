"""Kernel SHAP: Shapley values by a weighted regression on sampled coalitions.

For a fixed set of coalitions the regression is one constant matrix applied to their worths; it is kept, as are the
coalitions that a seed gives.
"""

from __future__ import annotations

import numpy as np

from ..errors import InvalidParameter
from ..intervals import freedom_of_sum
from ..plans import Budget, Plan, RegressionPlan, Solved
from ..request import Request
from .base import BUDGET, TOLERANCE, Method, Parameter, bounded, by_group
from .coalitions import Coalitions, sample_coalitions
from .kept import kept


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


class Regression:
    """The regression on some coalitions, and how far it would move with others.

    The error is 0 where all coalitions are there. By linearisation, it has one term for each draw: a coalition and its
    complement are drawn together and are one term, coalitions that were listed whole are the same in every sample and
    none. Residuals are divided by the root of 1 - leverage (HC2, MacKinnon & White 1985), as a regression on few
    draws fits them too well. Where nothing was drawn and coalitions are missing nevertheless, every coalition counts as
    drawn: what the regression cannot fit is all that is known.
    """

    def __init__(self, coalitions: Coalitions) -> None:
        masks, weights = coalitions.masks, coalitions.weights
        self.coalitions, self.matrix = coalitions, kernel_matrix(masks, weights)
        self.paired = coalitions.draws is not None and coalitions.draws.sum() > 1
        self.draws = np.ones(len(masks)) if coalitions.draws is None or not self.paired else coalitions.draws
        self.first = len(masks) - 2 * len(self.draws) if self.paired else 0
        self.exact = coalitions.complete or masks.shape[1] == 1
        if self.exact:
            return
        x = masks[:, :-1] - masks[:, -1:]
        slopes = x @ np.linalg.inv(x.T @ (weights[:, None] * x)) * weights[:, None]
        leverage = (slopes * x).sum(axis=1)
        if self.paired:
            slopes, leverage = slopes[self.first :: 2], 2 * leverage[self.first :: 2]
        self.slopes = np.hstack([slopes, -slopes.sum(axis=1, keepdims=True)]) / self.draws[:, None]
        self.squares = self.slopes**2
        self.fourths = self.squares**2
        self.room = np.sqrt(np.maximum(1 - leverage, 1e-9))
        self.freedom = max(1.0, float(self.draws.sum() - leverage @ self.draws))

    def solve(self, f: np.ndarray) -> Solved:
        """Attributions [N, G], their standard errors, and the degrees of freedom of these, of worths f [N, K + 2] that
        begin with the empty coalition and end with the full one."""
        phi = f @ self.matrix.T
        if self.exact:
            return phi, np.zeros_like(phi), np.full_like(phi, np.inf)
        residual = f[:, 1:-1] - f[:, :1] - phi @ self.coalitions.masks.T
        if self.paired:
            residual = residual[:, self.first :: 2] - residual[:, self.first + 1 :: 2]
        terms = residual / self.room
        mean = terms * self.draws @ self.slopes / self.draws.sum()
        variance = (terms**2 * self.draws) @ self.squares - self.draws.sum() * mean**2
        fourth = (terms**4 * self.draws) @ self.fourths
        return phi, np.sqrt(np.maximum(variance, 0.0)), freedom_of_sum(variance, fourth, self.freedom, self.freedom)


@kept(lambda regression: regression.matrix.size + 2 * regression.coalitions.masks.size)
def _regression(coalitions: Coalitions) -> Regression:
    return Regression(coalitions)


def _solve(coalitions: Coalitions, f: np.ndarray) -> Solved:
    return _regression(coalitions).solve(f)


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
        count = 2 * players + 2048 if asked is None else asked
        bounded("kernel_shap", max(count, players), players)
        sample = sample_coalitions(players, count, request.seed)
        draws, upto, most = len(sample.order), sample.upto, len(sample.order)
    budget = Budget.of(request.parameters, most)
    return RegressionPlan(request, upto, draws, _solve, budget, by_group(request), pilot=max(64, 4 * players))


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

"""Exact Shapley values, by enumeration.

The players are the groups of the request (one per element unless declared). A coalition keeps its players and takes
the others from the background; the worth is the mean of the explained output over the background. For a fixed set of
coalitions both methods are one constant matrix applied to the worths.
"""

from __future__ import annotations

from math import factorial

import numpy as np

from ..errors import MethodUnavailable
from ..plans import MaskPlan, Outcome
from ..request import Request
from .base import Method, by_group
from .coalitions import all_coalitions

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


EXACT_SHAP = Method(
    "exact_shap",
    f"Shapley values over all coalitions of at most {EXACT_LIMIT} players (features or declared groups).",
    "Shapley 1953; Lundberg & Lee 2017, arXiv:1705.07874",
    frozenset({"background", "masks"}),
    "2^G F per background row",
    (),
    _exact_shap,
)

"""Shapley values as means over random orders in which the players join.

A permutation and its reverse are one sample (antithetic), and each coalition is averaged over the whole background; or,
in sampling SHAP, each order starts from one row of the background drawn at random.
"""

from __future__ import annotations

import numpy as np

from ..plans import Budget, CoalitionPlan, Drawn, MaskPlan, Outcome, Plan, Worths
from ..request import Request
from .base import BUDGET, TOLERANCE, Method, Parameter, by_group
from .turns import Turns

PERMUTATIONS = 10


def chain(order: np.ndarray) -> np.ndarray:
    """Coalitions [M - 1, M] of the first 1, 2, ..., M - 1 players of an order [M]."""
    players = len(order)
    rank = np.empty(players, dtype=np.int64)
    rank[order] = np.arange(players)
    return (rank[None, :] < np.arange(1, players)[:, None]).astype(np.float64)


def marginal(masks: np.ndarray, worths: np.ndarray) -> np.ndarray:
    """What each player adds when it joins: masks [s, m, M] of one order, from nothing to all, worths [n, s, m + 1]."""
    joined = np.diff(np.concatenate([masks, np.ones_like(masks[:, :1])], axis=1), axis=1, prepend=0.0)
    return np.asarray(np.einsum("nsm,smg->nsg", np.diff(worths, axis=2), joined))


def _permutation_shap(request: Request) -> Plan:
    players = request.groups.count
    if players == 1:
        return alone(request)

    def draw(k: int) -> Drawn:
        order = np.random.default_rng([request.seed, k]).permutation(players)
        return Drawn(np.vstack([chain(order), chain(order[::-1])]))

    def reduce(masks: np.ndarray, f: np.ndarray, full: np.ndarray, empty: np.ndarray) -> np.ndarray:
        half = players - 1
        ends = [np.broadcast_to(end[:, None, None], (*f.shape[:2], 1)) for end in (empty, full)]
        both = [
            marginal(masks[:, part], np.concatenate([ends[0], f[:, :, part], ends[1]], axis=2))
            for part in (slice(0, half), slice(half, 2 * half))
        ]
        return np.asarray((both[0] + both[1]) / 2)

    most = _samples(request, 2 * max(1, players - 1))
    budget, worths = Budget.of(request.parameters, most), Worths(request)
    return CoalitionPlan(request, worths, draw, reduce, budget, by_group(request), complete=True)


def alone(request: Request) -> MaskPlan:
    """A single player has it all."""
    named = by_group(request)

    def reduce(_: np.ndarray, full: np.ndarray, empty: np.ndarray) -> Outcome:
        return Outcome(named((full - empty)[:, None]), full, empty, complete=True)

    return MaskPlan(request, np.zeros((0, 1)), reduce)


def _sampling_shap(request: Request) -> Plan:
    players, paired = request.groups.count, request.removal is not None and not request.removal.per_item
    if players == 1:
        return alone(request)
    worths = Worths(request, paired=paired)
    turns = Turns(worths.removal.weight, request.seed)

    def draw(k: int) -> Drawn:
        random = np.random.default_rng([request.seed, k])
        row, order = turns.row(k, random), random.permutation(players)
        return Drawn(np.vstack([np.zeros((1, players)), chain(order)]), np.full(players, row) if paired else None)

    def reduce(masks: np.ndarray, f: np.ndarray, full: np.ndarray, _: np.ndarray) -> np.ndarray:
        end = np.broadcast_to(full[:, None, None], (*f.shape[:2], 1))
        return marginal(masks[:, 1:], np.concatenate([f, end], axis=2))

    budget = Budget.of(request.parameters, turns.whole(_samples(request, players)))
    judged = turns.judged if paired else {}
    named = by_group(request)
    return CoalitionPlan(request, worths, draw, reduce, budget, named, complete=True, pilot=32, look=16, **judged)


def _samples(request: Request, cost: int) -> int:
    """Most samples: as many as asked for, and no more than `max_evals` coalitions pay for (2 at least)."""
    asked, evals = request.parameters["n_permutations"], request.parameters["max_evals"]
    return int(asked if evals is None else max(2, min(asked, evals // cost)))


def _settings(count: int) -> tuple[Parameter, ...]:
    schema = {"type": "integer", "minimum": 2, "maximum": 65536}
    most = {"type": ["integer", "null"], "minimum": 2, "maximum": 1 << 24}
    return (
        Parameter("n_permutations", count, schema, "most permutations of an item"),
        Parameter("max_evals", None, most, "most coalitions of an item to evaluate; None: as n_permutations says"),
        TOLERANCE,
        BUDGET,
    )


PERMUTATION_SHAP = Method(
    "permutation_shap",
    "Shapley values as means over random orders and their reverses; adds up exactly.",
    "Castro, Gomez, Tejada 2009, doi:10.1016/j.cor.2008.04.004; Mitchell et al. 2022, arXiv:2104.12199",
    frozenset({"background", "masks"}),
    "2 (M - 1) n_permutations F per background row",
    _settings(PERMUTATIONS),
    _permutation_shap,
)
SAMPLING_SHAP = Method(
    "sampling_shap",
    "Shapley values as means over random orders, each from a background row drawn at random.",
    "Strumbelj & Kononenko 2014, doi:10.1007/s10115-013-0679-x",
    frozenset({"background", "masks"}),
    "M n_permutations F",
    _settings(200),
    _sampling_shap,
)

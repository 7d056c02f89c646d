"""Shapley values as means over random orders in which the players join.

An order starts from one row of the background, and the rows take turns: however many coalitions one order evaluates,
they are spread over the background instead of each being averaged over all of it. In permutation SHAP an order and its
reverse are one sample (antithetic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..plans import Budget, CoalitionPlan, Drawn, MaskPlan, Outcome, Plan, Worths
from ..request import Request
from .base import BUDGET, TOLERANCE, Method, Parameter, bounded, by_group
from .kept import kept
from .turns import Turns, Uniforms

AVERAGED, LEAST, MOST, LOOK = 10, 64, 1024, 16


def chains(orders: np.ndarray) -> np.ndarray:
    """Coalitions [s, M - 1, M] (bool) of the first 1, 2, ..., M - 1 players of each order [s, M]."""
    ranks = orders.argsort(axis=1).astype(np.int32)
    return np.asarray(ranks[:, None, :] < np.arange(1, orders.shape[1], dtype=np.int32)[:, None])


def marginal(orders: np.ndarray, worths: np.ndarray) -> np.ndarray:
    """What each player adds when it joins [n, s, M]: orders [s, M], worths [n, s, M + 1] from nothing to all."""
    joined = np.diff(worths, axis=2)
    return np.take_along_axis(joined, np.broadcast_to(orders.argsort(axis=1), joined.shape), axis=2)


@dataclass(frozen=True)
class Walks:
    """Orders of the players [s, M], and the coalitions on the way of each [s, m, M] (bool)."""

    orders: np.ndarray
    masks: np.ndarray


@kept(lambda walks: walks.orders.size + walks.masks.size)
def walks_of(seed: int, players: int, both: bool, nothing: bool, first: int, count: int) -> Walks:
    """Those of some samples: forwards and, if `both`, backwards, behind `nothing` at all if that is one of them."""
    orders = Uniforms(seed, players).of(first, count).argsort(axis=1)
    parts = [np.zeros((count, 1, players), dtype=bool)] if nothing else []
    parts += [chains(orders), chains(orders[:, ::-1])] if both else [chains(orders)]
    return Walks(orders, np.concatenate(parts, axis=1))


class Orders:
    """Orders of the players by sample number, the coalitions of each and what they tell.

    `both` adds the reverse of each; `rows` are those of a background that samples start from, None where each coalition
    is averaged over all of them.
    """

    def __init__(self, request: Request, rows: Turns | None, both: bool) -> None:
        self.players, self.rows, self.both, self.seed = request.groups.count, rows, both, request.seed

    @property
    def each(self) -> int:
        """Coalitions of one sample."""
        return (1 + self.both) * (self.players - 1) + (self.rows is not None)

    def walks(self, first: int, count: int) -> Walks:
        """Of these samples."""
        return walks_of(self.seed, self.players, self.both, self.rows is not None, first, count)

    def draw(self, first: int, count: int) -> Drawn:
        """Their coalitions: nothing (of the row that they start from), then step by step forwards and backwards."""
        masks = self.walks(first, count).masks
        if self.rows is None:
            return Drawn(masks, None)
        return Drawn(masks, np.repeat(self.rows.of(first, count)[:, None], self.each, axis=1))

    def reduce(self, first: int, f: np.ndarray, full: np.ndarray, empty: np.ndarray) -> np.ndarray:
        """What each player adds [n, s, M], from worths f [n, s, m] of samples from `first` on."""
        n, count, steps = len(f), f.shape[1], self.players - 1
        orders, end = self.walks(first, count).orders, np.broadcast_to(full[:, None, None], (n, count, 1))
        start = np.broadcast_to(empty[:, None, None], end.shape) if self.rows is None else f[:, :, :1]
        inner = f if self.rows is None else f[:, :, 1:]
        found = marginal(orders, np.concatenate([start, inner[:, :, :steps], end], axis=2))
        if not self.both:
            return found
        back = marginal(orders[:, ::-1], np.concatenate([start, inner[:, :, steps:], end], axis=2))
        return np.asarray((found + back) / 2)


def _shapley(request: Request, *, both: bool, averaged: bool) -> Plan:
    if request.groups.count == 1:
        return alone(request)
    shared = request.removal is not None and not request.removal.per_item and request.removal.size > 1
    paired = shared and not averaged
    worths = Worths(request, paired=paired)
    turns = Turns(worths.removal.weight, request.seed) if paired else None
    orders = Orders(request, turns, both)
    bounded(f"{'permutation' if both else 'sampling'}_shap", LOOK * orders.each, orders.players)
    most = _samples(request, orders.each, worths.removal.size if paired else 0)
    budget = Budget.of(request.parameters, turns.whole(most) if turns else most)
    rounds: dict[str, Any] = {"pilot": 8, "look": 1}
    if turns:
        judged = turns.judged(request.inputs, worths.removal.rows, groups=request.groups)
        rounds = {"pilot": 2 * LOOK, "look": LOOK, **judged}
    return CoalitionPlan(request, worths, orders, budget, by_group(request), complete=True, **rounds)


def _samples(request: Request, cost: int, rows: int) -> int:
    """Most samples: as many as asked for (by default two from each of the `rows`, where they take turns), and no more
    than `max_evals` coalitions pay for, but 2."""
    asked, evals = request.parameters["n_permutations"], request.parameters["max_evals"]
    if asked is None:
        turn = 2 * rows
        asked = min(MOST, turn * -(-LEAST // turn)) if rows else AVERAGED
    return int(asked if evals is None else max(2, min(asked, evals // cost)))


def alone(request: Request) -> MaskPlan:
    """A single player has it all."""
    named = by_group(request)

    def reduce(_: np.ndarray, full: np.ndarray, empty: np.ndarray) -> Outcome:
        return Outcome(named((full - empty)[:, None]), full, empty, complete=True)

    return MaskPlan(request, np.zeros((0, 1)), reduce)


def _permutation_shap(request: Request) -> Plan:
    return _shapley(request, both=True, averaged=bool(request.parameters["averaged"]))


def _sampling_shap(request: Request) -> Plan:
    return _shapley(request, both=False, averaged=False)


SETTINGS = (
    Parameter(
        "n_permutations",
        None,
        {"type": ["integer", "null"], "minimum": 2, "maximum": 65536},
        "most permutations of an item; default: two from each background row",
    ),
    Parameter(
        "max_evals",
        None,
        {"type": ["integer", "null"], "minimum": 2, "maximum": 1 << 24},
        "most coalitions of an item to evaluate; default: as n_permutations says",
    ),
    TOLERANCE,
    BUDGET,
)
AVERAGE = Parameter(
    "averaged",
    False,
    {"type": "boolean"},
    "average every coalition over the whole background (then 10 permutations by default)",
)
PERMUTATION_SHAP = Method(
    "permutation_shap",
    "Shapley values as means over random orders and their reverses.",
    "Castro, Gomez, Tejada 2009, doi:10.1016/j.cor.2008.04.004; Mitchell et al. 2022, arXiv:2104.12199",
    frozenset({"background", "masks"}),
    "(2 M - 1) n_permutations F, and per background row if averaged",
    (*SETTINGS, AVERAGE),
    _permutation_shap,
)
SAMPLING_SHAP = Method(
    "sampling_shap",
    "Shapley values as means over random orders.",
    "Strumbelj & Kononenko 2014, doi:10.1007/s10115-013-0679-x",
    frozenset({"background", "masks"}),
    "M n_permutations F",
    SETTINGS,
    _sampling_shap,
)

"""Methods that remove groups, by their definitions on worths that the served file gives.

Nothing compiled is used. What a method draws at random is read from its plan (masks and rows, no results); what it
makes of them is worked out here another way: enumeration of all coalitions or orders, and least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

import explain

from ..case import Case
from ..exported import Array
from .served import Game, Players, Served
from .verdict import Judgement, Unjudged, attribution_errors

TOLERANCE = 1e-3
FLOOR = 1e-2  # of the largest worth: what is smaller than this is rounding of predictions
ROWS = 8  # of the background: a mean of few is as good a test of a mean as one of many
PLAYERS, MOST_EXACT = 8, 12
PERMUTATIONS, MASKS = 4, 16


@dataclass(frozen=True)
class Bench:
    """What a definition is worked out on: a game, and the plan that explain/ makes with some parameters."""

    game: Game
    plan: Callable[[dict[str, Any]], Any]

    @property
    def count(self) -> int:
        """G, the number of players."""
        return self.game.players.count

    def ends(self) -> tuple[Array, Array]:
        """f with nothing and with everything kept, [N, 1] each."""
        both = self.game.worths(np.stack([np.zeros(self.count), np.ones(self.count)]))
        return both[:, :1], both[:, 1:]


Definition = Callable[[Bench], tuple[dict[str, Any], Array]]


def exact_shap(bench: Bench) -> tuple[dict[str, Any], Array]:
    """φᵢ = Σ over S without i of v(S ∪ i) − v(S), divided by M · C(M − 1, |S|)."""
    v, players = _every_worth(bench), bench.count
    phi = np.zeros((len(next(iter(v.values()))), players))
    for player in range(players):
        others = [other for other in range(players) if other != player]
        for size in range(players):
            for chosen in combinations(others, size):
                joined = v[frozenset((*chosen, player))] - v[frozenset(chosen)]
                phi[:, player] += joined / (players * comb(players - 1, size))
    return {}, phi


def partition_shap(bench: Bench) -> tuple[dict[str, Any], Array]:
    """What each leaf adds when it joins, averaged over all orders that keep the leaves of every node together."""
    v, players = _every_worth(bench), bench.count
    joins = _joins(players)
    phi = np.zeros((len(next(iter(v.values()))), players))
    orders = list(_orders(2 * players - 2, joins, players))
    for order in orders:
        for place, player in enumerate(order):
            phi[:, player] += v[frozenset(order[: place + 1])] - v[frozenset(order[:place])]
    return {"hierarchy": joins, "max_evals": 1 << 20}, phi / len(orders)


def kernel_shap(bench: Bench) -> tuple[dict[str, Any], Array]:
    """min Σ (v(S) − v(∅) − Σφ)² over some coalitions, subject to Σφ = v(all) − v(∅), by Lagrange's multiplier."""
    masks, players = _some_masks(bench.count), bench.count
    empty, full = bench.ends()
    y = bench.game.worths(masks) - empty
    system = np.zeros((players + 1, players + 1))
    system[:players, :players], system[:players, -1], system[-1, :players] = 2 * masks.T @ masks, 1.0, 1.0
    right = np.vstack([2 * masks.T @ y.T, (full - empty).T])
    return {"coalitions": masks.tolist()}, np.linalg.lstsq(system, right, rcond=None)[0][:players].T


def lime(bench: Bench) -> tuple[dict[str, Any], Array]:
    """min Σ w (v(S) − a − Sβ)² + α|β|², one more row of the least squares for each shrunken slope."""
    masks, players = _some_masks(bench.count), bench.count
    settings = explain.METHODS["lime"].resolve({})
    weight = np.exp(-((1 - np.sqrt(masks.sum(axis=1) / players)) ** 2) / settings["kernel_width"] ** 2)
    rows = np.column_stack([np.ones(len(masks)), masks]) * np.sqrt(weight)[:, np.newaxis]
    shrink = np.sqrt(settings["alpha"]) * np.eye(players + 1)[1:]
    y = np.hstack([bench.game.worths(masks) * np.sqrt(weight), np.zeros((len(bench.ends()[0]), players))])
    found = np.linalg.lstsq(np.vstack([rows, shrink]), y.T, rcond=None)[0]
    return {"coalitions": masks.tolist()}, found[1:].T


def permutation_shap(bench: Bench) -> tuple[dict[str, Any], Array]:
    """What each player adds when it joins, in each order drawn and in its reverse."""
    return _in_orders(bench, 2)


def sampling_shap(bench: Bench) -> tuple[dict[str, Any], Array]:
    """The same in each order drawn alone."""
    return _in_orders(bench, 1)


def _in_orders(bench: Bench, ways: int) -> tuple[dict[str, Any], Array]:
    """The mean of what each player adds in the orders that the plan draws, each one or both ways; from one row of the
    background, whose worth stands first, or from all of them."""
    asked = {"n_permutations": PERMUTATIONS}
    drawn, (empty, full), steps = bench.plan(asked).sampler.draw(0, PERMUTATIONS), bench.ends(), bench.count - 1
    found = []
    for k, masks in enumerate(drawn.masks):
        rows = None if drawn.rows is None else drawn.rows[k]
        v, start = bench.game.worths(masks, rows), empty
        if rows is not None:
            masks, v, start = masks[1:], v[:, 1:], v[:, :1]
        for way in (slice(first, first + steps) for first in range(0, ways * steps, steps)):
            found.append(_joining(masks[way], v[:, way], start, full))
    return asked, np.mean(found, axis=0)


def feature_ablation(bench: Bench) -> tuple[dict[str, Any], Array]:
    """f(x) less f without the group."""
    _, full = bench.ends()
    return {}, full - bench.game.worths(1 - np.eye(bench.count))


def rise(bench: Bench) -> tuple[dict[str, Any], Array]:
    """The mean of f(mask) · mask, divided by how often a group is kept."""
    asked = {"n_masks": MASKS}
    masks = bench.plan(asked).sampler.draw(0, MASKS).masks[:, 0]
    return asked, bench.game.worths(masks) @ masks / (MASKS * explain.METHODS["rise"].resolve({})["keep"])


COALITION_METHODS: dict[str, Definition] = {
    "exact_shap": exact_shap,
    "tree_shap": exact_shap,
    "linear_shap": exact_shap,
    "kernel_shap": kernel_shap,
    "permutation_shap": permutation_shap,
    "sampling_shap": sampling_shap,
    "partition_shap": partition_shap,
    "lime": lime,
    "feature_ablation": feature_ablation,
    "rise": rise,
}


def judged_by_coalitions(case: Case, method: str) -> Judgement:
    """The method's errors on the case's rows, with a part of its background. Raises Unjudged."""
    case = case.first(len(case.rows), ROWS)
    best, *others = Served.choices(case)
    try:
        return _judged(case, method, best)
    except Unjudged:
        if not others:
            raise
    try:
        return _judged(case, method, others[0])
    except explain.MethodUnavailable as error:
        raise Unjudged(str(error)) from error


def _judged(case: Case, method: str, served: Served) -> Judgement:
    players = Players.of(case, MOST_EXACT if COALITION_METHODS[method] is exact_shap else PLAYERS)
    if players.count < 2:
        raise Unjudged("a single player has nothing to share")
    given = reference(case, method)
    rows = next(iter(given.values()))
    options: dict[str, Any] = {"target": served.target, "space": served.space, **given, **players.options}
    bench = Bench(Game(served, players, rows), lambda asked: case.begun(method, **options, **asked).plan)
    parameters, phi = COALITION_METHODS[method](bench)
    found = case.explained(method, **options, **parameters).values
    floor = FLOOR * np.abs(np.hstack(bench.ends())).max(axis=1)
    errors = attribution_errors(found, players.shaped(phi), floor)
    return Judgement(
        errors,
        TOLERANCE,
        f"attribution error against its definition on predictions, {players.count} players",
        "predictions of the served file",
        case.engine.info().version,
    )


def reference(case: Case, method: str) -> dict[str, Any]:
    """What takes the place of what is removed, by the name that explain/ has for it: as the manifest says, but rows of
    the case itself where it says how to make something up from each row."""
    given = case.references(method)
    for role in ("background", "baseline"):
        if given.get(role) is not None:
            return {role: given[role], "removal": None}
    return {"background": {name: array[::-1] for name, array in case.inputs.items()}, "removal": None}


def _every_worth(bench: Bench) -> dict[frozenset[int], Array]:
    """v [N] of every coalition."""
    players = range(bench.count)
    coalitions = [frozenset(chosen) for size in range(bench.count + 1) for chosen in combinations(players, size)]
    masks = np.array([[float(player in coalition) for player in players] for coalition in coalitions])
    return dict(zip(coalitions, bench.game.worths(masks).T, strict=True))


def _joining(chain: Array, v: Array, empty: Array, full: Array) -> Array:
    """What each player adds [N, G] in one order: chain [G − 1, G] of growing coalitions and their worths."""
    sets = np.vstack([np.zeros(chain.shape[1]), chain, np.ones(chain.shape[1])])
    worths = np.hstack([empty, v, full])
    phi = np.zeros((len(v), chain.shape[1]))
    for step in range(chain.shape[1]):
        (player,) = np.flatnonzero(sets[step + 1] - sets[step])
        phi[:, player] = worths[:, step + 1] - worths[:, step]
    return phi


def _some_masks(players: int) -> Array:
    """Coalitions that tell all players apart: each alone, and as many drawn at random as there are players, twice."""
    drawn = np.random.default_rng(0).random((2 * players, players)) < 0.5
    inner = drawn[(drawn.sum(axis=1) > 0) & (drawn.sum(axis=1) < players)]
    return np.vstack([np.eye(players), inner.astype(np.float64)])


def _joins(players: int) -> list[list[int]]:
    """A lopsided tree as scipy's linkage has it: pairs of neighbours first, then one after another."""
    nodes, joins = list(range(players)), list[list[int]]()
    while len(nodes) > 1:
        width = 2 if len(nodes) > players // 2 else 0
        first, second = (nodes.pop(0), nodes.pop(0)) if width else (nodes.pop(-1), nodes.pop(0))
        nodes.append(players + len(joins))
        joins.append([first, second])
    return joins


def _orders(node: int, joins: list[list[int]], players: int) -> Iterator[tuple[int, ...]]:
    """Every order of a node's leaves in which the leaves of each node below stand together."""
    if node < players:
        yield (node,)
        return
    left, right = joins[node - players]
    for one in _orders(left, joins, players):
        for other in _orders(right, joins, players):
            yield one + other
            yield other + one

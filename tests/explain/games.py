"""Games by their definitions: coalitions replaced row by row through the served model, and values by enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from tests.explain.graphs import session

Arrays = Mapping[str, np.ndarray]
Worth = Callable[[frozenset[int]], float]


def replaced(model: onnx.ModelProto, feeds: Arrays) -> np.ndarray:
    """What `masked_forward` promises, [N, K, C]: one item, one mask and one row at a time through the served model.

    A background belongs to each item where it has an axis more than the input; with K rows and a single weight it is
    paired with the masks.
    """
    served, mask, weight = session(model.SerializeToString()), feeds["mask"].astype(float), feeds["background.weight"]
    names = [value.name for value in served.get_inputs()]
    paired = len(weight) == 1 and all(len(feeds[f"{n}.background"]) == mask.shape[1] for n in names)

    def answer(item: int, k: int, b: int) -> np.ndarray:
        point = {}
        for name in names:
            x, groups, other = feeds[name][item], feeds[f"{name}.groups"], feeds[f"{name}.background"]
            index = groups[item] if groups.ndim == feeds[name].ndim else groups
            own = other.ndim > feeds[name].ndim
            row = other[item, b] if own else other[k if paired else b]
            kept = np.where(index < 0, 1.0, mask[item, k][np.maximum(index, 0)])
            blend = kept * x + (1 - kept) * row if x.dtype.kind == "f" else np.where(kept >= 0.5, x, row)
            point[name] = blend.astype(x.dtype)[None]
        return np.asarray(served.run(None, point)[0], dtype=float).reshape(-1)

    items, count = mask.shape[:2]
    rows = [[sum(w * answer(i, k, b) for b, w in enumerate(weight)) for k in range(count)] for i in range(items)]
    return np.asarray(rows)


def worth_of(
    predict: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    rows: np.ndarray,
    groups: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> Worth:
    """The game of one item x [item...]: `predict` takes rows to one number each; players absent come from `rows`."""
    index = np.arange(x.size).reshape(x.shape) if groups is None else groups
    known: dict[frozenset[int], float] = {}

    def worth(players: frozenset[int]) -> float:
        if players not in known:
            kept = (index < 0) | np.isin(index, list(players))
            answers = predict(np.where(kept, x, rows)).reshape(len(rows)).astype(float)
            known[players] = float(np.average(answers, weights=weight))
        return known[players]

    return worth


def joined(worth: Worth, order: Sequence[int], players: int) -> np.ndarray:
    """What each player adds when they join in this order."""
    phi, before = np.zeros(players), frozenset[int]()
    for player in order:
        phi[player] = worth(before | {player}) - worth(before)
        before |= {player}
    return phi


def mean_over(worth: Worth, orders: Iterable[Sequence[int]], players: int) -> np.ndarray:
    return np.mean([joined(worth, order, players) for order in orders], axis=0)


def shapley(worth: Worth, players: int) -> np.ndarray:
    """The mean over all orders."""
    return mean_over(worth, itertools.permutations(range(players)), players)


def orders_within(children: Any, leaves: int) -> list[tuple[int, ...]]:
    """All orders that keep every node of the tree together: its halves in both ways, and so on below."""

    def below(node: int) -> list[tuple[int, ...]]:
        if node < leaves:
            return [(node,)]
        left, right = (below(int(child)) for child in children[node - leaves])
        return [a + b for a in left for b in right] + [b + a for a in left for b in right]

    return below(2 * leaves - 2)

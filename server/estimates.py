"""About how many evaluations of the model one row takes by a method at its defaults, where that can be told beforehand.

What an answer then says in ``quality.evaluations`` is this or less: a method may stop early, and equal coalitions are
evaluated once. F, the forward pass of a method's ``cost``, is one such evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import explain

Defaults = Mapping[str, Any]
AVERAGED, LEAST, MOST = 10, 64, 1024  # orders of permutation and sampling SHAP
SHARE = 15 / 224  # of a picture that a window of occlusion covers


@dataclass(frozen=True)
class Size:
    """Of one row: `players` that are removed, `rows` that take their place, one after the other, `places` along each
    axis that a window slides over; None where it is not known. `own`: the row gives way to itself."""

    players: int | None
    rows: int | None
    places: tuple[int, ...] | None
    own: bool = False


def evaluations(method: str, size: Size) -> int | None:
    """The estimate for one row, or None where the method's work is not counted in evaluations or not known."""
    if method not in COUNTS:
        return None
    known = explain.METHODS[method].parameters["properties"]
    try:
        return COUNTS[method](size, {name: schema["default"] for name, schema in known.items()})
    except _NotKnownError:
        return None


class _NotKnownError(Exception):
    """A size that a count needs is open."""


def _coalitions(count: Callable[[int, Defaults], int]) -> Callable[[Size, Defaults], int]:
    """So many coalitions, each with every row in place, and both ends."""
    return lambda size, known: count(_of(size.players), known) * _of(size.rows) + _of(size.rows) + 1


def _removals(count: Callable[[int, Defaults], int]) -> Callable[[Size, Defaults], int]:
    """So many coalitions, and the row itself."""
    return lambda size, known: count(_of(size.players), known) * _of(size.rows) + 1


def _orders(forwards: int) -> Callable[[Size, Defaults], int]:
    """Orders of the players, once or twice, which start from rows that take turns; else averaged over what there is."""

    def count(size: Size, _: Defaults) -> int:
        players, rows = _of(size.players), _of(size.rows)
        if rows == 1 or size.own:
            return min(AVERAGED * forwards * (players - 1), _subsets(players, 2)) + 2
        turn = 2 * rows
        return min(MOST, turn * -(-LEAST // turn)) * (forwards * (players - 1) + 1) + rows + 1

    return count


def _windows(size: Size, _: Defaults) -> int:
    """Half a window apart."""
    count = 1
    for places in size.places or (_of(None),):
        width = max(1, math.ceil(places * SHARE)) if len(size.places or ()) > 1 else 1
        count *= math.ceil((places - width) / -(-width // 2)) + 1
    return count * _of(size.rows) + 1


def _of(number: int | None) -> int:
    if number is None:
        raise _NotKnownError
    return number


def _subsets(players: int, less: int) -> int:
    return (1 << min(players, 62)) - less


COUNTS: dict[str, Callable[[Size, Defaults], int]] = {
    **dict.fromkeys(
        ("saliency", "input_x_gradient", "guided_backprop", "grad_cam", "hires_cam", "layer_cam"), lambda *_: 1
    ),
    "deeplift": lambda *_: 2,
    "integrated_gradients": lambda _, known: int(known["n_steps"]) + 2,
    **dict.fromkeys(
        ("expected_gradients", "gradient_shap"), lambda size, known: int(known["n_samples"]) + _of(size.rows) + 1
    ),
    **dict.fromkeys(("smooth_grad", "smooth_grad_squared", "var_grad"), lambda _, known: int(known["n_samples"]) + 1),
    "deep_shap": lambda size, _: _of(size.rows) + 1,
    "kernel_shap": _coalitions(lambda players, _: min(2 * players + 2048, _subsets(players, 2))),
    "exact_shap": _coalitions(lambda players, _: _subsets(players, 2)),
    "partition_shap": _coalitions(
        lambda players, known: min(int(known["max_evals"]), math.ceil(2 * (players**2 - 1) / 3))
    ),
    "permutation_shap": _orders(2),
    "sampling_shap": _orders(1),
    "lime": _removals(lambda players, known: min(int(known["n_samples"]), _subsets(players, 0))),
    "feature_ablation": _removals(lambda players, _: players),
    "occlusion": _windows,
    "rise": _removals(lambda _, known: int(known["n_masks"])),
}

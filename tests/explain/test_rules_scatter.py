"""Scatters that reduce, and Compress: duplicates, zeros among factors, ties, axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.explain.single import Case, Const, Fed, case, check, gradients, numbers

REDUCTIONS = {"mul": torch.mul, "max": torch.maximum, "min": torch.minimum}


def one_by_one(x: torch.Tensor, places: list[tuple[Any, ...]], values: list[torch.Tensor], reduction: str) -> Any:
    """Every update put to its place in turn."""
    for place, value in zip(places, values, strict=True):
        mask = torch.zeros(x.shape, dtype=torch.bool)
        mask[place] = True
        new = torch.zeros_like(x)
        new[place] = value
        x = torch.where(mask, REDUCTIONS[reduction](x, new), x)
    return x


def along(x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, axis: int, reduction: str) -> torch.Tensor:
    where = list(np.ndindex(*indices.shape))
    places = [tuple(int(indices[at]) if i == axis % x.ndim else j for i, j in enumerate(at)) for at in where]
    return one_by_one(x, places, [updates[at] for at in where], reduction)


def at_rows(x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, reduction: str) -> torch.Tensor:
    where = list(np.ndindex(*indices.shape[:-1]))
    return one_by_one(x, [tuple(indices[at].tolist()) for at in where], [updates[at] for at in where], reduction)


def elements(x: np.ndarray, indices: Any, axis: int, reduction: str, kind: Any = Const, also: Any = ()) -> Case:
    places = np.array(indices)
    judge = lambda x, i, u: along(x, i, u, axis, reduction)  # noqa: E731 - one judge per case
    return case(
        "ScatterElements",
        x,
        kind(places),
        numbers(*places.shape, seed=1),
        judge=judge,
        formula=lambda *operands: judge(*map(torch.as_tensor, operands)).numpy(),
        label=f"{axis}-{reduction}-{places.shape}",
        also=also,
        axis=axis,
        reduction=reduction,
    )


def rows(x: np.ndarray, indices: Any, reduction: str) -> Case:
    places = np.array(indices)
    updates = numbers(*places.shape[:-1], *x.shape[places.shape[-1] :], seed=1)
    judge = lambda x, i, u: at_rows(x, i, u, reduction)  # noqa: E731 - one judge per case
    return case(
        "ScatterND", x, Const(places), updates, judge=judge, label=f"{reduction}-{places.shape}", reduction=reduction
    )


X = numbers(3, 4)
CASES = [
    made
    for reduction in REDUCTIONS
    for made in (
        elements(X, [[0, 2, 1, 0], [-1, 0, -3, 0]], 0, reduction),
        elements(X, [[1, 1, 1], [0, 3, -1]], -1, reduction),
        elements(X, [[1, 1, 1]], 1, reduction, Fed, ((numbers(2, 5), Fed(np.array([[4, 4]])), numbers(1, 2, seed=3)),)),
        rows(X, [[1], [1], [2]], reduction),
        rows(X, [[1, 3], [1, 3], [2, 0], [-1, 0]], reduction),
        rows(numbers(2, 3, 2), [[[0, 1], [0, 1]], [[1, 2], [0, 0]]], reduction),
    )
]


def kept(x: torch.Tensor, condition: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Position by position."""
    if axis is None:
        x, axis = x.flatten(), 0
    return x.index_select(axis, torch.tensor([i for i, keep in enumerate(condition.tolist()) if keep], dtype=int))


CASES += [
    case(
        "Compress",
        numbers(3, 4, 2),
        kind(np.array(condition, bool)),
        judge=lambda x, c, a=axis: kept(x, c, a),
        label=f"{condition}-{axis}",
        also=((numbers(5, 4, 3, seed=2), kind(np.array(condition, bool))),),
        axis=axis,
    )
    for kind in (Const, Fed)
    for condition, axis in [
        ([1, 0, 1], 0),
        ([0, 1], 1),
        ([0, 1], -1),
        ([0, 1, 1, 0, 1], None),
        ([0], 0),
    ]
]


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


def scattered(data: list[float], updates: list[float], reduction: str) -> tuple[list[float], list[float]]:
    """Gradients of the sum of a vector whose element 0 takes all the updates."""
    places = Const(np.zeros(len(updates), np.int64))
    found = gradients(
        case("ScatterElements", np.array(data), places, np.array(updates), judge=None, reduction=reduction)
    )
    return found["x0"].tolist(), found["x2"].tolist()


def test_a_zero_among_the_factors_takes_the_product_of_the_others() -> None:
    assert scattered([2.0, 3.0], [0.0, 5.0], "mul") == ([0, 1], [10, 0])
    assert scattered([0.0, 3.0], [4.0, 5.0], "mul") == ([20, 1], [0, 0])
    assert scattered([0.0, 3.0], [0.0, 5.0], "mul") == ([0, 1], [0, 0])


def test_an_extreme_is_shared_equally_among_ties() -> None:
    assert scattered([2.0, 3.0], [2.0, 1.0], "max") == ([0.5, 1], [0.5, 0])
    assert scattered([1.0, 3.0], [1.0, 2.0, 1.0, 1.0], "min") == ([0.25, 1], [0.25, 0, 0.25, 0.25])

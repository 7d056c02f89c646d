"""Reductions with their axes as input, absent or empty; softmax and cumulative sums on any axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from tests.explain.single import Case, Const, Fed, case, check, gradients, numbers, spelled, variants

X = numbers(2, 3, 4)
POSITIVE = numbers(2, 3, 4, low=0.3, high=2.0)
FORMULAS: dict[str, tuple[np.ndarray, Callable[..., Any]]] = {
    "ReduceSum": (X, torch.sum),
    "ReduceMean": (X, torch.mean),
    "ReduceMax": (X, torch.amax),
    "ReduceMin": (X, torch.amin),
    "ReduceL1": (X, lambda x, dim, keepdim: x.abs().sum(dim, keepdim)),
    "ReduceL2": (X, lambda x, dim, keepdim: x.square().sum(dim, keepdim).sqrt()),
    "ReduceSumSquare": (X, lambda x, dim, keepdim: x.square().sum(dim, keepdim)),
    "ReduceLogSum": (POSITIVE, lambda x, dim, keepdim: x.sum(dim, keepdim).log()),
    "ReduceLogSumExp": (X, torch.logsumexp),
    "ReduceProd": (X, lambda x, dim, keepdim: product(x, dim, keepdim)),
}
AXES: list[tuple[int, ...] | None] = [(0,), (1,), (-1,), (0, 2), (-2, -1), (2, 0), (0, 1, 2), None]


def product(x: torch.Tensor, dims: tuple[int, ...], keepdim: bool) -> torch.Tensor:
    for dim in sorted((dim % x.ndim for dim in np.atleast_1d(dims)), reverse=True):
        x = x.prod(dim, keepdim)
    return x


def reduced(op: str, axes: tuple[int, ...] | None, keepdims: int) -> Case:
    x, formula = FORMULAS[op]
    dims = tuple(range(x.ndim)) if axes is None else axes
    given = () if axes is None else (Const(np.array(axes)),)
    label = spelled({"axes": axes or "all", "keepdims": keepdims})
    judge = lambda x, *_: formula(x, dims, bool(keepdims))  # noqa: E731 - one judge per case
    return case(op, x, *given, judge=judge, label=label, keepdims=keepdims)


def unreduced(op: str, empty: bool) -> Case:
    """noop_with_empty_axes: the reduction of each element alone, or for ReduceSum and the like the identity."""
    x, formula = FORMULAS[op]
    given = (Const(np.zeros(0, np.int64)),) if empty else ()
    judge = lambda x, *_: formula(x[None], (0,), False)  # noqa: E731 - one judge per case
    return case(op, x, *given, judge=judge, label=f"noop-{'empty' if empty else 'absent'}", noop_with_empty_axes=1)


REDUCTIONS = [reduced(op, axes, keepdims) for op in FORMULAS for axes in AXES for keepdims in (0, 1)]
REDUCTIONS += [unreduced(op, empty) for op in FORMULAS for empty in (True, False)]
ZEROS = np.array([[1.0, 2.0, 3.0], [0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0]])
REDUCTIONS += [
    case("ReduceProd", ZEROS, Const(np.array([1])), judge=lambda x, _: x.prod(1, True), label="zeros"),
    case("ReduceSum", np.array(1.5), judge=lambda x: x + 0, label="scalar"),
    case("ReduceSum", X, Const(np.zeros(0, np.int64)), judge=lambda x, _: x.sum((0, 1, 2), True), label="empty-axes"),
    case("ReduceMean", X, Const(np.zeros(0, np.int64)), judge=lambda x, _: x.mean((0, 1, 2), True), label="empty-axes"),
    case(
        "ReduceMean",
        X,
        Const(np.array([-1])),
        judge=lambda x, _: x.mean(-1),
        label="other-sizes",
        also=((numbers(1, 5, 2), Const(np.array([-1]))), (numbers(3, 1, 1), Const(np.array([-1])))),
        keepdims=0,
    ),
]
SOFTMAXES = [
    case(op, X, judge=lambda x, f=f, axis=axis: f(x, -1 if axis is None else axis), axis=axis)
    for op, f in {"Softmax": torch.softmax, "LogSoftmax": torch.log_softmax}.items()
    for axis in (None, 0, 1, 2, -1, -2)
]


def cumulative(x: torch.Tensor, axis: int, exclusive: int, reverse: int) -> torch.Tensor:
    x = x.flip(axis) if reverse else x
    total = x.cumsum(axis) - (x if exclusive else 0)
    return total.flip(axis) if reverse else total


SUMS = [
    case(
        "CumSum",
        X,
        Const(np.array(axis)),
        judge=lambda x, _, axis=axis, given=given: cumulative(x, axis, **given),
        label=spelled({"axis": axis, **given}),
        **given,
    )
    for axis in (0, 1, -1)
    for given in variants(exclusive=[0, 1], reverse=[0, 1])
]
CASES = REDUCTIONS + SOFTMAXES + SUMS


@pytest.mark.parametrize("subject", CASES, ids=str)
def test_gradient(subject: Case) -> None:
    check(subject)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_ties_of_an_extreme_share_the_gradient_as_torch_amax_does(op: str) -> None:
    x = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 2.0]])
    leaf = torch.tensor(x, requires_grad=True)
    (torch.amax if op == "ReduceMax" else torch.amin)(leaf, 1).sum().backward()
    found = gradients(case(op, x, Const(np.array([1])), judge=None))
    assert found["x0"] == pytest.approx(leaf.grad.numpy())


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op", FORMULAS)
def test_axes_that_come_at_run_time(op: str, keepdims: int) -> None:
    x, formula = FORMULAS[op]
    model = case(op, x, Fed(np.array([1])), judge=None, keepdims=keepdims).model(items=True)
    rank = 3 + keepdims
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"] + [None] * (rank - 1)))
    leaf = torch.tensor(x, requires_grad=True)
    formula(leaf, 1, bool(keepdims)).sum().backward()
    found = gradients(model, {"x0": x[None].astype(np.float32), "x1": np.array([[1]])})
    assert found["x0"][0] == pytest.approx(leaf.grad.numpy(), abs=1e-4)


def test_the_slope_of_a_norm_at_zero_is_zero() -> None:
    found = gradients(case("ReduceL2", np.array([[0.0, 0.0], [3.0, 4.0]]), Const(np.array([1])), judge=None))
    assert found["x0"].tolist() == [[0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]

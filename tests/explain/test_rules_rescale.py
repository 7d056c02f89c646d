"""The rescale rule: slope times change is change, in float32 and float64, for changes large and small."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.rules.rescale import RESCALE
from tests.explain.graphs import Nodes, made, numbers, run
from tests.explain.runners import reference, runtime

ROWS, SIZES = 6, [4, 5]
UNARY = {
    **dict.fromkeys(["Acos", "Asin", "Atanh"], lambda x: np.tanh(x) * 0.95),
    **dict.fromkeys(["Acosh"], lambda x: 1.5 + x**2),
    **dict.fromkeys(["Log", "Reciprocal", "Sqrt"], lambda x: 0.01 + x**2),
    **dict.fromkeys(["Tan"], np.tanh),
    **dict.fromkeys(
        ["Asinh", "Atan", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Mish", "Selu", "Sigmoid", "Sin", "Sinh"],
        np.array,
    ),
    **dict.fromkeys(["Softplus", "Softsign", "Tanh"], np.array),
}
# Operators that are taken apart, with attributes and constants beside x.
APART: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Softmax": ({"axis": 1}, {}),
    "LogSoftmax": ({}, {}),
    "LayerNormalization": ({"axis": -1}, {"scale": numbers(5, seed=801), "shift": numbers(5, seed=802)}),
    "InstanceNormalization": ({}, {"scale": numbers(4, seed=803), "shift": numbers(4, seed=804)}),
    "ReduceLogSumExp": ({"keepdims": 0}, {"axes": np.array([2])}),
    "ReduceL2": ({}, {"axes": np.array([1, 2])}),
    "Pow": ({}, {"exponent": np.array(3.0)}),
}
CHANGES = [3.0, 1e-2, 1e-4, 0.0]


def one(op: str, dtype: str, attributes: dict[str, Any] | None = None, weights: dict[str, Any] | None = None) -> Any:
    held = {name: w.astype(dtype) if w.dtype.kind == "f" else w for name, w in (weights or {}).items()}
    rank = 2 if (attributes or {}).get("keepdims") == 0 else 3
    nodes: Nodes = [(op, ["x", *held], ["y"], attributes or {})]
    return made(nodes, {"x": (dtype, ["n", *SIZES])}, {"y": (dtype, [None] * rank)}, held)


def quotient(dtype: str) -> Any:
    """y = (x + 1) / (x^2 + 0.1): both operands move."""
    nodes: Nodes = [
        ("Add", ["x", "one"], ["a"]),
        ("Mul", ["x", "x"], ["s"]),
        ("Add", ["s", "tenth"], ["b"]),
        ("Div", ["a", "b"], ["y"]),
    ]
    weights = {"one": np.array(1, dtype), "tenth": np.array(0.1, dtype)}
    return made(nodes, {"x": (dtype, ["n", *SIZES])}, {"y": (dtype, ["n", *SIZES])}, weights)


def points(op: str, change: float, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    inside = UNARY.get(op, np.array)
    x, by = numbers(ROWS, *SIZES, seed=810, dtype="float64"), numbers(ROWS, *SIZES, seed=811, dtype="float64")
    return inside(x + change * by).astype(dtype), inside(x).astype(dtype)


def missed(model: onnx.ModelProto, x: np.ndarray, start: np.ndarray, by_reference: bool) -> tuple[float, float]:
    """The largest |sum of attributions - change of f| of a row, and the largest sum of |attributions|."""
    runner = reference if by_reference else runtime
    y, y0 = (runner(model)({"x": given})["y"] for given in (x, start))
    weight = numbers(*y.shape, seed=812).astype(x.dtype)
    index = np.stack(np.meshgrid(*map(np.arange, y.shape[1:]), indexing="ij"), axis=-1).reshape(-1, y.ndim - 1)
    one = np.ones((ROWS, 1, 1), x.dtype)
    feeds = {"x": x, "x.baseline": start[:, None], "weight": one, "target.weight": weight.reshape(ROWS, -1)}
    feeds |= {"target": np.tile(index, (ROWS, 1, 1)), "alpha": np.tile(np.array([[0, 1]], x.dtype), (ROWS, 1))}
    feeds |= {"start": np.zeros((ROWS, 1), np.int64), "stop": np.ones((ROWS, 1), np.int64)}
    program = explain.compile(model, "path_secant", rules="rescale", space="output")
    phi = runner(program.model)(feeds)["x.attribution"]
    change = ((y - y0) * weight).reshape(ROWS, -1).sum(axis=1)
    assert np.isfinite(phi).all()
    flat = phi.reshape(ROWS, -1)
    return float(np.abs(flat.sum(axis=1) - change).max()), float(max(np.abs(flat).sum(axis=1).max(), np.abs(y).max()))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("op", [*UNARY, *APART, "Div"])
def test_slope_times_change_is_change(op: str, change: float) -> None:
    model = quotient("float32") if op == "Div" else one(op, "float32", *APART.get(op, ()))
    gap, size = missed(model, *points(op, change, "float32"), by_reference=False)
    assert gap <= 1e-5 * max(size, 1.0)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("op", [*(op for op in UNARY if op != "Celu"), *APART, "Div"])  # Celu has float32 only
def test_in_double_precision(op: str, change: float) -> None:
    model = quotient("float64") if op == "Div" else one(op, "float64", *APART.get(op, ()))
    gap, size = missed(model, *points(op, change, "float64"), by_reference=True)
    assert gap <= 1e-9 * max(size, 1.0)


@pytest.mark.parametrize("change", [30.0, 1000.0])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "ReduceLogSumExp"])
def test_a_softmax_that_points_elsewhere_at_either_end(op: str, change: float) -> None:
    """As attention does between two texts: shares of 1 become 0 and 0 become 1, and no number is larger for it."""
    gap, size = missed(one(op, "float32", *APART[op]), *points(op, change, "float32"), by_reference=False)
    assert gap <= 1e-5 * max(size, 1.0)
    assert size <= 100 * change


def test_every_rule_is_here() -> None:
    recurrent = {"GRU", "LSTM", "RNN"}  # in test_rules_recurrent_methods.py
    assert {op for _, op in RESCALE.rules} == {*UNARY, *APART, "Div", *recurrent}


def test_a_gradient_halfway_fails_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RESCALE.rules, ("", "Softmax"))
    gap, size = missed(
        one("Softmax", "float32", *APART["Softmax"]), *points("Softmax", 3.0, "float32"), by_reference=False
    )
    assert gap > 1e-3 * size


def test_masked_scores_and_rows_that_are_masked_entirely() -> None:
    """-inf at both ends, as attention masks have it, moves nothing, and leaves the other rows alone."""
    mask = np.zeros((4, 5), np.float32)
    mask[:, 1], mask[2] = -np.inf, -np.inf
    nodes: Nodes = [("Add", ["x", "mask"], ["z"]), ("Softmax", ["z"], ["y"])]
    spec = ("float32", ["n", *SIZES])
    model = made(nodes, {"x": spec}, {"y": spec}, {"mask": mask})
    x, start = points("Softmax", 1.0, "float32")
    program = explain.compile(model, "path_secant", rules="rescale", space="output")
    feeds = {"x": x, "x.baseline": start[:, None], "weight": np.ones((ROWS, 1, 1), np.float32)}
    feeds |= {"target": np.zeros((ROWS, 1, 2), np.int64), "target.weight": np.ones((ROWS, 1), np.float32)}
    feeds |= {"alpha": np.tile(np.array([[0, 1]], np.float32), (ROWS, 1))}
    feeds |= {"start": np.zeros((ROWS, 1), np.int64), "stop": np.ones((ROWS, 1), np.int64)}
    found = run(program, feeds)
    phi, change = found["x.attribution"][:, 0], found["value.stop"] - found["value"]
    assert not phi[:, :, 1].any()
    np.testing.assert_allclose(phi.sum(axis=(1, 2)), change[:, 0], atol=1e-6)

"""Rules between two points: the slope is the gradient averaged over the way, and slope times change is the change."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.rules.secant import SECANT, SWEEPS
from tests.explain.graphs import Nodes, made, numbers, run, serve

ROWS = 5
SIZES = [4, 6, 6]
X, START = numbers(ROWS, *SIZES, seed=400, scale=3.0), numbers(ROWS, *SIZES, seed=401, scale=3.0)


def one(op: str, weights: dict[str, Any] | None = None, opset: int = 18, **attributes: Any) -> onnx.ModelProto:
    """y = op(x, weights), x [N, 4, 6, 6]."""
    rank = 5 - (not attributes.get("keepdims", 1)) * 1
    nodes: Nodes = [(op, ["x", *(weights or {})], ["y"], attributes)]
    return made(nodes, {"x": ("float32", ["n", *SIZES])}, {"y": ("float32", [None] * (rank - 1))}, weights, opset)


def two(op: str) -> onnx.ModelProto:
    """y = op(x, 2 - x / 2, a constant): operands that overtake each other."""
    nodes: Nodes = [
        ("Mul", ["x", "half"], ["h"]),
        ("Sub", ["two", "h"], ["b"]),
        (op, ["x", "b", "c"], ["y"]),
    ]
    weights = {"half": np.float32(0.5), "two": np.float32(2), "c": numbers(6, seed=402)}
    return made(nodes, {"x": ("float32", ["n", *SIZES])}, {"y": ("float32", ["n", *SIZES])}, weights)


def chosen() -> onnx.ModelProto:
    """y = x where x > 0.3, else 3 x + 1."""
    nodes: Nodes = [
        ("Greater", ["x", "place"], ["condition"]),
        ("Mul", ["x", "three"], ["t"]),
        ("Add", ["t", "one"], ["b"]),
        ("Where", ["condition", "x", "b"], ["y"]),
    ]
    weights = {"place": np.float32(0.3), "three": np.float32(3), "one": np.float32(1)}
    return made(nodes, {"x": ("float32", ["n", *SIZES])}, {"y": ("float32", ["n", *SIZES])}, weights)


F = np.float32
AXES = np.array([1, 3])
# Exact in one stretch: bent once, or by two operands that change evenly.
BENT = {
    "Relu": one("Relu"),
    "LeakyRelu": one("LeakyRelu", alpha=0.2),
    "PRelu": one("PRelu", {"slope": np.abs(numbers(4, 1, 1, seed=403))}),
    "Abs": one("Abs"),
    "HardSigmoid": one("HardSigmoid", alpha=0.3, beta=0.4),
    "Clip": one("Clip", {"low": F(-1), "high": F(1.5)}),
    "Clip below": one("Clip", {"low": F(-0.5)}),
}
# Of second order: curved between the bends, or more than two operands that take the lead.
CURVED = {
    "Elu": one("Elu", alpha=0.7),
    "Selu": one("Selu"),
    "HardSwish": one("HardSwish"),
    "Max": two("Max"),
    "Min": two("Min"),
    "ReduceMax": one("ReduceMax", {"axes": AXES}, keepdims=1),
    "ReduceMax, axes dropped": one("ReduceMax", {"axes": AXES[:1]}, keepdims=0),
    "ReduceMin": one("ReduceMin", {"axes": AXES}, keepdims=1),
    "GlobalMaxPool": one("GlobalMaxPool"),
    "MaxPool": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool, stride 1": one("MaxPool", kernel_shape=[3, 2], dilations=[2, 1], ceil_mode=1),
}
# What jumps itself: its jump has no gradient.
JUMPING = {"ThresholdedRelu": one("ThresholdedRelu", alpha=0.5), "Where": chosen()}


def target(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every element of the output with a weight of its own; the weights in the output's shape."""
    y = serve(model, {"x": X})["y"]
    weight = numbers(*y.shape, seed=404)
    index = np.stack(np.meshgrid(*map(np.arange, y.shape[1:]), indexing="ij"), axis=-1).reshape(-1, y.ndim - 1)
    return np.tile(index, (ROWS, 1, 1)), weight.reshape(ROWS, -1), weight


def secant(model: onnx.ModelProto, pieces: int, x: np.ndarray = X, start: np.ndarray = START) -> np.ndarray:
    """Attributions [N, 4, 6, 6] over so many equal stretches."""
    index, weight, _ = target(model)
    feeds = {"x": x, "x.baseline": start[:, None], "target": index, "target.weight": weight}
    feeds |= {"alpha": np.tile(np.linspace(0, 1, pieces + 1, dtype=F), (ROWS, 1))}
    places = np.tile(np.arange(pieces), (ROWS, 1))
    feeds |= {"start": places, "stop": places + 1, "weight": np.full((ROWS, pieces, 1), 1 / pieces, F)}
    return run(explain.compile(model, "path_secant"), feeds)["x.attribution"][:, 0]


def averaged(model: onnx.ModelProto, points: int = 3000, x: np.ndarray = X, start: np.ndarray = START) -> np.ndarray:
    """The gradient at very many points of the way, averaged, times the change."""
    index, weight, _ = target(model)
    program, total = explain.compile(model, "path_gradient"), np.zeros(x.shape)
    for part in np.split((np.arange(points) + 0.5) / points, 10):
        feeds = {"x": x, "x.baseline": start[:, None], "target": index, "target.weight": weight}
        feeds |= {"alpha": np.tile(part.astype(F), (ROWS, 1)), "weight": np.full((ROWS, len(part), 1), 1 / points, F)}
        total += run(program, feeds)["x.attribution"][:, 0]
    return total


@pytest.mark.parametrize("name", BENT)
def test_one_stretch_is_the_average(name: str) -> None:
    np.testing.assert_allclose(secant(BENT[name], 1), averaged(BENT[name]), atol=1e-2)


@pytest.mark.parametrize("name", [*CURVED, *JUMPING])
def test_stretches_come_near_the_average(name: str) -> None:
    model = (CURVED | JUMPING)[name]
    expected, jumps = averaged(model), name in JUMPING
    errors = [np.abs(secant(model, pieces) - expected).mean() for pieces in (2, 16)]
    assert errors[1] <= errors[0] / (2 if jumps else 8) or errors[1] < 1e-3


@pytest.mark.parametrize("name", [*BENT, *(name for name in CURVED if name not in ("Elu", "Selu"))])
def test_slope_times_change_is_the_change(name: str) -> None:
    model = (BENT | CURVED)[name]
    weight = target(model)[2]
    change = (serve(model, {"x": X})["y"] - serve(model, {"x": START})["y"]) * weight
    expected = change.reshape(ROWS, -1).sum(axis=1)
    np.testing.assert_allclose(secant(model, 1).reshape(ROWS, -1).sum(axis=1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*BENT, *CURVED, *JUMPING])
def test_where_nothing_changes_the_slope_is_the_gradient(name: str) -> None:
    """Beside the elements that do not change, at bends too, others do: their conventions are those of a point."""
    model, x = (BENT | CURVED | JUMPING)[name], np.round(X)
    index, weight, _ = target(model)
    here = {"x": x, "x.baseline": (x - 1)[:, None], "target": index, "target.weight": weight}
    ends = {"alpha": np.ones((ROWS, 2), F), "start": np.zeros((ROWS, 1), int), "stop": np.ones((ROWS, 1), int)}
    one = {"weight": np.ones((ROWS, 1, 1), F)}
    found = run(explain.compile(model, "path_secant"), here | ends | one)["x.attribution"]
    point = run(explain.compile(model, "path_gradient"), here | {"alpha": np.ones((ROWS, 1), F)} | one)
    np.testing.assert_allclose(found, point["x.attribution"], rtol=1e-5, atol=1e-6)


def test_bounds_that_cross_leave_nothing() -> None:
    """min(max(x, 1), -1) is -1 for every x."""
    assert not secant(one("Clip", {"low": F(1), "high": F(-1)}), 3).any()


def test_a_third_number_that_leads_between_the_first_and_the_last_is_seen() -> None:
    """The largest of x, 0.1 and -x on the way from -1 to 1: each leads in turn, all within one stretch."""
    nodes: Nodes = [("Neg", ["x"], ["m"]), ("Concat", ["x", "m", "k"], ["c"], {"axis": 2})]
    nodes = [*nodes, ("ReduceMax", ["c", "axes"], ["y"], {"keepdims": 0})]
    weights = {"k": np.full((1, 1, 1), F(0.1)), "axes": np.array([2])}
    model = made(nodes, {"x": ("float32", [1, 1, 1])}, {"y": ("float32", [1, 1])}, weights)
    feeds = {"x": np.ones((1, 1, 1), F), "x.baseline": -np.ones((1, 1, 1, 1), F), "alpha": np.array([[0, 0.7]], F)}
    feeds |= {"start": np.array([[0]]), "stop": np.array([[1]]), "weight": np.ones((1, 1, 1), F)}
    feeds |= {"target": np.zeros((1, 1, 1), np.int64), "target.weight": np.ones((1, 1), F)}
    found = run(explain.compile(model, "path_secant"), feeds)["x.attribution"]
    # from -1 to 0.4: slope -1 for 0.9, none for 0.2, 1 for 0.3 of 1.4; d is 2
    assert found.item() == pytest.approx(2 * (0.3 - 0.9) / 1.4, rel=1e-5)


def test_every_rule_is_here() -> None:
    assert {name.partition(",")[0].partition(" ")[0] for name in (*BENT, *CURVED, *JUMPING)} == {
        op for _, op in SECANT.rules if op not in {*SWEEPS, "QuantizeLinear"}
    }, "others are in test_rules_recurrent_methods.py and test_rules_quantized.py"


def test_a_slope_at_a_point_fails_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SECANT.rules, ("", "Relu"))
    model = one("Relu")
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(secant(model, 1), averaged(model), atol=1e-2)

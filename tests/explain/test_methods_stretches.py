"""The adaptive rule on networks with kinks: few evaluations, an honest error, and it stops when told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.plans import base as plans
from explain.plans import budget, stretches
from explain.plans.panels import PanelPlan
from explain.plans.stretches import AGAIN, FIRST, Layout, StretchPlan
from tests.explain.graphs import Nodes, attribute, made, mlp, numbers, run

X, BASELINE = numbers(7, 4, seed=600), numbers(7, 4, seed=601)
EVERY = sum(16 // width for width in (1, 2, 4))


def network(width: int = 24, seed: int = 602) -> onnx.ModelProto:
    """Two layers of ReLU."""
    nodes: Nodes = [
        ("Gemm", ["x", "a", "p"], ["h0"]),
        ("Relu", ["h0"], ["h1"]),
        ("Gemm", ["h1", "b", "q"], ["h2"]),
        ("Relu", ["h2"], ["h3"]),
        ("MatMul", ["h3", "c"], ["y"]),
    ]
    shapes = {"a": (4, width), "p": (width,), "b": (width, width), "q": (width,), "c": (width, 2)}
    weights = {name: numbers(*shape, seed=seed + place) for place, (name, shape) in enumerate(shapes.items())}
    return made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 2])}, weights)


def found_by(model: Any, x: np.ndarray = X, baseline: Any = BASELINE, **options: Any) -> explain.Attribution:
    given = {"baseline": baseline, "target": 0, "rule": "adaptive", **options}
    return attribute(model, {"x": x}, "integrated_gradients", **given)


def reference(model: Any, x: np.ndarray = X, baseline: Any = BASELINE) -> np.ndarray:
    """Very many points."""
    options = {"baseline": baseline, "target": 0, "n_steps": 4096, "rule": "midpoint"}
    return attribute(model, {"x": x}, "integrated_gradients", **options).values["x"]


@pytest.mark.parametrize("tolerance", [0.05, 0.01, 0.002])
@pytest.mark.parametrize("width", [24, 96])
def test_it_agrees_with_thousands_of_points_within_its_error(width: int, tolerance: float) -> None:
    rows = numbers(80, 4, seed=610)
    model = network(width)
    found, expected = found_by(model, rows, 0.0, tolerance=tolerance, max_evals=20000), reference(model, rows, 0.0)
    assert found.errors is not None
    phi, errors = found.values["x"], found.errors["x"]
    largest = np.abs(phi).max(axis=1)
    assert {figures["stopped_by"] for figures in found.quality} == {"tolerance"}
    assert found.error_kind == "quadrature_error"
    assert (errors.max(axis=1) <= tolerance * largest).all()
    slack = 2e-4 * largest[:, None]  # what the reference itself lacks
    assert (np.abs(phi - expected) <= errors + slack).mean() >= 0.95
    assert [f["quadrature_error"] for f in found.quality] == errors.max(axis=1).tolist()


def test_an_error_of_one_difference_alone_would_not_be_honest() -> None:
    """The test above could fail: what halving changes, added up, is too small for many features."""
    model, rows = network(), numbers(80, 4, seed=610)
    expected = reference(model, rows, 0.0)
    coarse, fine = (
        attribute(model, {"x": rows}, "integrated_gradients", baseline=0.0, target=0, rule="secant", n_steps=n).values[
            "x"
        ]
        for n in (8, 16)
    )
    assert (np.abs(fine - expected) <= np.abs(fine - coarse)).mean() < 0.9


def test_points_need_many_times_as_many_evaluations() -> None:
    model, rows = network(96), numbers(80, 4, seed=611)
    found, expected = found_by(model, rows, 0.0), reference(model, rows, 0.0)
    spent = np.median([figures["evaluations"] for figures in found.quality])
    options = {"baseline": 0.0, "target": 0, "n_steps": int(4 * spent)}
    points = attribute(model, {"x": rows}, "integrated_gradients", **options).values["x"]
    errors = [np.abs(phi - expected).max(axis=1) / np.abs(expected).max(axis=1) for phi in (found.values["x"], points)]
    assert np.median(errors[0]) < np.median(errors[1])


def test_an_item_gets_the_same_answer_alone_in_a_batch_and_in_small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = explain.Model(network())
    together = found_by(model, tolerance=0.001, max_evals=4000)
    spent = [figures["evaluations"] for figures in together.quality]
    assert len(set(spent)) > 1
    for rows in (4096, 20, 7, 1):
        monkeypatch.setattr(plans, "ROWS_PER_RUN", rows)
        for item in range(7):
            one = slice(item, item + 1)
            alone = found_by(model, X[one], BASELINE[one], tolerance=0.001, max_evals=8000)
            assert explain.attribution_error(alone.values["x"][0], together.values["x"][item]) <= 1e-6
            assert alone.quality[0]["evaluations"] >= spent[item]
            assert rows < 4096 or alone.quality[0]["evaluations"] == spent[item]


@pytest.mark.parametrize("max_evals", [17, EVERY, EVERY + 4, EVERY + 5, 100, 300])
def test_it_stops_at_max_evals(max_evals: int) -> None:
    """The first round is made whatever it costs; behind it no stretch is halved that could not be paid."""
    found = found_by(network(), tolerance=1e-9, max_evals=max_evals)
    for figures in found.quality:
        assert figures["stopped_by"] == "max_evals"
        assert figures["evaluations"] == EVERY + max(0, max_evals - EVERY) // 5 * 5


def test_it_stops_when_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1000.0, 0.01).tolist())
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = found_by(network(), X[:1], 0.0, tolerance=1e-9, max_evals=100000, budget_ms=35.0)
    assert found.quality[0]["stopped_by"] == "budget_ms"
    unlimited = found_by(network(), X[:1], 0.0, tolerance=1e-9, max_evals=3000)
    assert EVERY < found.quality[0]["evaluations"] < unlimited.quality[0]["evaluations"]


def test_provisional_results_are_complete_estimates_and_improve() -> None:
    model, expected = network(96), reference(network(96), X[:2], 0.0)
    options: dict[str, Any] = {"baseline": 0.0, "target": 0, "tolerance": 1e-9, "max_evals": 4000, "rule": "adaptive"}
    running = explain.begin(model, {"x": X[:2]}, method="integrated_gradients", **options)
    seen = []
    while (step := running.chunk()) is not None:
        running.update(run(*step))
        if running.ready:
            now = running.result()
            seen.append((explain.attribution_error(now.values["x"], expected), now.quality[0]["quadrature_error"]))
    assert len(seen) > 3
    assert seen[-1][0] < seen[0][0] / 5
    assert seen[-1][1] < seen[0][1] / 5


def test_where_nothing_bends_any_more_nothing_is_halved() -> None:
    """Two units that switch one after the other: only stretches in which both do leave anything to find."""
    nodes: Nodes = [
        ("Relu", ["x"], ["r"]),
        ("Mul", ["r", "w"], ["m"]),
        ("Add", ["m", "b"], ["a"]),
        ("Relu", ["a"], ["y"]),
    ]
    weights = {"w": np.float64(-1), "b": np.float64(0.003)}
    model = made(nodes, {"x": ("float64", ["n", 1])}, {"y": ("float64", ["n", 1])}, weights)
    found = found_by(model, np.array([[1.0]]), np.array([[-1.0]]), tolerance=1e-7, max_evals=5000)
    assert found.values["x"][0, 0] == pytest.approx(-0.003, abs=1e-9)
    assert found.quality[0]["evaluations"] < EVERY + 40 * 5


def test_what_neither_whole_nor_halves_see_is_claimed_where_the_sum_shows_it() -> None:
    """Bounds that are computed have no rule between two points: kinks fall where they like, the sum is off."""
    nodes: Nodes = [
        ("MatMul", ["x", "w"], ["a"]),
        ("ReduceMean", ["a", "last"], ["low"], {"keepdims": 1}),
        ("Clip", ["a", "bound", ""], ["unused"]),
        ("Max", ["a", "low"], ["kept"]),
        ("Where", ["wide", "kept", "a"], ["b"]),
        ("Clip", ["b", "scalar"], ["c"]),
        ("ReduceSum", ["c", "last"], ["s"], {"keepdims": 1}),
        ("Sin", ["s"], ["y"]),
    ]
    weights = {"w": numbers(4, 6, seed=620), "last": np.array([1]), "bound": np.float32(0), "scalar": np.float32(-0.5)}
    weights |= {"wide": np.array([True, False] * 3)}
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 1])}, weights)
    found = found_by(model, X, BASELINE, tolerance=0.0, max_evals=17)
    gaps = np.array([abs(figures["completeness_gap"]) for figures in found.quality])
    claims = np.array([figures["quadrature_error"] for figures in found.quality])
    assert (claims >= gaps * 0.999).all()
    assert gaps.max() > 1e-4


def test_smooth_networks_have_points_and_bent_ones_stretches() -> None:
    for model, plan in ((mlp(), PanelPlan), (network(), StretchPlan)):
        options: dict[str, Any] = {"baseline": 0.0, "target": 0, "rule": "adaptive"}
        running = explain.begin(model, {"x": X}, method="integrated_gradients", **options)
        while (step := running.chunk()) is not None:
            running.update(run(*step))
        assert isinstance(running.plan, plan)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 16, 28, 100])
@pytest.mark.parametrize("layout", [FIRST, AGAIN])
def test_layouts_in_parts_have_the_same_pieces(layout: Layout, limit: int, paired: bool) -> None:
    parts = list(layout.parts(limit, paired))
    pieces = [(part.points[start], part.points[stop]) for part in parts for start, stop in part.pieces]
    assert pieces == [(layout.points[start], layout.points[stop]) for start, stop in layout.pieces]
    for part in parts:
        evaluations = 2 * len(part.pieces) if paired else max(len(part.points), len(part.pieces))
        assert evaluations <= limit or len(part.pieces) == 1


def test_intervals_are_those_of_student() -> None:
    """One stretch that differs is one degree of freedom, many alike are as many as they are."""
    assert stretches._interval(np.array([[1.0, 2.0], [0.0, 0.0]])) == pytest.approx(12.706)
    assert stretches._interval(np.ones((10, 3))) == pytest.approx(2.228, abs=1e-3)
    assert stretches._interval(np.ones((10000, 1))) == pytest.approx(1.960, abs=1e-3)
    assert stretches._interval(np.zeros((4, 1))) == pytest.approx(12.706)
    assert stretches._interval(np.array([[np.nan, 1.0], [1.0, 1.0]])) < 6


def test_gradients_that_are_no_numbers_do_not_keep_the_others_from_an_end() -> None:
    nodes: Nodes = [
        ("Relu", ["x"], ["b"]),
        ("Sqrt", ["x"], ["r"]),
        ("Add", ["b", "r"], ["s"]),
        ("ReduceSum", ["s", "last"], ["y"]),
    ]
    model = made(nodes, {"x": ("float64", ["n", 2])}, {"y": ("float64", ["n", 1])}, {"last": np.array([1])})
    found = found_by(model, np.array([[4.0, -1.0]]), np.array([[1.0, -2.0]]), tolerance=1e-4, max_evals=4000)
    assert found.values["x"][0, 0] == pytest.approx(4.0, abs=1e-3)
    assert (found.quality[0]["nan_count"], found.quality[0]["stopped_by"]) == (1, "tolerance")

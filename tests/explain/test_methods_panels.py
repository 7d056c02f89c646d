"""The adaptive rule of points: exact where it must be, near a long reference, honest about its error, and it stops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.plans import base as plans
from explain.plans import budget, panels
from tests.explain.graphs import Nodes, attribute, made, mlp, numbers, run

X, BASELINE = numbers(7, 4, seed=300), numbers(7, 4, seed=301)
ADAPTIVE = {"rule": "adaptive"}


def polynomial(degree: int) -> onnx.ModelProto:
    """sum of x^degree."""
    nodes: Nodes = [("Pow", ["x", "degree"], ["p"]), ("ReduceSum", ["p", "last"], ["y"])]
    weights = {"degree": np.float64(degree), "last": np.array([1])}
    return made(nodes, {"x": ("float64", ["n", 4])}, {"y": ("float64", ["n", 1])}, weights)


def relu(x: str, y: str) -> Nodes:
    """2 max(x, 0) as x + sqrt(x^2): its gradient jumps where no rule of the compiler knows of a kink."""
    return [("Mul", [x, x], [f"{y}.square"]), ("Sqrt", [f"{y}.square"], [f"{y}.size"]), ("Add", [x, f"{y}.size"], [y])]


def jumps(width: int = 24, seed: int = 302) -> onnx.ModelProto:
    """Two layers of ReLU: the gradient jumps along the path."""
    nodes: Nodes = [
        ("Gemm", ["x", "a", "p"], ["h0"]),
        *relu("h0", "h1"),
        ("Gemm", ["h1", "b", "q"], ["h2"]),
        *relu("h2", "h3"),
        ("MatMul", ["h3", "c"], ["y"]),
    ]
    shapes = {"a": (4, width), "p": (width,), "b": (width, width), "q": (width,), "c": (width, 2)}
    weights = {name: numbers(*shape, seed=seed + place) for place, (name, shape) in enumerate(shapes.items())}
    weights |= {name: weights[name] / 2 for name in ("b", "c")}
    return made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 2])}, weights)


def found_by(model: Any, x: np.ndarray = X, baseline: Any = BASELINE, **options: Any) -> explain.Attribution:
    return attribute(model, {"x": x}, "integrated_gradients", baseline=baseline, target=0, **ADAPTIVE, **options)


def reference(model: Any, x: np.ndarray = X, baseline: Any = BASELINE, n_steps: int = 2000) -> np.ndarray:
    """A fixed rule with very many points."""
    options = {"baseline": baseline, "target": 0, "n_steps": n_steps, "rule": "midpoint"}
    return attribute(model, {"x": x}, "integrated_gradients", **options).values["x"]


@pytest.mark.parametrize(("rule", "degree"), [(panels.SEVEN, 11), (panels.FIFTEEN, 23)])
def test_points_and_weights_are_a_rule_of_its_degree(rule: panels.Rule, degree: int) -> None:
    """Against the integrals of monomials; a rule of any n points would have degree n - 1."""
    for power in range(degree + 2):
        integral = (1 - (-1) ** (power + 1)) / (power + 1)
        right = (rule.weights * rule.points**power).sum() == pytest.approx(integral, abs=1e-14)
        assert right == (power <= degree)


def test_the_rules_are_nested_around_that_of_gauss() -> None:
    np.testing.assert_array_equal(panels.SEVEN.points, panels.FIFTEEN.points[1::2])
    np.testing.assert_allclose(panels.SEVEN.points[1::2], np.polynomial.legendre.leggauss(3)[0], atol=1e-15)


@pytest.mark.parametrize(("rule", "count"), [(panels.SEVEN, 2), (panels.FIFTEEN, 4)])
def test_null_rules_vanish_on_polynomials_and_are_as_large_as_the_difference_of_both_rules(
    rule: panels.Rule, count: int
) -> None:
    n = len(rule.points)
    for place, null in enumerate(rule.nulls):
        for degree in range(n - count + place):
            assert null @ rule.points**degree == pytest.approx(0, abs=1e-14)
        assert abs(null @ rule.points ** (n - count + place)) > 1e-6
    inside = np.zeros(n)
    inside[1::2] = np.polynomial.legendre.leggauss(3)[1] if n == 7 else panels.SEVEN.weights
    difference = rule.weights - inside
    np.testing.assert_allclose(rule.nulls @ rule.nulls.T, np.eye(count) * (difference @ difference), atol=1e-14)


@pytest.mark.parametrize(("degree", "evaluations"), [(1, 9), (2, 9), (3, 9), (5, 9), (7, 17), (11, 17)])
def test_polynomials_are_exact_in_one_panel(degree: int, evaluations: int) -> None:
    """Of a gradient of degree 4 the null rules see nothing."""
    x = X.astype(float)
    found = found_by(polynomial(degree), x, 0.0, tolerance=1e-6)
    np.testing.assert_allclose(found.values["x"], x**degree, rtol=1e-12, atol=1e-12)
    assert [figures["evaluations"] for figures in found.quality] == [evaluations] * 7
    assert {figures["stopped_by"] for figures in found.quality} == {"tolerance"}
    assert found.error_kind == "quadrature_error"
    assert found.errors is not None
    assert found.errors["x"].max() < 1e-9


@pytest.mark.parametrize("tolerance", [0.05, 0.01, 0.002])
@pytest.mark.parametrize("model", [jumps(), mlp()], ids=["jumps", "smooth"])
def test_it_agrees_with_two_thousand_steps_within_its_error(model: onnx.ModelProto, tolerance: float) -> None:
    found, expected = found_by(model, tolerance=tolerance, max_evals=20000), reference(model)
    assert found.errors is not None
    phi, errors = found.values["x"], found.errors["x"]
    assert {figures["stopped_by"] for figures in found.quality} == {"tolerance"}
    assert (errors.max(axis=1) <= tolerance * np.abs(phi).max(axis=1)).all()
    slack = 1e-3 * np.abs(expected).max(axis=1, keepdims=True)  # what the reference itself may lack
    assert (np.abs(phi - expected) <= errors + slack).mean() >= 0.95
    assert np.abs(phi - expected).max() <= 2 * tolerance * np.abs(expected).max()
    assert [f["quadrature_error"] for f in found.quality] == errors.max(axis=1).tolist()


def test_an_error_of_one_difference_alone_would_not_be_honest() -> None:
    """The test above could fail: where gradients jump the difference of two rules is too small for many features."""
    model, rows = jumps(), numbers(60, 4, seed=303)
    one = found_by(model, rows, 0.0, tolerance=1e-9, max_evals=17)
    expected, errors = reference(model, rows, 0.0), one.errors
    assert errors is not None
    program = explain.compile(model, "path_gradient")
    dtype, difference = np.float32, panels.FIFTEEN.weights.copy()
    difference[1::2] -= panels.SEVEN.weights
    feeds = {"x": rows, "x.baseline": np.zeros((60, 1, 4), dtype), "target": np.zeros((60, 1, 1), np.int64)}
    feeds |= {"target.weight": np.ones((60, 1), dtype)}
    feeds |= {"alpha": np.tile(((panels.NODES + 1) / 2).astype(dtype), (60, 1))}
    feeds |= {"weight": np.tile(difference.astype(dtype)[:, None] / 2, (60, 1, 1))}
    plain = np.abs(run(program, feeds)["x.attribution"][:, 0])
    miss = np.abs(one.values["x"] - expected)
    assert (miss <= plain).mean() < 0.9
    assert (miss <= errors["x"]).mean() >= 0.95


def test_an_item_gets_the_same_answer_alone_in_a_batch_and_in_small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = explain.Model(jumps())
    together = found_by(model, tolerance=0.005)
    assert len({figures["evaluations"] for figures in together.quality}) > 1
    for rows in (4096, 20, 7, 1):
        monkeypatch.setattr(plans, "ROWS_PER_RUN", rows)
        for item in range(7):
            one = slice(item, item + 1)
            alone = found_by(model, X[one], BASELINE[one], tolerance=0.005)
            assert explain.attribution_error(alone.values["x"][0], together.values["x"][item]) <= 1e-6
            assert alone.quality[0]["evaluations"] == together.quality[item]["evaluations"]


@pytest.mark.parametrize("max_evals", [9, 16, 17, 46, 47, 100, 300])
def test_it_stops_at_max_evals(max_evals: int) -> None:
    found = found_by(jumps(), tolerance=1e-9, max_evals=max_evals)
    for figures in found.quality:
        assert figures["stopped_by"] == "max_evals"
        assert max_evals - 2 * panels.POINTS < figures["evaluations"] <= max_evals
        assert max_evals > 16 or figures["evaluations"] == 9


def test_it_stops_when_time_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1000.0, 0.01).tolist())
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = found_by(jumps(), X[:1], 0.0, tolerance=1e-9, max_evals=100000, budget_ms=35.0)
    assert found.quality[0]["stopped_by"] == "budget_ms"
    unlimited = found_by(jumps(), X[:1], 0.0, tolerance=1e-9, max_evals=3000)
    assert 17 < found.quality[0]["evaluations"] < unlimited.quality[0]["evaluations"]


def test_provisional_results_are_complete_estimates_and_improve() -> None:
    model, expected = jumps(), reference(jumps(), X[:2], 0.0, 4096)
    options: dict[str, Any] = {"baseline": 0.0, "target": 0, "tolerance": 1e-9, "max_evals": 4000, **ADAPTIVE}
    running = explain.begin(model, {"x": X[:2]}, method="integrated_gradients", **options)
    seen = []
    while (step := running.chunk()) is not None:
        running.update(run(*step))
        if running.ready:
            now = running.result()
            seen.append((explain.attribution_error(now.values["x"], expected), now.quality[0]["quadrature_error"]))
            assert {figures["stopped_by"] for figures in now.quality} <= {None, "max_evals"}
    assert len(seen) > 3
    assert seen[-1][0] < seen[0][0] / 5
    assert seen[-1][1] < seen[0][1] / 5


def test_finished_panels_are_kept() -> None:
    """A gradient with one jump: only the panels around it are cut again."""
    nodes: Nodes = [("Sub", ["x", "place"], ["s"]), *relu("s", "r"), ("Mul", ["r", "half"], ["y"])]
    weights = {"place": np.array([0.3]), "half": np.array(0.5)}
    model = made(nodes, {"x": ("float64", ["n", 1])}, {"y": ("float64", ["n", 1])}, weights)
    found = found_by(model, np.ones((1, 1)), 0.0, tolerance=1e-4, max_evals=10000)
    assert found.values["x"][0, 0] == pytest.approx(0.7, abs=1e-4)
    assert found.quality[0]["evaluations"] < 700  # cutting everything until then takes thousands


def test_gradients_that_are_no_numbers_do_not_keep_the_others_from_an_end() -> None:
    nodes: Nodes = [("Sqrt", ["x"], ["r"]), ("ReduceSum", ["r", "last"], ["y"])]
    model = made(nodes, {"x": ("float64", ["n", 2])}, {"y": ("float64", ["n", 1])}, {"last": np.array([1])})
    found = found_by(model, np.array([[4.0, -1.0]]), np.array([[1.0, -2.0]]))
    assert found.values["x"][0, 0] == pytest.approx(1.0, abs=1e-6)
    assert (found.quality[0]["nan_count"], found.quality[0]["stopped_by"]) == (1, "tolerance")

"""What must hold whatever the model: cheap exact oracles of every method."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.methods.gradients import gauss_legendre
from explain.plans import base as plans
from tests.explain.graphs import (
    MLP_WEIGHTS,
    Nodes,
    attribute,
    cnn,
    made,
    mlp,
    mlp_twin,
    numbers,
    run,
    serve,
    taken_turns,
    tensor,
)

X, BASELINE, BACKGROUND = numbers(7, 4, seed=90), numbers(7, 4, seed=91), numbers(6, 4, seed=92)
IMAGES = numbers(7, 1, 8, 8, seed=93)
GRADIENTS = ["saliency", "input_x_gradient", "integrated_gradients"]
SHAPLEY = ["kernel_shap", "exact_shap", "permutation_shap", "sampling_shap", "partition_shap"]
EXACT = ["kernel_shap", "exact_shap"]
REMOVING = ["lime", "feature_ablation", "occlusion", "rise"]


def reference(method: str, rows: np.ndarray | None = None) -> dict[str, Any]:
    """What the method compares with."""
    if method == "integrated_gradients":
        return {"baseline": BASELINE if rows is None else rows}
    return {"background": BACKGROUND} if method in (*SHAPLEY, *REMOVING) else {}


def linear(dtype: str = "float32") -> tuple[onnx.ModelProto, np.ndarray]:
    w, b = numbers(4, 2, seed=94), numbers(2, seed=95)
    weights = {"w": w.astype(dtype), "b": b.astype(dtype)}
    return made([("Gemm", ["x", "w", "b"], ["y"])], {"x": (dtype, ["n", 4])}, {"y": (dtype, ["n", 2])}, weights), w


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_a_linear_model_every_method_is_w_times_the_difference(dtype: str) -> None:
    model, w = linear(dtype)
    x = X.astype(dtype)
    for target in (0, 1):
        slope = w[:, target].astype(float)
        always = np.tile(slope, (7, 1))
        expected: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
            "saliency": (np.abs(always), {}),
            "guided_backprop": (always, {}),
            "smooth_grad": (always, {"n_samples": 3}),
            "smooth_grad_squared": (always**2, {"n_samples": 3, "stdev": 2.0}),
            "var_grad": (np.zeros((7, 4)), {"background": BACKGROUND.astype(dtype), "n_samples": 3}),
            "input_x_gradient": (slope * (X - BASELINE), {"baseline": BASELINE.astype(dtype)}),
            "integrated_gradients": (slope * (X - BASELINE), {"baseline": BASELINE.astype(dtype), "n_steps": 1}),
            "expected_gradients": (
                drawn(slope, 9, noise=False),
                {"background": BACKGROUND.astype(dtype), "n_samples": 9},
            ),
            "gradient_shap": (drawn(slope, 9, noise=True), {"background": BACKGROUND.astype(dtype), "n_samples": 9}),
            "deeplift": (slope * (X - BASELINE), {"baseline": BASELINE.astype(dtype)}),
            "deep_shap": (slope * (X - BACKGROUND.mean(axis=0)), {"background": BACKGROUND.astype(dtype)}),
        }
        away, given = slope * (X - BACKGROUND.mean(axis=0)), {"background": BACKGROUND.astype(dtype)}
        expected |= dict.fromkeys(SHAPLEY, (away, given))
        expected["sampling_shap"] = (away, given | {"n_permutations": 2 * len(BACKGROUND)})
        # On a linear game the order of joining changes nothing, nor do the weights of a regression.
        expected |= {"feature_ablation": (away, given), "occlusion": (away, given)}
        expected["lime"] = (away, given | {"alpha": 0.0, "n_samples": 60})
        expected["rise"] = (kept(away, model, x, target), given | {"n_masks": 40})
        expected["linear_shap"] = (away, given)
        others = {"grad_cam", "hires_cam", "layer_cam", "tree_shap", "tree_shap_interactions"}
        assert set(expected) == set(explain.METHODS) - others
        for method, (phi, options) in expected.items():
            found = attribute(model, {"x": x}, method, target=target, **options).values["x"]
            np.testing.assert_allclose(found, phi, rtol=0, atol=1e-5 * max(1, np.abs(phi).max()), err_msg=method)


def drawn(slope: np.ndarray, count: int, *, noise: bool) -> np.ndarray:
    """Mean of w * (x + noise - row) over the draws of seed 0: on a linear model the point on the way is the same."""
    total, count = np.zeros((7, 4)), count // 2 * 2
    for k, row in enumerate(taken_turns(len(BACKGROUND), count, 0)):
        random = np.random.default_rng([0, k])
        random.random()
        moved = 0.1 * BACKGROUND.astype(float).std(axis=0) * random.standard_normal(4) if noise else 0.0
        total += slope * (X + moved - BACKGROUND[row])
    return total / count


def kept(away: np.ndarray, model: onnx.ModelProto, x: np.ndarray, target: int) -> np.ndarray:
    """RISE with 40 masks of seed 0 on a linear game: f(mask) = f(nothing) + sum of what is kept."""
    masks = (np.random.default_rng([0, 0]).random((64, 4))[:40] < 0.5).astype(float)
    nothing = serve(model, {"x": BACKGROUND.astype(x.dtype)})["y"].astype(float)[:, target].mean()
    return (nothing + away @ masks.T) @ masks / 40 / 0.5


def test_on_a_relu_net_without_biases_input_x_gradient_sums_to_the_value() -> None:
    nodes: Nodes = [
        ("MatMul", ["x", "a"], ["h0"]),
        ("Relu", ["h0"], ["h1"]),
        ("MatMul", ["h1", "b"], ["h2"]),
        ("Relu", ["h2"], ["h3"]),
        ("MatMul", ["h3", "c"], ["y"]),
    ]
    weights = {"a": numbers(4, 8, seed=1), "b": numbers(8, 8, seed=2), "c": numbers(8, 2, seed=3)}
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 2])}, weights)
    found = attribute(model, {"x": X}, "input_x_gradient", target=0)
    np.testing.assert_allclose(found.values["x"].sum(axis=1), found.explained_value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_steps", [2, 3, 7])
def test_integrated_gradients_are_exact_on_a_quadratic(n_steps: int) -> None:
    q = numbers(4, 4, seed=96).astype(float)
    nodes: Nodes = [("MatMul", ["x", "q"], ["s"]), ("Mul", ["s", "x"], ["t"]), ("ReduceSum", ["t", "last"], ["y"])]
    weights = {"q": q, "last": np.array([1])}
    model = made(nodes, {"x": ("float64", ["n", 4])}, {"y": ("float64", ["n", 1])}, weights)
    x, base = X.astype(float), BASELINE.astype(float)
    found = attribute(model, {"x": x}, "integrated_gradients", baseline=base, n_steps=n_steps)
    expected = (x - base) * ((x + base) / 2 @ (q + q.T))
    np.testing.assert_allclose(found.values["x"], expected, rtol=1e-12, atol=1e-12)
    assert max(abs(figures["completeness_gap"]) for figures in found.quality) <= 1e-12


def test_one_gauss_point_is_not_exact_on_a_cubic() -> None:
    """The oracle above could fail: with too few points the gap shows itself and is reported."""
    nodes: Nodes = [("Mul", ["x", "x"], ["s"]), ("Mul", ["s", "x"], ["t"]), ("ReduceSum", ["t", "last"], ["y"])]
    model = made(nodes, {"x": ("float64", ["n", 4])}, {"y": ("float64", ["n", 1])}, {"last": np.array([1])})
    found = attribute(model, {"x": X.astype(float)}, "integrated_gradients", baseline=0, n_steps=1)
    expected = ((0.75 - 1) * X.astype(float) ** 3).sum(axis=1)
    np.testing.assert_allclose([figures["completeness_gap"] for figures in found.quality], expected, rtol=1e-9)


@pytest.mark.parametrize("method", [*GRADIENTS, *SHAPLEY, *REMOVING])
def test_an_item_gets_the_same_attribution_alone_in_a_batch_and_in_any_order(method: str) -> None:
    model = explain.Model(mlp("Softmax"))
    together = attribute(model, {"x": X}, method, **reference(method))
    order = np.random.default_rng(0).permutation(7)
    shuffled = attribute(model, {"x": X[order]}, method, **reference(method, BASELINE[order]))
    for item in range(7):
        rows = slice(item, item + 1)
        alone = attribute(model, {"x": X[rows]}, method, **reference(method, BASELINE[rows]))
        want = together.values["x"][item]
        assert explain.attribution_error(alone.values["x"][0], want) <= 1e-6
        assert explain.attribution_error(shuffled.values["x"][order.tolist().index(item)], want) <= 1e-6
        assert alone.target.index[0].tolist() == together.target.index[item].tolist()
        assert alone.quality[0]["evaluations"] == together.quality[item]["evaluations"]


def test_a_map_is_the_same_alone_and_in_a_batch() -> None:
    model = explain.Model(cnn())
    together = attribute(model, {"image": IMAGES}, "grad_cam", relu=False).values["image"]
    for item in range(7):
        alone = attribute(model, {"image": IMAGES[item : item + 1]}, "grad_cam", relu=False).values["image"]
        assert explain.attribution_error(alone[0], together[item]) <= 1e-6


@pytest.mark.parametrize("method", [*GRADIENTS, *SHAPLEY, *REMOVING])
def test_how_work_is_cut_in_chunks_changes_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many evaluations, few rows a run: items, points, coalitions and background rows are all cut."""
    model, x = explain.Model(mlp("Softmax")), numbers(20, 4, seed=97)
    options = reference(method, numbers(20, 4, seed=98)) | ({"n_steps": 300} if "integrated" in method else {})
    whole = attribute(model, {"x": x}, method, **options)
    runs = []
    for rows in (64, 5, 1):
        monkeypatch.setattr(plans, "ROWS_PER_RUN", rows)
        cut = attribute(model, {"x": x}, method, **options)
        assert explain.attribution_error(cut.values["x"], whole.values["x"]) <= 2e-6
        np.testing.assert_allclose(cut.explained_value, whole.explained_value, rtol=1e-5)
        runs.append(chunks(model, x, method, options))
    assert runs[0] < runs[1] < runs[2]


def chunks(model: explain.Model, x: np.ndarray, method: str, options: dict[str, Any]) -> int:
    """How many runs it takes."""
    counted = 0

    def counting(program: explain.Program, feeds: Any) -> dict[str, np.ndarray]:
        nonlocal counted
        counted += 1
        return run(program, feeds)

    explain.attribute(model, {"x": x}, method=method, run=counting, **options)
    return counted


@pytest.mark.parametrize("method", EXACT)
def test_shapley_axioms(method: str) -> None:
    """A player the model does not read gets 0, two it treats alike get the same, and all sum to the rise."""
    nodes: Nodes = [
        ("MatMul", ["x", "w1"], ["h0"]),
        ("Tanh", ["h0"], ["h"]),
        ("MatMul", ["h", "w2"], ["y"]),
    ]
    w1 = numbers(5, 8, seed=99)
    w1[2], w1[4] = 0.0, w1[3]
    weights = {"w1": w1, "w2": numbers(8, 2, seed=100)}
    model = made(nodes, {"x": ("float32", ["n", 5])}, {"y": ("float32", ["n", 2])}, weights)
    x, background = numbers(3, 5, seed=101), numbers(4, 5, seed=102)
    x[:, 4], background[:, 4] = x[:, 3], background[:, 3]
    found = attribute(model, {"x": x}, method, background=background, target=1)
    phi = found.values["x"]
    np.testing.assert_allclose(phi[:, 2], 0, atol=1e-6)
    np.testing.assert_allclose(phi[:, 3], phi[:, 4], atol=1e-6)
    assert found.base_values is not None
    np.testing.assert_allclose(phi.sum(axis=1), found.explained_value - found.base_values, atol=1e-12)


@pytest.mark.parametrize("method", [*EXACT, "permutation_shap", "partition_shap"])
def test_groups_are_players(method: str) -> None:
    """The game of groups: two groups and one element that always stays, by the two orders written out."""
    groups, x = {"x": np.array([0, 1, 0, -1])}, X[:1]
    names = ["first", "second"]
    model = mlp()
    found = attribute(model, {"x": x}, method, background=BACKGROUND, groups=groups, group_names=names, target=0)

    def worth(*kept: int) -> float:
        rows = BACKGROUND.copy()
        rows[:, 3] = x[0, 3]
        for group in kept:
            rows[:, groups["x"] == group] = x[0, groups["x"] == group]
        return float(mlp_twin(tensor(rows))[:, 0].mean())

    first = (worth(0) - worth() + worth(0, 1) - worth(1)) / 2
    second = (worth(1) - worth() + worth(0, 1) - worth(0)) / 2
    assert list(found.values) == ["groups"]
    assert found.group_names == ("first", "second")
    np.testing.assert_allclose(found.values["groups"], [[first, second]], rtol=1e-4)
    np.testing.assert_allclose(found.base_values, [worth()], rtol=1e-4)


def test_a_contrast_is_the_difference_of_its_classes() -> None:
    model = explain.Model(mlp("Softmax"))
    for method in (*GRADIENTS[1:], *SHAPLEY):
        each = [attribute(model, {"x": X}, method, target=c, **reference(method)).values["x"] for c in (2, 0)]
        both = attribute(model, {"x": X}, method, target={"class": 2, "versus": 0}, **reference(method))
        assert explain.attribution_error(both.values["x"], each[0] - each[1]) <= 2e-6


def test_gauss_legendre_points_are_those_of_numpy_and_quick_for_thousands() -> None:
    for count in (*range(1, 12), 50, 301):
        for mine, other in zip(gauss_legendre(count), np.polynomial.legendre.leggauss(count), strict=True):
            np.testing.assert_allclose(mine, other, atol=2e-14)
    points, weights = gauss_legendre(4096)
    assert weights.sum() == pytest.approx(2, abs=1e-12)
    assert (weights * points**100).sum() == pytest.approx(2 / 101, abs=1e-12)


def test_steps_of_the_midpoint_rule() -> None:
    model, x = mlp(dtype="float64"), X.astype(float)
    weights = [MLP_WEIGHTS[name].astype(float) for name in ("w1", "b1", "w2")]
    found = attribute(model, {"x": x}, "integrated_gradients", baseline=0, n_steps=10, rule="midpoint", target=1)
    expected = np.zeros_like(x)
    for alpha in (np.arange(10) + 0.5) / 10:
        slope = (1 - np.tanh(alpha * x @ weights[0] + weights[1]) ** 2) * weights[2][:, 1]
        expected += x * (slope @ weights[0].T) / 10
    np.testing.assert_allclose(found.values["x"], expected, rtol=1e-9)

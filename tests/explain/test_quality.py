"""Quality figures equal what can be computed from the answer itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import explain
from explain.plans import Outcome
from explain.quality import gini, quality_figures
from tests.explain.graphs import attribute, cnn, mlp, numbers

X, BACKGROUND = numbers(4, 4, seed=150), numbers(3, 4, seed=151)
FIGURES = {
    "completeness_gap",
    "completeness_gap_relative",
    "forward_gap",
    "evaluations",
    "standard_error",
    "quadrature_error",
    "stopped_by",
    "sparsity",
    "max_abs",
    "nan_count",
}


@pytest.mark.parametrize(
    ("method", "options"),
    [("integrated_gradients", {"baseline": 0.3, "n_steps": 3}), ("exact_shap", {"background": BACKGROUND})],
)
def test_the_gap_is_what_one_can_add_up(method: str, options: dict[str, Any]) -> None:
    found = attribute(mlp("Softmax"), {"x": X}, method, **options)
    assert found.base_values is not None
    for item, figures in enumerate(found.quality):
        phi = found.values["x"][item]
        rise = found.explained_value[item] - found.base_values[item]
        assert set(figures) == FIGURES
        assert figures["completeness_gap"] == pytest.approx(phi.sum() - rise, abs=1e-12)
        relative = abs(phi.sum() - rise) / max(abs(rise), np.abs(phi).sum())
        assert figures["completeness_gap_relative"] == pytest.approx(relative, abs=1e-12)
        assert figures["max_abs"] == np.abs(phi).max()
        assert figures["nan_count"] == 0
    if method == "integrated_gradients":
        assert max(abs(figures["completeness_gap"]) for figures in found.quality) > 1e-4


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient"])
def test_methods_that_promise_no_sum_report_no_gap(method: str) -> None:
    found = attribute(mlp("Softmax"), {"x": X}, method)
    assert {figures["completeness_gap"] for figures in found.quality} == {None}
    assert {figures["standard_error"] for figures in found.quality} == {None}
    assert found.base_values is None


@pytest.mark.parametrize(
    ("method", "options", "evaluations"),
    [
        ("saliency", {}, 1),
        ("input_x_gradient", {}, 1),
        ("integrated_gradients", {"baseline": 0, "n_steps": 7}, 9),
        # Coalitions times background rows, the item itself, and the background alone where it is compared with.
        ("exact_shap", {"background": BACKGROUND}, 14 * 3 + 1 + 3),
        ("kernel_shap", {"background": BACKGROUND, "n_samples": 10}, 10 * 3 + 1 + 3),
        ("sampling_shap", {"background": BACKGROUND, "n_permutations": 10}, 10 * 4 + 1 + 3),
        ("partition_shap", {"background": BACKGROUND, "max_evals": 4}, 4 * 3 + 1 + 3),
        ("feature_ablation", {"background": BACKGROUND}, 4 * 3 + 1),
        ("feature_ablation", {"baseline": 0}, 4 + 1),
        ("occlusion", {"baseline": 0, "window": 2, "stride": 1}, 3 + 1),
    ],
)
def test_evaluations_are_counted(method: str, options: dict[str, Any], evaluations: int) -> None:
    """One more where the logit's way to the served output has to be checked."""
    for link, extra in ((None, 0), ("Softmax", 1)):
        found = attribute(mlp(link), {"x": X}, method, target=0, **options)
        assert [figures["evaluations"] for figures in found.quality] == [evaluations + extra] * 4


def test_a_map_has_figures_too() -> None:
    found = attribute(cnn(), {"image": numbers(2, 1, 8, 8)}, "grad_cam", target=1)
    assert [figures["max_abs"] for figures in found.quality] == [float(m.max()) for m in found.values["image"]]


def test_gini_by_its_definition() -> None:
    """Half the mean absolute difference over the mean."""
    for values in (numbers(9, seed=152), np.array([0.0, 0, 5]), np.array([3.0]), np.ones(4)):
        sizes = np.abs(values)
        expected = np.abs(sizes[:, None] - sizes).mean() / 2 / sizes.mean()
        assert gini(values) == pytest.approx(expected, abs=1e-9)
    assert gini(np.zeros(3)) == 0.0


def test_values_that_are_no_numbers_are_counted_and_left_out() -> None:
    values = {"x": np.array([[1.0, np.nan, np.inf, -3.0]]), "z": np.array([[0.0, 0.0]])}
    outcome = Outcome(values, np.array([2.0]), np.array([1.0]), complete=True)
    (figures,) = quality_figures(outcome, np.array([5]), np.array([0.5]))
    assert figures["nan_count"] == 2
    assert figures["max_abs"] == 3.0
    assert figures["completeness_gap"] == -3.0
    assert figures["completeness_gap_relative"] == 0.75
    assert (figures["evaluations"], figures["forward_gap"]) == (5, 0.5)


def test_nothing_attributed_and_nothing_to_attribute_is_no_gap() -> None:
    outcome = Outcome({"x": np.zeros((1, 3))}, np.array([2.0]), np.array([2.0]), complete=True)
    (figures,) = quality_figures(outcome, np.array([1]), np.zeros(1))
    assert (figures["completeness_gap"], figures["completeness_gap_relative"], figures["sparsity"]) == (0.0, 0.0, 0.0)


def test_the_largest_error_is_reported() -> None:
    found = attribute(mlp(), {"x": X}, "kernel_shap", background=BACKGROUND, n_samples=10, target=0)
    assert found.errors is not None
    assert [f["standard_error"] for f in found.quality] == found.errors["x"].max(axis=1).tolist()
    assert isinstance(found, explain.Attribution)

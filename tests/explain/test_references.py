"""What explanations compare with: what the rows weigh, what stands for one item or all, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import explain
from explain.references import check_weight, replacement_of
from tests.explain.graphs import attribute, mlp, mlp_twin, numbers, tensor

X, BACKGROUND, BASELINE = numbers(3, 4, seed=590), numbers(5, 4, seed=591), numbers(3, 4, seed=592)


def predict(rows: np.ndarray) -> np.ndarray:
    return np.asarray(mlp_twin(tensor(rows))[:, 0].numpy())


def test_shares_sum_to_one_and_are_equal_unless_given() -> None:
    np.testing.assert_allclose(check_weight({"x": BACKGROUND}, None), np.full(5, 0.2))
    np.testing.assert_allclose(check_weight({"x": BACKGROUND}, [1, 0, 3, 0, 4]), np.array([1, 0, 3, 0, 4]) / 8)
    assert check_weight(None, None).shape == (0,)


@pytest.mark.parametrize(
    "weight",
    [[1, 2], [[1, 2, 3, 4, 5]], [1, 1, 1, 1, -1], [0] * 5, [1, 1, 1, 1, np.nan], [1, 1, 1, 1, np.inf], "many", 3,
     [1, [2], 3, 4, 5]],
)  # fmt: skip
@pytest.mark.parametrize("method", ["exact_shap", "deep_shap"])
def test_what_are_no_weights_is_refused(method: str, weight: Any) -> None:
    sentence = "background_weight: expected 5 numbers of at least 0, one for each background row"
    with pytest.raises(explain.InvalidParameter, match=sentence):
        attribute(mlp(), {"x": X}, method, background=BACKGROUND, background_weight=weight, target=0)


def test_weights_need_a_background() -> None:
    with pytest.raises(explain.InvalidParameter, match="background_weight: came without a background"):
        attribute(mlp(), {"x": X}, "saliency", background_weight=[1.0], target=0)


def test_the_base_value_is_the_weighted_mean() -> None:
    weight = np.array([1, 0, 3, 0, 4.0])
    for method in (
        "exact_shap",
        "kernel_shap",
        "permutation_shap",
        "partition_shap",
        "deep_shap",
        "expected_gradients",
    ):
        found = attribute(mlp(), {"x": X}, method, background=BACKGROUND, background_weight=weight, target=0)
        np.testing.assert_allclose(
            found.base_values, np.full(3, np.average(predict(BACKGROUND), weights=weight)), rtol=1e-5
        )
        equal = attribute(mlp(), {"x": X}, method, background=BACKGROUND, target=0)
        assert equal.base_values is not None
        assert abs(equal.base_values[0] - np.average(predict(BACKGROUND), weights=weight)) > 1e-3


def test_what_stands_for_removed_elements() -> None:
    rows, one, own = {"x": BACKGROUND}, {"x": BASELINE[:1]}, {"x": BASELINE}
    weight = np.array([0.5, 0.5, 0, 0, 0])
    both = replacement_of(rows, weight, own)
    assert both is not None
    assert (both.rows["x"] is BACKGROUND, both.size, both.per_item) == (True, 5, False)
    np.testing.assert_array_equal(both.weight, weight)
    shared = replacement_of(None, np.ones(0), one)
    assert shared is not None
    assert (shared.rows["x"].shape, shared.size, shared.per_item) == ((1, 4), 1, False)
    each = replacement_of(None, np.ones(0), own)
    assert each is not None
    assert (each.rows["x"].shape, each.size, each.per_item) == ((3, 1, 4), 1, True)
    mixed = replacement_of(None, np.ones(0), {"x": BASELINE, "z": BASELINE[:1, :2]})
    assert mixed is not None
    assert mixed.rows["z"].shape == (3, 1, 2)
    assert replacement_of(None, np.ones(0), None) is None


@pytest.mark.parametrize("method", ["feature_ablation", "occlusion", "lime", "rise"])
def test_a_baseline_of_each_item_is_that_of_the_item_alone(method: str) -> None:
    together = attribute(mlp(), {"x": X}, method, baseline=BASELINE, target=0)
    for item in range(3):
        rows = slice(item, item + 1)
        alone = attribute(mlp(), {"x": X[rows]}, method, baseline=BASELINE[rows], target=0)
        assert explain.attribution_error(alone.values["x"][0], together.values["x"][item]) <= 2e-6
        swapped = attribute(mlp(), {"x": X[rows]}, method, baseline=BASELINE[item - 1], target=0)
        assert explain.attribution_error(swapped.values["x"][0], together.values["x"][item]) > 1e-3


@pytest.mark.parametrize("method", ["feature_ablation", "occlusion", "lime", "rise"])
def test_nothing_to_compare_with_is_refused(method: str) -> None:
    with pytest.raises(explain.MethodUnavailable, match=f"method {method} needs a background, a baseline"):
        attribute(mlp(), {"x": X}, method, target=0)


@pytest.mark.parametrize("method", ["exact_shap", "kernel_shap", "permutation_shap", "sampling_shap", "partition_shap"])
def test_a_baseline_is_no_background(method: str) -> None:
    with pytest.raises(explain.MethodUnavailable, match=f"method {method} needs a background, and none was given"):
        attribute(mlp(), {"x": X}, method, baseline=BASELINE, target=0)

"""`linear_shap`: the closed form on models that are affine in their encoded inputs, refused by name on others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler

import explain
from tests.explain.forests import exported, rows, shapley, smooth, worths
from tests.explain.graphs import attribute, cnn, made, mlp, numbers

X, BACKGROUND = rows(200, 5), rows(40, 5, seed=1)
SHARE = np.random.default_rng(2).uniform(0, 1, 40)
THIRDS = np.digitize(smooth(X), [-0.7, 0.7])


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_it_is_the_slope_times_the_distance_from_the_mean(scaled: bool) -> None:
    linear = LogisticRegression()
    estimator = make_pipeline(StandardScaler(with_std=scaled), linear).fit(X, THIRDS)
    spread = estimator[0].scale_ if scaled else np.ones(5)
    model = exported(estimator, X)
    mean = np.average(BACKGROUND, axis=0, weights=SHARE)
    for target in range(3):
        found = attribute(
            model, {"X": X[:6]}, "linear_shap", background=BACKGROUND, background_weight=SHARE, target=target
        )
        expected = linear.coef_[target] / spread * (X[:6] - mean)
        assert explain.attribution_error(found.values["X"], expected) <= 1e-5
        base = np.average(estimator.decision_function(BACKGROUND)[:, target], weights=SHARE)
        np.testing.assert_allclose(found.base_values, base, rtol=1e-4, atol=1e-5)
        assert found.units == "logit"
        assert max(figures["completeness_gap_relative"] for figures in found.quality) <= 1e-5
        assert max(figures["forward_gap"] for figures in found.quality) <= 1e-5


def test_it_is_exact_shap_and_kernel_shap() -> None:
    model = exported(Ridge().fit(X, smooth(X)), X)
    options = {"background": BACKGROUND, "background_weight": SHARE}
    found = attribute(model, {"X": X[:5]}, "linear_shap", **options)
    for method in ("exact_shap", "kernel_shap"):
        other = attribute(model, {"X": X[:5]}, method, **options)
        assert explain.attribution_error(found.values["X"], other.values["X"]) <= 1e-4
        np.testing.assert_allclose(found.base_values, other.base_values, atol=1e-5)


def test_a_code_has_the_sum_over_its_block() -> None:
    codes = np.random.default_rng(3).integers(0, 4, (60, 2))
    estimator = make_pipeline(OneHotEncoder(), LinearRegression())
    estimator.fit(codes, codes[:, 0] ** 2 - (codes[:, 1] == 2))
    table = np.concatenate([estimator[1].coef_[:4], estimator[1].coef_[4:]]).astype(np.float32)
    nodes: Any = [
        ("Add", ["codes", "starts"], ["places"]),
        ("Gather", ["table", "places"], ["parts"]),
        ("ReduceSum", ["parts", "axes"], ["sum"]),
        ("Add", ["sum", "bias"], ["y"]),
    ]
    weights = {"starts": np.array([0, 4]), "table": table, "axes": np.array([1]), "bias": np.float32(0.5)}
    model = made(nodes, {"codes": ("int64", ["n", 2])}, {"y": ("float32", ["n", 1])}, weights)
    found = attribute(model, {"codes": codes[:5]}, "linear_shap", background=codes[10:30])
    f = lambda given: table[given + np.array([0, 4])].sum(axis=1, keepdims=True)  # noqa: E731
    for item in range(5):
        expected = shapley(worths(f, codes[item], codes[10:30]))
        np.testing.assert_allclose(found.values["codes"][item][None], expected, atol=1e-5)


def test_mixed_columns_of_a_pipeline() -> None:
    """One-hot blocks of columns of numbers, which no gradient passes, are encodings like others."""
    x = np.hstack([X[:, :2], np.random.default_rng(4).integers(0, 3, (200, 1))]).astype(np.float32)
    encoded = make_column_transformer((StandardScaler(), [0, 1]), (OneHotEncoder(), [2]))
    model = exported(make_pipeline(encoded, LinearRegression()).fit(x, x[:, 0] + (x[:, 2] == 1)), x)
    options = {"background": x[:50], "background_weight": np.arange(50.0), "groups": {"X": [0, 1, 0]}}
    for given in ({"background": x[:50]}, options):
        found = attribute(model, {"X": x[:4]}, "linear_shap", **given)
        exact = attribute(model, {"X": x[:4]}, "exact_shap", **given)
        for name, phi in exact.values.items():
            assert explain.attribution_error(found.values[name], phi) <= 1e-4
        np.testing.assert_allclose(found.base_values, exact.base_values, atol=1e-5)


def test_functions_of_single_elements_are_encodings_too() -> None:
    """An additive model: 2 x0^2 - tanh(x1) / 2 + x1."""
    nodes: Any = [
        ("Mul", ["x", "x"], ["squares"]),
        ("Tanh", ["x"], ["bent"]),
        ("Gemm", ["squares", "a"], ["p"]),
        ("Gemm", ["bent", "b", "p"], ["q"]),
        ("MatMul", ["x", "c"], ["r"]),
        ("Add", ["q", "r"], ["y"]),
    ]
    weights = {"a": [[2.0], [0.0]], "b": [[0.0], [-0.5]], "c": [[0.0], [1.0]]}
    constants = {name: np.array(value, np.float32) for name, value in weights.items()}
    model = made(nodes, {"x": ("float32", ["n", 2])}, {"y": ("float32", ["n", 1])}, constants)
    x, background = numbers(5, 2), numbers(30, 2, seed=1)
    found = attribute(model, {"x": x}, "linear_shap", background=background)
    parts = [np.stack([2 * t[:, 0] ** 2, t[:, 1] - np.tanh(t[:, 1]) / 2], axis=1) for t in (x, background)]
    assert explain.attribution_error(found.values["x"], parts[0] - parts[1].mean(axis=0)) <= 1e-5


def test_what_bends_is_named() -> None:
    network = exported(
        MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, tol=1e9, n_iter_no_change=1, random_state=0).fit(
            X, smooth(X)
        ),
        X,
    )
    norm = exported(make_pipeline(Normalizer(), LinearRegression()).fit(X, smooth(X)), X)
    for model, op in ((network, "Relu"), (norm, ""), (mlp(), "Tanh"), (cnn(), "Relu")):
        reason = explain.coverage(model).refused["linear_shap"]
        assert f"operator {op}" in reason
        assert "not affine in the inputs" in reason
    nodes: Any = [("Split", ["x"], ["a", "b"], {"axis": 1, "num_outputs": 2}), ("Mul", ["a", "b"], ["y"])]
    product = made(nodes, {"x": ("float32", ["n", 2])}, {"y": ("float32", ["n", 1])})
    assert "operator Mul" in explain.coverage(product).refused["linear_shap"]
    with pytest.raises(explain.MethodUnavailable, match="operator Mul"):
        attribute(product, {"x": numbers(2, 2)}, "linear_shap", background=numbers(3, 2), target=0)

"""The checks of gradients see agreement, and see disagreement."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import explain
from tests.explain.graphs import mlp, numbers, run, serve

X = {"x": numbers(1, 4, seed=170)}


def served(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(serve(mlp(), inputs)["z"][0, 1])


def gradient() -> np.ndarray:
    cotangent = np.array([[0, 1, 0]], dtype=np.float32)
    return run(explain.compile(mlp(), "vjp"), X | {"z.cotangent": cotangent})["x.gradient"]


def test_finite_difference_of_a_function_known_by_hand() -> None:
    point = {"x": np.array([1.0, 2.0]), "other": np.array([3.0])}
    found = explain.finite_difference(
        lambda at: at["x"][0] ** 2 * at["x"][1] * at["other"][0], point, "x", np.array([1.0, 1.0]), step=1e-5
    )
    assert found == pytest.approx(3 * (2 * 1 * 2 + 1), rel=1e-6)


def test_finite_difference_keeps_the_dtype_of_the_model() -> None:
    seen = []
    explain.finite_difference(lambda at: seen.append(at["x"].dtype) or np.zeros(()), X, "x", np.ones((1, 4)))  # type: ignore[func-returns-value]  # for its effect
    assert seen == [np.float32, np.float32]


def test_a_right_gradient_passes_the_dot_test() -> None:
    assert explain.dot_test(served, gradient(), X, "x") < 5e-3


@pytest.mark.parametrize("spoil", [lambda g: g * 1.1, lambda g: g[:, ::-1], lambda g: g + 0.2, lambda g: g * 0])
def test_a_wrong_gradient_fails_the_dot_test(spoil: object) -> None:
    assert callable(spoil)
    assert explain.dot_test(served, spoil(gradient()), X, "x", probes=8) > 5e-2


def test_gradient_error_by_hand() -> None:
    found = np.array([[3.0, 4.0], [1.0, 1.0], [0.0, 0.0]])
    expected = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(explain.gradient_error(found, expected), [4 / 3, 0, 0])
    assert explain.gradient_error(np.ones((1, 2)), np.zeros((1, 2)))[0] > 1e100


def test_attribution_error_by_hand() -> None:
    assert explain.attribution_error(np.array([1.0, -2.0]), np.array([1.0, -4.0])) == 0.5
    assert explain.attribution_error(np.zeros(2), np.zeros(2)) == 0.0
    assert explain.attribution_error(np.array([0.5]), np.zeros(1)) == 0.5
    assert explain.attribution_error(np.zeros(0), np.zeros(0)) == 0.0

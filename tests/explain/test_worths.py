"""What coalitions are worth does not depend on how they are evaluated: in parts, in blocks, once or again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import explain
from explain.plans import base, worths
from tests.explain.games import shapley, worth_of
from tests.explain.graphs import attribute, made, mlp, numbers, run

X, BACKGROUND = numbers(3, 4, seed=640), numbers(5, 4, seed=641)


def programs_of(model: Any, inputs: Any, method: str, **options: Any) -> tuple[explain.Attribution, list[str]]:
    """The answer, and the names of the programs that were run for it."""
    seen = []

    def noting(program: explain.Program, feeds: Any) -> dict[str, np.ndarray]:
        seen.append(program.name)
        return run(program, feeds)

    return explain.attribute(model, inputs, method=method, run=noting, **options), seen


@pytest.mark.parametrize("method", ["exact_shap", "kernel_shap", "lime", "feature_ablation"])
def test_in_parts_in_blocks_and_in_small_runs_it_is_the_same(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {"background": BACKGROUND, "target": 0}
    parts, seen = programs_of(mlp(), {"x": X}, method, **given)
    assert {"masked_layer", "masked_rest"} <= set(seen)
    monkeypatch.setattr(worths, "ELEMENTS", 40)
    small, many = programs_of(mlp(), {"x": X}, method, **given)
    assert len(many) > len(seen)
    monkeypatch.setattr(worths, "HELD", 0)
    blocks, others = programs_of(mlp(), {"x": X}, method, **given)
    assert "masked_rest" not in others
    monkeypatch.setattr(base, "ROWS_PER_RUN", 3)
    cut, most = programs_of(mlp(), {"x": X}, method, **given)
    assert len(most) > len(others)
    for found in (small, blocks, cut):
        assert explain.attribution_error(found.values["x"], parts.values["x"]) <= 2e-6
        assert [f["evaluations"] for f in found.quality] == [f["evaluations"] for f in parts.quality]


def test_equal_coalitions_are_evaluated_once() -> None:
    random = np.random.default_rng(642)
    masks = random.integers(2, size=(60, 4))
    masks[:4] = 1 - np.eye(4)
    distinct = len({row.tobytes() for row in masks})
    assert distinct < 20
    given: dict[str, Any] = {"background": BACKGROUND, "target": 0, "coalitions": masks.tolist()}
    found = attribute(mlp(), {"x": X}, "lime", **given)
    assert found.quality[0]["evaluations"] == distinct * len(BACKGROUND) + 1


def logarithms() -> explain.Model:
    """A logarithm in front of the first layer: of 0 it is no number that adds up, and its sigmoid is 0."""
    nodes: Any = [
        ("Log", ["x"], ["l"]),
        ("MatMul", ["l", "w"], ["h"]),
        ("Sigmoid", ["h"], ["s"]),
        ("MatMul", ["s", "v"], ["y"]),
    ]
    weights = {"w": np.abs(numbers(3, 4, seed=643)), "v": numbers(4, 1, seed=644)}
    return explain.Model(made(nodes, {"x": ("float32", ["n", 3])}, {"y": ("float32", ["n", 1])}, weights))


def test_an_item_whose_first_layer_is_infinite_goes_through_the_whole_model() -> None:
    model = logarithms()
    w, v = np.abs(numbers(3, 4, seed=643)).astype(float), numbers(4, 1, seed=644).astype(float)

    def predict(rows: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", over="ignore"):
            return np.asarray(1 / (1 + np.exp(-(np.log(rows.astype(float)) @ w))) @ v)[:, 0]

    x = np.array([[1, 2, 3], [0.5, 0, 2], [2, 1, 1]], np.float32)
    for rows in (np.array([[0, 1, 2], [1, 3, 0.5]], np.float32), np.array([[4, 1, 2], [1, 3, 0.5]], np.float32)):
        found, seen = programs_of(model, {"x": x}, "exact_shap", background=rows, target=0)
        for item in range(3):
            expected = shapley(worth_of(predict, x[item], rows), 3)
            assert explain.attribution_error(found.values["x"][item], expected) <= 1e-5
        assert ("masked_rest" in seen) == bool((rows > 0).all())

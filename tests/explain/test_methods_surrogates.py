"""LIME is Captum's with a ridge of scikit-learn, RISE the plain loop over its masks; their intervals hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from sklearn.linear_model import Ridge

import explain
from explain.methods.lime import kernel
from explain.methods.rise import _grid
from tests.explain.games import worth_of
from tests.explain.graphs import attribute, made, mlp, mlp_twin, numbers, tensor

X, BASELINE, BACKGROUND = numbers(3, 4, seed=560), numbers(3, 4, seed=561), numbers(5, 4, seed=562)
ALL = (np.arange(16)[:, None] >> np.arange(4)) & 1


def predict(rows: np.ndarray) -> np.ndarray:
    return np.asarray(mlp_twin(tensor(rows))[:, 1].numpy())


def drawn(count: int, players: int = 4, seed: int = 0) -> np.ndarray:
    return np.array([np.random.default_rng([seed, k]).random(players) < 0.5 for k in range(count)], dtype=float)


def worths(x: np.ndarray, masks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    worth = worth_of(predict, x, rows)
    return np.array([worth(frozenset(np.flatnonzero(mask).tolist())) for mask in masks])


def near(masks: np.ndarray, width: float) -> np.ndarray:
    """The weights of coalitions by the cosine of the angle to the one with all."""
    cosine = [mask.sum() / (np.sqrt(len(mask)) * np.sqrt(max(mask.sum(), 1))) for mask in masks]
    return np.exp(-((1 - np.array(cosine)) ** 2) / width**2)


class RidgeOf:
    """scikit-learn's ridge as Captum's LimeBase trains it."""

    def __init__(self, alpha: float) -> None:
        self.model = Ridge(alpha=alpha)

    def fit(self, data: Any) -> dict[str, Any]:
        parts = [np.concatenate(part) for part in zip(*[[t.numpy() for t in batch] for batch in data], strict=True)]
        self.model.fit(parts[0], parts[1].ravel(), parts[2].ravel())
        return {}

    def representation(self) -> torch.Tensor:
        return torch.tensor(self.model.coef_)


@pytest.mark.parametrize("alpha", [1.0, 0.01])
@pytest.mark.parametrize("width", [0.25, 0.8])
def test_captums_lime_with_a_ridge_of_scikit_learn(alpha: float, width: float) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    masks = drawn(60)
    options: dict[str, Any] = {"baseline": BASELINE, "target": 1, "kernel_width": width, "alpha": alpha}
    found = attribute(mlp(), {"x": X}, "lime", n_samples=60, **options)
    for item in range(3):
        left = iter(masks)
        base = tensor(BASELINE[item])

        def similar(_: Any, __: Any, mask: torch.Tensor, **___: Any) -> float:
            return float(near(mask.numpy(), width)[0])

        judge = captum.LimeBase(
            mlp_twin,
            RidgeOf(alpha),
            similarity_func=similar,
            perturb_func=lambda _, left=left, **__: tensor(next(left))[None],
            perturb_interpretable_space=True,
            from_interp_rep_transform=lambda mask, x, base=base, **_: mask * x + (1 - mask) * base,
            to_interp_rep_transform=None,
        )
        judged = judge.attribute(tensor(X[item : item + 1]), target=1, n_samples=60).numpy()
        assert explain.attribution_error(found.values["x"][item], judged.reshape(-1)) <= 1e-5
    other = attribute(mlp(), {"x": X}, "lime", n_samples=60, **options | {"kernel_width": width * 2})
    assert explain.attribution_error(other.values["x"], found.values["x"]) > 1e-3


@pytest.mark.parametrize("alpha", [0.0, 1.0, 50.0])
def test_the_closed_form_over_all_coalitions(alpha: float) -> None:
    """(X'WX + alpha I)^-1 X'Wy with an intercept that is not shrunk, over a background of several rows."""
    given: dict[str, Any] = {"background": BACKGROUND, "target": 1, "coalitions": ALL.tolist(), "alpha": alpha}
    found = attribute(mlp(), {"x": X}, "lime", **given)
    weight = np.diag(near(ALL, 0.25))
    design = np.column_stack([ALL, np.ones(16)])
    shrink = np.diag([alpha] * 4 + [0])
    for item, x in enumerate(X):
        f = worths(x, ALL, BACKGROUND)
        expected = np.linalg.solve(design.T @ weight @ design + shrink, design.T @ weight @ f)
        assert explain.attribution_error(found.values["x"][item], expected[:4]) <= 1e-5
    assert found.base_values is None
    np.testing.assert_allclose(kernel(ALL.astype(float), 0.25), np.diag(weight), rtol=1e-12)


def test_lime_of_groups_and_of_an_own_reference() -> None:
    groups = {"x": np.array([0, 1, 0, -1])}
    found = attribute(
        mlp(), {"x": X}, "lime", baseline=BASELINE, target=1, groups=groups, n_samples=40, alpha=0.5, seed=4
    )
    masks = drawn(40, 2, seed=4)
    for item, x in enumerate(X):
        worth = worth_of(predict, x, BASELINE[item : item + 1], groups["x"])
        f = np.array([worth(frozenset(np.flatnonzero(mask).tolist())) for mask in masks])
        judge = Ridge(alpha=0.5).fit(masks, f, near(masks, 0.25))
        assert explain.attribution_error(found.values["groups"][item], judge.coef_) <= 1e-5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"coalitions": [[1, 0, 1]]}, "parameter 'coalitions': expected K rows of 4 numbers 0 and 1"),
        ({"coalitions": [[1, 0, 1, 0.5], [1, 1, 1, 1]]}, "parameter 'coalitions'"),
        ({"coalitions": [[1, 0], [1]]}, "parameter 'coalitions'"),
        ({"n_samples": 3, "alpha": 0}, "parameter 'n_samples': 3 coalitions do not tell 4 groups apart"),
        ({"kernel_width": 0}, "parameter 'kernel_width': came 0"),
    ],
)
def test_what_lime_refuses(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(explain.InvalidParameter, match=sentence):
        attribute(mlp(), {"x": X}, "lime", baseline=0.0, target=1, **options)


SIZES, CELLS = (9, 14), [4, 5]


def grids(count: int, keep: float, seed: int = 0) -> np.ndarray:
    return np.array([_grid(np.random.default_rng([seed, k]), SIZES, CELLS, keep) for k in range(count)])


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_masks_are_kept_as_often_as_asked_and_smooth(keep: float) -> None:
    found = grids(3000, keep)
    assert found.shape == (3000, *SIZES)
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    far = 4.5 * np.sqrt(keep * (1 - keep) / 3000)
    assert (np.abs(found.mean(axis=0) - keep) <= far).all()
    steps = [-(-size // cells) for size, cells in zip(SIZES, CELLS, strict=True)]
    for axis, step in enumerate(steps):
        assert np.abs(np.diff(found, axis=axis + 1)).max() <= 1 / step + 1e-12
    assert (np.abs(grids(3000, keep / 2).mean(axis=0) - keep) > far).all()


def test_a_mask_is_its_grid_enlarged_bilinearly() -> None:
    for k in range(20):
        random = np.random.default_rng([0, k])
        grid = (random.random((CELLS[0] + 1, CELLS[1] + 1)) < 0.5).astype(float)
        steps = [-(-size // cells) for size, cells in zip(SIZES, CELLS, strict=True)]
        places = [(np.arange(size) + random.integers(step)) / step for size, step in zip(SIZES, steps, strict=True)]
        expected = map_coordinates(grid, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
        np.testing.assert_allclose(_grid(np.random.default_rng([0, k]), SIZES, CELLS, 0.5), expected, atol=1e-12)


HEAD = numbers(3 * 9 * 14, 2, seed=563, scale=0.2)


def picture() -> tuple[explain.Model, Callable[[np.ndarray], np.ndarray]]:
    nodes: Any = [
        ("Tanh", ["x"], ["t"]),
        ("Flatten", ["t"], ["f"]),
        ("MatMul", ["f", "w"], ["h"]),
        ("Tanh", ["h"], ["y"]),
    ]
    model = made(nodes, {"x": ("float32", ["n", 3, *SIZES])}, {"y": ("float32", ["n", 2])}, {"w": HEAD})
    return explain.Model(model), lambda x: np.tanh(np.tanh(x.astype(float)).reshape(len(x), -1) @ HEAD)[:, 0]


def test_rise_is_the_plain_loop_over_its_masks() -> None:
    model, twin = picture()
    x, base = numbers(2, 3, *SIZES, seed=564), numbers(1, 3, *SIZES, seed=565)
    found = attribute(model, {"x": x}, "rise", baseline=base, target=0, n_masks=50, cells=5, keep=0.4, seed=2)
    masks = np.array([_grid(np.random.default_rng([2, k]), SIZES, [5, 5], 0.4) for k in range(50)])
    for item in range(2):
        total = np.zeros(SIZES)
        for mask in masks:
            total += float(twin((mask * x[item] + (1 - mask) * base[0])[None])[0]) * mask / 0.4 / 50
        for channel in range(3):
            assert explain.attribution_error(found.values["x"][item, channel], total) <= 1e-5
    other = attribute(model, {"x": x}, "rise", baseline=base, target=0, n_masks=50, cells=5, keep=0.4, seed=3)
    assert explain.attribution_error(other.values["x"], found.values["x"]) > 1e-3


def test_rise_of_groups_keeps_each_by_itself() -> None:
    groups = {"x": np.array([0, 1, 1, 2])}
    found = attribute(mlp(), {"x": X}, "rise", background=BACKGROUND, target=1, groups=groups, n_masks=30, keep=0.3)
    masks = (np.random.default_rng([0, 0]).random((64, 3))[:30] < 0.3).astype(float)
    for item, x in enumerate(X):
        worth = worth_of(predict, x, BACKGROUND, groups["x"])
        f = np.array([worth(frozenset(np.flatnonzero(mask).tolist())) for mask in masks])
        assert explain.attribution_error(found.values["groups"][item], f @ masks / 30 / 0.3) <= 1e-5


def covered(method: str, truth: np.ndarray, widen: float = 1.0, **options: Any) -> float:
    """How many of the intervals of 150 seeds hold the truth [items, 4]."""
    model, hits = explain.Model(mlp()), []
    for seed in range(150):
        found = attribute(model, {"x": X}, method, background=BACKGROUND, target=1, seed=seed, **options)
        assert found.half_widths is not None
        hits.append(np.abs(found.values["x"] - truth) <= widen * found.half_widths["x"])
    return float(np.mean(hits))


def test_intervals_of_lime_hold_what_all_coalitions_together_say() -> None:
    given: dict[str, Any] = {"background": BACKGROUND, "target": 1, "alpha": 0.0, "kernel_width": 0.8}
    truth = attribute(mlp(), {"x": X}, "lime", coalitions=ALL.tolist(), **given).values["x"]
    options = {"n_samples": 120, "alpha": 0.0, "kernel_width": 0.8}
    assert 0.92 <= covered("lime", truth, **options) <= 0.98
    assert covered("lime", truth, 0.6, **options) < 0.85


def test_intervals_of_rise_hold_the_mean_over_all_coalitions() -> None:
    groups = {"x": np.array([0, 1, 2, 3])}
    truth = np.array([worths(x, ALL, BACKGROUND) @ ALL / 16 / 0.5 for x in X])
    model, hits, narrow = explain.Model(mlp()), [], []
    for seed in range(150):
        given: dict[str, Any] = {"background": BACKGROUND, "target": 1, "groups": groups, "seed": seed}
        found = attribute(model, {"x": X}, "rise", n_masks=100, **given)
        assert found.half_widths is not None
        off = np.abs(found.values["groups"] - truth)
        hits.append(off <= found.half_widths["groups"])
        narrow.append(off <= 0.6 * found.half_widths["groups"])
    assert 0.92 <= np.mean(hits) <= 0.98
    assert np.mean(narrow) < 0.85


@pytest.mark.parametrize("method", ["lime", "rise"])
def test_they_stop_by_tolerance_with_errors_that_are_small(method: str) -> None:
    count = {"lime": "n_samples", "rise": "n_masks"}[method]
    given: dict[str, Any] = {"background": BACKGROUND, "target": 1, count: 20000, "tolerance": 0.1}
    found = attribute(mlp(), {"x": X}, method, **given)
    assert {figures["stopped_by"] for figures in found.quality} == {"tolerance"}
    assert found.errors is not None
    for item in range(3):
        assert found.errors["x"][item].max() <= 0.1 * np.abs(found.values["x"][item]).max()
        alone = attribute(mlp(), {"x": X[item : item + 1]}, method, **given)
        assert explain.attribution_error(alone.values["x"][0], found.values["x"][item]) <= 1e-6
        assert alone.quality[0]["evaluations"] == found.quality[item]["evaluations"]
    few = attribute(mlp(), {"x": X}, method, **given | {count: 20, "tolerance": 1e-9})
    assert {figures["stopped_by"] for figures in few.quality} == {"max_evals"}

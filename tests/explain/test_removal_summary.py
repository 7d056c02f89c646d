"""A summary of a background is as good as scikit-learn's, keeps codes valid, and weighs what its clusters weigh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

from explain import InvalidParameter
from explain.removal import summarise
from tests.explain.graphs import numbers


def blobs(rows: int, kinds: int, columns: int, seed: int = 0) -> np.ndarray:
    """Rows [B, D] around a few centres, columns of very different scales."""
    random = np.random.default_rng(seed)
    centres = 3 * random.standard_normal((kinds, columns))
    points = centres[random.integers(0, kinds, rows)] + random.standard_normal((rows, columns))
    return np.asarray(points * np.logspace(-2, 3, columns) + 7)


def scaled(rows: np.ndarray, weight: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Columns standardised as those of another array."""
    middle = np.average(like, axis=0, weights=weight)
    return (rows - middle) / np.sqrt(np.average((like - middle) ** 2, axis=0, weights=weight))


@pytest.mark.parametrize(("size", "seed"), [(3, 0), (8, 1), (20, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_k_means_is_as_tight_as_that_of_scikit_learn(size: int, seed: int, weighted: bool) -> None:
    rows = blobs(300, 6, 5, seed)
    weight = np.random.default_rng(seed).random(300) + 0.1 if weighted else np.ones(300)
    found, shares = summarise({"x": rows}, size, seed=seed, weights=weight)
    points, centres = scaled(rows, weight, rows), scaled(found["x"], weight, rows)
    squared = ((points[:, None] - centres) ** 2).sum(axis=2)
    judge = KMeans(size, n_init=10, random_state=0).fit(points, sample_weight=weight)
    assert weight @ squared.min(axis=1) <= 1.05 * judge.inertia_
    expected = np.bincount(squared.argmin(axis=1), weight, minlength=size) / weight.sum()
    np.testing.assert_allclose(shares, expected, atol=1e-9)
    for cluster, centre in enumerate(found["x"]):
        own = squared.argmin(axis=1) == cluster
        np.testing.assert_allclose(centre, np.average(rows[own], axis=0, weights=weight[own]), rtol=1e-6)


def test_the_weighted_mean_of_the_background_is_kept() -> None:
    rows, weight = blobs(200, 4, 3), np.random.default_rng(1).random(200)
    found, shares = summarise({"x": rows}, 7, weights=weight)
    np.testing.assert_allclose(shares @ found["x"], np.average(rows, axis=0, weights=weight), rtol=1e-9)


def test_a_row_that_weighs_more_is_as_many_rows() -> None:
    rows = blobs(60, 3, 2)
    counts = np.random.default_rng(3).integers(1, 4, 60)
    found, shares = summarise({"x": rows}, 3, weights=counts)
    repeated, same = summarise({"x": np.repeat(rows, counts, axis=0)}, 3)
    np.testing.assert_allclose(found["x"], repeated["x"], rtol=1e-9)
    np.testing.assert_allclose(shares, same, atol=1e-12)


def test_inputs_are_clustered_together_and_codes_stay_codes() -> None:
    kind = np.random.default_rng(2).integers(0, 4, 200)
    background = {
        "row": (numbers(200, 3, seed=4, scale=0.1) + 10 * kind[:, None]).astype(np.float32),
        "code": np.stack([10 * kind + 7, 3 * kind], axis=1),
        "flag": (kind % 2 == 0)[:, None],
    }
    found, weight = summarise(background, 4)
    assert {name: rows.dtype for name, rows in found.items()} == {n: a.dtype for n, a in background.items()}
    for row, code, flag, share in zip(found["row"], found["code"], found["flag"], weight, strict=True):
        which = round(float(row.mean()) / 10)
        assert code.tolist() == [10 * which + 7, 3 * which]
        assert flag.tolist() == [which % 2 == 0]
        assert share == pytest.approx((kind == which).mean())


def test_a_code_is_that_of_the_row_nearest_to_the_centre() -> None:
    codes = np.array([[0], [1], [5], [100], [104]])
    found, weight = summarise({"x": codes}, 2)
    assert found["x"].tolist() == [[1], [100]]
    np.testing.assert_allclose(weight, [0.6, 0.4])


def test_images_are_summarised_in_their_shape() -> None:
    found, weight = summarise({"x": numbers(30, 3, 4, 5)}, 6)
    assert found["x"].shape == (6, 3, 4, 5)
    assert found["x"].dtype == np.float32
    assert weight.sum() == pytest.approx(1)


def test_fewer_different_rows_than_asked_are_all_of_them() -> None:
    rows = np.repeat(np.array([[0.0, 1], [2, 1], [5, 1]]), [5, 3, 2], axis=0)
    found, weight = summarise({"x": rows}, 6)
    assert found["x"].tolist() == [[0, 1], [2, 1], [5, 1]]
    np.testing.assert_allclose(weight, [0.5, 0.3, 0.2])
    same, all_of_it = summarise({"x": np.ones((9, 2))}, 4)
    assert same["x"].tolist() == [[1, 1]]
    assert all_of_it.tolist() == [1]


@pytest.mark.parametrize("kind", ["kmeans", "sample"])
def test_a_small_background_stays_as_it_is(kind: str) -> None:
    rows = numbers(5, 3)
    found, weight = summarise({"x": rows}, 5, kind=kind, weights=[1, 1, 2, 2, 2])
    np.testing.assert_array_equal(found["x"], rows)
    np.testing.assert_allclose(weight, [0.125, 0.125, 0.25, 0.25, 0.25])


def test_a_sample_has_rows_of_the_background_once_and_in_order() -> None:
    rows, weight = np.arange(40), np.arange(40) % 4
    found, share = summarise({"x": rows[:, None], "y": 2 * rows[:, None]}, 12, kind="sample", seed=3, weights=weight)
    drawn = found["x"][:, 0]
    assert len(set(drawn.tolist())) == 12
    assert drawn.tolist() == sorted(drawn.tolist())
    assert (drawn % 4 > 0).all(), "rows without weight are not drawn"
    np.testing.assert_array_equal(found["y"], 2 * found["x"])
    np.testing.assert_allclose(share, weight[drawn] / weight[drawn].sum())
    strings = {"x": np.array([["a"], ["b"], ["c"]], dtype=object)}
    assert len(summarise(strings, 2, kind="sample")[0]["x"]) == 2


@pytest.mark.parametrize("kind", ["kmeans", "sample"])
def test_the_seed_decides(kind: str) -> None:
    rows = {"x": numbers(80, 4)}
    first, again, other = (summarise(rows, 9, kind=kind, seed=seed)[0]["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("background", "options", "message"),
    [
        ({"x": numbers(4, 2) * np.nan}, {}, "background of 'x': holds NaN or infinity"),
        ({"x": np.zeros((0, 2))}, {}, r"came x \[0, 2\], expected the same number of rows"),
        ({"x": np.zeros((4, 0))}, {}, "expected the same number of rows"),
        ({"x": np.zeros((4, 2)), "y": np.zeros((3, 2))}, {}, "expected the same number of rows"),
        ({}, {}, "came nothing"),
        ({"x": numbers(4, 2)}, {"size": 0}, "size: came 0, expected a whole number of at least 1"),
        ({"x": numbers(4, 2)}, {"size": 1.5}, "size: came 1.5"),
        ({"x": numbers(4, 2)}, {"seed": -1}, "seed: came -1"),
        ({"x": numbers(4, 2)}, {"kind": "median"}, "kind: came 'median', expected kmeans or sample"),
        ({"x": numbers(4, 2)}, {"weights": [1, 2]}, "weights: expected 4 numbers of at least 0"),
        ({"x": numbers(4, 2)}, {"weights": ["a"] * 4}, "weights: expected 4 numbers"),
        ({"x": numbers(4, 2)}, {"weights": [0, 0, 0, 0]}, "weights: expected 4 numbers"),
        ({"x": np.array([["a"], ["b"], ["c"]], dtype=object)}, {}, "object has no mean; expected kind 'sample'"),
    ],
)
def test_what_makes_no_sense_is_refused(background: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        summarise(background, **({"size": 2} | options))

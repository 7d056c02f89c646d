"""Methods that remove groups at the sizes they are used at: pictures of 224 x 224, 128 tokens, 100 columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import explain
from tests.explain.games import joined, mean_over, orders_within, worth_of
from tests.explain.graphs import attribute, made, numbers, taken_turns, tensor

SIDE, SEGMENTS = 224, 50
KERNEL, BIAS, HEAD = numbers(6, 3, 7, 7, seed=600, scale=0.1), numbers(6, seed=601), numbers(6, 2, seed=602)


def picture_net() -> explain.Model:
    nodes: Any = [
        ("Conv", ["image", "k", "b"], ["c"], {"strides": [7, 7]}),
        ("Relu", ["c"], ["r"]),
        ("MaxPool", ["r"], ["m"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("GlobalAveragePool", ["m"], ["g"]),
        ("Flatten", ["g"], ["f"]),
        ("MatMul", ["f", "w"], ["z"]),
        ("Softmax", ["z"], ["p"]),
    ]
    specs: Any = {"image": ("float32", ["n", 3, SIDE, SIDE])}
    weights = {"k": KERNEL, "b": BIAS, "w": HEAD}
    return explain.Model(made(nodes, specs, {"p": ("float32", ["n", 2])}, weights))


def picture_twin(images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        c = torch.relu(torch.nn.functional.conv2d(tensor(images), tensor(KERNEL), tensor(BIAS), stride=7))
        return np.asarray((torch.nn.functional.max_pool2d(c, 2).mean(dim=(2, 3)) @ tensor(HEAD)).numpy()[:, 1])


def label_map(seed: int) -> np.ndarray:
    """The nearest of 50 random points, the same in all channels [3, 224, 224]."""
    points = np.random.default_rng(seed).uniform(0, SIDE, (SEGMENTS, 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    far = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    return np.broadcast_to(far.argmin(axis=-1), (3, SIDE, SIDE))


def constrained(masks: np.ndarray, weights: np.ndarray, f: np.ndarray, none: float, every: float) -> np.ndarray:
    """Kernel SHAP's weighted least squares with the constraint on the sum, by its Lagrangian."""
    players = masks.shape[1]
    system = np.zeros((players + 1, players + 1))
    system[:players, :players] = masks.T @ (weights[:, None] * masks)
    system[:players, players] = system[players, :players] = 1.0
    right = np.append(masks.T @ (weights * (f - none)), every - none)
    return np.asarray(np.linalg.solve(system, right)[:players])


def coalitions(players: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    masks = (random.random((count, players)) < random.uniform(0.2, 0.8, (count, 1))).astype(float)
    return masks, random.uniform(0.5, 2.0, count)


def by_kernel(worth: Callable[[frozenset[int]], float], masks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    f = np.array([worth(frozenset(np.flatnonzero(mask).tolist())) for mask in masks])
    players = masks.shape[1]
    return constrained(masks, weights, f, worth(frozenset()), worth(frozenset(range(players))))


@pytest.fixture(scope="module")
def pictures() -> tuple[explain.Model, np.ndarray, np.ndarray]:
    images = np.repeat(np.repeat(numbers(2, 3, 28, 28, seed=603), 8, axis=2), 8, axis=3)
    return picture_net(), images, np.stack([label_map(604), label_map(605)])


def test_kernel_shap_of_a_pictures_own_segments(pictures: Any) -> None:
    model, images, labels = pictures
    masks, weights = coalitions(SEGMENTS, 90, 606)
    given: dict[str, Any] = {"background": np.full((1, 3, SIDE, SIDE), 0.1, np.float32), "target": 1}
    given |= {"coalitions": masks.tolist(), "coalition_weights": weights.tolist()}
    together = attribute(model, {"image": images}, "kernel_shap", groups={"image": labels}, **given)
    for item in range(2):
        worth = worth_of(picture_twin, images[item], given["background"], labels[item])
        expected = by_kernel(worth, masks, weights)
        assert explain.attribution_error(together.values["groups"][item], expected) <= 1e-4
    alone = attribute(model, {"image": images[1:]}, "kernel_shap", groups={"image": labels[1:]}, **given)
    assert explain.attribution_error(alone.values["groups"][0], together.values["groups"][1]) <= 1e-6
    swapped = by_kernel(worth_of(picture_twin, images[1], given["background"], labels[0]), masks, weights)
    assert explain.attribution_error(together.values["groups"][1], swapped) > 1e-2


def test_partition_shap_of_a_pictures_own_segments(pictures: Any) -> None:
    """One budget for both: each adds up, and is what it is alone."""
    model, images, labels = pictures
    given: dict[str, Any] = {"removal": {"blur": {"sigma": 8}}, "target": 1, "max_evals": 80}
    together = attribute(model, {"image": images}, "partition_shap", groups={"image": labels}, **given)
    np.testing.assert_allclose(together.explained_value, picture_twin(images), rtol=1e-4)
    for item in range(2):
        part = {"image": images[item : item + 1]}
        alone = attribute(model, part, "partition_shap", groups={"image": labels[item : item + 1]}, **given)
        assert explain.attribution_error(alone.values["groups"][0], together.values["groups"][item]) <= 1e-6
        assert abs(together.quality[item]["completeness_gap"]) <= 1e-9
        assert together.quality[item]["stopped_by"] == "max_evals"


TOKENS, TABLE, OUT = 128, numbers(40, 8, seed=610), numbers(8, 2, seed=611, scale=3.0)
CHANGED = [3, 50, 51, 100]


def token_net() -> explain.Model:
    nodes: Any = [
        ("Gather", ["table", "ids"], ["e"]),
        ("ReduceMean", ["e", "axis"], ["m"], {"keepdims": 0}),
        ("Tanh", ["m"], ["t"]),
        ("MatMul", ["t", "w"], ["y"]),
    ]
    weights = {"table": 20 * TABLE, "axis": np.array([1]), "w": OUT}
    return explain.Model(made(nodes, {"ids": ("int64", ["n", TOKENS])}, {"y": ("float32", ["n", 2])}, weights))


def token_twin(ids: np.ndarray) -> np.ndarray:
    return np.asarray(np.tanh((20 * TABLE.astype(float))[ids].mean(axis=1)) @ OUT)[:, 0]


def sentences(seed: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).integers(40, size=(2, TOKENS)))


def orders(players: int, count: int) -> np.ndarray:
    """Orders of seed 0: the places of uniform numbers, 64 samples to a stream."""
    return np.random.default_rng([0, 0]).random((64, players))[:count].argsort(axis=1)


def test_permutation_shap_of_128_tokens() -> None:
    ids, rows = sentences(612), np.zeros((1, TOKENS), dtype=np.int64)
    found = attribute(
        token_net(), {"ids": ids}, "permutation_shap", background=rows, target=0, n_permutations=3, averaged=True
    )
    for item in range(2):
        worth = worth_of(token_twin, ids[item], rows)
        both = [way for order in orders(TOKENS, 3) for way in (order.tolist(), order[::-1].tolist())]
        assert explain.attribution_error(found.values["ids"][item], mean_over(worth, both, TOKENS)) <= 1e-4
        assert explain.attribution_error(found.values["ids"][item], mean_over(worth, both[:-1], TOKENS)) > 1e-3


def halves(first: int, count: int, made_of: list[tuple[int, int]], leaves: int) -> int:
    """Joins of a tree that halves the places from `first` on, each node after its children; the root's number."""
    if count == 1:
        return first
    left = halves(first, count // 2, made_of, leaves)
    right = halves(first + count // 2, count - count // 2, made_of, leaves)
    made_of.append((left, right))
    return leaves + len(made_of) - 1


def test_partition_shap_of_128_tokens_of_which_four_differ() -> None:
    """What equals the reference has nothing to share: the others are divided by the halves they stand in."""
    rows = sentences(613)[:1]
    ids = np.repeat(rows, 2, axis=0)
    ids[:, CHANGED] = (ids[:, CHANGED] + np.array([[1, 2, 3, 4], [5, 6, 7, 8]])) % 40
    tree: list[tuple[int, int]] = []
    halves(0, TOKENS, tree, TOKENS)
    given: dict[str, Any] = {"background": rows, "target": 0, "max_evals": 2000, "hierarchy": tree}
    found = attribute(token_net(), {"ids": ids}, "partition_shap", **given)
    within = orders_within([(1, 2), (0, 4), (5, 3)], 4)  # 50 and 51 are neighbours, 3 stands in the same half
    for item in range(2):
        places = np.full(TOKENS, -1)
        places[CHANGED] = np.arange(4)
        worth = worth_of(token_twin, ids[item], rows, places)
        expected = np.zeros(TOKENS)
        expected[CHANGED] = mean_over(worth, within, 4)
        assert explain.attribution_error(found.values["ids"][item], expected) <= 1e-4
        assert np.abs(expected).max() > 1e-2
        other = np.zeros(TOKENS)
        other[CHANGED] = mean_over(worth, orders_within([(0, 1), (2, 3), (4, 5)], 4), 4)
        assert explain.attribution_error(found.values["ids"][item], other) > 1e-4


COLUMNS, W1, W2 = 100, numbers(100, 16, seed=620, scale=0.3), numbers(16, 2, seed=621)
X, BACKGROUND = numbers(2, COLUMNS, seed=622), numbers(20, COLUMNS, seed=623)


def column_net() -> explain.Model:
    nodes: Any = [("MatMul", ["x", "w1"], ["h0"]), ("Tanh", ["h0"], ["h"]), ("MatMul", ["h", "w2"], ["y"])]
    specs: Any = {"x": ("float32", ["n", COLUMNS])}
    return explain.Model(made(nodes, specs, {"y": ("float32", ["n", 2])}, {"w1": W1, "w2": W2}))


def column_twin(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.tanh(rows.astype(float) @ W1) @ W2)[:, 0]


def test_kernel_shap_of_100_columns() -> None:
    masks, weights = coalitions(COLUMNS, 300, 624)
    given: dict[str, Any] = {"coalitions": masks.tolist(), "coalition_weights": weights.tolist()}
    found = attribute(column_net(), {"x": X}, "kernel_shap", background=BACKGROUND, target=0, **given)
    for item in range(2):
        expected = by_kernel(worth_of(column_twin, X[item], BACKGROUND), masks, weights)
        assert explain.attribution_error(found.values["x"][item], expected) <= 1e-4
        assert explain.attribution_error(found.values["x"][item], by_kernel(
            worth_of(column_twin, X[item], BACKGROUND[:19]), masks, weights)) > 1e-3  # fmt: skip


@pytest.mark.parametrize("method", ["permutation_shap", "sampling_shap"])
def test_orders_of_100_columns_from_rows_in_turn(method: str) -> None:
    found = attribute(column_net(), {"x": X}, method, background=BACKGROUND, target=0, n_permutations=60)
    rows, drawn = taken_turns(len(BACKGROUND), 60, 0), orders(COLUMNS, 60)
    for item in range(2):
        phi = np.zeros(COLUMNS)
        for row, order in zip(rows, drawn, strict=True):
            worth = worth_of(column_twin, X[item], BACKGROUND[row : row + 1])
            ways = [order.tolist()] + ([order[::-1].tolist()] if method == "permutation_shap" else [])
            phi += np.mean([joined(worth, way, COLUMNS) for way in ways], axis=0) / 60
        assert explain.attribution_error(found.values["x"][item], phi) <= 1e-4
        assert found.errors is not None
        assert (found.errors["x"][item] > 0).all()


def test_methods_of_100_columns_agree_within_their_errors() -> None:
    given: dict[str, Any] = {"background": BACKGROUND, "target": 0}
    kernel, orders_of = (
        attribute(column_net(), {"x": X}, method, **given, **options)
        for method, options in (("kernel_shap", {"n_samples": 6000}), ("permutation_shap", {"n_permutations": 600}))
    )
    assert kernel.errors is not None
    assert orders_of.errors is not None
    far = np.hypot(kernel.errors["x"], orders_of.errors["x"])
    assert (np.abs(kernel.values["x"] - orders_of.values["x"]) <= 5 * far).all()
    assert far.max() <= 0.05 * np.abs(kernel.values["x"]).max()


@pytest.mark.parametrize("method", ["feature_ablation", "lime", "kernel_shap", "permutation_shap", "sampling_shap"])
def test_a_picture_pixel_by_pixel_is_more_than_fits_and_is_refused(method: str, pictures: Any) -> None:
    """Before masks of 150528 x 150528 are made."""
    model, images, labels = pictures
    reference: dict[str, Any] = {"background": images[:1], "target": 1}
    sentence = f"method {method} would need [0-9]+ masks of 150528 groups, .* such as patches or superpixels"
    with pytest.raises(explain.MethodUnavailable, match=sentence):
        attribute(model, {"image": images}, method, **reference)
    few: dict[str, Any] = {"feature_ablation": {}, "kernel_shap": {"n_samples": 102}, "lime": {"n_samples": 60}}
    options = few.get(method, {"n_permutations": 2})
    found = attribute(model, {"image": images}, method, groups={"image": labels}, **reference, **options)
    assert found.values["groups"].shape == (2, SEGMENTS)


def test_a_window_of_one_pixel_is_refused_and_the_default_is_not(pictures: Any) -> None:
    model, images, _ = pictures
    with pytest.raises(explain.MethodUnavailable, match="method occlusion would need 50176 masks of 50176 groups"):
        attribute(model, {"image": images}, "occlusion", baseline=0.0, target=1, window=1, stride=1)
    found = attribute(model, {"image": images[:1]}, "occlusion", baseline=0.1, target=1, window=64, stride=48)
    image, expected = images[0].astype(float), np.zeros((SIDE, SIDE))
    covers = np.zeros((SIDE, SIDE))
    for y in range(0, 193, 48):
        for x in range(0, 193, 48):
            gone = image.copy()
            gone[:, y : y + 64, x : x + 64] = np.float32(0.1)
            expected[y : y + 64, x : x + 64] += picture_twin(image[None])[0] - picture_twin(gone[None])[0]
            covers[y : y + 64, x : x + 64] += 1
    assert explain.attribution_error(found.values["image"][0, 1], expected / covers) <= 1e-3

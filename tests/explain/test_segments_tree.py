"""Trees over groups: binary, halved where groups are places, clustered as scipy does where they are columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.cluster import hierarchy as scipy_hierarchy
from scipy.spatial.distance import squareform

from explain import InvalidParameter
from explain.segments import average_linkage, hierarchy, resolve
from tests.explain.graphs import numbers

Members = set[frozenset[int]]


def members(joins: np.ndarray) -> list[frozenset[int]]:
    """The groups below each inner node; fails unless the rows are one binary tree."""
    count = len(joins) + 1
    below = [frozenset([leaf]) for leaf in range(count)]
    for first, second in joins:
        assert max(first, second) < len(below)
        assert not below[first] & below[second]
        below.append(below[first] | below[second])
    assert sorted(joins.reshape(-1).tolist()) == list(range(2 * count - 2))
    assert below[-1] == frozenset(range(count))
    return below[count:]


@pytest.mark.parametrize("rows", [[[0, 1], [2, 0]], [[0, 1], [0, 2]], [[0, 4], [1, 2]], [[0, 1], [3, 3]]])
def test_what_is_no_tree_is_seen(rows: list[list[int]]) -> None:
    assert members(np.array([[0, 1], [3, 2]])) == [frozenset({0, 1}), frozenset({0, 1, 2})]
    with pytest.raises(AssertionError):
        members(np.array(rows))


def columns(rows: int, seed: int) -> np.ndarray:
    """Rows [B, 7] in which columns go together to different degrees."""
    base = numbers(rows, 3, seed=seed)
    mixed = base @ numbers(3, 7, seed=seed + 1) + 0.5 * numbers(rows, 7, seed=seed + 2)
    return np.asarray(mixed * [1, -10, 0.1, 5, 1, 2, 3] + 4)


@pytest.mark.parametrize("seed", range(6))
def test_average_linkage_is_that_of_scipy(seed: int) -> None:
    points = numbers(30, 4, seed=seed)
    apart = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    judge = scipy_hierarchy.linkage(squareform(apart, checks=False), method="average")
    np.testing.assert_array_equal(average_linkage(apart), judge[:, :2].astype(int))


@pytest.mark.parametrize("seed", range(4))
def test_columns_are_clustered_by_correlation(seed: int) -> None:
    rows = columns(40, seed)
    x = {"x": rows[:2]}
    found = hierarchy(resolve("elements", x), x, background={"x": rows})
    apart = 1 - np.abs(np.corrcoef(rows.T))
    judge = scipy_hierarchy.linkage(squareform(apart, checks=False), method="average")
    assert set(members(found)) == set(members(judge[:, :2].astype(int)))


def test_blocks_are_as_near_as_their_nearest_columns() -> None:
    rows = columns(40, 9)
    two = {"a": rows[:2, :4], "b": rows[:2, 4:]}
    blocks = {"blocks": {"a": [[0, 1], [2], [3]], "b": [[0], [1, 2]]}}
    found = hierarchy(resolve(blocks, two), two, background={"a": rows[:, :4], "b": rows[:, 4:]})
    groups = [[0, 1], [2], [3], [4], [5, 6]]
    together = np.abs(np.corrcoef(rows.T))
    apart = np.array([[1 - max(together[i, j] for i in a for j in b) for b in groups] for a in groups])
    np.fill_diagonal(apart, 0)
    judge = scipy_hierarchy.linkage(squareform(apart, checks=False), method="average")
    assert set(members(found)) == set(members(judge[:, :2].astype(int)))


def test_a_column_that_does_not_vary_goes_with_none() -> None:
    rows = columns(40, 3)
    rows[:, 2] = 0.1
    x = {"x": rows[:1]}
    assert 2 in hierarchy(resolve("elements", x), x, background={"x": rows})[-1]


def test_few_rows_or_none_halve_by_number() -> None:
    x = {"x": numbers(2, 5)}
    plain = hierarchy(resolve("elements", x), x)
    assert members(plain) == [frozenset(m) for m in ({0, 1}, {3, 4}, {2, 3, 4}, {0, 1, 2, 3, 4})]
    np.testing.assert_array_equal(hierarchy(resolve("elements", x), x, background={"x": numbers(9, 5)}), plain)


def test_patches_are_halved_across_the_longer_side() -> None:
    x = {"x": numbers(1, 3, 8, 16)}
    found: Members = set(members(hierarchy(resolve({"patches": {"size": 4}}, x), x)))
    left, right = {0, 1, 4, 5}, {2, 3, 6, 7}
    assert {frozenset(left), frozenset(right), frozenset({0, 1}), frozenset({6, 7})} <= found
    high = {"x": numbers(1, 16, 8, 3)}
    tall = resolve({"patches": {"size": 4, "layout": "HWC"}}, high)
    assert {frozenset({0, 1, 2, 3}), frozenset({4, 5, 6, 7})} <= set(members(hierarchy(tall, high)))


def test_every_node_of_an_image_is_a_rectangle_of_its_positions() -> None:
    x = {"x": numbers(1, 2, 5, 7)}
    for group in members(hierarchy(resolve("positions", x), x)):
        y, across = np.divmod(np.array(sorted(group)), 7)
        assert len(group) == (np.ptp(y) + 1) * (np.ptp(across) + 1)


@pytest.mark.parametrize("spec", ["positions", {"windows": {"size": 1}}])
def test_steps_are_halved_in_their_order(spec: Any) -> None:
    x = {"x": numbers(1, 2, 11)}
    for group in members(hierarchy(resolve(spec, x), x)):
        assert max(group) - min(group) == len(group) - 1
        assert len(group) in (2, 3, 5, 6, 11)


def test_each_item_has_its_own_tree_whatever_its_company() -> None:
    ids = {"ids": np.array([[101, 5, 6, 7, 102, 0], [101, 5, 102, 0, 0, 0], [1, 2, 3, 4, 5, 6]])}
    spec = {"tokens": {"keep": [101, 102, 0]}}
    found = hierarchy(resolve(spec, ids), ids)
    assert found.shape == (3, 5, 2)
    nodes = [members(tree) for tree in found]
    alone = {"ids": ids["ids"][:1]}
    assert (
        members(hierarchy(resolve(spec, alone), alone)[0]) == nodes[0][:2] == [frozenset({1, 2}), frozenset({0, 1, 2})]
    )
    assert nodes[0][2:] == [frozenset(range(size)) for size in (4, 5, 6)], "groups it has not are joined last"
    assert nodes[1] == [frozenset(range(size)) for size in (2, 3, 4, 5, 6)]


def test_superpixels_and_other_inputs_have_a_tree() -> None:
    inputs = {"image": numbers(2, 3, 24, 24), "row": numbers(2, 4), "extra": numbers(2, 2)}
    segments = resolve({"superpixels": {"count": 9}}, inputs)
    for item, tree in enumerate(hierarchy(segments, inputs)):
        own = frozenset(range(2, int(segments.counts(2)[item])))
        nodes = members(tree)
        assert own in nodes, "the image is split from the other inputs before it is split itself"
        assert frozenset({0, 1}) in nodes


def test_a_declared_tree_is_taken_as_it_is() -> None:
    x = {"x": numbers(2, 3)}
    assert hierarchy(resolve("elements", x), x, declared=[[2, 0], [3, 1]]).tolist() == [[2, 0], [3, 1]]
    one = resolve("inputs", x)
    assert hierarchy(one, x, declared=[]).shape == hierarchy(one, x).shape == (0, 2)
    image = {"x": numbers(2, 1, 8, 8)}
    segments = resolve({"superpixels": {"count": 4}}, image)
    rows = [[i, segments.count + i - 2 if i > 1 else 0] for i in range(1, segments.count)]
    assert hierarchy(segments, image, declared=rows).tolist() == [rows, rows]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ([[0, 1]], r"came int64 \[1, 2\], expected \[2, 2\] whole numbers"),
        ([[0, 1], [2, 0.5]], "came float64"),
        ([[0, 1], [2]], "expected"),
        (7, r"came int64 \[\], expected"),
        ([[0, 3], [1, 2]], r"row 0 joins \[0, 3\], of which one is no earlier node"),
        ([[0, 1], [0, 2]], "node 0 is joined twice"),
        ([[0, 1], [3, -1]], "row 1 joins"),
    ],
)
def test_what_is_no_tree_is_refused(declared: Any, message: str) -> None:
    x = {"x": numbers(2, 3)}
    with pytest.raises(InvalidParameter, match="hierarchy: .*" + message):
        hierarchy(resolve("elements", x), x, declared=declared)


def test_a_background_that_does_not_fit_is_refused() -> None:
    x = {"x": numbers(2, 3)}
    for rows in (numbers(12, 4), numbers(12, 3) * np.nan):
        with pytest.raises(InvalidParameter, match="expected finite rows of 3 elements"):
            hierarchy(resolve("elements", x), x, background={"x": rows})

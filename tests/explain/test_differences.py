"""What is known of samples before they are taken, by loops over rows, parts and elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from explain.methods.turns import Turns
from explain.plans import differences
from explain.plans.differences import Differences
from explain.segments import Segments

RNG = np.random.default_rng(5)
ITEMS, ROWS, WIDTH = 3, 8, 5
X = RNG.normal(size=(ITEMS, WIDTH)).astype(np.float32)
Z = RNG.standard_t(3, size=(ROWS, WIDTH)).astype(np.float32)
Z[:, 4] = X[1, 4] = 0.5  # never differs, for one item
CODES, CODE_ROWS = np.array([[0, 1], [1, 1], [2, 0]]), RNG.integers(0, 3, size=(ROWS, 2))
WEIGHT = np.full(ROWS, 1 / ROWS)
TURNS = Turns(WEIGHT, 7)


def far(x: np.ndarray, z: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
    """[R, E] of one item: its squared differences in units of their mean over the rows."""
    square = np.array([[float((a - b) ** 2) for a, b in zip(x, row, strict=True)] for row in z.astype(np.float64)])
    if noise is not None:
        square = square + noise**2
    mean = square.mean(axis=0)
    return np.where(mean > 0, square / np.where(mean > 0, mean, 1), 0.0)


def expected(parts: np.ndarray, first: int, count: int) -> np.ndarray:
    """Sums [4, P] over the samples of one item, whose `far` by row is `parts` [R, P]."""
    bent = parts * parts.mean(axis=1, keepdims=True)
    mean = bent.mean(axis=0)
    bent = np.where(mean > 0, bent / np.where(mean > 0, mean, 1), 0.0)
    rows = [TURNS.row(k) for k in range(first, first + count)]
    return np.array([sum(part[row] for row in rows) for part in (parts, parts**2, bent, bent**2)])


@pytest.fixture(params=[1 << 20, 16, 1])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "BLOCK", request.param)


def check(found: Differences, parts: Callable[[int], np.ndarray]) -> None:
    """After any samples, of any of the items."""
    for items in (np.arange(ITEMS), np.array([2]), np.array([0, 2])):
        for first, count in ((0, 2 * ROWS), (3, 6), (2 * ROWS - 3, 9), (0, 4 * ROWS), (1, 1)):
            right = np.stack([expected(parts(int(item)), first, count) for item in items], axis=1)
            np.testing.assert_allclose(found.sums(items, first, count), right, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("block")
def test_elements() -> None:
    check(Differences({"x": X}, {"x": Z}, TURNS.of, WEIGHT, names=["x"]), lambda item: far(X[item], Z))


def test_another_distance_is_noticed() -> None:
    """The check above could fail."""
    with pytest.raises(AssertionError):
        check(Differences({"x": X}, {"x": Z}, TURNS.of, WEIGHT, names=["x"]), lambda item: np.sqrt(far(X[item], Z)))


def test_noise_adds_its_square() -> None:
    noise = RNG.random((ITEMS, WIDTH))
    found = Differences({"x": X}, {"x": Z}, TURNS.of, WEIGHT, names=["x"], noise={"x": noise})
    check(found, lambda item: far(X[item], Z, noise[item]))


def two(item: int) -> np.ndarray:
    """`far` of numbers and codes beside each other [R, 7]."""
    apart = (CODES[item] != CODE_ROWS).astype(float)
    mean = apart.mean(axis=0)
    return np.hstack([far(X[item], Z), np.where(mean > 0, apart / np.where(mean > 0, mean, 1), 0)])


BOTH: dict[str, Any] = {"x": X, "code": CODES}
BOTH_ROWS: dict[str, Any] = {"x": Z, "code": CODE_ROWS}


@pytest.mark.usefixtures("block")
def test_codes_only_differ_or_not() -> None:
    check(Differences(BOTH, BOTH_ROWS, TURNS.of, WEIGHT, names=["x", "code"]), two)


def grouped(single: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """[R, G]: the mean of the elements of each group that differ anywhere."""
    ever, out = single.any(axis=0), np.zeros((len(single), count))
    for group in range(count):
        chosen = (index == group) & ever
        if chosen.any():
            out[:, group] = single[:, chosen].mean(axis=1)
    return out


@pytest.mark.usefixtures("block")
def test_groups() -> None:
    """Out of order, across inputs, with an element that is never masked and a group that never differs."""
    index = {"x": np.array([2, 0, 2, -1, 1]), "code": np.array([0, 3])}
    groups = Segments(index, 4, tuple("abcd"))
    found = Differences(BOTH, BOTH_ROWS, TURNS.of, WEIGHT, groups=groups)
    check(found, lambda item: grouped(two(item), np.concatenate(list(index.values())), 4))


@pytest.mark.usefixtures("block")
def test_groups_that_differ_by_item() -> None:
    index = np.array([[0, 1, 1, 0, 2], [2, 2, 1, 0, -1], [1, 0, 2, 1, 0]])
    groups = Segments({"x": index}, 3, tuple("abc"), per_item=True)
    found = Differences({"x": X}, {"x": Z}, TURNS.of, WEIGHT, groups=groups)
    check(found, lambda item: grouped(far(X[item], Z), index[item], 3))


def test_every_element_a_group_of_its_own_is_no_group() -> None:
    alone = Differences({"x": X}, {"x": Z}, TURNS.of, WEIGHT, groups=Segments({"x": np.arange(WIDTH)}, WIDTH, None))
    check(alone, lambda item: far(X[item], Z))


def test_missing_values_are_as_far_off_as_the_rows_deviate() -> None:
    x, z = X.copy(), Z.copy()
    x[0, 1] = z[2, 1] = z[5, 0] = np.nan
    filled = [array.astype(np.float64) for array in (x, z)]
    for column in (0, 1):
        mean, deviation = np.nanmean(filled[1][:, column]), np.nanstd(filled[1][:, column])
        for array in filled:
            array[np.isnan(array[:, column]), column] = mean + deviation
    found = Differences({"x": x}, {"x": z}, TURNS.of, WEIGHT, names=["x"])
    check(found, lambda item: far(filled[0][item], filled[1]))
    alone = Differences({"x": x[1:2]}, {"x": z}, TURNS.of, WEIGHT, names=["x"])
    np.testing.assert_array_equal(alone.sums(np.array([0]), 0, 5), found.sums(np.array([1]), 0, 5))


def test_rows_that_weigh_differently_are_rows_that_are_repeated() -> None:
    times = np.array([1, 3, 2, 1, 1, 4, 2, 2])
    drawn = Turns(times / times.sum(), 7)
    weighted = Differences(BOTH, BOTH_ROWS, drawn.of, times / times.sum(), names=["x", "code"])
    rows = {name: np.repeat(array, times, axis=0) for name, array in BOTH_ROWS.items()}
    place = np.cumsum(times) - times
    repeated = Differences(BOTH, rows, lambda *at: place[drawn.of(*at)], np.full(16, 1 / 16), names=["x", "code"])
    for first, count in ((0, 16), (5, 9), (0, 40)):
        sums = [made.sums(np.arange(ITEMS), first, count) for made in (weighted, repeated)]
        np.testing.assert_allclose(sums[0], sums[1], rtol=1e-9, atol=1e-12)


def test_rows_of_turns_are_those_of_each_sample() -> None:
    for weight in (np.full(ROWS, 1 / ROWS), np.arange(1, ROWS + 1) / 36):
        turns = Turns(weight, 3)
        for first, count in ((0, 1), (5, 30), (2 * ROWS, 2 * ROWS), (37, 80)):
            right = [turns.row(k) for k in range(first, first + count)]
            np.testing.assert_array_equal(turns.of(first, count), right)

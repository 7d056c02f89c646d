"""Intervals where a few rows of a background are far from all others, by simulation without any model.

Samples are a known distance to their row times a slope that varies. What is known tells how much is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from explain.intervals import unevenness
from explain.plans.budget import Budget
from explain.plans.sampled import mean_of_draws, mean_of_turns
from tests.explain.test_intervals import Numbers

ROWS, ITEMS = 20, 12000
DISTANCES = np.concatenate([np.linspace(-1, 1, ROWS - 2), [4.0, 9.0]])


class Sampled:
    """Samples of all items in random order of the rows, or of rows that are drawn, and what is known of them."""

    def __init__(self, count: int, seed: int, slope: float = 1.0, *, drawn: bool = False) -> None:
        random = np.random.default_rng(seed)
        turns = -(-count // (2 * ROWS))
        orders = np.argsort(random.random((ITEMS, turns, ROWS)), axis=2).reshape(ITEMS, -1)
        self.rows = random.integers(0, ROWS, (ITEMS, count)) if drawn else np.repeat(orders, 2, axis=1)[:, :count]
        self.statistic = mean_of_draws if drawn else mean_of_turns(ROWS)
        self.turn = 0 if drawn else 2 * ROWS
        slopes = slope + random.standard_normal((ITEMS, count))
        self.drawn = (DISTANCES[self.rows] * slopes)[:, :, None]
        self.right = slope * DISTANCES.mean()
        self.far = DISTANCES**2 / (DISTANCES**2).mean()

    def sums(self, items: np.ndarray, first: int, count: int) -> np.ndarray:
        """Slopes vary as much on the way from any row, so `bent` is `far`."""
        far = self.far[self.rows[items, first : first + count]]
        return np.array([far.sum(axis=1), (far**2).sum(axis=1)] * 2)[:, :, None]

    def found(self, *, known: bool, **options: Any) -> Any:
        budget = options.pop("budget", Budget(0.0, self.drawn.shape[1], None))
        plan = Numbers(
            ITEMS,
            lambda items, first, size: self.drawn[items, first : first + size],
            budget,
            statistic=self.statistic,
            turn=self.turn,
            known=self if known else None,
            **({"look": 8, "pilot": 8} | options),
        )
        return plan.run()

    def held(self, found: Any) -> float:
        """How often the intervals hold what is right."""
        return float((np.abs(found.values["x"] - self.right) <= found.half_widths["x"]).mean())


@pytest.mark.parametrize("turns", [1, 2, 5])
def test_whole_turns_are_covered(turns: int) -> None:
    sampled = Sampled(turns * 2 * ROWS, seed=turns)
    found = sampled.found(known=True)
    assert 0.935 <= sampled.held(found) <= 0.985
    assert (found.errors["x"] ** 2).mean() == pytest.approx(found.values["x"].var(), rel=0.12)


def test_without_what_is_known_they_are_covered_less() -> None:
    sampled = Sampled(2 * ROWS, seed=6)
    assert sampled.held(sampled.found(known=False)) < sampled.held(sampled.found(known=True)) - 0.015


@pytest.mark.parametrize("count", [10, 16, 26, 60])
def test_rows_that_were_not_met_are_in_the_error(count: int) -> None:
    """Half a turn may have had no row that is far, and then looks alike in itself."""
    sampled = Sampled(count, seed=count, slope=2.0)
    known, unknown = (sampled.held(sampled.found(known=which)) for which in (True, False))
    assert known >= 0.935
    if count < 2 * ROWS:
        assert unknown < 0.86


@pytest.mark.parametrize("count", [20, 60, 200])
def test_rows_that_are_drawn_are_covered(count: int) -> None:
    """Those that are far may not have been drawn either."""
    sampled = Sampled(count, seed=count + 1, slope=2.0, drawn=True)
    known, unknown = (sampled.held(sampled.found(known=which)) for which in (True, False))
    assert 0.93 <= known <= 0.985
    assert unknown < known - 0.005
    if count == 20:
        assert unknown < 0.84


def test_turns_that_end_by_a_tolerance_are_covered() -> None:
    sampled = Sampled(1200, seed=11, slope=6.0)
    found = sampled.found(known=True, budget=Budget(0.12, 1200, None), look=8, pilot=16)
    assert set(found.stopped) == {"tolerance"}
    assert 0.935 <= sampled.held(found) <= 0.985


def test_samples_of_rows_that_do_not_differ_have_no_error() -> None:
    """Neither what is known nor what is measured says anything."""
    plan = Numbers(2, lambda items, _, size: np.zeros((len(items), size, 1)), Budget(0.0, 10, None), look=8,
                   pilot=8, statistic=mean_of_turns(ROWS), turn=2 * ROWS, known=Nothing())  # fmt: skip
    found = plan.run()
    assert not found.errors["x"].any()
    assert not found.half_widths["x"].any()


class Nothing:
    """No row differs from any item."""

    def sums(self, items: np.ndarray, first: int, count: int) -> np.ndarray:
        return np.zeros((4, len(items), 1))


UNEVEN = (np.ones(40), np.linspace(0.1, 3, 60), np.concatenate([np.ones(60), [5, 6, 7]]))


@pytest.mark.parametrize("deviations", UNEVEN)
def test_unevenness_of_average_sums_is_right(deviations: np.ndarray) -> None:
    values = np.random.default_rng(8).standard_normal((20000, len(deviations))) * deviations
    squares, fourths = (values**2).sum(axis=1), (values**4).sum(axis=1)
    right = (deviations**4).sum() / (deviations**2).sum() ** 2
    average = unevenness(np.sqrt((squares**2).mean(keepdims=True)), fourths.mean(keepdims=True))
    assert average[0] == pytest.approx(right, rel=0.05)
    plain = fourths.mean() / squares.mean() ** 2
    assert plain > 1.5 * right  # squares of normal values are uneven themselves


def test_a_single_value_is_one_degree_and_none_is_no_number() -> None:
    np.testing.assert_array_equal(unevenness(np.array([9.0, 0.0]), np.array([81.0, 0.0])), [1.0, 0.0])

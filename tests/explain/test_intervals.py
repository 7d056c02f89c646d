"""Intervals hold the truth as often as they say, by simulation without any model; the naive rule does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from explain.intervals import t_quantile
from explain.plans.base import Step
from explain.plans.budget import Budget
from explain.plans.sampled import SampledPlan, Statistic, mean, mean_of_turns

ITEMS, TOLERANCE, CENTRE = 4000, 0.012, 10.0
Draws = Callable[[np.ndarray, int, int], np.ndarray]


def test_quantiles_are_those_of_students_t() -> None:
    whole = np.arange(1, 5)
    np.testing.assert_allclose(t_quantile(whole), student.ppf(0.975, whole), rtol=1e-8)
    for freedom in (np.linspace(5, 60, 331), np.array([100.0, 1e3, 1e6, np.inf])):
        np.testing.assert_allclose(t_quantile(freedom), student.ppf(0.975, np.minimum(freedom, 1e9)), atol=5e-4)
    np.testing.assert_allclose(t_quantile(np.array([0.0, -3.0])), student.ppf(0.975, 1), rtol=1e-8)
    between = np.linspace(1, 5, 41)
    assert (t_quantile(between) >= student.ppf(0.975, between) - 5e-4).all()  # never narrower


class Numbers(SampledPlan):
    """A plan of samples that are drawn and not computed: `draws(items, first, size)` [n, size, P]."""

    def __init__(self, items: int, draws: Draws, budget: Budget, **options: Any) -> None:
        super().__init__(SimpleNamespace(items=items), None, budget, **options)  # type: ignore[arg-type]  # no model
        self.draws = draws

    @property
    def evaluations(self) -> np.ndarray:
        return self.counts

    def first_steps(self) -> Iterator[Step]:
        yield from ()

    def most(self) -> int:
        return 4096

    def samples(self, items: np.ndarray, first: int, size: int) -> Iterator[Step]:
        self.add(items, self.draws(items, first, size))
        yield from ()

    def parted(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": flat}

    def outcome(self) -> Any:
        return self.estimated(np.zeros(len(self.counts)), None, False)

    def run(self) -> Any:
        assert not list(self.steps())
        return self.outcome()


def normal(items: int, count: int, centre: float = CENTRE, seed: int = 0) -> tuple[np.ndarray, Draws]:
    """`count` samples of each item around a centre, [items, count, 1], of unit deviation."""
    drawn = centre + np.random.default_rng(seed).standard_normal((items, count, 1))
    return drawn, lambda some, first, size: drawn[some, first : first + size]


def stopped(draws: Draws, items: int = ITEMS, **options: Any) -> tuple[Numbers, Any]:
    plan = Numbers(items, draws, Budget(TOLERANCE, 800, None), look=8, pilot=16, **options)
    return plan, plan.run()


def test_normal_samples_stopped_by_tolerance_are_covered_as_often_as_said() -> None:
    drawn, draws = normal(ITEMS, 800)
    plan, found = stopped(draws)
    assert set(found.stopped) == {"tolerance"}
    assert len(np.unique(plan.counts)) > 10
    inside = np.abs(found.values["x"] - CENTRE) <= found.half_widths["x"]
    assert abs(inside.mean() - 0.95) <= 0.015
    for item in (0, 17, 203):
        taken = drawn[item, : plan.counts[item], 0]
        assert found.values["x"][item, 0] == pytest.approx(taken.mean())
        error = taken[16:].std(ddof=1) / np.sqrt(len(taken))
        assert found.errors["x"][item, 0] == pytest.approx(error)
        assert error <= TOLERANCE * abs(taken.mean())


def naive(drawn: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, errors and numbers of samples where the variance of all of them is looked at with each, from 4 on."""
    counts = np.arange(1, drawn.shape[1] + 1)
    means = drawn.cumsum(axis=1) / counts
    spread = (np.maximum((drawn**2).cumsum(axis=1) / counts - means**2, 0)) * counts / np.maximum(counts - 1, 1)
    errors = np.sqrt(spread / counts)
    done = (errors <= tolerance * np.abs(means)) & (counts >= 4)
    assert done.any(axis=1).all()
    at, rows = done.argmax(axis=1), np.arange(len(drawn))
    return means[rows, at], errors[rows, at], counts[at]


def test_looking_at_the_variance_of_all_samples_every_time_covers_less() -> None:
    """The check above could fail: this rule stops where the variance is low by chance, and says 95 % too."""
    drawn, draws = normal(ITEMS, 400, seed=1)
    means, errors, counts = naive(drawn[:, :, 0], 0.02)
    low = np.abs(means - CENTRE) <= errors * t_quantile(counts - 1.0)
    plan = Numbers(ITEMS, draws, Budget(0.02, 400, None), look=1, pilot=8)
    found = plan.run()
    inside = np.abs(found.values["x"] - CENTRE) <= found.half_widths["x"]
    assert low.mean() < 0.93
    assert abs(inside.mean() - 0.95) <= 0.015


def test_without_a_tolerance_all_samples_are_taken_and_covered() -> None:
    drawn, draws = normal(ITEMS, 30, seed=2)
    plan = Numbers(ITEMS, draws, Budget(0.0, 30, None), look=8, pilot=16)
    found = plan.run()
    assert set(found.stopped) == {"max_evals"}
    np.testing.assert_allclose(found.errors["x"], drawn.std(axis=1, ddof=1) / np.sqrt(30), rtol=1e-9)
    assert abs((np.abs(found.values["x"] - CENTRE) <= found.half_widths["x"]).mean() - 0.95) <= 0.015


def test_samples_that_never_differ_end_at_the_pilot() -> None:
    plan, found = stopped(lambda items, _, size: np.ones((len(items), size, 3)), items=5)
    assert set(found.stopped) == {"tolerance"}
    assert (plan.counts == 16).all()
    assert not found.errors["x"].any()


def test_a_mean_of_zero_goes_on_to_the_end() -> None:
    """Nothing is small beside nothing."""
    rng = np.random.default_rng(3)
    plan = Numbers(3, lambda items, _, size: rng.choice([-1.0, 1.0], (len(items), size, 1)), Budget(1e-6, 200, None),
                   look=8, pilot=16)  # fmt: skip
    assert set(plan.run().stopped) == {"max_evals"}


ROWS = 7


def turns(items: int, count: int, apart: float, within: float, seed: int) -> np.ndarray:
    """Samples in pairs from rows in random order, turn after turn: a row's own mean and noise, [items, count, 1]."""
    random = np.random.default_rng(seed)
    means = apart * np.linspace(-1, 1, ROWS)
    whole = -(-count // (2 * ROWS))
    orders = np.argsort(random.random((items, whole, ROWS)), axis=2).reshape(items, -1)
    rows = np.repeat(means[orders], 2, axis=1)[:, :count]
    return (rows + within * random.standard_normal((items, count)))[:, :, None]


@pytest.mark.parametrize("count", [14, 28, 42, 16, 20, 22, 34])
@pytest.mark.parametrize(("apart", "within"), [(3.0, 1.0), (0.0, 1.0), (2.0, 0.1)])
def test_the_variance_of_a_mean_of_turns_by_simulation(count: int, apart: float, within: float) -> None:
    """Whole turns (14, 28, 42 samples of 7 rows) leave only what samples of one row differ by."""
    drawn = turns(6000, count, apart, within, seed=count)
    plan = Numbers(6000, lambda items, first, size: drawn[items, first : first + size], Budget(0.0, count, None),
                   look=8, pilot=16, statistic=mean_of_turns(ROWS), turn=2 * ROWS)  # fmt: skip
    found = plan.run()
    simulated = found.values["x"].var()
    estimated = (found.errors["x"] ** 2).mean()
    assert estimated == pytest.approx(simulated, rel=0.12)
    plain = drawn.var(axis=1, ddof=1).mean() / count
    if apart > 1:
        assert plain > 1.5 * simulated  # what rows differ by is not in the error of a mean that has had them all


def judged(statistic: Statistic, drawn: np.ndarray, sizes: list[int], **options: Any) -> Any:
    """The outcome where samples come in rounds of these sizes, again and again."""
    plan = Numbers(len(drawn), lambda items, first, size: drawn[items, first : first + size],
                   Budget(0.0, drawn.shape[1], None), look=8, pilot=16, statistic=statistic, **options)  # fmt: skip
    plan.most = lambda: sizes[0]  # type: ignore[method-assign]  # the size of a run
    return plan.run()


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_rounds_of_any_size_give_the_same(size: int) -> None:
    """Also odd ones, which part the samples of a pair."""
    drawn = turns(40, 34, 2.0, 1.0, seed=9)
    options = {"turn": 2 * ROWS}
    for statistic in (mean, mean_of_turns(ROWS)):
        whole, cut = (judged(statistic, drawn, [n], **options) for n in (34, size))
        for part in ("values", "errors", "half_widths"):
            np.testing.assert_allclose(getattr(cut, part)["x"], getattr(whole, part)["x"], rtol=1e-9)


def test_turns_stopped_by_tolerance_are_covered() -> None:
    items = 2500
    drawn = turns(items, 1400, 2.0, 1.5, seed=10) + CENTRE
    plan = Numbers(items, lambda some, first, size: drawn[some, first : first + size], Budget(TOLERANCE, 1400, None),
                   look=16, pilot=32, statistic=mean_of_turns(ROWS), turn=2 * ROWS)  # fmt: skip
    found = plan.run()
    assert set(found.stopped) == {"tolerance"}
    inside = np.abs(found.values["x"] - CENTRE) <= found.half_widths["x"]
    assert abs(inside.mean() - 0.95) <= 0.02

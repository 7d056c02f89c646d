"""Permutation and sampling SHAP: the definition with the same draws, honest stops, weighted backgrounds."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.methods import permutations
from explain.plans import budget
from tests.explain.games import Worth, joined, mean_over, orders_within, replaced, shapley, worth_of
from tests.explain.graphs import attribute, made, mlp, mlp_twin, numbers, run, taken_turns, tensor

X, BACKGROUND = numbers(5, 4, seed=500), numbers(6, 4, seed=501)
SAMPLED = ["permutation_shap", "sampling_shap"]
TARGET = 1


def predict(rows: np.ndarray) -> np.ndarray:
    return np.asarray(mlp_twin(tensor(rows))[:, TARGET].numpy())


def game(x: np.ndarray, rows: np.ndarray = BACKGROUND, weight: np.ndarray | None = None) -> Worth:
    return worth_of(predict, x, rows, weight=weight)


def orders(seed: int, count: int, players: int = 4) -> list[np.ndarray]:
    blocks = [np.random.default_rng([seed, block]).random((64, players)) for block in range(-(-count // 64))]
    return list(np.concatenate(blocks).argsort(axis=1)[:count])


def sampled(x: np.ndarray, seed: int, count: int, rows: np.ndarray = BACKGROUND) -> np.ndarray:
    """What each draw of sampling SHAP gives [count, 4]: an order, from one row."""
    turns = taken_turns(len(rows), count, seed)
    pairs = zip(orders(seed, count), turns, strict=True)
    return np.array([joined(game(x, rows[row : row + 1]), order.tolist(), 4) for order, row in pairs])


def both_ways(x: np.ndarray, seed: int, count: int, averaged: bool = False) -> np.ndarray:
    """What each draw of permutation SHAP gives [count, 4]: an order and its reverse, from one row or over all rows."""
    rows = (
        [slice(None)] * count
        if averaged
        else [slice(row, row + 1) for row in taken_turns(len(BACKGROUND), count, seed)]
    )
    pairs = zip(orders(seed, count), rows, strict=True)
    return np.array([mean_over(game(x, BACKGROUND[own]), (o.tolist(), o[::-1].tolist()), 4) for o, own in pairs])


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("method", SAMPLED)
def test_the_definition_with_the_same_draws(method: str, seed: int) -> None:
    found = attribute(mlp(), {"x": X}, method, background=BACKGROUND, target=TARGET, seed=seed, n_permutations=30)
    draws = both_ways if method == "permutation_shap" else sampled
    for item, x in enumerate(X):
        assert explain.attribution_error(found.values["x"][item], draws(x, seed, 30).mean(axis=0)) <= 1e-5
        assert explain.attribution_error(found.values["x"][item], draws(x, seed + 1, 30).mean(axis=0)) > 1e-4


def test_orders_may_be_averaged_over_all_rows() -> None:
    """A pair of orders is one sample: the mean of them, and the deviation of them over the root of their number."""
    given: dict[str, Any] = {"background": BACKGROUND, "target": TARGET, "n_permutations": 40, "averaged": True}
    found = attribute(mlp(), {"x": X}, "permutation_shap", **given)
    assert found.errors is not None
    for item, x in enumerate(X):
        each = both_ways(x, 0, 40, averaged=True)
        assert explain.attribution_error(found.values["x"][item], each.mean(axis=0)) <= 1e-5
        np.testing.assert_allclose(
            found.errors["x"][item], each.std(axis=0, ddof=1) / np.sqrt(40), rtol=1e-3, atol=1e-7
        )


def test_all_orders_together_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    every = [order for order in itertools.permutations(range(4)) if order <= order[::-1]]
    exact = attribute(mlp(), {"x": X}, "exact_shap", background=BACKGROUND, target=TARGET).values["x"]
    listed = SimpleNamespace(of=lambda first, count: np.array(every[first : first + count]).argsort(axis=1) / 4)
    monkeypatch.setattr(permutations, "Uniforms", lambda *_: listed)
    options: dict[str, Any] = {"background": BACKGROUND, "target": TARGET, "averaged": True, "seed": 8_000}
    options["n_permutations"] = len(every)  # the seed is nobody else's: what it gives is kept
    found = attribute(mlp(), {"x": X}, "permutation_shap", **options).values["x"]
    assert len(every) == 12
    assert explain.attribution_error(found, exact) <= 1e-5
    assert explain.attribution_error(found, np.array([shapley(game(x), 4) for x in X])) <= 1e-5
    fewer = attribute(mlp(), {"x": X}, "permutation_shap", **options | {"n_permutations": 11}).values["x"]
    assert explain.attribution_error(fewer, exact) > 1e-4


@pytest.mark.parametrize("method", SAMPLED)
def test_many_draws_come_to_the_exact_values_as_their_errors_say(method: str) -> None:
    expected = np.array([shapley(game(x), 4) for x in X])
    found = attribute(mlp(), {"x": X}, method, background=BACKGROUND, target=TARGET, n_permutations=1500)
    assert found.errors is not None
    assert (np.abs(found.values["x"] - expected) <= 4.5 * found.errors["x"] + 1e-6).all()
    assert (found.errors["x"] <= 0.1 * np.abs(expected).max()).all()


def test_every_sum_is_that_of_the_rise() -> None:
    """After any number of orders over all rows, and after whole turns of the rows."""
    given: dict[str, Any] = {"background": BACKGROUND, "target": TARGET}
    for count in (2, 3, 17):
        found = attribute(mlp(), {"x": X}, "permutation_shap", n_permutations=count, averaged=True, **given)
        assert max(abs(figures["completeness_gap"]) for figures in found.quality) <= 1e-12
    for method in SAMPLED:
        whole = attribute(mlp(), {"x": X}, method, n_permutations=3 * 2 * len(BACKGROUND), **given)
        part = attribute(mlp(), {"x": X}, method, n_permutations=3 * 2 * len(BACKGROUND) + 4, **given)
        assert max(figures["completeness_gap_relative"] for figures in whole.quality) <= 1e-6
        assert max(figures["completeness_gap_relative"] for figures in part.quality) > 1e-4
        default = attribute(mlp(), {"x": X}, method, **given)
        assert max(figures["completeness_gap_relative"] for figures in default.quality) <= 1e-6


@pytest.mark.parametrize("method", [*SAMPLED, "kernel_shap", "exact_shap", "partition_shap"])
def test_a_single_player_has_it_all(method: str) -> None:
    groups = {"x": np.zeros(4, dtype=int)}
    found = attribute(mlp(), {"x": X}, method, background=BACKGROUND, target=TARGET, groups=groups)
    rise = predict(X) - predict(BACKGROUND).mean()
    assert explain.attribution_error(found.values["groups"][:, 0], rise) <= 1e-5


WEIGHTS = np.array([1, 3, 2, 0, 1, 4])
REPEATED = np.repeat(BACKGROUND, WEIGHTS, axis=0)


@pytest.mark.parametrize("method", ["exact_shap", "kernel_shap", "permutation_shap", "partition_shap", "deep_shap"])
def test_a_weighted_background_is_one_whose_rows_are_repeated(method: str) -> None:
    tree = {"hierarchy": [[0, 1], [2, 3], [4, 5]]} if method == "partition_shap" else {}
    given: dict[str, Any] = {"target": TARGET} | tree
    given |= {"averaged": True} if method == "permutation_shap" else {}
    weighted = attribute(mlp(), {"x": X}, method, background=BACKGROUND, background_weight=WEIGHTS * 2.5, **given)
    repeated = attribute(mlp(), {"x": X}, method, background=REPEATED, **given)
    equal = attribute(mlp(), {"x": X}, method, background=BACKGROUND, **given)
    assert explain.attribution_error(weighted.values["x"], repeated.values["x"]) <= 2e-6
    np.testing.assert_allclose(weighted.base_values, repeated.base_values, rtol=1e-5)
    assert explain.attribution_error(weighted.values["x"], equal.values["x"]) > 1e-2


@pytest.mark.parametrize(
    ("method", "count"),
    [("sampling_shap", "n_permutations"), ("permutation_shap", "n_permutations"), ("expected_gradients", "n_samples")],
)
def test_rows_are_drawn_as_often_as_they_weigh(method: str, count: str) -> None:
    given: dict[str, Any] = {"target": TARGET, count: 6000}
    weighted = attribute(mlp(), {"x": X}, method, background=BACKGROUND, background_weight=WEIGHTS, **given)
    repeated = attribute(mlp(), {"x": X}, method, background=REPEATED, **given)
    equal = attribute(mlp(), {"x": X}, method, background=BACKGROUND, **given)
    assert weighted.errors is not None
    assert repeated.errors is not None
    far = np.hypot(weighted.errors["x"], repeated.errors["x"])
    assert (np.abs(weighted.values["x"] - repeated.values["x"]) <= 4.5 * far).all()
    assert (np.abs(weighted.values["x"] - equal.values["x"]) > 4.5 * far).any()


def test_draws_of_weighted_rows_by_their_definition() -> None:
    """The row by the place of a uniform number among the shares, from a stream of its own."""
    found = attribute(
        mlp(),
        {"x": X[:2]},
        "sampling_shap",
        background=BACKGROUND,
        background_weight=WEIGHTS,
        target=TARGET,
        n_permutations=25,
    )
    shares = np.cumsum(WEIGHTS / WEIGHTS.sum())
    for item, x in enumerate(X[:2]):
        phi = np.zeros(4)
        places = np.random.default_rng([1 << 64, 0]).random((64, 1))[:25, 0]
        for order, place in zip(orders(0, 25), places, strict=True):
            row = int((place >= shares).sum())
            phi += joined(game(x, BACKGROUND[row : row + 1]), order.tolist(), 4) / 25
        assert explain.attribution_error(found.values["x"][item], phi) <= 1e-5


@pytest.mark.parametrize("method", [*SAMPLED, "kernel_shap", "exact_shap", "partition_shap"])
def test_what_is_removed_from_an_item_may_be_its_own(method: str) -> None:
    """Removed elements become the mean of the item: each has a reference of its own."""
    many = {"n_permutations": 900} if method in SAMPLED else {}
    found = attribute(mlp(), {"x": X}, method, removal={"mean": {"layout": "T"}}, target=TARGET, **many)
    for item, x in enumerate(X):
        worth = game(x, np.full((1, 4), x.mean(dtype=float)))
        within = orders_within([(0, 1), (2, 3), (4, 5)], 4)
        expected = mean_over(worth, within, 4) if method == "partition_shap" else shapley(worth, 4)
        error = 0.0 if found.errors is None or "x" not in found.errors else found.errors["x"][item]
        assert (np.abs(found.values["x"][item] - expected) <= 4.5 * error + 1e-5).all()
        assert found.base_values is not None
        assert found.base_values[item] == pytest.approx(worth(frozenset()), rel=1e-5)
        assert found.values["x"][item].sum() == pytest.approx(worth(frozenset(range(4))) - worth(frozenset()), rel=1e-4)


@pytest.mark.parametrize("method", SAMPLED)
def test_it_stops_where_it_says(method: str) -> None:
    given: dict[str, Any] = {"background": BACKGROUND, "target": TARGET}
    loose = attribute(mlp(), {"x": X}, method, n_permutations=5000, tolerance=0.1, **given)
    assert {figures["stopped_by"] for figures in loose.quality} == {"tolerance"}
    assert loose.errors is not None
    for item in range(5):
        assert loose.errors["x"][item].max() <= 0.1 * np.abs(loose.values["x"][item]).max()
    full = attribute(mlp(), {"x": X}, method, n_permutations=10, tolerance=1e-9, **given)
    assert {figures["stopped_by"] for figures in full.quality} == {"max_evals"}
    cost = {"permutation_shap": 1 + 2 * 3, "sampling_shap": 4}[method]
    for evals in (60, 61, 64):
        counted = attribute(mlp(), {"x": X}, method, n_permutations=5000, max_evals=evals, **given)
        expected = attribute(mlp(), {"x": X}, method, n_permutations=evals // cost, **given)
        np.testing.assert_allclose(counted.values["x"], expected.values["x"])
    assert counted.quality[0]["stopped_by"] == "max_evals"


@pytest.mark.parametrize("method", SAMPLED)
def test_it_stops_when_time_is_spent(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1000.0, 0.01).tolist())
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = attribute(
        mlp(), {"x": X}, method, background=BACKGROUND, target=TARGET, n_permutations=60000, budget_ms=35.0
    )
    assert {figures["stopped_by"] for figures in found.quality} == {"budget_ms"}
    draws = (both_ways if method == "permutation_shap" else sampled)(X[0], 0, 600)
    means = draws.cumsum(axis=0) / np.arange(1, 601)[:, None]
    same = [n for n, mean in enumerate(means) if explain.attribution_error(found.values["x"][0], mean) < 1e-5]
    assert len(same) == 1


@pytest.mark.parametrize("method", SAMPLED)
def test_what_there_is_on_the_way_are_full_estimates(method: str) -> None:
    running = explain.begin(
        mlp(), {"x": X}, method=method, background=BACKGROUND, target=TARGET, n_permutations=400, tolerance=1e-9
    )
    draws = (both_ways if method == "permutation_shap" else sampled)(X[0], 0, 400)
    seen = 0
    while (step := running.chunk()) is not None:
        running.update(run(*step))
        plan = running.plan
        if running.ready and plan is not None:
            now, count = running.result(), int(plan.counts[0])  # type: ignore[attr-defined]  # of a sampled plan
            assert explain.attribution_error(now.values["x"][0], draws[:count].mean(axis=0)) <= 1e-5
            seen += 1
    assert seen > 3


@pytest.mark.parametrize("method", SAMPLED)
def test_equal_seeds_give_equal_answers_alone_and_in_a_batch(method: str) -> None:
    model = explain.Model(mlp("Softmax"))
    given: dict[str, Any] = {"background": BACKGROUND, "n_permutations": 9000, "tolerance": 0.02, "seed": 3}
    together = attribute(model, {"x": X}, method, **given)
    again = attribute(model, {"x": X}, method, **given)
    np.testing.assert_array_equal(together.values["x"], again.values["x"])
    for item in range(5):
        alone = attribute(model, {"x": X[item : item + 1]}, method, **given)
        assert explain.attribution_error(alone.values["x"][0], together.values["x"][item]) <= 1e-6
        assert alone.quality[0]["evaluations"] == together.quality[item]["evaluations"]
        assert alone.quality[0]["stopped_by"] == together.quality[item]["stopped_by"]
    assert len({figures["evaluations"] for figures in together.quality}) > 1


def test_a_model_without_a_first_layer_gives_the_same() -> None:
    """A sum behind the network joins elements beside the product: masks go through the whole model."""
    nodes: Any = [("Softmax", ["x"], ["s"]), ("MatMul", ["s", "w"], ["h"]), ("Tanh", ["h"], ["y"])]
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 2])}, {"w": numbers(4, 2, seed=502)})
    found = attribute(
        model, {"x": X}, "permutation_shap", background=BACKGROUND, target=0, n_permutations=12, averaged=True
    )
    for item, x in enumerate(X):
        worth = worth_of(lambda rows: through(model, rows)[:, 0], x, BACKGROUND)
        phi = np.mean([mean_over(worth, (o.tolist(), o[::-1].tolist()), 4) for o in orders(0, 12)], axis=0)
        assert explain.attribution_error(found.values["x"][item], phi) <= 1e-5


def through(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    feeds = {
        "x": rows.astype(np.float32),
        "x.groups": np.zeros(4, dtype=np.int64),
        "x.background": rows[:1],
        "mask": np.ones((len(rows), 1, 1)),
        "background.weight": np.ones(1),
    }
    return replaced(model, feeds)[:, 0]

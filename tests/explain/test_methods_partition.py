"""Partition SHAP is the Owen value: the mean over the orders that keep the hierarchy's groups together, and as shap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage

import explain
from explain.plans import budget
from tests.explain.games import mean_over, orders_within, shapley, worth_of
from tests.explain.graphs import attribute, made, numbers, run

PLAYERS, ROWS = 6, 12
X, BACKGROUND = numbers(4, PLAYERS, seed=520), numbers(ROWS, PLAYERS, seed=521)
W1, W2 = numbers(PLAYERS, 8, seed=522), numbers(8, 2, seed=523)
TREES = {
    "halves": [[0, 1], [2, 6], [3, 4], [5, 8], [7, 9]],
    "a chain": [[0, 1], [6, 2], [7, 3], [8, 4], [9, 5]],
    "crossed": [[5, 0], [3, 1], [6, 4], [7, 2], [9, 8]],
}


def network() -> explain.Model:
    nodes: Any = [("MatMul", ["x", "w1"], ["h0"]), ("Tanh", ["h0"], ["h"]), ("MatMul", ["h", "w2"], ["y"])]
    specs: Any = {"x": ("float32", ["n", PLAYERS])}
    return explain.Model(made(nodes, specs, {"y": ("float32", ["n", 2])}, {"w1": W1, "w2": W2}))


MODEL = network()


def predict(rows: np.ndarray) -> np.ndarray:
    return np.asarray(np.tanh(rows.astype(float) @ W1) @ W2)[:, 1]


def found_by(tree: Any, x: np.ndarray = X, **options: Any) -> explain.Attribution:
    given: dict[str, Any] = {"background": BACKGROUND, "target": 1, "hierarchy": tree} | options
    return attribute(MODEL, {"x": x}, "partition_shap", **given)


@pytest.mark.parametrize("name", TREES)
def test_owen_values_by_the_orders_that_respect_the_hierarchy(name: str) -> None:
    found = found_by(TREES[name])
    orders = orders_within(TREES[name], PLAYERS)
    assert len(orders) == 2 ** (PLAYERS - 1)
    for item, x in enumerate(X):
        worth = worth_of(predict, x, BACKGROUND)
        assert explain.attribution_error(found.values["x"][item], mean_over(worth, orders, PLAYERS)) <= 1e-5
        other = mean_over(worth, orders_within([[0, 5], [1, 4], [2, 3], [6, 7], [8, 9]], 6), 6)
        assert explain.attribution_error(found.values["x"][item], other) > 1e-3


def test_a_tree_of_two_players_gives_shapley_values() -> None:
    groups = {"x": np.array([0, 1, 0, 1, 1, 0])}
    found = found_by(None, groups=groups)
    for item, x in enumerate(X):
        worth = worth_of(predict, x, BACKGROUND, groups["x"])
        assert explain.attribution_error(found.values["groups"][item], shapley(worth, 2)) <= 1e-5


@pytest.fixture(scope="module")
def shap() -> Any:
    return pytest.importorskip("shap", reason="shap is not installed")


@pytest.mark.parametrize("how", ["average", "complete", "single"])
def test_shap_on_the_same_hierarchy(how: str, shap: Any) -> None:
    joins = linkage(BACKGROUND.T, how, metric="correlation")
    masker = shap.maskers.Partition(BACKGROUND.astype(float), clustering=joins)
    judge = shap.explainers.Partition(predict, masker)
    judged = judge(X.astype(float), max_evals=4000, silent=True)
    found = found_by(joins[:, :2].astype(int).tolist())
    assert explain.attribution_error(found.values["x"], judged.values) <= 1e-5
    np.testing.assert_allclose(found.base_values, judged.base_values, rtol=1e-5)
    other = found_by(TREES["crossed"])
    assert explain.attribution_error(other.values["x"], judged.values) > 1e-3


def test_without_a_hierarchy_columns_are_joined_by_correlation() -> None:
    together = BACKGROUND @ numbers(PLAYERS, PLAYERS, seed=524)
    joins = linkage(1 - np.abs(np.corrcoef(together.T))[np.triu_indices(PLAYERS, 1)], "average")
    found = found_by(None, background=together)
    expected = found_by(joins[:, :2].astype(int).tolist(), background=together)
    assert explain.attribution_error(found.values["x"], expected.values["x"]) <= 1e-6


@pytest.mark.parametrize("evals", [2, 3, 8, 20, 64])
def test_a_small_budget_keeps_the_sum_and_gives_the_rest_in_equal_parts(evals: int) -> None:
    found = found_by(TREES["crossed"], max_evals=evals)
    for item, figures in enumerate(found.quality):
        assert abs(figures["completeness_gap"]) <= 1e-12
        assert figures["evaluations"] <= evals * ROWS + 1 + ROWS
        assert figures["stopped_by"] == ("max_evals" if evals < 40 else None)
        if evals < 4:
            worth = worth_of(predict, X[item], BACKGROUND)
            left, right = [frozenset({3, 1, 2}), frozenset({5, 0, 4})]
            shares = []
            for one, other in ((left, right), (right, left)):
                alone = worth(one) - worth(frozenset())
                last = worth(one | other) - worth(other)
                shares.append((alone + last) / 2)
            expected = np.array([shares[0 if player in left else 1] / 3 for player in range(PLAYERS)])
            assert explain.attribution_error(found.values["x"][item], expected) <= 1e-5


def test_the_largest_parts_are_divided_first() -> None:
    """The more coalitions, the nearer: by the largest share that is left, never against it."""
    exact = found_by(TREES["halves"]).values["x"]
    errors = [
        explain.attribution_error(found_by(TREES["halves"], max_evals=evals).values["x"], exact)
        for evals in (2, 10, 30, 62)
    ]
    assert errors[-1] <= 1e-6 < errors[1] < errors[0]


def test_it_stops_by_tolerance_or_time(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = found_by(TREES["halves"])
    loose = found_by(TREES["halves"], tolerance=0.2)
    assert {figures["stopped_by"] for figures in loose.quality} == {"tolerance"}
    assert max(f["evaluations"] for f in loose.quality) <= max(f["evaluations"] for f in exact.quality)
    clock = iter(np.arange(0.0, 1000.0, 0.01).tolist())
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    late = found_by(TREES["halves"], budget_ms=1.0)
    assert {figures["stopped_by"] for figures in late.quality} == {"budget_ms"}
    assert max(abs(figures["completeness_gap"]) for figures in late.quality) <= 1e-12


def test_what_there_is_on_the_way_adds_up() -> None:
    running = explain.begin(
        MODEL, {"x": X}, method="partition_shap", background=BACKGROUND, target=1, hierarchy=TREES["a chain"]
    )
    seen = 0
    while (step := running.chunk()) is not None:
        running.update(run(*step))
        if running.ready:
            assert max(abs(figures["completeness_gap"]) for figures in running.result().quality) <= 1e-12
            seen += 1
    assert seen > 3


def test_an_item_gets_the_same_alone_and_in_a_batch() -> None:
    for options in ({}, {"max_evals": 21}, {"tolerance": 0.1}):
        together = found_by(TREES["crossed"], **options)
        for item in range(len(X)):
            alone = found_by(TREES["crossed"], X[item : item + 1], **options)
            assert explain.attribution_error(alone.values["x"][0], together.values["x"][item]) <= 1e-6
            assert alone.quality[0]["evaluations"] == together.quality[item]["evaluations"]
            assert alone.quality[0]["stopped_by"] == together.quality[item]["stopped_by"]


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ([[0, 1]], r"hierarchy: came int64 \[1, 2\], expected \[5, 2\] whole numbers"),
        (
            [[0, 1], [2, 6], [3, 4], [5, 8], [7, 10]],
            r"hierarchy: row 4 joins \[7, 10\], of which one is no earlier node",
        ),
        ([[0, 1], [2, 6], [3, 4], [5, 8], [7, 7]], "hierarchy: node 7 is joined twice"),
        ([[0, 1], [2, 6], [3, 4], [5, 8], [7, -1]], r"hierarchy: row 4 joins \[7, -1\]"),
        ([[0, 1], [2, 6], [3, 4], [5, 8], [7, 1]], "hierarchy: node 1 is joined twice"),
        ([[0, 1.5], [2, 6], [3, 4], [5, 8], [7, 9]], r"hierarchy: came float64"),
        ([[0, 1], [2, 6, 3], [3, 4], [5, 8], [7, 9]], "hierarchy: expected"),
        ("tree", "parameter 'hierarchy': came 'tree', expected a value of type array or null"),
    ],
)
def test_what_is_no_hierarchy_is_refused(tree: Any, sentence: str) -> None:
    with pytest.raises(explain.InvalidParameter, match=sentence):
        found_by(tree)

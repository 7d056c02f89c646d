"""Kernel SHAP from a sample: the same seed the same answer, right on average, and with an honest error."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.methods.coalitions import Coalitions, all_coalitions, sample_coalitions
from explain.methods.kernel import kernel_matrix
from explain.methods.shapley import exact_matrix
from tests.explain.graphs import Nodes, attribute, made, numbers

PLAYERS, SEEDS = 9, 30


def wavy() -> onnx.ModelProto:
    """x [N, 9] -> tanh and products -> y [N, 1]: interactions of every order."""
    nodes: Nodes = [
        ("MatMul", ["x", "w"], ["h0"]),
        ("Tanh", ["h0"], ["h1"]),
        ("MatMul", ["h1", "v"], ["h2"]),
        ("Exp", ["h2"], ["y"]),
    ]
    weights = {"w": numbers(PLAYERS, 12, seed=110), "v": numbers(12, 1, seed=111, scale=0.4)}
    return made(nodes, {"x": ("float32", ["n", PLAYERS])}, {"y": ("float32", ["n", 1])}, weights)


@pytest.fixture(scope="module")
def model() -> explain.Model:
    return explain.Model(wavy())


INPUTS = {"x": numbers(2, PLAYERS, seed=112)}
BACKGROUND = numbers(1, PLAYERS, seed=113)


def kernel(model: explain.Model, **options: Any) -> explain.Attribution:
    return attribute(model, INPUTS, "kernel_shap", background=BACKGROUND, **options)


def test_the_same_seed_gives_the_same_answer_and_another_another(model: explain.Model) -> None:
    first, again, other = (kernel(model, n_samples=60, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.values["x"], again.values["x"])
    assert np.abs(first.values["x"] - other.values["x"]).max() > 1e-3
    assert (first.seed, first.program_digest) == (5, again.program_digest)


@pytest.mark.parametrize("n_samples", [60, 150])
def test_the_mean_over_seeds_is_exact_and_the_error_is_their_spread(model: explain.Model, n_samples: int) -> None:
    exact = attribute(model, INPUTS, "exact_shap", background=BACKGROUND).values["x"]
    found = [kernel(model, n_samples=n_samples, seed=seed) for seed in range(SEEDS)]
    values = np.array([one.values["x"] for one in found])
    errors = np.array([one.errors["x"] for one in found if one.errors is not None])
    spread = values.std(axis=0, ddof=1)
    off = np.abs(values.mean(axis=0) - exact) / (spread / np.sqrt(SEEDS))
    assert np.sqrt((off**2).mean()) < 2, "the mean over seeds is off by more than chance"
    ratio = np.sqrt((errors**2).mean(axis=0)) / spread
    assert 0.5 < np.sqrt((ratio**2).mean()) < 2
    assert (ratio > 0.4).all()
    assert (ratio < 2.5).all()
    for one in found:
        assert one.errors is not None
        largest = [float(item.max()) for item in one.errors["x"]]
        assert [figures["standard_error"] for figures in one.quality] == largest


def test_wrong_weights_of_what_was_drawn_are_noticed(model: explain.Model) -> None:
    """The mean over seeds is off when drawn coalitions weigh a third of what they stand for."""
    f = exact_game()
    exact, found = exact_matrix(all_coalitions(PLAYERS)) @ f(all_coalitions(PLAYERS)), []
    for seed in range(SEEDS):
        sample = sample_coalitions(PLAYERS, 150, seed).whole
        assert sample.draws is not None
        weights = sample.weights.copy()
        weights[len(weights) - 2 * len(sample.draws) :] /= 3
        found.append([solved(sample.masks, w, f) for w in (sample.weights, weights)])
    right, wrong = np.abs(np.mean(found, axis=0) - exact).max(axis=1)
    assert right < wrong / 3


def exact_game() -> Any:
    w, v = numbers(PLAYERS, 8, seed=114), numbers(8, seed=115)
    return lambda masks: np.tanh(masks @ w) @ v


def solved(masks: np.ndarray, weights: np.ndarray, f: Any) -> np.ndarray:
    players = masks.shape[1]
    whole = np.vstack([np.zeros((1, players)), masks, np.ones((1, players))])
    return np.asarray(kernel_matrix(masks, weights) @ f(whole))


def test_the_kernel_of_all_coalitions_is_shapleys_formula() -> None:
    for players in range(1, 8):
        sample = sample_coalitions(players, 2**players, 0).whole
        assert sample.complete
        masks = all_coalitions(players)
        np.testing.assert_allclose(kernel_matrix(sample.masks, sample.weights), exact_matrix(masks), atol=1e-12)


def test_shares_of_the_sizes_are_those_of_the_shapley_kernel() -> None:
    for budget in (18, 40, 150, 400):
        sample = sample_coalitions(PLAYERS, budget, 1).whole
        sizes = sample.masks.sum(axis=1).astype(int)
        assert len(sample.masks) <= budget
        assert len({mask.tobytes() for mask in sample.masks}) == len(sample.masks)
        listed = len(sizes) - 2 * len(sample.draws if sample.draws is not None else ())
        for size in sorted(set(sizes[:listed].tolist())):
            share = (PLAYERS - 1) / (size * (PLAYERS - size))
            assert sample.weights[:listed][sizes[:listed] == size].sum() == pytest.approx(share)
        if listed < len(sizes):
            rest = [size for size in range(1, PLAYERS) if size not in sizes[:listed]]
            left = sum((PLAYERS - 1) / (size * (PLAYERS - size)) for size in rest)
            assert sample.weights[listed:].sum() == pytest.approx(left)
            np.testing.assert_array_equal(sample.masks[listed::2], 1 - sample.masks[listed + 1 :: 2])


def test_a_single_player_gets_everything() -> None:
    model = made([("Exp", ["x"], ["y"])], {"x": ("float64", ["n", 1])}, {"y": ("float64", ["n", 1])})
    for method in ("kernel_shap", "exact_shap"):
        found = attribute(model, {"x": np.array([[2.0]])}, method, background=np.array([[0.0], [1.0]]))
        np.testing.assert_allclose(found.values["x"], [[np.exp(2.0) - (1 + np.exp(1.0)) / 2]])


def test_an_error_is_given_where_nothing_was_drawn_but_coalitions_are_missing(model: explain.Model) -> None:
    found = kernel(model, n_samples=2 * PLAYERS)
    assert all(figures["standard_error"] > 0 for figures in found.quality)
    masks = [mask.tolist() for mask in all_coalitions(PLAYERS)[1::3]]
    assert all(figures["standard_error"] > 0 for figures in kernel(model, coalitions=masks).quality)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_samples": 17}, "parameter 'n_samples': came 17, expected at least 18"),
        ({"n_samples": 1}, "parameter 'n_samples': came 1, expected 2 to 65536"),
        ({"n_samples": 70000}, "parameter 'n_samples': came 70000"),
        ({"n_samples": 2.5}, "expected a value of type integer or null"),
        ({"n_samples": True}, "expected a value of type integer or null"),
        ({"coalitions": [[1, 0]]}, r"parameter 'coalitions': came shape \(1, 2\), expected \[K, 9\] of 0 and 1"),
        ({"coalitions": [[0.5] * 9]}, "expected .K, 9. of 0 and 1"),
        ({"coalitions": [[1], [1, 0]]}, "expected K rows of 0 and 1, and K weights"),
        ({"coalitions": [[1] * 9, [0] * 9]}, "do not tell all 9 players apart"),
        ({"coalitions": [[1, 0, 0, 0, 0, 0, 0, 0, 0]]}, "do not tell all 9 players apart"),
        ({"coalitions": np.eye(9), "coalition_weights": [1.0] * 8}, "'coalition_weights': expected 9 positive numbers"),
        ({"coalitions": np.eye(9), "coalition_weights": [0.0] * 9}, "'coalition_weights': expected 9 positive numbers"),
        ({"coalitions": np.eye(9), "n_samples": 40}, "'n_samples': expected not together with 'coalitions'"),
        ({"coalition_weights": [1.0]}, "'coalition_weights': expected only together with 'coalitions'"),
        ({"l1_reg": 0}, "parameter 'l1_reg' of kernel_shap is unknown; expected n_samples, coalitions"),
    ],
)
def test_refusals(model: explain.Model, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(explain.InvalidParameter, match=sentence):
        kernel(model, **options)


def test_parameters_of_an_answer_are_plain(model: explain.Model) -> None:
    found = kernel(model, coalitions=all_coalitions(PLAYERS)[1:-1], coalition_weights=np.ones(2**PLAYERS - 2))
    assert isinstance(found.parameters["coalitions"], list)
    assert isinstance(found.parameters["coalition_weights"][0], float)
    assert type(kernel(model, n_samples=np.int64(60)).parameters["n_samples"]) is int


def test_given_coalitions_keep_their_weights() -> None:
    given = Coalitions.given([[1, 0, 0], [0, 0, 0], [1, 1, 0]], [2.0, 5.0, 3.0], 3)
    assert given.masks.tolist() == [[1, 0, 0], [1, 1, 0]]
    assert given.weights.tolist() == [2.0, 3.0]

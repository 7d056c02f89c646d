"""SmoothGrad and its kin, expected gradients, gradient SHAP: the judges' numbers for the same draws, honest errors.

The draws are those the methods document: sample k comes from `default_rng([seed, k])`; first the point of the path
where there is one, then the noise of each input. Rows of the background take turns, two samples each.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import explain
from explain.plans import base as plans
from explain.plans import budget, sampled, samples
from tests.explain.graphs import Nodes, attribute, made, mlp, mlp_twin, numbers, run, taken_turns, tensor

captum = pytest.importorskip("captum.attr", reason="captum is not installed")

X, BACKGROUND = numbers(7, 4, seed=320), numbers(6, 4, seed=321)
SMOOTH = ["smooth_grad", "smooth_grad_squared", "var_grad"]
COMPARED = ["expected_gradients", "gradient_shap"]
JUDGED = {"smooth_grad": "smoothgrad", "smooth_grad_squared": "smoothgrad_sq", "var_grad": "vargrad"}


def options(method: str) -> dict[str, Any]:
    return {"background": BACKGROUND} if method in COMPARED else {"stdev": 0.4}


def draws(method: str, count: int, seed: int, stdev: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows [K, 4] of the background, points [K, 1] and noise [K, 4] of a request."""
    rows, points, noise = [], [], []
    turns = taken_turns(len(BACKGROUND), count, seed)
    for k in range(count):
        random = np.random.default_rng([seed, k])
        rows.append(BACKGROUND[turns[k]] if method in COMPARED else np.zeros(4))
        points.append([random.random()] if method in COMPARED else [1.0])
        noise.append(np.zeros(4) if method == "expected_gradients" else stdev * random.standard_normal(4))
    return np.array(rows), np.array(points), np.array(noise)


def slopes(rows: np.ndarray, target: int) -> np.ndarray:
    """Gradients of the network at rows [K, 4], by autograd in float64."""
    at = tensor(rows).requires_grad_()
    (found,) = torch.autograd.grad(mlp_twin(at)[:, target].sum(), [at])
    return np.asarray(found.numpy())


def each(method: str, x: np.ndarray, count: int, *, seed: int = 0, target: int = 0) -> np.ndarray:
    """What every sample gives [K, 4], by the method's definition."""
    spread = 0.1 * BACKGROUND.astype(float).std(axis=0) if method in COMPARED else np.full(4, 0.4)
    rows, points, noise = draws(method, count, seed, spread)
    difference = x.astype(float) + noise - rows
    gradient = slopes(rows + points * difference, target)
    return difference * gradient if method in COMPARED else gradient


def reduced(method: str, given: np.ndarray) -> np.ndarray:
    if method == "smooth_grad_squared":
        return np.asarray((given**2).mean(axis=0))
    return np.asarray(given.var(axis=0) if method == "var_grad" else given.mean(axis=0))


@pytest.mark.parametrize("method", [*SMOOTH, *COMPARED])
@pytest.mark.parametrize("seed", [0, 5])
def test_the_definition_by_autograd_with_the_same_draws(method: str, seed: int) -> None:
    found = attribute(mlp("Softmax"), {"x": X}, method, n_samples=37, seed=seed, target=1, **options(method))
    pairs = 36 if method in COMPARED else 37
    for item, x in enumerate(X):
        expected = reduced(method, each(method, x, pairs, seed=seed, target=1))
        assert explain.attribution_error(found.values["x"][item], expected) <= 1e-5
    assert found.error_kind == "standard_error"
    other = attribute(mlp("Softmax"), {"x": X}, method, n_samples=37, seed=seed + 1, target=1, **options(method))
    assert explain.attribution_error(other.values["x"], found.values["x"]) > 1e-3


@pytest.mark.parametrize("method", SMOOTH)
def test_captum_given_the_same_noise(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captum draws [items * samples, ...] with torch.normal, one item after the other: it is handed our draws."""
    _, _, noise = draws(method, 20, 3, np.full(4, 0.4))
    given: list[torch.Tensor] = []

    def normal(mean: Any, std: Any) -> torch.Tensor:
        assert float(std.max()) == pytest.approx(0.4)
        given.append(tensor(np.tile(noise, (len(X), 1))))
        return given[-1]

    monkeypatch.setattr(torch, "normal", normal)
    judge = captum.NoiseTunnel(captum.Saliency(mlp_twin))
    made_by = {"nt_type": JUDGED[method], "nt_samples": 20, "stdevs": 0.4, "target": 2, "abs": False}
    judged = judge.attribute(tensor(X), **made_by).detach().numpy()
    assert given
    found = attribute(mlp(), {"x": X}, method, n_samples=20, seed=3, target=2, stdev=0.4)
    assert explain.attribution_error(found.values["x"], judged) <= 1e-5


@pytest.mark.parametrize("spread", ["background", "range"])
def test_the_level_of_the_noise(spread: str) -> None:
    given = {"background": BACKGROUND} if spread == "background" else {}
    stdev = BACKGROUND.astype(float).std(axis=0) if given else np.full(4, float(np.ptp(X[0])))
    found = attribute(mlp(), {"x": X[:1]}, "smooth_grad", n_samples=30, noise_level=0.2, target=0, **given)
    _, _, noise = draws("smooth_grad", 30, 0, 0.2 * stdev)
    expected = slopes(X[0] + noise, 0).mean(axis=0)
    assert explain.attribution_error(found.values["x"][0], expected) <= 1e-5


@pytest.mark.parametrize("method", SMOOTH)
def test_a_quadratic_has_known_moments(method: str) -> None:
    """f = sum x^2 / 2 has the gradient x: its mean is x, its mean square x^2 + s^2, its variance s^2."""
    nodes: Nodes = [("Mul", ["x", "x"], ["s"]), ("Mul", ["s", "half"], ["t"]), ("ReduceSum", ["t", "last"], ["y"])]
    weights = {"half": np.float64(0.5), "last": np.array([1])}
    model = made(nodes, {"x": ("float64", ["n", 4])}, {"y": ("float64", ["n", 1])}, weights)
    x = X.astype(float)
    found = attribute(model, {"x": x}, method, n_samples=4000, stdev=0.3)
    expected = {"smooth_grad": x, "smooth_grad_squared": x**2 + 0.09, "var_grad": np.full_like(x, 0.09)}[method]
    assert found.errors is not None
    assert (np.abs(found.values["x"] - expected) <= 4 * found.errors["x"]).all()
    assert (found.errors["x"] > 0).all()


def test_expected_gradients_add_up_to_what_the_background_mean_misses() -> None:
    found = attribute(mlp("Softmax"), {"x": X}, "expected_gradients", n_samples=6000, target=0, background=BACKGROUND)
    value, base = mlp_twin(tensor(X))[:, 0].numpy(), mlp_twin(tensor(BACKGROUND))[:, 0].mean().item()
    assert found.base_values is not None
    np.testing.assert_allclose(found.base_values, base, rtol=1e-5)
    np.testing.assert_allclose(found.explained_value, value, rtol=1e-5)
    assert max(figures["completeness_gap_relative"] for figures in found.quality) < 0.1
    assert [f["evaluations"] for f in found.quality] == [6000 + 1 + len(BACKGROUND) + 1] * 7


@pytest.mark.parametrize("method", [*SMOOTH, *COMPARED])
def test_an_item_gets_the_same_answer_alone_in_a_batch_and_in_small_runs(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the error decides how many samples there are: that differs from item to item."""
    tolerance = {"smooth_grad": 0.05, "smooth_grad_squared": 0.2, "var_grad": 0.2}.get(method, 0.08)
    model = explain.Model(mlp("Softmax"))
    given = options(method) | {"n_samples": 300, "tolerance": tolerance, "target": 0}
    together = attribute(model, {"x": X}, method, **given)
    assert len({figures["evaluations"] for figures in together.quality}) > 1
    for rows in (4096, 20, 1):
        monkeypatch.setattr(plans, "ROWS_PER_RUN", rows)
        for item in range(7):
            alone = attribute(model, {"x": X[item : item + 1]}, method, **given)
            assert explain.attribution_error(alone.values["x"][0], together.values["x"][item]) <= 1e-6
            assert alone.quality[0]["evaluations"] == together.quality[item]["evaluations"]
            assert alone.quality[0]["stopped_by"] == together.quality[item]["stopped_by"]


@pytest.mark.parametrize("method", ["smooth_grad", "expected_gradients"])
def test_more_samples_go_on_where_fewer_ended(method: str) -> None:
    means = {n: attribute(mlp(), {"x": X}, method, n_samples=n, target=0, **options(method)) for n in (30, 100)}
    totals = {n: found.values["x"] * n for n, found in means.items()}
    later = np.array([each(method, x, 100)[30:].sum(axis=0) for x in X])
    assert explain.attribution_error(totals[100] - totals[30], later) <= 1e-5


@pytest.mark.parametrize("method", [*SMOOTH, *COMPARED])
def test_standard_errors_are_what_the_answers_scatter_by(method: str) -> None:
    found = [
        attribute(mlp(), {"x": X}, method, n_samples=200, seed=seed, target=0, **options(method)) for seed in range(30)
    ]
    scatter = np.std([one.values["x"] for one in found], axis=0, ddof=1)
    reported = np.mean([(one.errors or {})["x"] for one in found], axis=0)
    ratio = scatter / reported
    assert 1 / 1.5 <= np.exp(np.log(ratio).mean()) <= 1.5
    assert ((ratio > 1 / 1.5) & (ratio < 1.5)).mean() >= 0.9
    assert [f["standard_error"] for f in found[0].quality] == (found[0].errors or {})["x"].max(axis=1).tolist()


def test_it_stops_at_the_tolerance_after_whole_looks() -> None:
    """The pilot says how many are needed; the error then comes from the samples behind it (Stein 1945)."""
    given = {"n_samples": 5000, "tolerance": 0.02, "target": 0, "stdev": 0.4}
    found = attribute(mlp(), {"x": X}, "smooth_grad", **given)
    assert found.errors is not None
    wanted = []
    for item, figures in enumerate(found.quality):
        phi, error = found.values["x"][item], found.errors["x"][item]
        taken = figures["evaluations"] - 1
        drawn = each("smooth_grad", X[item], taken)
        assert figures["stopped_by"] == "tolerance"
        assert error.max() <= 0.02 * np.abs(phi).max()
        assert taken % samples.LOOK == 0
        behind = drawn[samples.PILOT :].std(axis=0, ddof=1) / np.sqrt(taken)
        np.testing.assert_allclose(error, behind, rtol=1e-3)
        assert np.abs(drawn.std(axis=0, ddof=1) / np.sqrt(taken) / behind - 1).max() > 1e-3
        pilot = drawn[: samples.PILOT]
        asked = sampled.MARGIN * (pilot.std(axis=0, ddof=1).max() / (0.02 * np.abs(pilot.mean(axis=0)).max())) ** 2
        assert taken >= np.floor(max(min(asked, sampled.LEAP * samples.PILOT), 2 * samples.PILOT))
        wanted.append(taken)
    assert len(set(wanted)) > 2


@pytest.mark.parametrize("n_samples", [2, 17, 64, 65])
@pytest.mark.parametrize("tolerance", [0.0, 1e-9])
def test_it_stops_at_the_number_of_samples(n_samples: int, tolerance: float) -> None:
    found = attribute(mlp(), {"x": X}, "smooth_grad", n_samples=n_samples, tolerance=tolerance, target=0)
    assert {figures["stopped_by"] for figures in found.quality} == {"max_evals"}
    assert [figures["evaluations"] for figures in found.quality] == [n_samples + 1] * 7


def test_it_stops_when_time_is_spent_and_never_before_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1000.0, 0.01).tolist())
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    given = {"n_samples": 60000, "target": 0}
    found = attribute(mlp(), {"x": X[:1]}, "smooth_grad", budget_ms=35.0, **given)
    assert found.quality[0]["stopped_by"] == "budget_ms"
    assert found.quality[0]["evaluations"] % sampled.ROUND == 1
    assert 1 < found.quality[0]["evaluations"] < 1000
    monkeypatch.setattr(plans, "ROWS_PER_RUN", 1)
    spent = attribute(mlp(), {"x": X[:1]}, "smooth_grad", budget_ms=0.0, **given)
    assert spent.quality[0]["evaluations"] == 2 + 1
    assert spent.errors is not None


def test_provisional_results_are_full_estimates_and_improve() -> None:
    given: dict[str, Any] = {"background": BACKGROUND, "n_samples": 4000, "target": 0}
    running = explain.begin(mlp(), {"x": X}, method="expected_gradients", **given)
    expected = np.array([each("expected_gradients", x, 4000).mean(axis=0) for x in X])
    seen = []
    while (step := running.chunk()) is not None:
        running.update(run(*step))
        if running.ready:
            now = running.result()
            spent = int(now.quality[0]["evaluations"]) - 1 - len(BACKGROUND)
            given_by_then = each("expected_gradients", X[0], spent).mean(axis=0)
            assert explain.attribution_error(now.values["x"][0], given_by_then) <= 1e-5
            seen.append((explain.attribution_error(now.values["x"], expected), now.quality[0]["standard_error"]))
    assert len(seen) > 10
    assert seen[-1][0] < 1e-5 < seen[0][0]
    assert seen[-1][1] < seen[0][1] / 3


def test_inputs_that_play_no_part_get_zeros_and_codes_take_no_noise() -> None:
    nodes: Nodes = [("Tanh", ["x"], ["y"]), ("Floor", ["stairs"], ["idle"])]
    specs: Any = {"y": ("float32", ["n", 4]), "idle": ("float32", ["n", 2])}
    model = made(nodes, {"x": ("float32", ["n", 4]), "stairs": ("float32", ["n", 2])}, specs)
    inputs = {"x": X, "stairs": X[:, :2]}
    background = {"x": BACKGROUND, "stairs": BACKGROUND[:, :2]}
    for method in (*SMOOTH, *COMPARED):
        found = attribute(model, inputs, method, background=background, target=0, n_samples=5)
        assert found.errors is not None
        assert found.values["stairs"].shape == found.errors["stairs"].shape == (7, 2)
        assert not found.values["stairs"].any()
        assert found.values["x"][:, 0].any()


def tokens() -> onnx.ModelProto:
    nodes: Nodes = [("Gather", ["table", "ids"], ["e"]), ("Tanh", ["e"], ["h"]), ("MatMul", ["h", "head"], ["y"])]
    weights = {"table": numbers(9, 5, seed=322), "head": numbers(5, 1, seed=323)}
    return made(nodes, {"ids": ("int64", ["n", 3])}, {"y": ("float32", ["n", 3, 1])}, weights)


def test_expected_gradients_of_codes_walk_between_encodings() -> None:
    ids, others = np.array([[1, 4, 8], [3, 3, 0]]), np.array([[2, 2, 2], [5, 6, 7]])
    found = attribute(tokens(), {"ids": ids}, "expected_gradients", background=others, target=(1, 0), n_samples=3000)
    table, head = numbers(9, 5, seed=322).astype(float), numbers(5, 1, seed=323).astype(float)
    worth = (np.tanh(table) @ head)[:, 0]
    assert found.errors is not None
    expected = worth[ids[:, 1]] - worth[others[:, 1]].mean()
    assert (np.abs(found.values["ids"][:, 1] - expected) <= 4 * found.errors["ids"][:, 1]).all()
    assert not found.values["ids"][:, [0, 2]].any()


@pytest.mark.parametrize("method", [*SMOOTH, "gradient_shap"])
def test_noise_on_codes_is_refused_by_name(method: str) -> None:
    given = {"background": np.array([[2, 2, 2]])} if method == "gradient_shap" else {}
    with pytest.raises(explain.MethodUnavailable, match="input 'ids' holds codes, to which no noise can be added"):
        attribute(tokens(), {"ids": np.array([[1, 4, 8]])}, method, target=(1, 0), **given)
    assert "expected_gradients" in explain.coverage(tokens()).methods

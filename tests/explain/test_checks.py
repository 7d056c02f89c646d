"""Checks on request equal what formulas, loops over the served model, and Captum's metrics say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, Saliency
from captum.metrics import infidelity, sensitivity_max

import explain
from explain.plans import base as plans
from explain.plans import worths
from explain.quality import Figures, Subject, players_of
from explain.quality.curves import Curves, area, counts_of, places
from explain.quality.infidelity import Noised, Removed
from explain.quality.neighbours import Neighbours
from tests.explain.graphs import Nodes, attribute, cnn, made, mlp, mlp_twin, numbers, run, serve, tensor

X, BACKGROUND = numbers(3, 4, seed=150), numbers(5, 4, seed=151)
W = np.array([[2.0], [-1.0], [0.5], [3.0]], dtype=np.float32)
EVERY: dict[str, Any] = {name: {} for name in explain.CHECKS}


def linear() -> Any:
    nodes: Nodes = [("MatMul", ["x", "w"], ["y"])]
    return made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 1])}, {"w": W})


def subject_of(model: Any, inputs: Any, method: str, check: str, parameters: Any = None, **options: Any) -> Subject:
    """What a check is handed, the method's own work done."""
    running = explain.begin(model, inputs, method=method, **options)
    while (step := running.chunk()) is not None:
        running.update(run(*step))
    assert running.plan is not None
    outcome = running.plan.outcome()
    return Subject(running.asked, running.method, outcome, explain.CHECKS[check].resolve(parameters or {}))


def finished(plan: Any) -> list[Figures]:
    for step in plan.steps():
        step.collect(run(step.program, step.feeds))
    found: list[Figures] = plan.results()
    return found


def test_the_curves_of_a_linear_model_are_its_sums() -> None:
    """Whatever is removed takes its contribution with it: the sorted contributions, added up."""
    base = np.array([1.0, 0.0, -1.0, 2.0], dtype=np.float32)
    found = attribute(linear(), {"x": X}, "integrated_gradients", baseline=base, checks=["deletion_insertion"])
    for item, entry in enumerate(found.quality):
        phi = np.sort(((X[item] - base) * W[:, 0]).astype(float))[::-1]
        whole, nothing = float(X[item] @ W[:, 0]), float(base @ W[:, 0])
        sums = np.concatenate([[0.0], np.cumsum(phi)])
        curves = entry["checks"]["deletion_insertion"]
        np.testing.assert_allclose(curves["fractions"], [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(curves["deletion"], whole - sums, atol=1e-5)
        np.testing.assert_allclose(curves["insertion"], nothing + sums, atol=1e-5)
        areas = [np.trapezoid(curve, dx=0.25) for curve in (whole - sums, nothing + sums)]
        np.testing.assert_allclose([entry["deletion_auc"], entry["insertion_auc"]], areas, atol=1e-5)
        scaled = [entry["deletion_auc_normalised"], entry["insertion_auc_normalised"]]
        np.testing.assert_allclose(scaled, [(a - nothing) / (whole - nothing) for a in areas], rtol=1e-4)
        assert (curves["reference"], curves["evaluations"], entry["check_evaluations"]) == ("baseline", 8, 8)


@pytest.mark.parametrize("order", ["value", "absolute"])
def test_the_curves_are_the_served_models_own_values(order: str) -> None:
    """Each point by the model itself, on inputs put together by hand, averaged over the background."""
    given = {"deletion_insertion": {"order": order, "steps": 3}}
    found = attribute(mlp(), {"x": X}, "exact_shap", background=BACKGROUND, target=1, checks=given)
    counts = [0, 1, 3, 4]
    for item, entry in enumerate(found.quality):
        phi = found.values["x"][item]
        first = np.argsort(-(np.abs(phi) if order == "absolute" else phi))
        curves = {}
        for name in ("deletion", "insertion"):
            curves[name] = []
            for count in counts:
                kept = np.isin(np.arange(4), first[:count]) == (name == "insertion")
                rows = np.where(kept, X[item], BACKGROUND)
                curves[name].append(serve(mlp(), {"x": rows})["z"][:, 1].mean())
        stated = entry["checks"]["deletion_insertion"]
        np.testing.assert_allclose(stated["fractions"], np.array(counts) / 4)
        for name, curve in curves.items():
            np.testing.assert_allclose(stated[name], curve, rtol=1e-4, atol=1e-5)
        assert stated["evaluations"] == 2 * 3 * len(BACKGROUND)
        assert stated["reference"] == "background"


def test_a_baseline_of_each_items_own_and_a_reference_that_is_chosen() -> None:
    bases = numbers(3, 4, seed=152)
    own = attribute(mlp(), {"x": X}, "deeplift", baseline=bases, target=0, checks=["deletion_insertion"])
    ends = [entry["checks"]["deletion_insertion"]["deletion"][-1] for entry in own.quality]
    np.testing.assert_allclose(ends, serve(mlp(), {"x": bases})["z"][:, 0], rtol=1e-4)
    options: dict[str, Any] = {"baseline": bases, "background": BACKGROUND, "target": 0}
    for method, asked, expected in (
        ("deeplift", {}, "baseline"),
        ("deep_shap", {}, "background"),
        ("saliency", {}, "baseline"),
        ("deeplift", {"reference": "background"}, "background"),
    ):
        found = attribute(mlp(), {"x": X}, method, checks={"deletion_insertion": asked}, **options)
        stated = [entry["checks"]["deletion_insertion"] for entry in found.quality]
        assert {each["reference"] for each in stated} == {expected}
        if expected == "background":
            mean = serve(mlp(), {"x": BACKGROUND})["z"][:, 0].mean()
            np.testing.assert_allclose([each["insertion"][0] for each in stated], mean, rtol=1e-4)


def test_a_random_attribution_has_worse_areas() -> None:
    subject = subject_of(mlp(), {"x": X}, "exact_shap", "deletion_insertion", background=BACKGROUND, target=1)
    (true, *_), other = (finished(Curves(subject)) for _ in range(2))
    assert true == other[0]
    shuffled = []
    for seed in range(24):
        order = np.random.default_rng(seed).permutation(4)
        values = {"x": subject.outcome.values["x"][:, order]}
        wrong = Subject(subject.request, subject.method, plans.Outcome(values, np.zeros(3)), subject.parameters)
        shuffled.append([each.figures for each in finished(Curves(wrong))])
    for item, each in enumerate(finished(Curves(subject))):
        assert each.figures["deletion_auc"] < np.mean([row[item]["deletion_auc"] for row in shuffled])
        assert each.figures["insertion_auc"] > np.mean([row[item]["insertion_auc"] for row in shuffled])


def test_pairs_count_for_both_and_square_maps_are_no_pairs() -> None:
    pairs = numbers(3, 4, 4, seed=11).astype(float)
    subject = subject_of(mlp(), {"x": X}, "saliency", "deletion_insertion", baseline=0, target=0)
    np.testing.assert_allclose(players_of(subject.request, {"x": pairs}).scores, pairs.sum(axis=2))
    cam = subject_of(cnn(), {"image": numbers(2, 1, 8, 8)}, "grad_cam", "deletion_insertion", baseline=0)
    found = players_of(cam.request, {"image": pairs[:2]})
    np.testing.assert_array_equal(found.scores, pairs[:2].reshape(2, 16))
    np.testing.assert_array_equal(found.index["image"][0, ::2, ::2], np.arange(16).reshape(4, 4))


def test_orders_counts_and_areas() -> None:
    scores = np.array([[1.0, np.nan, -3.0, 1.0]])
    assert places(scores, "value").tolist() == [[0, 3, 2, 1]]
    assert places(scores, "absolute").tolist() == [[1, 3, 0, 2]]
    assert counts_of(4, 16).tolist() == [0, 1, 2, 3, 4]
    assert counts_of(100, 3).tolist() == [0, 33, 67, 100]
    fractions, curve = np.array([0.0, 0.2, 1.0]), np.array([3.0, 1.0, 2.0])
    assert area(fractions, curve) == pytest.approx(np.trapezoid(curve, fractions))


def test_infidelity_of_what_is_exact_is_zero() -> None:
    checks = {"infidelity": {"n_samples": 20}}
    slope = attribute(linear(), {"x": X}, "saliency", absolute=False, background=BACKGROUND, checks=checks)
    share = attribute(linear(), {"x": X}, "kernel_shap", background=BACKGROUND, checks=checks)
    wrong = attribute(linear(), {"x": X}, "saliency", absolute=True, background=BACKGROUND, checks=checks)
    for right in (slope, share):
        assert max(entry["infidelity"] for entry in right.quality) < 1e-9
        assert [entry["checks"]["infidelity"]["scale"] for entry in right.quality] == pytest.approx([1.0] * 3, rel=1e-3)
    assert [e["checks"]["infidelity"]["perturbation"] for e in (slope.quality[0], share.quality[0])] == [
        "noise",
        "removal",
    ]
    assert min(entry["infidelity"] for entry in wrong.quality) > 1e-3


@pytest.mark.parametrize("normalise", [False, True])
def test_infidelity_is_captums_on_the_same_perturbations(normalise: bool) -> None:
    """Noise for the gradient; for contributions the removals, with contribution / (x - baseline) as the gradient."""
    noisy = subject_of(mlp(), {"x": X}, "saliency", "infidelity", absolute=False, background=BACKGROUND, target=2)
    removed = subject_of(mlp(), {"x": X}, "integrated_gradients", "infidelity", baseline=0.5, target=2)
    noise, removals = Noised(noisy), Removed(removed)
    perturbations = {
        "noise": np.stack([draw["x"] for draw in noise.noise], axis=1),
        "removal": removals.gone[None] * (X - 0.5)[:, None],
    }
    slopes = {"noise": noisy.outcome.values["x"], "removal": removed.outcome.values["x"] / (X - 0.5)}
    for kind, plan in (("noise", noise), ("removal", removals)):
        moves = tensor(perturbations[kind].astype(float)).reshape(-1, 4)

        def perturb(inputs: torch.Tensor, moves: torch.Tensor = moves) -> tuple[torch.Tensor, torch.Tensor]:
            return moves, inputs - moves

        expected = infidelity(
            mlp_twin, perturb, tensor(X), tensor(slopes[kind]), target=2, n_perturb_samples=10, normalize=normalise
        )
        found = [each.figures for each in finished(plan)]
        if normalise:
            change = [
                float(
                    (mlp_twin(tensor(X[i : i + 1])) - mlp_twin(tensor(X[i]) - moves.reshape(3, 10, 4)[i]))[:, 2]
                    .square()
                    .mean()
                )
                for i in range(3)
            ]
            scaled = [each["infidelity_normalised"] for each in found]
            np.testing.assert_allclose(scaled, expected.numpy() / change, rtol=2e-3, atol=1e-5)
        else:
            np.testing.assert_allclose([each["infidelity"] for each in found], expected, rtol=2e-3, atol=1e-7)


def test_a_gradient_that_does_not_change_has_no_sensitivity() -> None:
    checks = ["max_sensitivity", "local_lipschitz"]
    found = attribute(linear(), {"x": X}, "saliency", checks=checks)
    assert [(e["max_sensitivity"], e["local_lipschitz"]) for e in found.quality] == [(0.0, 0.0)] * 3
    product = attribute(linear(), {"x": X}, "input_x_gradient", checks=checks)
    assert all(0.5 < entry["local_lipschitz"] <= 3.0 + 1e-4 for entry in product.quality)


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients"])
def test_max_sensitivity_is_captums_on_the_same_neighbours(method: str) -> None:
    options: dict[str, Any] = {"baseline": 0.25, "n_steps": 20} if method == "integrated_gradients" else {}
    parameters = {"n_samples": 6, "radius": 0.1}
    subject = subject_of(mlp(), {"x": X}, method, "max_sensitivity", parameters, target=1, **options)
    plan = Neighbours(subject, "max_sensitivity")
    moves = np.stack([plan.move(k)["x"] for k in range(6)], axis=1)
    assert np.abs(moves).max() <= 0.1 * np.ptp(X, axis=1).max()

    def explained(inputs: Any) -> tuple[torch.Tensor]:
        points = inputs[0] if isinstance(inputs, tuple) else inputs
        if method == "saliency":
            found: torch.Tensor = Saliency(mlp_twin).attribute(points.clone().requires_grad_(), target=1)
        else:
            found = IntegratedGradients(mlp_twin).attribute(points, 0.25, target=1, n_steps=20)
        return (found.detach(),)

    def perturb(inputs: Any) -> torch.Tensor:
        points = inputs[0] if isinstance(inputs, tuple) else inputs
        moved: torch.Tensor = points + tensor(moves).reshape(-1, 4)
        return moved

    expected = sensitivity_max(explained, tensor(X), perturb, n_perturb_samples=6)
    np.testing.assert_allclose([each.figures["max_sensitivity"] for each in finished(plan)], expected, rtol=2e-3)
    assert plan.evaluations.tolist() == [6 * (22 if options else 1)] * 3


def test_sensitivity_holds_the_target_and_the_draws() -> None:
    """Another target, or other noise, would move the explanation further than the item was moved."""
    x = np.zeros((1, 4), dtype=np.float32) + 1e-6 * numbers(1, 4)
    quiet = {"max_sensitivity": {"absolute_radius": 1e-5, "n_samples": 8}}
    found = attribute(mlp("Softmax"), {"x": x}, "smooth_grad", stdev=0.5, n_samples=8, checks=quiet)
    assert found.quality[0]["max_sensitivity"] < 1e-3


@pytest.mark.parametrize("method", ["saliency", "expected_gradients", "kernel_shap"])
def test_what_an_item_gets_does_not_depend_on_its_company(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"background": BACKGROUND, "target": 1, "seed": 3, "checks": EVERY}
    if method == "expected_gradients":
        options["n_samples"] = 12
    together = attribute(mlp(), {"x": X}, method, **options).quality
    alone = [attribute(mlp(), {"x": X[item : item + 1]}, method, **options).quality[0] for item in range(3)]
    monkeypatch.setattr(plans, "ROWS_PER_RUN", 7)
    chopped = attribute(mlp(), {"x": X}, method, **options).quality
    for item in range(3):
        for name in ("deletion_auc", "insertion_auc", "infidelity", "max_sensitivity", "local_lipschitz"):
            wanted = pytest.approx(together[item][name], rel=1e-4, abs=1e-6)
            assert alone[item][name] == wanted
            assert chopped[item][name] == wanted
        assert together[item]["checks"].keys() == EVERY.keys()
        assert together[item]["check_evaluations"] == chopped[item]["check_evaluations"]


def test_evaluations_are_those_that_were_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in the feeds, no layer taken apart."""
    monkeypatch.setattr(worths, "HELD", 0)
    checks = ["deletion_insertion", "infidelity"]
    running = explain.begin(mlp(), {"x": X}, method="deep_shap", background=BACKGROUND, target=0, checks=checks)
    rows = 0
    while (step := running.chunk()) is not None:
        if running.ready and "mask" in step[1]:
            n, k, _ = step[1]["mask"].shape
            rows += n * k * len(step[1]["background.weight"])
        running.update(run(*step))
    quality = running.result().quality
    assert rows == sum(entry["check_evaluations"] for entry in quality)
    assert {entry["evaluations"] for entry in quality} == {1 + len(BACKGROUND)}


def test_the_answer_is_there_before_its_checks() -> None:
    running = explain.begin(mlp(), {"x": X}, method="saliency", baseline=0, target=0, checks=EVERY)
    while not running.ready:
        step = running.chunk()
        assert step is not None
        running.update(run(*step))
    early = running.result()
    assert early.quality[0]["max_sensitivity"] is None
    assert early.quality[0]["checks"] == dict.fromkeys(EVERY)
    assert early.quality[0]["check_evaluations"] == 0
    while (step := running.chunk()) is not None:
        running.update(run(*step))
    late = running.result()
    np.testing.assert_array_equal(late.values["x"], early.values["x"])
    assert all(late.quality[0][name] is not None for check in explain.CHECKS.values() for name in check.figures)


def test_cells_of_a_map_and_declared_groups_are_removed_whole() -> None:
    image = numbers(2, 1, 8, 8, seed=9)
    checks = {"deletion_insertion": {"steps": 4}}
    found = attribute(cnn(), {"image": image}, "grad_cam", target=1, baseline=0.0, space="probability", checks=checks)
    cells = found.values["image"]
    height, width = cells.shape[1:]
    for item in range(2):
        stated = found.quality[item]["checks"]["deletion_insertion"]
        first = np.argsort(-cells[item].reshape(-1), kind="stable")[: round(height * width / 4)]
        rows, columns = np.arange(8) * height // 8, np.arange(8) * width // 8
        gone = np.isin(rows[:, None] * width + columns, first)
        masked = np.where(gone, 0, image[item : item + 1]).astype(np.float32)
        assert stated["deletion"][1] == pytest.approx(serve(cnn(), {"image": masked})["p"][0, 1], rel=1e-4)
    groups: dict[str, Any] = {"groups": {"x": np.array([0, 0, 1, -1])}, "group_names": ["a", "b"]}
    for method in ("exact_shap", "deep_shap"):
        both = attribute(mlp(), {"x": X}, method, background=BACKGROUND, target=0, checks=checks, **groups)
        stated = both.quality[0]["checks"]["deletion_insertion"]
        kept = np.where([False, False, False, True], X[0], BACKGROUND)
        assert stated["fractions"] == [0.0, 0.5, 1.0]
        assert stated["deletion"][-1] == pytest.approx(serve(mlp(), {"x": kept})["z"][:, 0].mean(), rel=1e-4)


def test_codes_are_replaced_and_what_has_no_attribution_stays() -> None:
    """y = sum over words of their entry in a table, where whole numbers that are not explained say they are there."""
    table = numbers(6, 1, seed=10)
    nodes: Nodes = [
        ("Gather", ["table", "ids"], ["e"]),
        ("Greater", ["times", "zero"], ["there"]),
        ("Where", ["there", "e", "nothing"], ["kept"]),
        ("ReduceSum", ["kept", "axes"], ["y"], {"keepdims": 0}),
    ]
    weights = {"table": table, "zero": np.array(0), "nothing": np.zeros(1, np.float32), "axes": np.array([1])}
    inputs: Any = {"ids": ("int64", ["n", 3]), "times": ("int64", ["n", 3, 1])}
    model = made(nodes, inputs, {"y": ("float32", ["n", 1])}, weights)
    x = {"ids": np.array([[1, 2, 3], [5, 4, 1]]), "times": np.array([[[1], [0], [1]], [[1], [1], [1]]])}
    baseline = {"ids": np.zeros((1, 3), np.int64), "times": np.zeros((1, 3, 1), np.int64)}
    checks = ["deletion_insertion", "infidelity"]
    found = attribute(model, x, "integrated_gradients", baseline=baseline, checks=checks)
    assert set(found.values) == {"ids"}
    for item, entry in enumerate(found.quality):
        there = x["times"][item, :, 0] > 0
        full, empty = ((table[ids, 0] * there).sum() for ids in (x["ids"][item], np.zeros(3, np.int64)))
        stated = entry["checks"]["deletion_insertion"]
        assert (stated["deletion"][0], stated["deletion"][-1]) == pytest.approx((full, empty), abs=1e-5)
        assert entry["infidelity"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("method", ["kernel_shap", "deep_shap"])
def test_items_with_fewer_groups_are_checked_apart(method: str) -> None:
    index = np.array([[0, 0, 1, 1], [0, 1, 2, 3], [0, 1, 1, 0]])
    options: dict[str, Any] = {"background": BACKGROUND, "target": 1, "seed": 3}
    options["checks"] = ["deletion_insertion", "infidelity", "max_sensitivity"]
    together = attribute(mlp(), {"x": X}, method, groups={"x": index}, **options).quality
    assert [len(entry["checks"]["deletion_insertion"]["fractions"]) for entry in together] == [3, 5, 3]
    for item in range(3):
        part = slice(item, item + 1)
        (alone,) = attribute(mlp(), {"x": X[part]}, method, groups={"x": index[part]}, **options).quality
        for name in ("deletion_auc", "insertion_auc", "infidelity", "max_sensitivity", "check_evaluations"):
            assert together[item][name] == pytest.approx(alone[name], rel=1e-4, abs=1e-6)


def test_what_a_removal_says_takes_the_place() -> None:
    """A method that removes groups by a spec of its own is checked with the same."""
    spec: Any = {"constant": 0.5}
    found = attribute(mlp(), {"x": X}, "exact_shap", removal=spec, target=0, checks=["deletion_insertion"])
    stated = [entry["checks"]["deletion_insertion"] for entry in found.quality]
    assert {each["reference"] for each in stated} == {"removal"}
    assert found.base_values is not None
    np.testing.assert_allclose([each["deletion"][-1] for each in stated], found.base_values, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "options", "checks", "sentence"),
    [
        ("saliency", {}, ["road"], "checks: came 'road', expected names among deletion_insertion, infidelity, max_"),
        ("saliency", {}, "infidelity", "checks: came 'infidelity', expected names, or parameters by name"),
        ("saliency", {}, {"infidelity": 3}, "checks: came 3 for infidelity, expected its parameters by name"),
        ("saliency", {}, {"infidelity": {"steps": 3}}, "parameter 'steps' of check infidelity is unknown; expected n_"),
        ("saliency", {}, {"max_sensitivity": {"radius": -1}}, "parameter 'radius': came -1, expected at least 0"),
        (
            "saliency",
            {},
            ["deletion_insertion"],
            "check deletion_insertion: it needs a baseline or a background to put",
        ),
        ("saliency", {"baseline": 0}, {"deletion_insertion": {"reference": "background"}}, "it needs a background to"),
        ("input_x_gradient", {}, ["infidelity"], "check infidelity: it needs a baseline or a background"),
        (
            "deeplift",
            {"baseline": 0},
            {"infidelity": {"perturbation": "noise"}},
            "check infidelity: deeplift does not state slopes: its perturbation must be 'removal'",
        ),
        ("smooth_grad", {"budget_ms": 5}, ["max_sensitivity"], "an explanation that is cut by time cannot be repeated"),
    ],
)
def test_what_is_refused(method: str, options: dict[str, Any], checks: Any, sentence: str) -> None:
    """Before anything was run."""
    with pytest.raises((explain.InvalidParameter, explain.MethodUnavailable), match=re.escape(sentence)):
        explain.begin(mlp("Softmax"), {"x": X}, method=method, checks=checks, **options)

"""What the running server answers, held against Captum, shap and plain enumeration on the torch originals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pytest

import training
from explain import attribution_error, gradient_error

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting forward, backward hooks:UserWarning",
    "ignore::DeprecationWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::FutureWarning",
)
Asked = tuple[np.ndarray, np.ndarray, list[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def asked(house: Any, server: Any, arrays_of: Any) -> Callable[..., Asked]:
    """Rows, attributions, explanations and the whole answer for the example rows of a model."""

    def ask(name: str, method: str, count: int = 6, **members: Any) -> Asked:
        instances = [entry["instance"] for entry in house.examples(name)][:count]
        answer = server.ask(f"/v1/models/{name}:explain", {"instances": instances, "method": method, **members})
        explanations = answer["explanations"]
        values = [each["attributions"] for each in explanations]
        rows = arrays_of(name, instances)
        if isinstance(values[0], dict):
            return rows, np.array([value["image"] for value in values]), explanations, answer
        order = {feature.name: feature.index for feature in training.RECIPES[name].features}
        if values[0][0]["feature"] in order:
            values = [sorted(value, key=lambda each: order[each["feature"]]) for value in values]
        return rows, np.array([[each["attribution"] for each in value] for value in values]), explanations, answer

    return ask


def targets_of(explanations: list[dict[str, Any]]) -> Any:
    import torch

    return torch.tensor([each["target"]["index"] for each in explanations])


def tensor(rows: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(rows.astype(np.float64)).requires_grad_()


def judged(name: str, attribution: Any, explanations: list[dict[str, Any]]) -> np.ndarray:
    """A judge's answer as numpy; the answer's own words say that it is about the logit of the predicted class."""
    for each in explanations:
        assert each["units"] == ("logit" if name != "diabetes" else training.RECIPES[name].unit)
    return np.asarray(attribution.detach().numpy(), dtype=np.float64)


@pytest.mark.parametrize("name", ["tumour", "digits", "diabetes"])
def test_what_is_explained_is_the_original_s_logit_of_the_predicted_class(name: str, asked: Any, network: Any) -> None:
    rows, _, explanations, answer = asked(name, "saliency")
    logits = network(name)(tensor(rows)).detach().numpy()
    predicted = logits.argmax(axis=1)
    assert [each["target"]["index"] for each in explanations] == predicted.tolist()
    expected = logits[np.arange(len(rows)), predicted]
    np.testing.assert_allclose([each["explained_value"] for each in explanations], expected, rtol=1e-5, atol=1e-5)
    if name != "diabetes":
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        np.testing.assert_allclose(answer["predictions"], odds / odds.sum(axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("name", ["tumour", "digits", "diabetes"])
def test_saliency_agrees_with_captum(name: str, asked: Any, network: Any) -> None:
    from captum.attr import Saliency

    rows, found, explanations, _ = asked(name, "saliency")
    expected = Saliency(network(name)).attribute(tensor(rows), target=targets_of(explanations))
    assert gradient_error(found, judged(name, expected, explanations)).max() <= 1e-4


@pytest.mark.parametrize("name", ["tumour", "digits", "diabetes"])
def test_integrated_gradients_agree_with_captum(name: str, asked: Any, network: Any, house: Any) -> None:
    """To 1e-4; where a kink of a ReLU lies on a row's path, to what the judge moves by when the row hardly moves."""
    import torch
    from captum.attr import IntegratedGradients

    rows, found, explanations, _ = asked(name, "integrated_gradients", count=10, parameters={"n_steps": 50})
    mean = house.background(name).mean(axis=0, dtype=np.float64)
    baseline = torch.from_numpy(np.zeros_like(mean, np.float64) if name == "digits" else mean)[None]

    def judge(points: np.ndarray) -> np.ndarray:
        captum = IntegratedGradients(network(name))
        options = {"target": targets_of(explanations), "n_steps": 50, "method": "gausslegendre"}
        return judged(name, captum.attribute(tensor(points), baseline, **options), explanations)

    expected = judge(rows)
    errors = by_row(found, expected)
    draw = np.random.default_rng(0)
    nudged = [judge(rows * (1 + 1e-6 * draw.standard_normal(rows.shape))) for _ in range(8)]
    wobble = np.max([by_row(each, expected) for each in nudged], axis=0)
    assert (errors <= np.maximum(1e-4, 2 * wobble)).all(), (errors, wobble)
    assert np.median(errors) <= 1e-5
    for each, values in zip(explanations, found, strict=True):
        gap = each["explained_value"] - each["base_value"] - values.sum()
        assert abs(each["quality"]["completeness_gap"]) == pytest.approx(abs(gap), abs=1e-5)


def by_row(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return np.array([attribution_error(one, other) for one, other in zip(found, expected, strict=True)])


def test_grad_cam_agrees_with_captum(asked: Any, network: Any) -> None:
    """The export folds each normalisation into its convolution, so the last convolution ends where that does."""
    import torch
    from captum.attr import LayerGradCam

    original = network("digits")
    last = [module for module in original.blocks if isinstance(module, torch.nn.BatchNorm2d)][-1]
    rows, found, explanations, _ = asked("digits", "grad_cam", count=10)
    expected = LayerGradCam(original, last).attribute(
        tensor(rows), target=targets_of(explanations), relu_attributions=True
    )
    assert attribution_error(found, judged("digits", expected, explanations)[:, 0]) <= 1e-4


def test_kernel_shap_agrees_with_shap_given_its_coalitions(
    asked: Any, network: Any, house: Any, arrays_of: Any
) -> None:
    import shap
    import torch

    rows = arrays_of("diabetes", [house.examples("diabetes")[0]["instance"]])
    original = network("diabetes")

    def model(points: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(original(torch.from_numpy(np.asarray(points, np.float32)).double()).numpy()[:, 0])

    np.random.seed(0)  # the judge draws from numpy's global stream
    judge = shap.KernelExplainer(model, house.background("diabetes"))
    expected = judge.shap_values(rows, nsamples=400, l1_reg=False, silent=True)
    used = judge.nsamplesAdded
    _, found, explanations, _ = asked(
        "diabetes",
        "kernel_shap",
        count=1,
        parameters={
            "coalitions": judge.maskMatrix[:used].tolist(),
            "coalition_weights": judge.kernelWeights[:used].tolist(),
        },
    )
    assert attribution_error(found, np.asarray(expected)) <= 1e-5
    assert explanations[0]["base_value"] == pytest.approx(float(judge.expected_value), rel=1e-5)


def shapley(worth: Callable[[np.ndarray], np.ndarray], players: int) -> np.ndarray:
    """Shapley's sum as he wrote it: over all coalitions without the player, its gain by their chance."""
    members = [set(chosen) for size in range(players + 1) for chosen in combinations(range(players), size)]
    masks = np.array([[player in chosen for player in range(players)] for chosen in members])
    value = dict(zip(map(frozenset, members), worth(masks), strict=True))
    phi = np.zeros(players)
    for player in range(players):
        for coalition, gained in value.items():
            if player not in coalition:
                size = len(coalition)
                chance = factorial(size) * factorial(players - size - 1) / factorial(players)
                phi[player] += chance * (value[coalition | {player}] - gained)
    return phi


def test_shapley_is_right_where_the_answer_is_known() -> None:
    """Each of two left gloves with one right glove: 1/6, 1/6, 4/6; and a wrong formula would not pass."""
    gloves = shapley(lambda masks: ((masks[:, 0] | masks[:, 1]) & masks[:, 2]).astype(float), 3)
    np.testing.assert_allclose(gloves, [1 / 6, 1 / 6, 4 / 6])
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(gloves, [1 / 3, 1 / 3, 1 / 3])


@pytest.mark.parametrize("name", ["tumour", "diabetes"])
def test_exact_shap_agrees_with_enumeration(name: str, asked: Any, network: Any, house: Any) -> None:
    """In double precision on the torch original; features of one group (`tumour` declares ten) move together."""
    import torch

    rows, found, explanations, _ = asked(name, "exact_shap", count=2)
    recipe, background = training.RECIPES[name], house.background(name)
    of_group = {feature.index: feature.group or feature.label for feature in recipe.features}
    players = list(dict.fromkeys(of_group[feature.index] for feature in recipe.features))
    columns = np.array([players.index(of_group[index]) for index in range(len(recipe.features))])
    original = network(name)
    for row, values, explanation in zip(rows, found, explanations, strict=True):

        def worth(masks: np.ndarray, row: np.ndarray = row, target: int = explanation["target"]["index"]) -> np.ndarray:
            points = np.where(masks[:, None, columns], row, background).astype(np.float64)
            with torch.no_grad():
                answers = original(torch.from_numpy(points.reshape(-1, points.shape[-1])))
            return np.asarray(answers[:, target].numpy().reshape(len(masks), -1).mean(axis=1))

        assert attribution_error(values, shapley(worth, len(players))) <= 1e-6


def test_a_judge_sees_a_wrong_answer(asked: Any, network: Any) -> None:
    """The same comparison, with the attribution of the wrong class or of another row, fails."""
    from captum.attr import Saliency

    rows, found, explanations, _ = asked("digits", "saliency")
    wrong_class = Saliency(network("digits")).attribute(tensor(rows), target=(targets_of(explanations) + 1) % 10)
    assert gradient_error(found, judged("digits", wrong_class, explanations)).min() > 1e-2
    right = Saliency(network("digits")).attribute(tensor(rows), target=targets_of(explanations))
    assert gradient_error(found[::-1], judged("digits", right, explanations)).min() > 1e-2

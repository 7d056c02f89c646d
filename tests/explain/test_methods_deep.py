"""DeepLIFT and DeepSHAP: complete on every architecture; Captum's and shap's, where those are right."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from captum.attr import DeepLift, DeepLiftShap
from torch import nn

import explain
from explain.programs import deeplift
from exporters import export_torch
from tests.explain.graphs import Nodes, attribute, made, numbers, run

F = np.float32


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def exported(network: nn.Module, x: np.ndarray) -> explain.Model:
    return explain.Model(export_torch(network.eval(), [x], ["x"], ["y"]))


def perceptron(last: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(1)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)]
    return nn.Sequential(*layers, *([last] if last else []))


class Pooled(nn.Module):
    """Overlapping windows, as ResNet's stem has them, and a residual block."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem, self.pool = nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(3, 2, 1)
        self.block, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.stem(x)))
        x = torch.relu(x + self.block(x))
        return torch.softmax(self.head(self.pool(x).mean((2, 3))), 1)


class Attentive(nn.Module):
    """Normalisation, attention and a gated product."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.norm, self.attention = nn.LayerNorm(8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.gate, self.up, self.head = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return self.head((nn.functional.silu(self.gate(x)) * self.up(x)).mean(1))


X, BACKGROUND = numbers(5, 6, seed=900), numbers(20, 6, seed=901)
PICTURES, DARK = numbers(3, 1, 12, 12, seed=902), numbers(4, 1, 12, 12, seed=903)
SERIES, REST = numbers(3, 7, 8, seed=904), numbers(4, 7, 8, seed=905)
CASES: dict[str, tuple[Any, np.ndarray, np.ndarray]] = {
    "perceptron": (perceptron, X, BACKGROUND),
    "softmax": (lambda: perceptron(nn.Softmax(1)), X, BACKGROUND),
    "pooled": (Pooled, PICTURES, DARK),
    "attentive": (Attentive, SERIES, REST),
}


@pytest.mark.parametrize("space", [None, "probability"])
@pytest.mark.parametrize("name", CASES)
def test_attributions_are_complete(name: str, space: str | None) -> None:
    make, x, background = CASES[name]
    if space and name in ("perceptron", "attentive"):
        space = "output"
    model = exported(make(), x)
    for method, reference in (("deeplift", {"baseline": background[0]}), ("deep_shap", {"background": background})):
        found = attribute(model, {"x": x}, method, target=1, space=space, **reference)
        assert max(abs(figures["completeness_gap_relative"]) for figures in found.quality) <= 1e-4


def test_deeplift_is_captums_where_its_rules_are_right() -> None:
    network = perceptron()
    x = torch.tensor(X, requires_grad=True)
    expected = DeepLift(network).attribute(x, torch.tensor(BACKGROUND[:1]), target=2).detach().numpy()
    found = attribute(exported(network, X), {"x": X}, "deeplift", target=2, baseline=BACKGROUND[0])
    np.testing.assert_allclose(found.values["x"], expected, rtol=1e-4, atol=1e-5)


def test_deep_shap_is_captums_and_shaps_where_their_rules_are_right() -> None:
    network = perceptron()
    found = attribute(exported(network, X), {"x": X}, "deep_shap", target=2, background=BACKGROUND)
    x = torch.tensor(X, requires_grad=True)
    captum = DeepLiftShap(network).attribute(x, torch.tensor(BACKGROUND), target=2).detach().numpy()
    np.testing.assert_allclose(found.values["x"], captum, rtol=1e-4, atol=1e-5)
    import shap  # it warns when it is imported

    values = shap.DeepExplainer(network, torch.tensor(BACKGROUND)).shap_values(torch.tensor(X))
    np.testing.assert_allclose(found.values["x"], values[..., 2], rtol=1e-3, atol=1e-4)
    means = network(torch.tensor(BACKGROUND)).detach().numpy()[:, 2].mean()
    np.testing.assert_allclose(found.base_values, means, rtol=1e-5)


def test_overlapping_windows_add_up_where_captum_loses_them() -> None:
    """Captum's DeepLift assigns where windows share an element (captum#1276): its sum is off, ours is not."""

    class Modules(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(4)
            self.conv, self.relu, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1)
            self.flat, self.head = nn.Flatten(), nn.Linear(400, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.flat(self.pool(self.relu(self.conv(x)))))

    network = Modules()
    x, base = torch.tensor(PICTURES, requires_grad=True), torch.tensor(DARK[:1])
    theirs = DeepLift(network).attribute(x, base, target=0).detach().numpy().reshape(3, -1).sum(axis=1)
    change = (network(x) - network(base)).detach().numpy()[:, 0]
    found = attribute(exported(network, PICTURES), {"x": PICTURES}, "deeplift", target=0, baseline=DARK[0])
    np.testing.assert_allclose(found.values["x"].reshape(3, -1).sum(axis=1), change, rtol=1e-4, atol=1e-5)
    assert np.abs(theirs - change).max() > 1e-2


def test_softmax_is_nearly_shapley_where_the_elementwise_rule_is_far_off() -> None:
    """Six classes from one logit each: an elementwise rule gives all of a class's change to its own logit."""
    nodes: Nodes = [("Identity", ["x"], ["z"]), ("Softmax", ["z"], ["y"])]
    model = made(nodes, {"x": ("float32", ["n", 6])}, {"y": ("float32", ["n", 6])})
    x, base = numbers(4, 6, seed=906), np.zeros((1, 6), F)
    options: dict[str, Any] = {"target": 0, "space": "probability"}
    exact = attribute(model, {"x": x}, "exact_shap", background=base, **options)
    found = attribute(model, {"x": x}, "deeplift", baseline=base, **options)
    elementwise = exact.explained_value - np.asarray(exact.base_values)
    error = np.abs(found.values["x"] - exact.values["x"]).max()
    assert error < 0.02
    assert np.abs(elementwise - exact.values["x"][:, 0]).max() > 3 * error


@pytest.mark.parametrize("name", CASES)
def test_an_item_gets_the_same_answer_alone_and_in_small_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, x, background = CASES[name]
    model = exported(make(), x)
    for method, reference in (("deeplift", {"baseline": background[0]}), ("deep_shap", {"background": background})):
        together = attribute(model, {"x": x}, method, target=1, **reference)
        for rows in (4096, 3):
            monkeypatch.setattr("explain.plans.base.ROWS_PER_RUN", rows)
            for item in range(len(x)):
                alone = attribute(model, {"x": x[item : item + 1]}, method, target=1, **reference)
                assert explain.attribution_error(alone.values["x"][0], together.values["x"][item]) <= 1e-6


@pytest.mark.parametrize("name", CASES)
def test_deep_shap_is_the_mean_of_deeplift_whichever_way_the_rows_are_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, x, background = CASES[name]
    model = exported(make(), x)
    each = [attribute(model, {"x": x}, "deeplift", target=1, baseline=row).values["x"] for row in background]
    found = attribute(model, {"x": x}, "deep_shap", target=1, background=background)
    assert explain.attribution_error(found.values["x"], np.mean(each, axis=0)) <= 1e-5
    monkeypatch.setattr(deeplift, "rows_are_apart", lambda *_: False)
    paired = attribute(exported(make(), x), {"x": x}, "deep_shap", target=1, background=background)
    assert explain.attribution_error(paired.values["x"], found.values["x"]) <= 1e-5
    np.testing.assert_allclose(paired.base_values, found.base_values, rtol=1e-5)


def test_codes_and_held_inputs() -> None:
    """Codes are attributed at their encoding; a mask is the item's own at the background too."""
    nodes: Nodes = [
        ("Gather", ["table", "ids"], ["e"]),
        ("Relu", ["e"], ["b"]),
        ("Unsqueeze", ["keep", "one"], ["k"]),
        ("Cast", ["k"], ["m"], {"to": 1}),
        ("MatMul", ["m", "b"], ["s"]),
        ("Squeeze", ["s", "one"], ["t"]),
        ("Tanh", ["t"], ["y"]),
    ]
    weights = {"table": numbers(9, 4, seed=910), "one": np.array([1])}
    inputs: Any = {"ids": ("int64", ["n", 3]), "keep": ("bool", ["n", 3])}
    model = explain.Model(made(nodes, inputs, {"y": ("float32", ["n", 4])}, weights))
    ids, others = np.array([[1, 2, 3], [4, 0, 8]]), np.array([[0, 0, 0], [5, 6, 7], [8, 1, 2]])
    keep = np.array([[True, True, False], [True, False, True]])
    background = {"ids": others, "keep": np.ones((3, 3), bool)}
    found = attribute(model, {"ids": ids, "keep": keep}, "deep_shap", background=background, target=1)
    assert found.values["ids"][0, 2] == found.values["ids"][1, 1] == 0
    assert max(abs(figures["completeness_gap_relative"]) for figures in found.quality) <= 1e-5
    kept = np.maximum(weights["table"][others], 0)[None] * keep[:, None, :, None]
    base = np.tanh(kept.sum(axis=2))[..., 1].mean(axis=1)
    assert found.base_values is not None
    np.testing.assert_allclose(found.base_values, base, rtol=1e-5)


def test_a_whole_background_is_one_run_of_the_program() -> None:
    model = exported(perceptron(), X)
    running = explain.begin(model, {"x": X}, method="deep_shap", background=BACKGROUND, target=1)
    programs = []
    while (chunk := running.chunk()) is not None:
        programs.append(chunk[0].name)
        running.update(run(*chunk))
    assert programs == ["forward", "deeplift"]
    assert {figures["evaluations"] for figures in running.result().quality} == {1 + len(BACKGROUND)}


def test_what_the_method_is_about_is_onnx_only() -> None:
    program = explain.compile(exported(perceptron(), X), "deeplift")
    onnx.checker.check_model(program.model, full_check=True)
    assert program.inputs["x.baseline"] == program.inputs["baseline.weight"] == "shared"
    assert program.outputs == {"x.attribution": "item", "value": "item", "baseline_value": "item"}

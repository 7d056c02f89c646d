"""Captum and shap on the PyTorch originals agree with the methods on the exported graphs."""

from __future__ import annotations

import io
import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from tests.explain.graphs import attribute, numbers, run

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
captum = pytest.importorskip("captum.attr", reason="captum is not installed")

Arrays = dict[str, np.ndarray]
AGREE = 1e-4


@dataclass(frozen=True)
class Original:
    """A PyTorch module that answers logits, its ONNX export that ends in a Softmax, and rows to explain."""

    module: Any
    model: explain.Model
    rows: np.ndarray
    layer: Any = None

    @property
    def inputs(self) -> Any:
        return torch.tensor(self.rows).requires_grad_()

    @property
    def predicted(self) -> Any:
        return self.module(torch.tensor(self.rows)).argmax(dim=1)


def exported(module: Any, rows: np.ndarray) -> explain.Model:
    whole, buffer = torch.nn.Sequential(module, torch.nn.Softmax(dim=1)).eval(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            whole,
            (torch.tensor(rows[:2]),),
            buffer,
            dynamo=True,
            opset_version=18,
            input_names=["x"],
            output_names=["p"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    return explain.Model(buffer.getvalue())


@pytest.fixture(scope="session")
def net() -> Original:
    torch.manual_seed(3)
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 12), torch.nn.GELU(), torch.nn.Linear(12, 3)
    ).eval()
    rows = numbers(7, 6, seed=80)
    return Original(module, exported(module, rows), rows)


@pytest.fixture(scope="session")
def picture() -> Original:
    torch.manual_seed(4)
    convolution = torch.nn.Conv2d(6, 8, 3)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1),
        torch.nn.BatchNorm2d(6),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(3, 2, padding=1),
        convolution,
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * 4, 10),
    ).eval()
    module[1].running_mean.normal_()
    module[1].running_var.uniform_(0.5, 2.0)
    rows = numbers(5, 1, 8, 8, seed=81)
    return Original(module, exported(module, rows), rows, convolution)


@pytest.fixture(params=["net", "picture"])
def original(request: pytest.FixtureRequest) -> Original:
    found: Original = request.getfixturevalue(request.param)
    return found


def worst(found: np.ndarray, judged: Any) -> float:
    """The largest attribution error of any item."""
    pairs = zip(found, judged.detach().numpy(), strict=True)
    return max(explain.attribution_error(mine.astype(float), other.astype(float)) for mine, other in pairs)


@pytest.mark.parametrize("absolute", [True, False])
def test_saliency(original: Original, absolute: bool) -> None:
    judged = captum.Saliency(original.module).attribute(original.inputs, target=original.predicted, abs=absolute)
    found = attribute(original.model, {"x": original.rows}, "saliency", absolute=absolute)
    assert found.target.index[:, 0, 0].tolist() == original.predicted.tolist()
    assert worst(found.values["x"], judged) <= AGREE


def test_input_x_gradient(original: Original) -> None:
    judged = captum.InputXGradient(original.module).attribute(original.inputs, target=original.predicted)
    assert worst(attribute(original.model, {"x": original.rows}, "input_x_gradient").values["x"], judged) <= AGREE


@pytest.mark.parametrize("n_steps", [8, 50])
def test_integrated_gradients(original: Original, n_steps: int) -> None:
    baseline = numbers(*original.rows.shape, seed=82, scale=0.3)
    judge = captum.IntegratedGradients(original.module)
    options = {"target": original.predicted, "n_steps": n_steps, "method": "gausslegendre"}
    judged, delta = judge.attribute(original.inputs, torch.tensor(baseline), return_convergence_delta=True, **options)
    found = attribute(original.model, {"x": original.rows}, "integrated_gradients", baseline=baseline, n_steps=n_steps)
    assert worst(found.values["x"], judged) <= AGREE
    gaps = [figures["completeness_gap"] for figures in found.quality]
    np.testing.assert_allclose(gaps, delta.numpy(), atol=1e-4)


def test_integrated_gradients_of_a_contrast(net: Original) -> None:
    def contrast(rows: Any) -> Any:
        logits = net.module(rows)
        return logits[:, 2] - logits[:, 0]

    judged = captum.IntegratedGradients(contrast).attribute(net.inputs, n_steps=16, method="gausslegendre")
    target = {"class": 2, "versus": 0}
    found = attribute(net.model, {"x": net.rows}, "integrated_gradients", baseline=0, n_steps=16, target=target)
    assert worst(found.values["x"], judged) <= AGREE


@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam(picture: Original, relu: bool) -> None:
    judge = captum.LayerGradCam(picture.module, picture.layer)
    judged = judge.attribute(picture.inputs, target=picture.predicted, relu_attributions=relu)
    found = attribute(picture.model, {"x": picture.rows}, "grad_cam", relu=relu)
    assert found.values["x"].shape == (5, 2, 2)
    assert worst(found.values["x"], judged[:, 0]) <= AGREE


@pytest.mark.parametrize("method", ["hires_cam", "layer_cam"])
def test_maps_of_every_place_by_their_formula(picture: Original, method: str) -> None:
    """Captum has neither: activations and their gradient come from PyTorch, the sum over channels is written out."""
    kept: list[Any] = []
    hook = picture.layer.register_forward_hook(lambda _module, _given, out: kept.append(out))
    logits = picture.module(picture.inputs)
    hook.remove()
    chosen = logits[torch.arange(len(picture.rows)), picture.predicted].sum()
    (slope,) = torch.autograd.grad(chosen, [kept[0]])
    judged = (kept[0] * (slope.relu() if method == "layer_cam" else slope)).sum(dim=1)
    for relu in (True, False):
        found = attribute(picture.model, {"x": picture.rows}, method, relu=relu).values["x"]
        assert worst(found, judged.relu() if relu else judged) <= AGREE
    plain = attribute(picture.model, {"x": picture.rows}, "grad_cam", relu=False).values["x"]
    assert worst(plain, judged) > 0.01


def test_the_judges_notice_the_wrong_class(net: Original) -> None:
    other = (net.predicted + 1) % 3
    judged = captum.Saliency(net.module).attribute(net.inputs, target=other, abs=False)
    assert worst(attribute(net.model, {"x": net.rows}, "saliency", absolute=False).values["x"], judged) > 0.1


def served(model: explain.Model) -> Callable[[np.ndarray], np.ndarray]:
    """The logits of any number of rows, in float64."""
    program = explain.compile(model, "masked_forward")

    def logits(rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, dtype=np.float32)
        feeds = {"x": rows, "x.groups": np.zeros(rows.shape[1], np.int64), "x.background": rows[:1]}
        feeds |= {"mask": np.ones((len(rows), 1, 1), np.float32), "background.weight": np.ones(1, np.float32)}
        return run(program, feeds)["value"][:, 0].astype(np.float64)

    return logits


def enumerated(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Shapley's definition for one row [G]: all coalitions, one player at a time; gives [G, C]."""
    players = len(x)
    worth = {}
    for size in range(players + 1):
        for members in itertools.combinations(range(players), size):
            rows = background.copy()
            rows[:, list(members)] = x[list(members)]
            worth[frozenset(members)] = f(rows).mean(axis=0)
    phi = np.zeros((players, len(worth[frozenset()])))
    for player in range(players):
        for coalition in worth:
            if player not in coalition:
                s = len(coalition)
                share = math.factorial(s) * math.factorial(players - s - 1) / math.factorial(players)
                phi[player] += share * (worth[coalition | {player}] - worth[coalition])
    return phi


BACKGROUND = numbers(8, 6, seed=83)


def test_exact_shap_equals_enumeration(net: Original) -> None:
    found = attribute(net.model, {"x": net.rows[:3]}, "exact_shap", background=BACKGROUND, target=[0, 1, 2])
    f = served(net.model)
    for item in range(3):
        expected = enumerated(f, net.rows[item], BACKGROUND)[:, item]
        assert explain.attribution_error(found.values["x"][item], expected) <= 1e-6
    np.testing.assert_allclose(found.base_values, f(BACKGROUND).mean(axis=0), rtol=1e-6)
    assert max(figures["completeness_gap_relative"] for figures in found.quality) <= 1e-12


def test_exact_shap_equals_the_exact_explainer(net: Original) -> None:
    shap = pytest.importorskip("shap", reason="shap is not installed")
    f = served(net.model)
    masker = shap.maskers.Independent(BACKGROUND.astype(np.float64), max_samples=len(BACKGROUND))
    judged = shap.explainers.ExactExplainer(f, masker)(net.rows[:3].astype(np.float64))
    for target in range(3):
        found = attribute(net.model, {"x": net.rows[:3]}, "exact_shap", background=BACKGROUND, target=target)
        assert explain.attribution_error(found.values["x"], judged.values[:, :, target]) <= 1e-5


@pytest.mark.parametrize("samples", [30, 44])
def test_kernel_shap_on_the_coalitions_of_the_kernel_explainer(net: Original, samples: int) -> None:
    shap = pytest.importorskip("shap", reason="shap is not installed")
    judge = shap.KernelExplainer(served(net.model), BACKGROUND.astype(np.float64))
    for item in range(2):
        np.random.seed(item)  # what shap draws from
        judged = judge.shap_values(net.rows[item].astype(np.float64), nsamples=samples, l1_reg=0, silent=True)
        count = judge.nsamplesAdded
        found = attribute(
            net.model,
            {"x": net.rows[item : item + 1]},
            "kernel_shap",
            background=BACKGROUND,
            target=1,
            coalitions=judge.maskMatrix[:count].tolist(),
            coalition_weights=judge.kernelWeights[:count].tolist(),
        )
        assert explain.attribution_error(found.values["x"][0], np.asarray(judged)[:, 1]) <= 1e-5


def test_kernel_shap_of_all_coalitions_is_exact_shap(net: Original) -> None:
    options = {"background": BACKGROUND, "target": 2}
    kernel = attribute(net.model, {"x": net.rows}, "kernel_shap", **options)
    exact = attribute(net.model, {"x": net.rows}, "exact_shap", **options)
    assert explain.attribution_error(kernel.values["x"], exact.values["x"]) <= 1e-9
    assert [figures["standard_error"] for figures in kernel.quality] == [0.0] * 7


def test_the_exported_graph_is_what_was_judged(net: Original) -> None:
    onnx.checker.check_model(net.model.proto, full_check=True)
    np.testing.assert_allclose(served(net.model)(net.rows), net.module(net.inputs).detach().numpy(), atol=1e-5)


def test_guided_backprop_and_its_caution(picture: Original) -> None:
    """Captum's hooks see Relu modules only; the compiled rule sees every Relu of the graph: here they are the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets hooks
        expected = captum.GuidedBackprop(picture.module).attribute(picture.inputs, target=picture.predicted)
    found = attribute(picture.model, {"x": picture.rows}, "guided_backprop").values["x"]
    assert explain.attribution_error(found, expected.detach().numpy()) <= AGREE
    plain = attribute(picture.model, {"x": picture.rows}, "saliency", absolute=False).values["x"]
    assert explain.attribution_error(found, plain) > 1e-2, "the rule must change something"
    assert "sanity" in (explain.METHODS["guided_backprop"].caution or "")

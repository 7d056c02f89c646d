"""Methods on recurrent networks: paths, chords, coalitions of stretches of time, rows along any axis."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import explain
from tests.explain.single import session

X, H, LENGTH = 3, 6, 5
Arrays = dict[str, np.ndarray]
Sigmoid, Tanh = torch.sigmoid, torch.tanh


class Reader(torch.nn.Module):
    """A layer read by two numbers of its last state; behind a Relu on request, and unrolled into single steps."""

    def __init__(self, kind: str, unrolled: bool = False, kinked: bool = False, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(4)
        name, _, activation = kind.partition(" ")
        given = {"nonlinearity": activation} if activation else {}
        self.layer = getattr(torch.nn, name)(X, H, batch_first=batch_first, **given)
        self.head, self.first = torch.nn.Linear(H, 2), torch.nn.Linear(X, X)
        self.unrolled, self.kinked, self.batch_first, self.kind = unrolled, kinked, batch_first, kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, 2]."""
        x = torch.relu(self.first(x)) if self.kinked else x
        if self.unrolled:
            return self.head(self.steps(x))
        states = self.layer(x)[0]
        return self.head(states[:, -1] if self.batch_first else states[-1])

    def steps(self, x: torch.Tensor) -> torch.Tensor:
        """The last state by its equations, of a fixed length."""
        layer, gates = self.layer, {"LSTM": 4, "GRU": 3}.get(self.kind, 1)
        w_x, w_h = layer.weight_ih_l0.chunk(gates), layer.weight_hh_l0.chunk(gates)
        b_x, b_h = layer.bias_ih_l0.chunk(gates), layer.bias_hh_l0.chunk(gates)
        h = c = torch.zeros_like(x[:, 0, :1] @ layer.weight_hh_l0[:1])
        for t in range(LENGTH):
            from_x = [x[:, t] @ w.T + b for w, b in zip(w_x, b_x, strict=True)]
            from_h = [h @ w.T + b for w, b in zip(w_h, b_h, strict=True)]
            given = [a + b for a, b in zip(from_x, from_h, strict=True)]
            if self.kind == "LSTM":
                c = Sigmoid(given[1]) * c + Sigmoid(given[0]) * Tanh(given[2])
                h = Sigmoid(given[3]) * Tanh(c)
            elif self.kind == "GRU":
                z = Sigmoid(given[1])
                h = (1 - z) * Tanh(from_x[2] + Sigmoid(given[0]) * from_h[2]) + z * h
            else:
                h = torch.relu(given[0]) if self.kind == "RNN relu" else Tanh(given[0])
        return h


def exported(module: Reader) -> onnx.ModelProto:
    buffer, batch = io.BytesIO(), 0 if module.batch_first else 1
    axes = {"x": {batch: "N"} if module.unrolled else {batch: "N", 1 - batch: "T"}, "y": {0: "N"}}
    example = torch.zeros((2, LENGTH, X) if module.batch_first else (LENGTH, 2, X))
    given: dict[str, Any] = {"input_names": ["x"], "output_names": ["y"], "dynamic_axes": axes, "opset_version": 18}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (example,), buffer, dynamo=False, **given)
    return onnx.load_from_string(buffer.getvalue())


def runner() -> Callable[[explain.Program, Arrays], Arrays]:
    sessions: dict[str, onnxruntime.InferenceSession] = {}

    def run(program: explain.Program, feeds: Arrays) -> Arrays:
        if program.digest not in sessions:
            sessions[program.digest] = session(program.model)
        return dict(zip(program.outputs, sessions[program.digest].run(list(program.outputs), feeds), strict=True))

    return run


def rows(n: int = 3, length: int = LENGTH, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, length, X)).astype(np.float32)


def attributed(model: explain.Model, x: np.ndarray, method: str, **given: Any) -> explain.Attribution:
    return explain.attribute(model, {"x": x}, method=method, target=1, run=runner(), **given)


KINDS = ["LSTM", "GRU", "RNN", "RNN relu"]


@pytest.mark.parametrize("kind", KINDS)
def test_deeplift_is_that_of_the_steps(kind: str) -> None:
    """Taken apart into products, sums and functions of one variable, which have rules of their own."""
    fused, unrolled = (explain.Model(exported(Reader(kind, unrolled))) for unrolled in (False, True))
    assert "Sigmoid" not in {node.op for node in fused.graph.nodes}
    x, baseline = rows(), {"x": rows(1, seed=1)}
    found, expected = (attributed(model, x, "deeplift", baseline=baseline) for model in (fused, unrolled))
    assert explain.attribution_error(found.values["x"], expected.values["x"]) < 1e-5
    total = found.values["x"].sum((1, 2))
    np.testing.assert_allclose(total, found.explained_value - np.asarray(found.base_values), atol=1e-6)
    gradient = attributed(fused, x, "input_x_gradient", baseline=baseline)
    assert explain.attribution_error(gradient.values["x"], expected.values["x"]) > 1e-2


@pytest.mark.parametrize("kind", KINDS)
def test_deep_shap_is_the_mean_over_the_background(kind: str) -> None:
    model, x, background = explain.Model(exported(Reader(kind))), rows(), rows(4, seed=2)
    found = attributed(model, x, "deep_shap", background={"x": background})
    single = [attributed(model, x, "deeplift", baseline={"x": row[None]}).values["x"] for row in background]
    assert explain.attribution_error(found.values["x"], np.mean(single, axis=0)) < 1e-5


def integral(module: Reader, x: np.ndarray, steps: int = 4000) -> np.ndarray:
    """Integrated gradients from 0 by the midpoint rule, on PyTorch's autograd in float64, all points at once."""
    alphas = (np.arange(steps) + 0.5) / steps
    points = torch.tensor(alphas[:, None, None, None] * x, dtype=torch.float64, requires_grad=True)
    module.double()(points.flatten(0, 1))[:, 1].sum().backward()
    return np.asarray(points.grad).mean(axis=0) * x


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("kinked", [False, True])
@pytest.mark.parametrize("rule", ["gauss_legendre", "secant", "adaptive"])
def test_integrated_gradients(kind: str, kinked: bool, rule: str) -> None:
    """Of smooth networks by points, of those with kinks before the layer by stretches: either way the integral."""
    module = Reader(kind, kinked=kinked)
    model, x = explain.Model(exported(module)), rows(2, 9)
    given: dict[str, Any] = {"tolerance": 1e-4} if rule == "adaptive" else {"n_steps": 100}
    found = attributed(model, x, "integrated_gradients", baseline={"x": np.zeros_like(x)}, rule=rule, **given)
    error = explain.attribution_error(found.values["x"], integral(module, x))
    assert error <= (1e-2 if kinked else 1e-4)
    assert error <= 1e-3 or rule == "gauss_legendre"
    assert explain.attribution_error(1.02 * found.values["x"], integral(module, x)) > 1e-2


def test_a_smooth_network_is_walked_by_points() -> None:
    model, x = explain.Model(exported(Reader("LSTM"))), rows(2, 40)
    found = attributed(
        model, x, "integrated_gradients", baseline={"x": np.zeros_like(x)}, rule="adaptive", tolerance=1e-4
    )
    assert found.quality[0]["evaluations"] < 40
    assert explain.compile(model, "path_gradient").digest == found.program_digest


def test_kinks_inside_of_the_layer_are_placed() -> None:
    """One stretch adds up exactly, and a few give the integral, where points would take hundreds."""
    module = Reader("RNN relu")
    model, x = explain.Model(exported(module)), 2 * rows(2, 9)
    given: dict[str, Any] = {"baseline": {"x": np.zeros_like(x)}, "rule": "secant"}
    single = attributed(model, x, "integrated_gradients", n_steps=1, **given)
    assert max(abs(quality["completeness_gap"]) for quality in single.quality) < 1e-6
    given["rule"] = "adaptive"
    found = attributed(model, x, "integrated_gradients", tolerance=1e-3, **given)
    assert explain.attribution_error(found.values["x"], integral(module, x)) < 1e-3
    assert max(quality["evaluations"] for quality in found.quality) < 150
    points = attributed(model, x, "integrated_gradients", **given | {"rule": "midpoint"}, n_steps=150)
    assert explain.attribution_error(points.values["x"], integral(module, x)) > 1e-3


@pytest.mark.parametrize("length", [8, 11])
def test_stretches_of_time_are_players(length: int) -> None:
    """Exact SHAP of windows against the sum over all coalitions."""
    module = Reader("LSTM")
    model, x, base = explain.Model(exported(module)), rows(2, length), rows(1, length, seed=3)
    given = {"groups": {"windows": {"size": 3, "axis": 0}}, "background": {"x": base}}
    found = attributed(model, x, "exact_shap", **given).values["groups"]
    count = -(-length // 3)

    def worth(players: tuple[int, ...]) -> np.ndarray:
        steps = np.array([t // 3 in players for t in range(length)])
        with torch.no_grad():
            return np.asarray(module.float()(torch.tensor(np.where(steps[:, None], x, base)))[:, 1])

    expected = np.zeros((2, count))
    for player in range(count):
        others = [other for other in range(count) if other != player]
        for size in range(count):
            share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            for players in combinations(others, size):
                expected[:, player] += share * (worth((*players, player)) - worth(players))
    assert explain.attribution_error(found, expected) < 1e-5


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "deeplift", "exact_shap"])
def test_rows_along_axis_1(kind: str, method: str) -> None:
    """What comes in is items first; the model has time first."""
    first, second = (
        explain.Model(exported(Reader(kind, batch_first=batch_first)), batch_axes={"x": 0 if batch_first else 1})
        for batch_first in (True, False)
    )
    x, zeros = rows(), np.zeros((1, LENGTH, X), np.float32)
    given: dict[str, Any] = {"baseline": {"x": zeros}} if method in ("integrated_gradients", "deeplift") else {}
    if method == "exact_shap":
        given = {"background": {"x": zeros}, "groups": {"windows": {"size": 2, "axis": 0}}}
    found, expected = (attributed(model, x, method, **given).values for model in (second, first))
    (name,) = expected
    assert explain.attribution_error(found[name], expected[name]) < 1e-5

"""`path_secant`: the same for shared and paired points, DeepLIFT in one stretch, integrated gradients in many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from captum.attr import DeepLift
from torch import nn

import explain
from explain.programs import path_secant
from tests.explain.graphs import Nodes, attribute, cnn, made, mlp, numbers, run

N, F = 3, np.float32
SIZES = {"a": (4, 16), "p": (16,), "b": (16, 16), "q": (16,), "c": (16, 3)}
WEIGHTS = {name: numbers(*size, seed=500 + place) for place, (name, size) in enumerate(SIZES.items())}
LAYERS: Nodes = [
    ("Gemm", ["x", "a", "p"], ["h0"]),
    ("Relu", ["h0"], ["h1"]),
    ("Gemm", ["h1", "b", "q"], ["h2"]),
    ("Relu", ["h2"], ["h3"]),
    ("MatMul", ["h3", "c"], ["y"]),
]


def network(batch: Any = "n") -> onnx.ModelProto:
    return made(LAYERS, {"x": ("float32", [batch, 4])}, {"y": ("float32", [batch, 3])}, WEIGHTS)


def columns() -> onnx.ModelProto:
    """The network with its items along axis 1."""
    nodes: Nodes = [
        ("Transpose", ["xt"], ["x"]),
        *LAYERS[:-1],
        ("MatMul", ["h3", "c"], ["z"]),
        ("Transpose", ["z"], ["y"]),
    ]
    return made(nodes, {"xt": ("float32", [4, "n"])}, {"y": ("float32", [3, "n"])}, WEIGHTS)


def turned() -> onnx.ModelProto:
    """The network with its rows on axis 1 on the way, where they cannot be taken out of axis 0."""
    nodes: Nodes = [
        ("Gemm", ["x", "a", "p"], ["h0"]),
        ("Transpose", ["h0"], ["t"]),
        ("Relu", ["t"], ["r"]),
        ("Transpose", ["r"], ["h1"]),
        *LAYERS[2:],
    ]
    return made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 3])}, WEIGHTS)


def tokens() -> onnx.ModelProto:
    """Token ids [N, T] and a float input, through a gated Relu, to y [N, 3]."""
    nodes: Nodes = [
        ("Gather", ["table", "ids"], ["e"]),
        ("Relu", ["e"], ["r"]),
        ("ReduceMean", ["r", "one"], ["m"], {"keepdims": 0}),
        ("Mul", ["m", "side"], ["g"]),
        ("Gemm", ["g", "a", "p"], ["h"]),
        ("Relu", ["h"], ["h1"]),
        ("MatMul", ["h1", "c"], ["y"]),
    ]
    weights = {**WEIGHTS, "table": numbers(9, 4, seed=510), "one": np.array([1])}
    inputs: Any = {"ids": ("int64", ["n", "t"]), "side": ("float32", ["n", 4])}
    return made(nodes, inputs, {"y": ("float32", ["n", 3])}, weights)


def feeds(
    model: Any, inputs: dict[str, np.ndarray], baselines: dict[str, np.ndarray], count: int = 1
) -> dict[str, np.ndarray]:
    places = np.tile(np.arange(count), (N, 1))
    found = {**inputs, **{f"{name}.baseline": array[:, None] for name, array in baselines.items()}}
    found |= {"alpha": np.tile(np.linspace(0, 1, count + 1, dtype=F), (N, 1)), "start": places, "stop": places + 1}
    found |= {"weight": np.full((N, count, 1), 1 / count, F)}
    return found | {"target": np.full((N, 1, 1), 1), "target.weight": np.ones((N, 1), F)}


X, START = numbers(N, 4, seed=520), numbers(N, 4, seed=521)
IDS, FROM = np.array([[1, 2, 3], [4, 0, 8], [7, 7, 2]]), np.array([[0, 0, 0], [1, 2, 3], [5, 5, 5]])
CASES: dict[str, tuple[Callable[[], onnx.ModelProto], dict[str, np.ndarray], dict[str, np.ndarray], str]] = {
    "rows": (network, {"x": X}, {"x": START}, "shared"),
    "turned": (turned, {"x": X}, {"x": START}, "paired"),
    "tokens": (tokens, {"ids": IDS, "side": X}, {"ids": FROM, "side": START}, "shared"),
    "pictures": (cnn, {"image": numbers(N, 1, 8, 8, seed=522)}, {"image": numbers(N, 1, 8, 8, seed=523)}, "shared"),
}


@pytest.mark.parametrize("name", CASES)
def test_many_stretches_are_integrated_gradients(name: str) -> None:
    make, inputs, baselines, points = CASES[name]
    model = explain.Model(make())
    program = explain.compile(model, "path_secant")
    assert program.options["points"] == points
    found = run(program, feeds(model, inputs, baselines, 64))
    options = {"baseline": baselines, "target": 1, "rule": "midpoint", "n_steps": 4096}
    expected = attribute(model, inputs, "integrated_gradients", **options)
    for key, value in expected.values.items():
        assert explain.attribution_error(found[f"{key}.attribution"][:, 0], value) <= 5e-3
    np.testing.assert_allclose(found["value"][:, 0], expected.base_values, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["value.stop"][:, -1], expected.explained_value, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["value"][:, 1:], found["value.stop"][:, :-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_shared_and_paired_points_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, inputs, baselines, _ = CASES[name]
    one = run(explain.compile(make(), "path_secant"), feeds(None, inputs, baselines, 5))
    monkeypatch.setattr(path_secant, "rows_are_apart", lambda *_: False)
    program = explain.compile(make(), "path_secant")
    assert program.options["points"] == "paired"
    two = run(program, feeds(None, inputs, baselines, 5))
    for key, array in two.items():
        np.testing.assert_allclose(one[key], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_stretches_may_overlap_and_items_do_not_see_each_other(name: str) -> None:
    """Pieces in any order, whole and halves at once: each as it would be alone."""
    make, inputs, baselines, _ = CASES[name]
    program = explain.compile(make(), "path_secant")
    given = feeds(None, inputs, baselines, 2)
    pairs = np.array([[0, 2], [1, 2], [0, 1]])
    given |= {"start": np.tile(pairs[:, 0], (N, 1)), "stop": np.tile(pairs[:, 1], (N, 1))}
    given |= {"weight": np.tile(np.eye(3, dtype=F), (N, 1, 1))}
    found = run(program, given)
    for item in range(N):
        for place, (start, stop) in enumerate(pairs):
            alone = {key: array[item : item + 1] for key, array in given.items()}
            alone |= {"alpha": alone["alpha"][:, [start, stop]], "weight": np.ones((1, 1, 1), F)}
            alone |= {"start": np.array([[0]]), "stop": np.array([[1]])}
            for key, array in run(program, alone).items():
                np.testing.assert_allclose(found[key][item, place], array[0, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")
def test_one_stretch_is_deeplift() -> None:
    """Captum's, on a network of linear layers and ReLU, where its rules are right."""
    layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3, bias=False))
    for layer, (w, bias) in zip(layers[::2], (("a", "p"), ("b", "q"), ("c", None)), strict=True):
        layer.weight.data = torch.tensor(WEIGHTS[w].T)
        if bias:
            layer.bias.data = torch.tensor(WEIGHTS[bias])
    x = torch.tensor(X, requires_grad=True)
    expected = DeepLift(layers).attribute(x, torch.tensor(START, requires_grad=True), target=1).detach().numpy()
    found = run(explain.compile(network(), "path_secant"), feeds(None, {"x": X}, {"x": START}))
    np.testing.assert_allclose(found["x.attribution"][:, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pieces", [1, 7])
def test_networks_of_relu_are_complete_whatever_the_number_of_stretches(pieces: int) -> None:
    found = run(explain.compile(network(), "path_secant"), feeds(None, {"x": X}, {"x": START}, pieces))
    change = found["value.stop"][:, -1] - found["value"][:, 0]
    np.testing.assert_allclose(found["x.attribution"][:, 0].sum(axis=1), change, rtol=1e-5, atol=1e-5)


def test_other_layouts_are_run_in_theirs() -> None:
    expected = run(explain.compile(network(), "path_secant"), feeds(None, {"x": X}, {"x": START}, 4))
    across = explain.Model(columns(), batch_axes={"xt": 1, "y": 1})
    given = feeds(None, {"xt": X}, {"xt": START}, 4)
    found = run(explain.compile(across, "path_secant"), given)
    np.testing.assert_allclose(found["xt.attribution"], expected["x.attribution"], rtol=1e-4, atol=1e-5)
    fixed = explain.Model(network(1), row_by_row=True)
    options = {"baseline": START, "target": 1, "rule": "secant", "n_steps": 4}
    alone = attribute(fixed, {"x": X}, "integrated_gradients", **options)
    assert [figures["evaluations"] for figures in alone.quality] == [8] * N
    np.testing.assert_allclose(alone.values["x"], expected["x.attribution"][:, 0], rtol=1e-4, atol=1e-5)


def test_what_is_smooth_is_taken_halfway() -> None:
    """tanh: second order, though no stretch is exact."""
    x, start = {"x": X}, {"x": START}
    options = {"baseline": start, "target": 1, "n_steps": 200}
    right = attribute(mlp(), x, "integrated_gradients", **options).values["x"]
    program = explain.compile(mlp(), "path_secant")
    errors = [np.abs(run(program, feeds(None, x, start, k))["x.attribution"][:, 0] - right).max() for k in (4, 8, 16)]
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.2)
    assert errors[2] == pytest.approx(errors[1] / 4, rel=0.2)


def test_a_network_without_bends_has_no_kinks() -> None:
    for model, bent in ((mlp(), False), (network(), True), (cnn(), True)):
        handle = explain.Model(model)
        assert path_secant.has_kinks(handle, handle.explained()) is bent


def test_a_choice_between_fixed_conditions_is_no_kink() -> None:
    nodes: Nodes = [("Where", ["keep", "x", "zero"], ["w"]), ("Tanh", ["w"], ["y"])]
    weights = {"keep": np.array([True, False, True, True]), "zero": np.float32(0)}
    model = explain.Model(made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 4])}, weights))
    assert not path_secant.has_kinks(model, model.explained())


def test_positions_counted_over_all_rows_are_not_taken_apart() -> None:
    """MaxUnpool puts values where MaxPool says, counted from the first row on."""
    nodes: Nodes = [
        ("MaxPool", ["x"], ["p", "i"], {"kernel_shape": [2], "strides": [2]}),
        ("Relu", ["p"], ["r"]),
        ("MaxUnpool", ["r", "i"], ["u"], {"kernel_shape": [2], "strides": [2]}),
        ("Mul", ["u", "k"], ["m"]),
        ("ReduceSum", ["m", "axes"], ["y"], {"keepdims": 0}),
    ]
    weights = {"k": numbers(2, 6, seed=530), "axes": np.array([2])}
    model = made(nodes, {"x": ("float32", ["n", 2, 6])}, {"y": ("float32", ["n", 2])}, weights)
    program = explain.compile(model, "path_secant")
    assert program.options["points"] == "paired"
    x = numbers(N, 2, 6, seed=531)
    found = run(program, feeds(model, {"x": x}, {"x": x / 2}, 4))  # no maximum moves on the way
    expected = attribute(model, {"x": x}, "integrated_gradients", baseline=x / 2, target=1, n_steps=8)
    np.testing.assert_allclose(found["x.attribution"][:, 0], expected.values["x"], rtol=1e-4, atol=1e-6)

"""`path_gradient` equals gradients taken one item and one point at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import explain
from tests.explain.graphs import (
    Nodes,
    agree,
    cnn,
    cnn_twin,
    made,
    mlp,
    mlp_twin,
    numbers,
    run,
    slow_path,
    tensor,
)

Arrays = dict[str, np.ndarray]
N, K, R, S = 3, 5, 2, 2


def plan(
    walked: Mapping[str, np.ndarray], sizes: tuple[int, ...], j: int, noise: bool = False, dtype: str = "float32"
) -> Arrays:
    """Feeds with K alphas, R weightings, J baselines and a contrast of S = 2, all different for each item."""
    random = np.random.default_rng(7)
    feeds: Arrays = {}
    for name, array in walked.items():
        feeds[name] = array
        feeds[f"{name}.baseline"] = random.standard_normal((N, j, *array.shape[1:])).astype(array.dtype)
        if noise:
            feeds[f"{name}.noise"] = random.standard_normal((N, j, *array.shape[1:])).astype(array.dtype)
    feeds["alpha"] = random.uniform(size=(N, K)).astype(dtype)
    feeds["weight"] = random.standard_normal((N, K, R)).astype(dtype)
    feeds["target"] = np.stack([random.integers(size, size=(N, S)) for size in sizes], axis=2)
    feeds["target.weight"] = random.standard_normal((N, S)).astype(dtype)
    return feeds


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("j", [1, K])
@pytest.mark.parametrize("link", [None, "Softmax", "Sigmoid"])
def test_the_mlp(link: str | None, j: int, noise: bool) -> None:
    x = {"x": numbers(N, 4, seed=40)}
    feeds = plan(x, (3,), j, noise)
    program = explain.compile(mlp(link), "path_gradient", noise=noise)
    agree(run(program, feeds), slow_path(lambda x: mlp_twin(x), x, feeds))


@pytest.mark.parametrize(
    ("stored", "computed", "tolerance"),
    [("float64", "float64", 1e-12), ("float32", "float32", 2e-5), ("float16", "float32", 5e-3)],
)
def test_dtypes(stored: str, computed: str, tolerance: float) -> None:
    x = {"x": numbers(N, 4, seed=41, dtype=computed)}
    feeds = plan(x, (3,), 1, dtype=computed)
    found = run(explain.compile(mlp("Softmax", stored), "path_gradient"), feeds)
    assert {array.dtype.name for array in found.values()} == {computed}
    agree(found, slow_path(mlp_twin, x, feeds), tolerance)  # of float16 the weights are rounded, nothing else


@pytest.mark.parametrize("link", ["Softmax", "Sigmoid"])
def test_in_probability_space(link: str) -> None:
    x = {"x": numbers(N, 4, seed=42)}
    feeds = plan(x, (3,), 1)
    squash = {"Softmax": lambda z: torch.softmax(z, dim=1), "Sigmoid": torch.sigmoid}[link]
    program = explain.compile(mlp(link), "path_gradient", space="probability")
    agree(run(program, feeds), slow_path(lambda x: squash(mlp_twin(x)), x, feeds))


def test_the_cnn() -> None:
    images = {"image": numbers(N, 1, 8, 8, seed=43)}
    feeds = plan(images, (2,), 1)
    agree(
        run(explain.compile(cnn(), "path_gradient"), feeds), slow_path(lambda image: cnn_twin(image)[1], images, feeds)
    )


SEQUENCE: Nodes = [
    ("MatMul", ["series", "w"], ["s0"]),
    ("Unsqueeze", ["side", "one"], ["side1"]),
    ("Mul", ["s0", "side1"], ["s1"]),
    ("CumSum", ["s1", "axis"], ["s2"]),
    ("Tanh", ["s2"], ["scores"]),
]
SEQUENCE_W = numbers(2, 3, seed=44)


def sequence(names: dict[str, str] | None = None) -> onnx.ModelProto:
    """series [N, T, 2], side [N, 3] and an input nothing reads -> scores [N, T, 3]: two inputs, D = 2."""
    weights = {"w": SEQUENCE_W, "one": np.array([1]), "axis": np.array(1)}
    inputs: Any = {"series": ("float32", ["N", "T", 2]), "side": ("float32", ["N", 3]), "unused": ("float32", ["N", 2])}
    outputs: Any = {"scores": ("float32", ["N", "T", 3]), "doubled": ("float32", ["N", 3])}
    return made([*SEQUENCE, ("Add", ["side", "side"], ["doubled"])], inputs, outputs, weights)


def sequence_twin(series: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    return torch.tanh(torch.cumsum((series @ tensor(SEQUENCE_W)) * side[:, None], dim=1))


@pytest.mark.parametrize("j", [1, K])
def test_several_inputs_and_an_output_of_two_axes(j: int) -> None:
    walked = {"series": numbers(N, 4, 2, seed=45), "side": numbers(N, 3, seed=46)}
    feeds = plan(walked, (4, 3), j, noise=True)
    program = explain.compile(sequence(), "path_gradient", noise=True)
    assert "unused" in program.inputs
    assert "unused.baseline" not in program.inputs
    found = run(program, feeds | {"unused": numbers(N, 2)})
    agree(found, slow_path(sequence_twin, walked, feeds))


def test_an_output_that_depends_on_one_input_only() -> None:
    walked = {"side": numbers(N, 3, seed=46)}
    program = explain.compile(sequence(), "path_gradient", output="doubled")
    feeds = plan(walked, (3,), 1)
    found = run(program, feeds | {"series": numbers(N, 4, 2), "unused": numbers(N, 2)})
    agree(found, slow_path(lambda side: side * 2, walked, feeds))


TABLE, PLACES, HEAD = numbers(9, 5, seed=47), numbers(6, 5, seed=48), numbers(5, 2, seed=49)
TOKENS: Nodes = [
    ("Gather", ["table", "ids"], ["e"]),
    ("Shape", ["ids"], ["length"], {"start": 1}),
    ("Squeeze", ["length"], ["steps"]),
    ("Range", ["zero", "steps", "step"], ["places"]),
    ("Gather", ["position", "places"], ["p"]),
    ("Add", ["e", "p"], ["h0"]),
    ("Unsqueeze", ["scale", "two"], ["scale1"]),
    ("Mul", ["h0", "scale1"], ["h1"]),
    ("Equal", ["kept", "zero"], ["dropped0"]),
    ("Unsqueeze", ["dropped0", "two"], ["dropped"]),
    ("Where", ["dropped", "low", "h1"], ["h2"]),
    ("Tanh", ["h2"], ["h3"]),
    ("ReduceMean", ["h3", "axes"], ["pooled"], {"keepdims": 0}),
    ("MatMul", ["pooled", "head"], ["y"]),
]
TOKEN_WEIGHTS = {
    "table": TABLE,
    "position": PLACES,
    "head": HEAD,
    "zero": np.array(0),
    "step": np.array(1),
    "two": np.array([2]),
    "axes": np.array([1]),
    "low": np.array(-3.0, dtype=np.float32),
}


def tokens() -> onnx.ModelProto:
    """ids [N, T] through a table, scale [N, T] a float, kept [N, T] a condition that masks tokens -> y [N, 2]."""
    inputs: Any = {name: ("float32" if name == "scale" else "int64", ["N", "T"]) for name in ("ids", "scale", "kept")}
    return made(TOKENS, inputs, {"y": ("float32", ["N", 2])}, TOKEN_WEIGHTS)


def tokens_twin(ids: torch.Tensor, scale: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """`ids` are their encodings here."""
    h = (ids + tensor(PLACES)[: ids.shape[1]]) * scale[..., None]
    return torch.tanh(torch.where((kept == 0)[..., None], -3.0, h)).mean(dim=1) @ tensor(HEAD)


@pytest.mark.parametrize("j", [1, K])
def test_tokens_are_walked_in_their_encoding_and_conditions_stay(j: int) -> None:
    """The condition `kept` selects, it encodes nothing: gradients pass the Where, and it has no baseline."""
    random = np.random.default_rng(50)
    ids, kept = random.integers(9, size=(N, 4)), np.array([[1, 1, 1, 0]] * N)
    scale = numbers(N, 4, seed=51)
    feeds = plan({"scale": scale}, (2,), j)
    program = explain.compile(tokens(), "path_gradient")
    assert "kept.baseline" not in program.inputs
    assert "kept" in program.inputs
    pads = random.integers(9, size=(N, j, 4))
    found = run(program, feeds | {"ids": ids, "ids.baseline": pads, "kept": kept})
    encoded = feeds | {"ids.baseline": TABLE[pads]}
    expected = slow_path(tokens_twin, {"ids": TABLE[ids], "scale": scale}, encoded, {"kept": kept})
    expected["ids.attribution"] = expected["ids.attribution"].sum(axis=3)
    agree(found, expected)


def test_a_code_encoded_in_two_places_is_attributed_once() -> None:
    """A table lookup and the code itself as a number: attributions add up, and there is no single gradient."""
    nodes = [
        ("Gather", ["table", "codes"], ["e"]),
        ("ReduceSum", ["e", "last"], ["r"], {"keepdims": 0}),
        ("Cast", ["codes"], ["c"], {"to": 1}),
        ("Mul", ["r", "c"], ["y"]),
    ]
    specs: Any = ({"codes": ("int64", ["n", 3])}, {"y": ("float32", ["n", 3])})
    program = explain.compile(made(nodes, *specs, {"table": TABLE, "last": np.array([2])}), "path_gradient")
    assert list(program.outputs) == ["codes.attribution", "value"]
    codes, base = np.array([[1, 4, 8]]), np.array([[[0, 0, 2]]])
    points, weights = np.polynomial.legendre.leggauss(3)
    target = np.array([[[0], [1], [2]]])
    feeds = {
        "alpha": ((points + 1) / 2)[None].astype(np.float32),
        "weight": (weights / 2)[None, :, None].astype(np.float32),
        "target": target,
        "target.weight": np.ones((1, 3), np.float32),
    }
    found = run(program, feeds | {"codes": codes, "codes.baseline": base})["codes.attribution"][0, 0]
    by_hand = TABLE[codes[0]].sum(axis=1) * codes[0] - TABLE[base[0, 0]].sum(axis=1) * base[0, 0]
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)


@pytest.mark.parametrize(
    ("nodes", "shape", "sentence"),
    [
        (
            [("OneHot", ["a", "depth", "values"], ["y"], {"axis": 1})],
            ["n", 3, 4],
            "encoding 'y' of input 'a' does not keep its axes",
        ),
        (
            [("Add", ["a", "b"], ["c"]), ("Gather", ["table", "c"], ["y"])],
            ["n", 4, 5],
            "'y' encodes the inputs a, b together",
        ),
        (
            [("Gather", ["a", "first"], ["c"], {"axis": 1}), ("Gather", ["table", "c"], ["y"])],
            ["n", 1, 5],
            "does not keep its axes",
        ),
        (
            [("Gather", ["table", "a"], ["e"]), ("ArgMax", ["e"], ["i"]), ("Cast", ["i"], ["y"], {"to": 1})],
            ["n", 4, 5],
            "no input reaches",
        ),
    ],
)
def test_encodings_that_cannot_be_attributed_are_refused_by_name(nodes: Nodes, shape: list[Any], sentence: str) -> None:
    weights = {
        "depth": np.array(3),
        "values": np.array([0.0, 1.0], dtype=np.float32),
        "table": TABLE,
        "first": np.array([0]),
    }
    inputs: Any = {"a": ("int64", ["n", 4]), "b": ("int64", ["n", 4])}
    model = made(nodes, inputs, {"y": ("float32", shape)}, weights)
    with pytest.raises(explain.MethodUnavailable, match=sentence):
        explain.compile(model, "path_gradient")
    coverage = explain.coverage(model)
    assert not coverage.differentiable
    assert sentence in coverage.refused["integrated_gradients"]
    assert "kernel_shap" in coverage.methods


def test_strings_are_walked_in_their_encoding() -> None:
    attributes = {"keys_strings": ["a", "b"], "values_floats": [2.0, 5.0], "default_float": -1.0}
    node = ("LabelEncoder", ["s"], ["e"], {"domain": "ai.onnx.ml", **attributes})
    specs: Any = ({"s": ("string", ["n", 2])}, {"y": ("float32", ["n", 2])})
    program = explain.compile(made([node, ("Mul", ["e", "e"], ["y"])], *specs, ml=2), "path_gradient")
    feeds = {
        "s": np.array([["a", "b"]], dtype=object),
        "s.baseline": np.array([[["b", "?"]]], dtype=object),
        "alpha": np.array([[0.5]], np.float32),
        "weight": np.ones((1, 1, 1), np.float32),
        "target": np.array([[[0], [1]]]),
        "target.weight": np.ones((1, 2), np.float32),
    }
    found = run(program, feeds)
    np.testing.assert_allclose(found["s.attribution"], [[[4.0 - 25.0, 25.0 - 1.0]]])


def test_the_slow_way_notices_a_wrong_program() -> None:
    x = {"x": numbers(N, 4, seed=40)}
    feeds = plan(x, (3,), 1)
    found = run(explain.compile(mlp(), "path_gradient"), feeds)
    expected = slow_path(lambda x: mlp_twin(x), x, feeds | {"alpha": feeds["alpha"] + 0.01})
    with pytest.raises(AssertionError):
        agree(found, expected)
    with pytest.raises(AssertionError):
        agree({"value": found["value"]}, expected)

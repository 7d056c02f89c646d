"""Methods on models with tokens, several inputs, inputs that play no part, and outputs of several axes."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.methods.shapley import exact_matrix
from tests.explain.graphs import Nodes, attribute, made, numbers, serve

TABLE, HEAD = numbers(9, 5, seed=180), numbers(5, 2, seed=181)
IDS, PADS = np.array([[1, 4, 8], [3, 3, 0]]), np.array([[2, 2, 2]])
ENCODE: Nodes = [("Gather", ["table", "ids"], ["e"]), ("Tanh", ["e"], ["h"])]
POOL: Nodes = [("ReduceMean", ["h", "axes"], ["pooled"], {"keepdims": 0}), ("MatMul", ["pooled", "head"], ["y"])]
WEIGHTS = {"table": TABLE, "head": HEAD, "axes": np.array([1])}


def tokens() -> onnx.ModelProto:
    return made([*ENCODE, *POOL], {"ids": ("int64", ["n", "t"])}, {"y": ("float32", ["n", 2])}, WEIGHTS)


def one_text() -> explain.Model:
    """The same for one text without a batch axis."""
    nodes = [*ENCODE, ("ReduceMean", ["h", "axes"], ["pooled"], {"keepdims": 0}), ("MatMul", ["pooled", "head"], ["y"])]
    model = made(nodes, {"ids": ("int64", ["t"])}, {"y": ("float32", [2])}, WEIGHTS | {"axes": np.array([0])})
    return explain.Model(model, batch_axes={"ids": None, "y": None}, row_by_row=True)


@pytest.mark.parametrize("model", [tokens(), one_text()], ids=["batched", "one text"])
def test_saliency_of_a_token_is_the_norm_of_its_encodings_gradient(model: Any) -> None:
    found = attribute(model, {"ids": IDS}, "saliency", target=1)
    slope = (1 - np.tanh(TABLE[IDS].astype(float)) ** 2) * HEAD[:, 1] / 3
    np.testing.assert_allclose(found.values["ids"], np.linalg.norm(slope, axis=2), rtol=1e-5)


@pytest.mark.parametrize("model", [tokens(), one_text()], ids=["batched", "one text"])
def test_integrated_gradients_of_tokens_are_complete(model: Any) -> None:
    found = attribute(model, {"ids": IDS}, "integrated_gradients", baseline=PADS, target=0, n_steps=40)
    rise = (np.tanh(TABLE[IDS]) - np.tanh(TABLE[PADS])) @ HEAD[:, 0] / 3
    assert found.values["ids"].shape == IDS.shape
    np.testing.assert_allclose(found.values["ids"], rise, rtol=1e-4, atol=1e-6)
    assert max(figures["completeness_gap_relative"] for figures in found.quality) < 1e-5


def test_input_x_gradient_of_tokens_needs_a_baseline() -> None:
    with pytest.raises(explain.MethodUnavailable, match="codes like 'ids' have no zero; give a baseline"):
        attribute(tokens(), {"ids": IDS}, "input_x_gradient", target=0)
    found = attribute(tokens(), {"ids": IDS}, "input_x_gradient", target=0, baseline=PADS)
    slope = (1 - np.tanh(TABLE[IDS].astype(float)) ** 2) * HEAD[:, 0] / 3
    np.testing.assert_allclose(found.values["ids"], (slope * (TABLE[IDS] - TABLE[PADS])).sum(axis=2), rtol=1e-4)


def test_saliency_of_tokens_encoded_twice_is_refused_by_name() -> None:
    nodes: Nodes = [*ENCODE, ("Gather", ["other", "ids"], ["o"]), ("Mul", ["h", "o"], ["y"])]
    specs: Any = ({"ids": ("int64", ["n", "t"])}, {"y": ("float32", ["n", "t", 5])})
    model = made(nodes, *specs, WEIGHTS | {"other": TABLE * 2})
    with pytest.raises(explain.MethodUnavailable, match="saliency: input 'ids' is encoded in several places"):
        attribute(model, {"ids": IDS}, "saliency", target=(0, 0))
    found = attribute(model, {"ids": IDS}, "integrated_gradients", baseline=PADS, target=(0, 0), n_steps=30)
    assert max(figures["completeness_gap_relative"] for figures in found.quality) < 1e-4


@pytest.mark.parametrize("model", [tokens(), one_text()], ids=["batched", "one text"])
def test_shapley_values_of_tokens(model: Any) -> None:
    """The model is additive over tokens, so each gets what it changes alone."""
    for method in ("exact_shap", "kernel_shap"):
        found = attribute(model, {"ids": IDS}, method, background=np.vstack([PADS, PADS + 1]), target=0)
        parts = np.tanh(TABLE) @ HEAD[:, 0] / 3
        expected = parts[IDS] - (parts[2] + parts[3]) / 2
        np.testing.assert_allclose(found.values["ids"], expected, rtol=1e-4, atol=1e-6)


def several() -> onnx.ModelProto:
    """a [N, 2], b [N, 3], codes [N] and two idle inputs -> y [N, 3, 2]."""
    nodes: Nodes = [
        ("MatMul", ["b", "w"], ["h"]),
        ("Unsqueeze", ["h", "last"], ["h1"]),
        ("Unsqueeze", ["a", "middle"], ["a1"]),
        ("Mul", ["h1", "a1"], ["m"]),
        ("Gather", ["table", "codes"], ["e"]),
        ("Reshape", ["e", "shape"], ["e1"]),
        ("Add", ["m", "e1"], ["s"]),
        ("Tanh", ["s"], ["y"]),
        ("Floor", ["stairs"], ["idle"]),
        ("Exp", ["lonely"], ["other"]),
    ]
    weights = {
        "w": numbers(3, 3, seed=182),
        "last": np.array([2]),
        "middle": np.array([1]),
        "table": numbers(4, 2, seed=183),
        "shape": np.array([-1, 1, 2]),
    }
    floats: Any = {"a": 2, "b": 3, "stairs": 2, "lonely": 1}
    inputs: Any = {name: ("float32", ["n", size]) for name, size in floats.items()} | {"codes": ("int64", ["n"])}
    outputs: Any = {"y": ("float32", ["n", 3, 2]), "idle": ("float32", ["n", 2]), "other": ("float32", ["n", 1])}
    return made(nodes, inputs, outputs, weights)


def rows(count: int, seed: int) -> dict[str, np.ndarray]:
    sizes = {"a": 2, "b": 3, "stairs": 2, "lonely": 1}
    floats = {name: numbers(count, size, seed=seed + place) for place, (name, size) in enumerate(sizes.items())}
    return floats | {"codes": np.random.default_rng(seed).integers(4, size=count)}


TARGET = {"class": (2, 1), "versus": (0, 0)}


def value(inputs: dict[str, np.ndarray]) -> np.ndarray:
    y = serve(several(), inputs)["y"].astype(float)
    return np.asarray(y[:, 2, 1] - y[:, 0, 0])


def test_exact_shap_over_several_inputs_and_a_contrast_of_positions() -> None:
    inputs, background = rows(2, 190), rows(3, 200)
    found = attribute(several(), inputs, "exact_shap", background=background, target=TARGET)
    names = [(name, place) for name in inputs for place in range(inputs[name][0].size)]
    for item in range(2):
        worths = []
        for number in range(2 ** len(names)):
            blend = {name: array.copy() for name, array in background.items()}
            for bit, (name, place) in enumerate(names):
                if number >> bit & 1:
                    blend[name].reshape(3, -1)[:, place] = inputs[name][item].reshape(-1)[place]
            worths.append(blend)
        stacked = {name: np.concatenate([blend[name] for blend in worths]) for name in inputs}
        masks = ((np.arange(2 ** len(names))[:, None] >> np.arange(len(names))) & 1).astype(float)
        phi = exact_matrix(masks) @ value(stacked).reshape(-1, 3).mean(axis=1)
        got = np.concatenate([found.values[name][item].reshape(-1) for name in inputs])
        np.testing.assert_allclose(got, phi, atol=2e-6)


def test_groups_span_inputs() -> None:
    inputs, background = rows(1, 190), rows(3, 200)
    groups = {"a": [0, 1], "b": [0, 0, 1], "codes": 2, "stairs": [-1, -1], "lonely": [-1]}
    found = attribute(several(), inputs, "exact_shap", background=background, target=TARGET, groups=groups)

    def worth(kept: tuple[int, ...]) -> float:
        blend = {name: array.copy() for name, array in background.items()}
        for name, index in groups.items():
            stays = np.isin(index, [*kept, -1])
            blend[name] = np.where(stays, inputs[name], blend[name]).astype(blend[name].dtype)
        return float(value(blend).mean())

    worths = {kept: worth(kept) for size in range(4) for kept in combinations(range(3), size)}
    for player in range(3):
        i, j = (other for other in range(3) if other != player)
        rise = [worths[tuple(sorted((player, *kept)))] - worths[kept] for kept in [(), (i,), (j,), (i, j)]]
        expected = rise[0] / 3 + rise[1] / 6 + rise[2] / 6 + rise[3] / 3
        assert found.values["groups"][0, player] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "integrated_gradients"])
def test_inputs_that_play_no_part_get_zeros(method: str) -> None:
    inputs = rows(2, 190)
    baseline = rows(1, 210)
    found = attribute(several(), inputs, method, target=(2, 1), baseline=baseline)
    shapes = {name: array.shape for name, array in inputs.items()}
    assert {name: array.shape for name, array in found.values.items()} == shapes
    assert not found.values["stairs"].any()
    assert not found.values["lonely"].any()
    assert all(found.values[name].any() for name in ("a", "b", "codes"))
    if method == "integrated_gradients":
        assert max(figures["completeness_gap_relative"] for figures in found.quality) < 1e-5


def test_opsets_of_other_domains_are_carried_over() -> None:
    node = ("Scaler", ["x"], ["s"], {"domain": "ai.onnx.ml", "offset": [1.0], "scale": [2.0]})
    for opset, ml in ((15, 2), (18, 3), (21, 4)):
        specs: Any = ({"x": ("float32", ["n", 2])}, {"y": ("float32", ["n", 2])})
        model = made([node, ("Exp", ["s"], ["y"])], *specs, opset=opset, ml=ml)
        x = numbers(1, 2, seed=220)
        found = attribute(model, {"x": x}, "exact_shap", background=np.ones((1, 2)), target=0)
        np.testing.assert_allclose(found.values["x"], [[np.exp(2 * (x[0, 0] - 1)) - 1, 0]], rtol=1e-5, atol=1e-6)

"""Inputs that are no features: masks, position ids and caches are taken as they come."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import explain

T, WIDTH = 3, 4
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.standard_normal((10, WIDTH)).astype(np.float32)
WEIGHT = RANDOM.standard_normal((WIDTH, 1)).astype(np.float32)
HELD = ("attention_mask", "positions", "past")


def model(mask: int = TensorProto.INT64) -> bytes:
    """Attention of x [N, T, 4] over a cache `past` [N, P, 4] and itself, where `attention_mask` [N, P + T] allows, with
    the encoding of `positions` [N, T] added; y [N, 1] is the mean over the tokens."""
    nodes = [
        helper.make_node("Gather", ["table", "positions"], ["place"]),
        helper.make_node("Add", ["x", "place"], ["own"]),
        helper.make_node("Concat", ["past", "own"], ["keys"], axis=1),
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["own", "turned"], ["scores"]),
        helper.make_node("Cast", ["attention_mask"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "number"], ["away"]),
        helper.make_node("Mul", ["away", "far"], ["bias"]),
        helper.make_node("Unsqueeze", ["bias", "middle"], ["wide"]),
        helper.make_node("Add", ["scores", "wide"], ["biased"]),
        helper.make_node("Softmax", ["biased"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "keys"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "out"], ["each"]),
        helper.make_node("ReduceMean", ["each", "middle"], ["y"], keepdims=0),
    ]
    arrays = {"table": TABLE, "out": WEIGHT, "one": np.float32(1), "far": np.float32(-1e4), "middle": np.array([1])}
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "T", WIDTH]),
        helper.make_tensor_value_info("attention_mask", mask, ["N", "S"]),
        helper.make_tensor_value_info("positions", TensorProto.INT64, ["N", "T"]),
        helper.make_tensor_value_info("past", TensorProto.FLOAT, ["N", "P", WIDTH]),
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", inputs, [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def formula(feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The same in numpy, float64 [N]."""
    own = feeds["x"].astype(np.float64) + TABLE[feeds["positions"]]
    keys = np.concatenate([feeds["past"], own], axis=1)
    scores = own @ keys.transpose(0, 2, 1) + (1.0 - feeds["attention_mask"][:, None].astype(np.float64)) * -1e4
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = weights / weights.sum(axis=-1, keepdims=True) @ keys
    return (mixed @ WEIGHT).mean(axis=1)[:, 0]


def feeds_of(cached: int, items: int = 2, mask: type = np.int64) -> dict[str, np.ndarray]:
    """Rows with a cache of so many steps; the last token of the first row is masked."""
    random = np.random.default_rng(0)
    allowed = np.ones((items, cached + T), mask)
    allowed[0, -1] = 0
    return {
        "x": random.standard_normal((items, T, WIDTH)).astype(np.float32),
        "attention_mask": allowed,
        "positions": np.tile(np.arange(cached, cached + T), (items, 1)),
        "past": random.standard_normal((items, cached, WIDTH)).astype(np.float32),
    }


def run(program: explain.Program, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(program.serialize(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def shapley(feeds: dict[str, np.ndarray], item: int) -> np.ndarray:
    """Shapley values [T] of the tokens of one row against zeros, by enumeration of the formula."""
    row = {name: array[item : item + 1] for name, array in feeds.items()}
    values = {}
    for size in range(T + 1):
        for present in combinations(range(T), size):
            x = np.zeros_like(row["x"])
            x[:, list(present)] = row["x"][:, list(present)]
            values[present] = formula(row | {"x": x})[0]
    found = np.zeros(T)
    for token in range(T):
        for present in (each for each in values if token not in each):
            share = factorial(len(present)) * factorial(T - len(present) - 1) / factorial(T)
            found[token] += share * (values[tuple(sorted((*present, token)))] - values[present])
    return found


@pytest.mark.parametrize("cached", [0, 2])
@pytest.mark.parametrize("dtype", ["int64", "bool", "float32"])
def test_coalitions_of_features_alone(cached: int, dtype: str) -> None:
    """Tokens of x are removed; mask, positions and cache stay what they are in each row, an empty cache too."""
    feeds = feeds_of(cached, mask=np.dtype(dtype).type)
    handle = explain.Model(model(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))), held=HELD)
    tokens = {"x": np.repeat(np.arange(T)[:, None], WIDTH, axis=1)}
    zeros = {"x": np.zeros((1, T, WIDTH), np.float32)}
    found = explain.attribute(handle, feeds, method="exact_shap", groups=tokens, background=zeros, run=run)
    assert set(found.values) == {"groups"}
    for item in range(2):
        np.testing.assert_allclose(found.values["groups"][item], shapley(feeds, item), atol=1e-4)


@pytest.mark.parametrize("cached", [0, 2])
@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "integrated_gradients", "smooth_grad", "deeplift"])
def test_gradients_of_features_alone(cached: int, method: str) -> None:
    """Only x has attributions; the gradient is that of the formula."""
    feeds = feeds_of(cached)
    given = {"baseline": 0.0} if method in ("integrated_gradients", "deeplift") else {}
    found = explain.attribute(explain.Model(model(), held=HELD), feeds, method=method, run=run, **given)
    assert set(found.values) == {"x"}
    if method == "input_x_gradient":
        wide, step = {name: a.astype(np.float64) if a.dtype.kind == "f" else a for name, a in feeds.items()}, 1e-5
        for place in np.ndindex(T, WIDTH):
            moved = [wide | {"x": wide["x"].copy()} for _ in range(2)]
            for sign, other in zip((1, -1), moved, strict=True):
                other["x"][(slice(None), *place)] += sign * step
            slope = (formula(moved[0]) - formula(moved[1])) / (2 * step)
            np.testing.assert_allclose(
                found.values["x"][(slice(None), *place)], slope * wide["x"][(slice(None), *place)], atol=1e-3
            )


@pytest.mark.parametrize(
    "method",
    [
        "kernel_shap",
        "permutation_shap",
        "sampling_shap",
        "partition_shap",
        "occlusion",
        "feature_ablation",
        "lime",
        "rise",
    ],
)
def test_every_element_of_a_feature_is_a_player(method: str) -> None:
    """Without groups the players are the elements of x, and answers have nothing for the others."""
    feeds = feeds_of(2)
    background = {"x": np.zeros((2, T, WIDTH), np.float32)}
    handle = explain.Model(model(), held=HELD)
    found = explain.attribute(handle, feeds, method=method, background=background, run=run)
    assert set(found.values) == {"x"}
    assert found.values["x"].shape == (2, T, WIDTH)
    whole = formula(feeds) - formula(feeds | {"x": np.zeros_like(feeds["x"])})
    if method.endswith("shap"):
        np.testing.assert_allclose(found.values["x"].reshape(2, -1).sum(axis=1), whole, rtol=3e-3, atol=1e-3)


def test_a_spec_reads_the_features() -> None:
    """Tokens of the one input that is left need no name; a removal needs no spec for what is held."""
    feeds, zeros = feeds_of(0), {"x": np.zeros((1, T, WIDTH), np.float32)}
    handle = explain.Model(model(), held=HELD)
    found = explain.attribute(
        handle, feeds, method="exact_shap", groups="positions", layouts={"x": "TC"}, background=zeros, run=run
    )
    for item in range(2):
        np.testing.assert_allclose(found.values["groups"][item], shapley(feeds, item), atol=1e-4)


def test_a_prepared_background_has_the_features() -> None:
    """It needs no rows of what is held, whatever the length of the cache."""
    handle = explain.Model(model(), held=HELD)
    background = explain.Background.of(handle, {"x": np.zeros((1, T, WIDTH), np.float32)})
    for cached in (0, 2):
        feeds = feeds_of(cached)
        found = explain.attribute(handle, feeds, method="deep_shap", background=background, run=run)
        plain = explain.attribute(handle, feeds, method="deep_shap", background=dict(background.rows), run=run)
        np.testing.assert_allclose(found.values["x"], plain.values["x"], atol=1e-5)


@pytest.mark.parametrize("cached", [0, 2])
def test_checks_move_the_features_alone(cached: int) -> None:
    """Figures of an answer are made by removing and moving features."""
    handle = explain.Model(model(), held=HELD)
    checks = ["deletion_insertion", "infidelity", "max_sensitivity"]
    found = explain.attribute(
        handle, feeds_of(cached), method="integrated_gradients", baseline=0.0, checks=checks, run=run
    )
    assert {"deletion_auc", "infidelity", "max_sensitivity"} <= set(found.quality[0])


def test_without_holding_an_empty_cache_is_refused() -> None:
    """An input without elements has nothing to attribute to."""
    with pytest.raises(explain.InvalidInputs, match="which holds no elements"):
        explain.begin(model(), feeds_of(0), method="saliency")


def test_names_of_held_inputs_are_checked() -> None:
    """What is no input is refused by its name, and so is a model without features."""
    with pytest.raises(explain.InvalidParameter, match="held: 'pasts' is no input; expected some of x, attention_mask"):
        explain.Model(model(), held=["pasts"])
    with pytest.raises(explain.InvalidParameter, match="at least one is a feature"):
        explain.Model(model(), held=["x", *HELD])


def test_the_closed_forms_hold_nothing() -> None:
    """Linear and tree SHAP take every input for a feature, and say so."""
    found = explain.coverage(explain.Model(model(), held=HELD))
    assert "'attention_mask' is held" in found.refused["linear_shap"]
    assert "integrated_gradients" in found.methods


def test_the_formula_is_the_model() -> None:
    """And would differ without the mask."""
    feeds = feeds_of(2)
    y = run(explain.compile(onnx.load_model_from_string(model()), "forward"), feeds)["y"][:, 0]
    np.testing.assert_allclose(y, formula(feeds), atol=1e-4)
    assert np.abs(y - formula(feeds | {"attention_mask": np.ones_like(feeds["attention_mask"])}))[0] > 1e-3

"""What was asked is made precise or refused in one sentence: arrays, targets, baselines, backgrounds, groups."""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from tests.explain.graphs import attribute, made, mlp, mlp_twin, numbers, tensor

X = numbers(3, 4, seed=130)
BACKGROUND = numbers(2, 4, seed=131)


def two_inputs() -> onnx.ModelProto:
    """a [N, 2] floats and b [N, 2] codes -> y [N, 2]."""
    nodes = [("Cast", ["b"], ["c"], {"to": 1}), ("Mul", ["a", "c"], ["y"])]
    return made(nodes, {"a": ("float32", ["n", 2]), "b": ("int32", ["n", 2])}, {"y": ("float32", ["n", 2])})


def sequence() -> onnx.ModelProto:
    """x [N, 3, 2] -> y [N, 3, 2]."""
    return made([("Tanh", ["x"], ["y"])], {"x": ("float32", ["n", 3, 2])}, {"y": ("float32", ["n", 3, 2])})


def scalar() -> onnx.ModelProto:
    """x [N, 2] -> y [N]."""
    nodes = [("ReduceSum", ["x", "axes"], ["y"], {"keepdims": 0})]
    return made(nodes, {"x": ("float32", ["n", 2])}, {"y": ("float32", ["n"])}, {"axes": np.array([1])})


def labels() -> onnx.ModelProto:
    attributes = {
        "keys_strings": ["a", "b"],
        "values_floats": [2.0, 5.0],
        "default_float": -1.0,
        "domain": "ai.onnx.ml",
    }
    return made(
        [("LabelEncoder", ["s"], ["y"], attributes)], {"s": ("string", ["n", 2])}, {"y": ("float32", ["n", 2])}, ml=2
    )


LONG = {"a": np.zeros((1, 2), np.float32)}


@pytest.mark.parametrize(
    ("model", "inputs", "sentence"),
    [
        (mlp(), {}, "input 'x' is missing; expected x"),
        (mlp(), {"x": X, "z": X}, "input 'z' is unknown; expected x"),
        (mlp(), X, "inputs: came ndarray, expected arrays by name for x"),
        (mlp(), {"x": X[:, :3]}, "input 'x': came shape (3, 3), expected [N, 4]"),
        (mlp(), {"x": X[0]}, "input 'x': came shape (4,), expected [N, 4]"),
        (mlp(), {"x": X[:0]}, "inputs: came 0 items, expected the same number in each, at least 1"),
        (mlp(), {"x": [["a"] * 4]}, "input 'x': came dtype <U1, expected float32"),
        (mlp(), {"x": [[1, 2, 3, None]]}, "input 'x': came dtype object, expected float32"),
        (mlp(), {"x": [[1, 2, 3, 4], [1]]}, "input 'x': came rows of different lengths, expected an array"),
        (mlp(), {"x": X + 1j}, "input 'x': came dtype complex64, expected float32"),
        (mlp(), {"x": np.where(X > 1, np.nan, X)}, "input 'x': holds NaN or infinity"),
        (mlp(), {"x": np.where(X > 1, np.inf, X)}, "input 'x': holds NaN or infinity"),
        (mlp(), {"x": np.full((1, 4), 1e300)}, "input 'x': holds NaN or infinity; expected finite numbers of float32"),
        (two_inputs(), LONG | {"b": np.zeros((2, 2), np.int32)}, "inputs: came 1, 2 items, expected the same number"),
        (two_inputs(), LONG | {"b": np.zeros((1, 2))}, "input 'b': came dtype float64, expected int32"),
        (two_inputs(), LONG | {"b": np.full((1, 2), 2**40)}, "input 'b': holds values that int32 cannot hold"),
        (labels(), {"s": [["a", 3]]}, "input 's': holds something that is no string; expected strings"),
        (sequence(), {"x": np.zeros((2, 3, 0), np.float32)}, "input 'x': came shape (2, 3, 0), expected [N, 3, 2]"),
    ],
)
def test_inputs_that_do_not_fit(model: onnx.ModelProto, inputs: Any, sentence: str) -> None:
    with pytest.raises(explain.InvalidInputs, match=re.escape(sentence)):
        attribute(model, inputs, "saliency", target=0)


def test_items_without_elements_are_refused() -> None:
    model = made([("Tanh", ["x"], ["y"])], {"x": ("float32", ["n", "t"])}, {"y": ("float32", ["n", "t"])})
    with pytest.raises(explain.InvalidInputs, match=r"came shape \(2, 0\), which holds no elements"):
        attribute(model, {"x": np.zeros((2, 0), np.float32)}, "saliency", target=0)


@pytest.mark.parametrize("rows", [X.tolist(), X.astype(np.float64), np.round(X).astype(np.int16), np.round(X).tolist()])
def test_numbers_that_fit_are_taken_in_the_dtype_of_the_model(rows: Any) -> None:
    found = attribute(mlp(), {"x": rows}, "saliency", target=0)
    expected = mlp_twin(tensor(np.asarray(rows, dtype=float)))[:, 0]
    np.testing.assert_allclose(found.explained_value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "item", "target", "expected"),
    [
        (mlp("Softmax"), (4,), 1, [[1], [1], [1]]),
        (mlp("Softmax"), (4,), np.int64(1), [[1], [1], [1]]),
        (mlp("Softmax"), (4,), (2,), [[2], [2], [2]]),
        (mlp("Softmax"), (4,), [0, 2, 1], [[0], [2], [1]]),
        (mlp("Softmax"), (4,), np.array([[0], [2], [1]]), [[0], [2], [1]]),
        (sequence(), (3, 2), (2, 1), [[2, 1]] * 3),
        (sequence(), (3, 2), [2, 1], [[2, 1]] * 3),
        (sequence(), (3, 2), [(0, 0), (1, 1), (2, 0)], [[0, 0], [1, 1], [2, 0]]),
        (scalar(), (2,), None, [[], [], []]),
        (scalar(), (2,), 0, [[], [], []]),
    ],
)
def test_targets(model: onnx.ModelProto, item: tuple[int, ...], target: Any, expected: list[list[int]]) -> None:
    found = attribute(model, {"x": numbers(3, *item, seed=132)}, "saliency", target=target)
    assert found.target.index[:, 0].tolist() == expected
    assert found.target.weight.tolist() == [[1.0]] * 3


def test_the_target_nobody_named_is_the_predicted_class() -> None:
    found = attribute(mlp("Softmax"), {"x": X}, "saliency")
    assert found.target.index[:, 0, 0].tolist() == mlp_twin(tensor(X)).argmax(dim=1).tolist()


def test_a_target_of_many_positions() -> None:
    index, weight = np.array([[[0], [1], [2]]] * 3), np.array([[1.0, 0.5, -2.0]] * 3)
    found = attribute(mlp(), {"x": X}, "saliency", target=explain.Target(index, weight))
    expected = (mlp_twin(tensor(X)).numpy() * weight).sum(axis=1)
    np.testing.assert_allclose(found.explained_value, expected, rtol=1e-4, atol=1e-6)


INDEX = np.zeros((3, 1, 1), np.int64)


@pytest.mark.parametrize(
    ("model", "item", "target", "sentence"),
    [
        (mlp(), (4,), 3, "target: came [3, 3, 3], expected 0 to 2"),
        (mlp(), (4,), -1, "expected 0 to 2"),
        (mlp(), (4,), [0, 1, 7], "expected 0 to 2"),
        (mlp(), (4,), 2**70, "expected a whole number (the output has shape [3])"),
        (mlp(), (4,), 1.0, "target: came 1.0, expected a whole number"),
        (mlp(), (4,), "cat", "target: came 'cat', expected a whole number"),
        (mlp(), (4,), True, "target: came True, expected a whole number"),
        (mlp(), (4,), [0, 1], "target: came [0, 1], expected 1 indices for each of 3 items"),
        (mlp(), (4,), [[0], [1, 2]], "expected a whole number"),
        (mlp(), (4,), [], "target: came [], expected a whole number"),
        (mlp(), (4,), {"class": 1}, "target: came {'class': 1}, expected an index or {'class': a, 'versus': b}"),
        (mlp(), (4,), {"class": 1, "versus": 3}, "expected 0 to 2"),
        (mlp(), (4,), {"class": 1, "versus": "cat"}, "target: came 'cat', expected a whole number"),
        (mlp(), (4,), explain.Target(INDEX + 3, np.ones((3, 1))), "expected 0 to 2"),
        (
            mlp(),
            (4,),
            explain.Target(INDEX[:2], np.ones((2, 1))),
            "came indices int64 (2, 1, 1), expected whole numbers [3",
        ),
        (mlp(), (4,), explain.Target(INDEX[..., 0], np.ones((3, 1))), "expected whole numbers [3, S, 1]"),
        (
            mlp(),
            (4,),
            explain.Target(INDEX, np.ones((3, 2))),
            "came weights float64 (3, 2), expected finite numbers [3, 1]",
        ),
        (mlp(), (4,), explain.Target(INDEX, np.full((3, 1), np.nan)), "expected finite numbers [3, 1]"),
        (sequence(), (3, 2), None, "target: the output has shape [3, 2] for each item; say which element to explain"),
        (sequence(), (3, 2), 1, "target: came 1, expected 2 indices for each of 3 items"),
        (sequence(), (3, 2), (3, 0), "expected 0 to 2, 0 to 1"),
        (scalar(), (2,), 1, "expected 0 to 0"),
    ],
)
def test_targets_that_do_not_exist(model: onnx.ModelProto, item: tuple[int, ...], target: Any, sentence: str) -> None:
    with pytest.raises(explain.InvalidTarget) as caught:
        attribute(model, {"x": numbers(3, *item, seed=132)}, "saliency", target=target)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "baseline", [0.5, np.full(4, 0.5), np.full((1, 4), 0.5), np.full((3, 4), 0.5), {"x": [0.5] * 4}]
)
def test_baselines(baseline: Any) -> None:
    found = attribute(mlp(), {"x": X}, "integrated_gradients", baseline=baseline, target=1)
    np.testing.assert_allclose(found.base_values, [float(mlp_twin(tensor(np.full((1, 4), 0.5)))[0, 1])] * 3, rtol=1e-5)
    assert found.baseline_digest is not None


@pytest.mark.parametrize(
    ("role", "value", "sentence"),
    [
        ("baseline", np.zeros(3), "baseline of 'x': came shape (3,), expected [3, 4]"),
        ("baseline", np.zeros((2, 4)), "baseline of 'x': came shape (2, 4), expected [3, 4]"),
        ("baseline", {"z": 0}, "baseline: input 'z' is unknown; expected x"),
        ("baseline", {}, "baseline: nothing came for input 'x'"),
        ("baseline", np.nan, "baseline of 'x': holds NaN or infinity; expected finite numbers of float32"),
        ("baseline", "black", "baseline of 'x': came dtype <U5, expected float32"),
        ("background", 0.0, "background of 'x': came shape (), expected [B, 4]"),
        ("background", np.zeros((0, 4)), "background of 'x': came shape (0, 4), expected [B, 4]"),
        ("background", np.zeros((2, 3)), "background of 'x': came shape (2, 3), expected [B, 4]"),
        ("background", np.full((2, 4), np.inf), "background of 'x': holds NaN or infinity"),
        ("background", [["a"] * 4], "background of 'x': came dtype <U1, expected float32"),
        ("background", [[1.0], [1.0, 2.0]], "background of 'x': came rows of different lengths"),
    ],
)
def test_references_that_do_not_fit(role: str, value: Any, sentence: str) -> None:
    method = {"baseline": "integrated_gradients", "background": "kernel_shap"}[role]
    with pytest.raises(explain.InvalidParameter, match=re.escape(sentence)):
        attribute(mlp(), {"x": X}, method, target=0, **{role: value})


def test_references_of_two_inputs() -> None:
    inputs = {"a": X[:, :2], "b": np.ones((3, 2), np.int32)}
    background = {"a": BACKGROUND[:, :2], "b": np.zeros((2, 2), np.int32)}
    found = attribute(two_inputs(), inputs, "exact_shap", background=background, target=0)
    assert {name: array.shape for name, array in found.values.items()} == {"a": (3, 2), "b": (3, 2)}
    for value, sentence in [
        (background | {"b": np.zeros((3, 2), np.int32)}, "background: every input needs the same number of rows"),
        (BACKGROUND[:, :2], "background: the model has inputs a, b; give one array for each, by name"),
        ({"a": BACKGROUND[:, :2]}, "background: nothing came for input 'b'; give one array for each input"),
    ]:
        with pytest.raises(explain.InvalidParameter, match=re.escape(sentence)):
            attribute(two_inputs(), inputs, "exact_shap", background=value, target=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"groups": {"x": [0, 1, 1]}}, "groups of 'x': came shape [3], expected whole numbers of shape [4]"),
        ({"groups": {"x": [0.0] * 4}}, "groups of 'x': came no whole numbers, expected whole numbers of shape [4]"),
        ({"groups": {"x": [0, [1], 1, 1]}}, "groups of 'x': came no whole numbers"),
        ({"groups": {"x": [0, 2, 2, 0]}}, "groups: came numbers [0, 2], expected 0 to G-1 without gaps"),
        ({"groups": {"x": [0, -2, 1, 0]}}, "groups: came numbers [-2, 0, 1], expected 0 to G-1 without gaps"),
        ({"groups": {"x": [-1] * 4}}, "groups: came numbers [], expected 0 to G-1 without gaps"),
        ({"groups": {}}, "groups: came nothing, expected one array for each of x"),
        ({"groups": {"x": [0] * 4, "q": [0]}}, "groups: came x, q, expected one array for each of x"),
        ({"groups": [0, 0, 1, 1]}, "groups: came [0, 0, 1, 1], expected one array for each of x"),
        ({"groups": {"x": [0, 0, 1, 1]}, "group_names": ["one"]}, "group_names: came ['one'], expected 2 names"),
        ({"groups": {"x": [0, 0, 1, 1]}, "group_names": "ab"}, "group_names: came 'ab', expected 2 names"),
        ({"group_names": ["a", "b", "c", "d"]}, "group_names: came without groups"),
    ],
)
def test_groups_that_make_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(explain.InvalidParameter, match=re.escape(sentence)):
        attribute(mlp(), {"x": X}, "exact_shap", background=BACKGROUND, target=0, **options)


def test_groups_without_names_are_numbered() -> None:
    found = attribute(mlp(), {"x": X}, "exact_shap", background=BACKGROUND, target=0, groups={"x": [1, 0, 0, 1]})
    assert found.group_names == ("group 0", "group 1")


def test_digests_tell_texts_apart_however_they_are_joined() -> None:
    texts = [["a\0b", "c"], ["a", "b\0c"], ["a\0b\0c", ""], ["", "a\0b\0c"], ["1:a", "c"], ["", "1:a1:c"], ["ä", "c"]]
    assert len({explain.digest_arrays({"x": np.array(pair, dtype=object)}) for pair in texts}) == len(texts)


def test_digests_of_numbers_are_those_of_their_bytes() -> None:
    """Written out, so that what stands in records is found again."""
    spelled = b"a|int64|(2,)|" + struct.pack("<2q", 1, -2) + b"b|float32|(1, 2)|" + struct.pack("<2f", 0.5, -1.0)
    arrays = {"b": np.array([[0.5, -1.0]], np.float32), "a": np.array([1, -2], ">i8")}
    assert explain.digest_arrays(arrays) == hashlib.sha256(spelled).hexdigest()

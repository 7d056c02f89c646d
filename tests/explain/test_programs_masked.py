"""`masked_forward` equals replacing elements one mask and one background row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import explain
from tests.explain.graphs import agree, made, mlp, mlp_twin, numbers, run, serve, tensor

N, K, B = 3, 4, 5


def mixed() -> onnx.ModelProto:
    """x [N, 2, 2] floats, codes [N, 3] and flags [N] -> y [N, 2, 2]."""
    nodes = [
        ("Gather", ["table", "codes"], ["e"]),
        ("ReduceSum", ["e", "axes"], ["s0"], {"keepdims": 0}),
        ("Reshape", ["s0", "square"], ["s"]),
        ("Cast", ["flags"], ["f0"], {"to": 1}),
        ("Reshape", ["f0", "wide"], ["f"]),
        ("Mul", ["x", "s"], ["p"]),
        ("Add", ["p", "f"], ["q"]),
        ("Tanh", ["q"], ["y"]),
    ]
    weights = {
        "table": numbers(6, 4, seed=60),
        "axes": np.array([1]),
        "square": np.array([-1, 2, 2]),
        "wide": np.array([-1, 1, 1]),
    }
    inputs: Any = {"x": ("float32", ["N", 2, 2]), "codes": ("int32", ["N", 3]), "flags": ("bool", ["N"])}
    return made(nodes, inputs, {"y": ("float32", ["N", 2, 2])}, weights)


def rows(count: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "x": numbers(count, 2, 2, seed=seed),
        "codes": random.integers(6, size=(count, 3)).astype(np.int32),
        "flags": random.integers(2, size=count).astype(bool),
    }


def slow_mask(model: onnx.ModelProto, feeds: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """One item, one mask and one background row at a time, through the served model."""
    mask, weight = feeds["mask"].astype(float), feeds["background.weight"].astype(float)
    answers = []
    for item in range(N):
        for k in range(K):
            for b in range(B):
                point = {}
                for name in names:
                    x, groups, other = feeds[name][item], feeds[f"{name}.groups"], feeds[f"{name}.background"]
                    index = groups[item] if groups.ndim == feeds[name].ndim else groups
                    back = other[item, b] if other.ndim > feeds[name].ndim else other[b]
                    kept = np.where(index < 0, 1.0, mask[item, k][np.maximum(index, 0)])
                    blend = kept * x + (1 - kept) * back if x.dtype.kind == "f" else np.where(kept >= 0.5, x, back)
                    point[name] = blend.astype(x.dtype)[None]
                answers.append(next(iter(serve(model, point).values())).reshape(-1))
    table = np.array(answers, dtype=float).reshape(N, K, B, -1)
    return {
        "value": (table * weight[:, None]).sum(axis=2),
        "value_sq": (table**2 * weight[:, None]).sum(axis=2),
    }


@pytest.mark.parametrize("background", ["shared", "item"])
@pytest.mark.parametrize("groups", ["shared", "item"])
def test_groups_and_backgrounds_shared_or_for_each_item(groups: str, background: str) -> None:
    """Fractional masks, integer and boolean inputs, groups that span inputs, and -1 for what is never masked."""
    random, model = np.random.default_rng(61), mixed()
    program = explain.compile(model, "masked_forward", groups=groups, background=background, squares=True)
    feeds = rows(N, 62)
    feeds["mask"] = random.uniform(size=(N, K, 4)).astype(np.float32)
    feeds["mask"][:, 0], feeds["mask"][:, 1] = 1.0, 0.0
    feeds["background.weight"] = np.array([0.1, 0.3, 0.2, 0.25, 0.15], dtype=np.float32)
    for name, shape in {"x": (2, 2), "codes": (3,), "flags": ()}.items():
        size = (N, *shape) if groups == "item" else shape
        feeds[f"{name}.groups"] = np.asarray(random.integers(-1, 4, size=size))
        others = [rows(B, 63 + item)[name] for item in range(N)]
        feeds[f"{name}.background"] = np.stack(others) if background == "item" else others[0]
    agree(run(program, feeds), slow_mask(model, feeds, ["x", "codes", "flags"]))


@pytest.mark.parametrize("background", ["shared", "item", "paired"])
def test_elements_that_are_groups_of_their_own(background: str) -> None:
    """The mask of each input stands behind that of those before it: the same as with groups that count."""
    model, feeds = mixed(), rows(N, 64)
    counted, start = {}, 0
    for name, shape in {"x": (2, 2), "codes": (3,), "flags": ()}.items():
        size = int(np.prod(shape))
        counted[f"{name}.groups"], start = np.arange(start, start + size).reshape(shape), start + size
        count = {"shared": B, "item": N * B, "paired": K}[background]
        other = rows(count, 65)[name]
        feeds[f"{name}.background"] = other.reshape(N, B, *shape) if background == "item" else other
    feeds["mask"] = np.random.default_rng(66).uniform(size=(N, K, start)).astype(np.float32)
    feeds["background.weight"] = np.ones(1, np.float32) if background == "paired" else np.full(B, 1 / B, np.float32)
    program = explain.compile(model, "masked_forward", groups="elements", background=background)
    spelled = explain.compile(model, "masked_forward", background=background)
    assert set(spelled.inputs) - set(program.inputs) == set(counted)
    agree(run(program, feeds), run(spelled, feeds | counted), 1e-6)
    with pytest.raises(AssertionError):
        agree(run(program, feeds), run(spelled, feeds | counted | {"codes.groups": np.array([5, 4, 6])}), 1e-6)


def test_a_full_mask_is_the_model_and_an_empty_one_the_background() -> None:
    model, x, background = mlp("Softmax"), numbers(N, 4, seed=70), numbers(B, 4, seed=71)
    feeds = {
        "x": x,
        "x.groups": np.arange(4),
        "x.background": background,
        "mask": np.stack([np.ones((N, 4)), np.zeros((N, 4))], axis=1).astype(np.float32),
        "background.weight": np.full(B, 1 / B, np.float32),
    }
    found = run(explain.compile(model, "masked_forward", space="probability"), feeds)["value"]
    np.testing.assert_allclose(found[:, 0], serve(model, {"x": x})["y"], rtol=1e-5, atol=1e-7)
    mean = serve(model, {"x": background})["y"].mean(axis=0)
    np.testing.assert_allclose(found[:, 1], np.tile(mean, (N, 1)), rtol=1e-5, atol=1e-7)
    logits = run(explain.compile(model, "masked_forward"), feeds)["value"]
    np.testing.assert_allclose(logits[:, 0], mlp_twin(tensor(x)).numpy(), rtol=1e-5, atol=1e-6)


def test_strings_are_kept_or_replaced() -> None:
    attributes = {"keys_strings": ["a", "b"], "values_floats": [2.0, 5.0], "default_float": -1.0}
    node = ("LabelEncoder", ["s"], ["y"], {"domain": "ai.onnx.ml", **attributes})
    model = made([node], {"s": ("string", ["n", 2])}, {"y": ("float32", ["n", 2])}, ml=2)
    feeds = {
        "s": np.array([["a", "b"]], dtype=object),
        "s.groups": np.array([0, 1]),
        "s.background": np.array([["b", "b"], ["?", "?"]], dtype=object),
        "mask": np.array([[[1, 0], [0, 1]]], np.float32),
        "background.weight": np.array([0.5, 0.5], np.float32),
    }
    found = run(explain.compile(model, "masked_forward"), feeds)["value"]
    np.testing.assert_allclose(found, [[[2.0, 2.0], [2.0, 5.0]]])


def test_the_slow_way_notices_a_wrong_mask() -> None:
    model, feeds = mixed(), rows(N, 62)
    feeds["mask"] = np.random.default_rng(1).uniform(size=(N, K, 1)).astype(np.float32)
    feeds["background.weight"] = np.full(B, 1 / B, np.float32)
    for name, shape in {"x": (2, 2), "codes": (3,), "flags": ()}.items():
        feeds[f"{name}.groups"], feeds[f"{name}.background"] = np.zeros(shape, np.int64), rows(B, 5)[name]
    found = run(explain.compile(model, "masked_forward", squares=True), feeds)
    agree(found, slow_mask(model, feeds, ["x", "codes", "flags"]))
    feeds["mask"] = feeds["mask"] + 0.01
    with pytest.raises(AssertionError):
        agree(found, slow_mask(model, feeds, ["x", "codes", "flags"]))

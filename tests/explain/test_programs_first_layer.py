"""`masked_layer` and `masked_rest` together are `masked_forward`, and are offered only where that is so."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import onnx
import pytest

import explain
from explain.programs import first_layer
from tests.explain.games import replaced
from tests.explain.graphs import MLP_NODES, MLP_WEIGHTS, Nodes, made, mlp, numbers, run

N, K, B, G = 3, 6, 4, 4


def layer_of(model: onnx.ModelProto) -> str | None:
    handle = explain.Model(model)
    return first_layer(handle, handle.explained())


def asked(inputs: dict[str, np.ndarray], others: dict[str, np.ndarray], seed: int, **kinds: str) -> dict[str, Any]:
    """Feeds of `masked_forward`: N items, B rows, K random masks of 0 and 1, groups (-1 among them) at random."""
    random = np.random.default_rng(seed)
    feeds: dict[str, Any] = dict(inputs)
    for name, array in inputs.items():
        shape = array.shape if kinds.get("groups") == "item" else array.shape[1:]
        feeds[f"{name}.groups"] = np.asarray(random.integers(-1, G, size=shape))
        rows = [others[name][random.integers(len(others[name]), size=B)] for _ in range(N)]
        feeds[f"{name}.background"] = np.stack(rows) if kinds.get("background") == "item" else rows[0]
    feeds["mask"] = random.integers(2, size=(N, K, G)).astype(np.float32)
    feeds["mask"][:, 0], feeds["mask"][:, 1] = 0.0, 1.0
    weight = random.uniform(0.1, 1.0, size=B)
    return feeds | {"background.weight": (weight / weight.sum()).astype(np.float32)}


def in_parts(model: onnx.ModelProto, feeds: dict[str, Any], **options: Any) -> np.ndarray:
    """The layer with nothing and with each group alone, and the rest from the sums of these."""
    kinds = {key: value for key, value in options.items() if key in ("groups", "background")}
    rest = {key: value for key, value in options.items() if key not in kinds}
    alone = np.tile(np.vstack([np.zeros((1, G)), np.eye(G)]).astype(np.float32), (N, 1, 1))
    first = {key: value for key, value in feeds.items() if key != "background.weight"} | {"mask": alone}
    layer = run(explain.compile(model, "masked_layer", **options), first)["layer"]
    second = {"mask": feeds["mask"].astype(layer.dtype), "background.weight": feeds["background.weight"]}
    second |= {"layer.base": layer[:, 0], "layer.group": layer[:, 1:] - layer[:, :1]}
    return run(explain.compile(model, "masked_rest", **rest), second)["value"]


def judged(model: onnx.ModelProto, feeds: dict[str, Any], **options: Any) -> float:
    """How far the parts are from `masked_forward`, relative to its largest value."""
    whole = run(explain.compile(model, "masked_forward", **options), feeds)["value"].astype(float)
    return explain.attribution_error(in_parts(model, feeds, **options).astype(float), whole)


KINDS = [{"groups": g, "background": b} for g in ("shared", "item") for b in ("shared", "item")]


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: f"{kinds['groups']} {kinds['background']}")
def test_a_perceptron_in_parts_is_the_loop_over_masks_and_rows(kinds: dict[str, str]) -> None:
    model = mlp()
    feeds = asked({"x": numbers(N, 4, seed=400)}, {"x": numbers(9, 4, seed=401)}, 402, **kinds)
    expected = replaced(model, feeds)
    assert explain.attribution_error(in_parts(model, feeds, **kinds), expected) <= 1e-5
    assert judged(model, feeds, **kinds) <= 1e-5
    assert explain.attribution_error(in_parts(model, feeds | {"mask": 1 - feeds["mask"]}, **kinds), expected) > 1e-2


def pipeline() -> onnx.ModelProto:
    """numbers [n, 3] scaled, codes [n, 2] one-hot, a name looked up: side by side into two layers, Softmax behind."""
    nodes: Nodes = [
        ("Sub", ["numbers", "mean"], ["centred"]),
        ("Div", ["centred", "spread"], ["scaled"]),
        ("OneHot", ["codes", "depth", "switch"], ["hot"], {"axis": -1}),
        ("Flatten", ["hot"], ["wide"]),
        ("Gather", ["table", "name"], ["found"]),
        ("Concat", ["scaled", "wide", "found"], ["all"], {"axis": 1}),
        ("Gemm", ["all", "w1", "b1"], ["h0"]),
        ("Relu", ["h0"], ["h"]),
        ("MatMul", ["h", "w2"], ["z"]),
        ("Softmax", ["z"], ["y"]),
    ]
    weights = {
        "mean": numbers(3, seed=410),
        "spread": np.float32([2, 0.5, 3]),
        "depth": np.array(4),
        "switch": np.float32([0, 1]),
        "table": numbers(5, 2, seed=411),
        "w1": numbers(13, 6, seed=412),
        "b1": numbers(6, seed=413),
        "w2": numbers(6, 3, seed=414),
    }
    inputs: Any = {"numbers": ("float32", ["n", 3]), "codes": ("int64", ["n", 2]), "name": ("int64", ["n"])}
    return made(nodes, inputs, {"y": ("float32", ["n", 3])}, weights)


def people(count: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    codes, name = random.integers(4, size=(count, 2)), random.integers(5, size=count)
    return {"numbers": numbers(count, 3, seed=seed), "codes": np.asarray(codes), "name": np.asarray(name)}


@pytest.mark.parametrize("kinds", KINDS, ids=lambda kinds: f"{kinds['groups']} {kinds['background']}")
def test_a_pipeline_of_scaler_one_hot_and_table(kinds: dict[str, str]) -> None:
    """Groups span inputs: players are parts of a row, whichever input they come through."""
    model = pipeline()
    assert layer_of(model) == "h0"
    feeds = asked(people(N, 415), people(9, 416), 417, **kinds)
    assert judged(model, feeds, **kinds) <= 1e-5
    expected = replaced(model, feeds)
    found = in_parts(model, feeds, space="probability", **kinds)
    assert explain.attribution_error(found, expected) <= 1e-5


def test_what_treats_elements_alone_may_stand_in_front() -> None:
    nodes: Nodes = [
        ("Tanh", ["x"], ["t"]),
        ("Mul", ["x", "t"], ["own"]),
        ("IsNaN", ["x"], ["lacking"]),
        ("Where", ["lacking", "zero", "own"], ["filled"]),
        ("Clip", ["filled", "low"], ["clipped"]),
        ("Slice", ["clipped", "first", "last", "axes"], ["some"]),
        ("Concat", ["some", "t"], ["both"], {"axis": 1}),
        *[("Gemm", ["both", "w", "b"], ["h"], {"transB": 1, "alpha": 0.5, "beta": 2.0}), ("Sigmoid", ["h"], ["y"])],
    ]
    weights = {"zero": np.float32(0), "low": np.float32(-0.5), "first": np.array([1]), "last": np.array([3])}
    weights |= {"axes": np.array([1]), "w": numbers(5, 6, seed=420), "b": numbers(5, seed=421)}
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 5])}, weights)
    assert layer_of(model) == "h"
    feeds = asked({"x": numbers(N, 4, seed=422)}, {"x": numbers(9, 4, seed=423)}, 424)
    assert judged(model, feeds) <= 1e-5


def dense(*front: Any, width: int = 4, end: str = "f", inputs: Any = None, **weights: np.ndarray) -> onnx.ModelProto:
    """Some nodes, then a product of `end` with a matrix and a Tanh."""
    nodes = [*front, ("MatMul", [end, "w"], ["h"]), ("Tanh", ["h"], ["y"])]
    given = {"w": numbers(width, 3, seed=430)} | weights
    return made(nodes, inputs or {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 3])}, given)


def two_products() -> onnx.ModelProto:
    nodes: Nodes = [("MatMul", ["x", "w"], ["a"]), ("MatMul", ["x", "v"], ["b"]), ("Mul", ["a", "b"], ["y"])]
    weights = {"w": numbers(4, 3, seed=431), "v": numbers(4, 3, seed=432)}
    return made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 3])}, weights)


def skipped() -> onnx.ModelProto:
    nodes: Nodes = [("MatMul", ["x", "w"], ["h"]), ("Add", ["h", "x"], ["y"])]
    return made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 4])}, {"w": numbers(4, 4, seed=433)})


def beside() -> onnx.ModelProto:
    """A second input joins behind the product."""
    nodes: Nodes = [("MatMul", ["x", "w"], ["h"]), ("Add", ["h", "z"], ["y"])]
    inputs: Any = {"x": ("float32", ["n", 4]), "z": ("float32", ["n", 3])}
    return made(nodes, inputs, {"y": ("float32", ["n", 3])}, {"w": numbers(4, 3, seed=434)})


def convolved() -> onnx.ModelProto:
    nodes: Nodes = [("Conv", ["x", "k"], ["c"]), ("Flatten", ["c"], ["f"]), ("MatMul", ["f", "w"], ["y"])]
    weights = {"k": numbers(2, 1, 2, 2, seed=435), "w": numbers(8, 3, seed=436)}
    return made(nodes, {"x": ("float32", ["n", 1, 3, 3])}, {"y": ("float32", ["n", 3])}, weights)


def turned() -> onnx.ModelProto:
    """A product over the rows of the batch: x [4, n]."""
    nodes: Nodes = [("Transpose", ["x"], ["t"]), ("MatMul", ["t", "w"], ["h"]), ("Transpose", ["h"], ["y"])]
    return made(nodes, {"x": ("float32", [4, "n"])}, {"y": ("float32", [3, "n"])}, {"w": numbers(4, 3, seed=437)})


def halved() -> onnx.ModelProto:
    """A product over twice as many rows of half the width."""
    nodes: Nodes = [
        ("Reshape", ["x", "half"], ["r"]),
        ("MatMul", ["r", "w"], ["h"]),
        ("Reshape", ["h", "whole"], ["y"]),
    ]
    weights = {"half": np.array([-1, 2]), "whole": np.array([-1, 6]), "w": numbers(2, 3, seed=429)}
    return made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 6])}, weights)


def looked_up(axis: int) -> onnx.ModelProto:
    """Codes that say which codes are read: ids[ids]."""
    nodes: Nodes = [
        ("Gather", ["ids", "ids"], ["found"], {"axis": axis}),
        ("Flatten", ["found"], ["flat"]),
        ("Cast", ["flat"], ["f"], {"to": 1}),
        ("MatMul", ["f", "w"], ["y"]),
    ]
    return made(nodes, {"ids": ("int64", ["n", 3])}, {"y": ("float32", ["n", 2])}, {"w": numbers(9, 2, seed=438)})


REFUSED = {
    "no product": made([("Tanh", ["x"], ["y"])], {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 4])}),
    "two products": two_products(),
    "a skip": skipped(),
    "an input beside": beside(),
    "a convolution": convolved(),
    "a softmax": dense(("Softmax", ["x"], ["f"])),
    "a norm": dense(("LayerNormalization", ["x", "s"], ["f"]), s=np.ones(4, np.float32)),
    "a sum": dense(("ReduceSum", ["x", "a"], ["f"]), width=1, a=np.array([1])),
    "elements multiplied": dense(
        ("Gather", ["x", "back"], ["r"], {"axis": 1}), ("Mul", ["x", "r"], ["f"]), back=np.array([3, 2, 1, 0])
    ),
    "inputs multiplied": dense(
        ("Mul", ["x", "z"], ["f"]), inputs={"x": ("float32", ["n", 4]), "z": ("float32", ["n", 4])}
    ),
    "an outer product": dense(
        *[("Unsqueeze", ["x", "a"], ["u"]), ("Unsqueeze", ["x", "b"], ["v"]), ("Mul", ["u", "v"], ["o"])],
        ("Flatten", ["o"], ["f"]),
        width=16,
        a=np.array([1]),
        b=np.array([2]),
    ),
    "rows cut in two": halved(),
    "rows turned": turned(),
    "codes that point at codes": looked_up(0),
    "a matrix from the left": made(
        [("MatMul", ["w", "x"], ["y"])],
        {"x": ("float32", [4, "n"])},
        {"y": ("float32", [3, "n"])},
        {"w": numbers(3, 4, seed=439)},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_the_first_layer_does_not_add_up_the_groups_it_is_refused_by_name(name: str) -> None:
    assert layer_of(REFUSED[name]) is None
    for program in ("masked_layer", "masked_rest"):
        with pytest.raises(
            explain.MethodUnavailable, match=r"do not pass one matrix product .* use program 'masked_fo"
        ):
            explain.compile(REFUSED[name], program)


def test_models_that_take_one_row_or_have_their_rows_elsewhere_are_refused() -> None:
    fixed = explain.Model(mlp(batch=1), batch_axes={"x": None, "z": None}, row_by_row=True)
    assert first_layer(fixed, fixed.explained()) is None
    told = explain.Model(mlp(), row_by_row=True)
    assert first_layer(told, told.explained()) is None


STEPS = ["Tanh", "Neg", "Add", "Mul", "Own", "Reverse", "Pair", "Slice", "Twice", "Square", "Softmax", "Sum", "Turn"]


def grown(random: np.random.Generator) -> onnx.ModelProto:
    """Random steps in front of a product; some mix elements, some move them, some do neither."""
    nodes: list[Any] = []
    weights: dict[str, np.ndarray] = {"one": np.array([1]), "two": np.array([2]), "axis": np.array([1])}
    now, width, earlier = "x", 4, {4: ["x"]}
    for step in range(int(random.integers(1, 6))):
        kind, new = STEPS[int(random.integers(len(STEPS)))], f"v{step}"
        const = f"c{step}"
        if kind in ("Tanh", "Neg"):
            nodes.append((kind, [now], [new]))
        elif kind in ("Add", "Mul"):
            weights[const] = numbers(*(width,) if random.random() < 0.5 else (1, width), seed=step + 440)
            nodes.append((kind, [now, const], [new]))
        elif kind in ("Own", "Pair"):
            other = now if kind == "Own" else earlier[width][int(random.integers(len(earlier[width])))]
            nodes.append(("Add" if random.random() < 0.5 else "Mul", [now, other], [new]))
        elif kind == "Reverse":
            weights[const] = random.permutation(width)
            nodes.append(("Gather", [now, const], [new], {"axis": 1}))
        elif kind == "Slice" and width > 2:
            nodes.append(("Slice", [now, "one", "two", "axis"], [f"{new}a"]))
            nodes.append(("Concat", [f"{new}a", now], [new], {"axis": 1}))
            width += 1
        elif kind == "Twice":
            nodes.append(("Concat", [now, now], [new], {"axis": 1}))
            width *= 2
        elif kind == "Softmax":
            nodes.append(("Softmax", [now], [new], {"axis": 1}))
        elif kind == "Sum":
            nodes += [("ReduceSum", [now, "axis"], [f"{new}s"]), ("Sub", [now, f"{new}s"], [new])]
        elif kind == "Turn":
            nodes += [("Transpose", [now], [f"{new}t"]), ("Transpose", [f"{new}t"], [new])]
        else:
            nodes.append(("Abs", [now], [new]))
        now = new
        earlier.setdefault(width, []).append(now)
    nodes += [("MatMul", [now, "w"], ["h"]), ("Relu", ["h"], ["r"]), ("MatMul", ["r", "v"], ["z"])]
    if random.random() < 0.2:
        nodes += [("ReduceSum", ["x", "axis"], ["skip"]), ("Add", ["z", "skip"], ["y"])]
    else:
        nodes.append(("Tanh", ["z"], ["y"]))
    weights |= {"w": numbers(width, 5, seed=450), "v": numbers(5, 2, seed=451)}
    return made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 2])}, weights)


def test_random_graphs_are_split_only_where_the_parts_agree() -> None:
    split = refused = 0
    for seed in range(120):
        model = grown(np.random.default_rng([452, seed]))
        feeds = asked({"x": numbers(N, 4, seed=seed)}, {"x": numbers(9, 4, seed=seed + 1000)}, seed)
        if layer_of(model) is None:
            refused += 1
            continue
        split += 1
        assert judged(model, feeds) <= 2e-5, (seed, [(n.op_type, *n.input) for n in model.graph.node])
    assert split > 20
    assert refused > 20


def test_the_fuzz_would_see_a_layer_that_does_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Softmax among what treats elements alone the parts no longer agree."""
    inner = importlib.import_module("explain.programs.first_layer")
    monkeypatch.setattr(inner, "EACH", inner.EACH | {"Softmax"})
    model = dense(("Softmax", ["x"], ["f"]))
    assert layer_of(model) == "h"
    feeds = asked({"x": numbers(N, 4, seed=460)}, {"x": numbers(9, 4, seed=461)}, 462)
    assert judged(model, feeds) > 1e-2


@pytest.mark.parametrize("groups", ["shared", "item"])
def test_rows_of_a_background_paired_with_masks(groups: str) -> None:
    model = pipeline()
    feeds = asked(people(N, 470), people(9, 471), 472, groups=groups)
    pairs = people(K, 473)
    feeds |= {f"{name}.background": rows for name, rows in pairs.items()}
    feeds["mask"] = np.random.default_rng(474).uniform(size=(N, K, G)).astype(np.float32)
    feeds["background.weight"] = np.ones(1, np.float32)
    options = {"groups": groups, "background": "paired", "space": "probability"}
    found = run(explain.compile(model, "masked_forward", **options), feeds)["value"]
    assert explain.attribution_error(found, replaced(model, feeds)) <= 1e-5
    moved = feeds | {f"{name}.background": np.roll(rows, 1, axis=0) for name, rows in pairs.items()}
    assert explain.attribution_error(found, replaced(model, moved)) > 1e-2


def test_the_layer_of_a_model_of_two_outputs_is_that_of_the_one_that_is_explained() -> None:
    nodes: Nodes = [*MLP_NODES, ("ReduceSum", ["x", "axes"], ["sum"])]
    specs: Any = {"z": ("float32", ["n", 3]), "sum": ("float32", ["n", 1])}
    model = explain.Model(made(nodes, {"x": ("float32", ["n", 4])}, specs, MLP_WEIGHTS | {"axes": np.array([1])}))
    assert first_layer(model, model.explained("z")) == "h0"
    assert first_layer(model, model.explained("sum")) is None

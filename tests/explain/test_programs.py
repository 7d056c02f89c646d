"""The programs around the model: their inputs and outputs, `forward`, `vjp`, `activation_map`; names and refusals."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import explain
from tests.explain.graphs import (
    CNN_WEIGHTS,
    MLP_NODES,
    MLP_WEIGHTS,
    agree,
    cnn,
    cnn_twin,
    dot,
    made,
    mlp,
    mlp_twin,
    numbers,
    run,
    serve,
    tensor,
)

X = numbers(5, 4, seed=20)
IMAGES = numbers(3, 1, 8, 8, seed=21)
ITEM, SHARED = "item", "shared"
TARGET = {"target": ITEM, "target.weight": ITEM}


@pytest.mark.parametrize(
    ("program", "options", "inputs", "outputs"),
    [
        ("forward", {}, {"x": ITEM}, {"y": ITEM}),
        ("vjp", {}, {"x": ITEM, "y.cotangent": ITEM}, {"x.gradient": ITEM, "y": ITEM}),
        (
            "path_gradient",
            {},
            {"x": ITEM, "x.baseline": ITEM, "alpha": ITEM, "weight": ITEM, **TARGET},
            {"x.gradient": ITEM, "x.attribution": ITEM, "value": ITEM},
        ),
        (
            "path_gradient",
            {"noise": True},
            {"x": ITEM, "x.baseline": ITEM, "x.noise": ITEM, "alpha": ITEM, "weight": ITEM, **TARGET},
            {"x.gradient": ITEM, "x.attribution": ITEM, "value": ITEM},
        ),
        (
            "masked_forward",
            {},
            {"x": ITEM, "x.groups": SHARED, "x.background": SHARED, "mask": ITEM, "background.weight": SHARED},
            {"value": ITEM},
        ),
        (
            "masked_forward",
            {"groups": ITEM, "background": ITEM, "squares": True},
            {"x": ITEM, "x.groups": ITEM, "x.background": ITEM, "mask": ITEM, "background.weight": SHARED},
            {"value": ITEM, "value_sq": ITEM},
        ),
    ],
)
def test_inputs_and_outputs_of_the_table(
    program: str, options: dict[str, Any], inputs: dict[str, str], outputs: dict[str, str]
) -> None:
    compiled = explain.compile(mlp("Softmax"), program, **options)
    assert (dict(compiled.inputs), dict(compiled.outputs)) == (inputs, outputs)
    assert [value.name for value in compiled.model.graph.input] == list(inputs)
    assert [value.name for value in compiled.model.graph.output] == list(outputs)
    onnx.checker.check_model(compiled.model, full_check=True)
    assert compiled.model.opset_import[0].version == 18
    assert compiled.max_items is None


def test_inputs_and_outputs_of_an_activation_map() -> None:
    compiled = explain.compile(cnn(), "activation_map")
    assert dict(compiled.inputs) == {"image": ITEM, **TARGET}
    assert dict(compiled.outputs) == {"map": ITEM, "value": ITEM}


def test_declared_shapes_and_dtypes() -> None:
    compiled = explain.compile(mlp("Softmax"), "path_gradient")
    declared = {
        value.name: (
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*compiled.model.graph.input, *compiled.model.graph.output)
    }
    assert declared == {
        "x": ("float32", ["N", 4]),
        "x.baseline": ("float32", ["N", "J", 4]),
        "alpha": ("float32", ["N", "K"]),
        "weight": ("float32", ["N", "K", "R"]),
        "target": ("int64", ["N", "S", 1]),
        "target.weight": ("float32", ["N", "S"]),
        "x.gradient": ("float32", ["N", "R", 4]),
        "x.attribution": ("float32", ["N", "R", 4]),
        "value": ("float32", ["N", "K"]),
    }


def test_forward_is_the_model() -> None:
    model = mlp("Softmax")
    np.testing.assert_allclose(run(explain.compile(model, "forward"), {"x": X})["y"], serve(model, {"x": X})["y"])


@pytest.mark.parametrize("space", ["output", "logit"])
def test_vjp_equals_autograd(space: str) -> None:
    model, cotangent = mlp("Softmax"), numbers(5, 3, seed=22)
    found = run(explain.compile(model, "vjp", space=space), {"x": X, "y.cotangent": cotangent})
    x = tensor(X).requires_grad_()
    logits = mlp_twin(x)
    y = torch.softmax(logits, dim=1)
    (gradient,) = torch.autograd.grad(logits if space == "logit" else y, x, tensor(cotangent))
    agree(found, {"x.gradient": gradient.numpy(), "y": y.detach().numpy()})


def test_vjp_of_tokens_is_that_of_their_encoding_and_absent_where_there_are_two() -> None:
    table, v = numbers(9, 5, seed=30), numbers(5, 2, seed=31)
    specs: Any = ({"ids": ("int64", ["n", "t"])}, {"y": ("float32", ["n", "t", 2])})
    once = [("Gather", ["table", "ids"], ["e"]), ("Tanh", ["e"], ["h"]), ("MatMul", ["h", "v"], ["y"])]
    ids, cotangent = np.array([[1, 8, 0]]), numbers(1, 3, 2, seed=32)
    found = run(
        explain.compile(made(once, *specs, {"table": table, "v": v}), "vjp"), {"ids": ids, "y.cotangent": cotangent}
    )
    e = tensor(table[ids]).requires_grad_()
    (gradient,) = torch.autograd.grad(torch.tanh(e) @ tensor(v), e, tensor(cotangent))
    np.testing.assert_allclose(found["ids.gradient"], gradient.numpy(), rtol=1e-5, atol=1e-6)
    twice = [("Gather", ["table", "ids"], ["e1"]), ("Gather", ["other", "ids"], ["e2"]), ("Mul", ["e1", "e2"], ["y"])]
    double = made(twice, specs[0], {"y": ("float32", ["n", "t", 5])}, {"table": table, "other": table * 2})
    assert list(explain.compile(double, "vjp").outputs) == ["y"]


@pytest.mark.parametrize("kind", ["grad_cam", "hires_cam", "layer_cam"])
@pytest.mark.parametrize("layer", [None, "conv2", "relu1"])
def test_activation_maps_equal_the_slow_way(kind: str, layer: str | None) -> None:
    program = explain.compile(cnn(), "activation_map", kind=kind, layer=layer)
    target = np.array([[[0], [1]], [[1], [0]], [[1], [1]]])
    weight = np.array([[1.0, -1.0], [0.5, 0.0], [1.0, 1.0]], dtype=np.float32)
    found = run(program, {"image": IMAGES, "target": target, "target.weight": weight})
    for item in range(3):
        activation = tensor(_layer(item, layer or "conv2")).requires_grad_()
        value = dot(_logits_from(activation, layer or "conv2"), target[item], weight[item])
        (gradient,) = torch.autograd.grad(value, activation)
        slope = {"grad_cam": gradient.mean(dim=(2, 3), keepdim=True), "layer_cam": torch.relu(gradient)}.get(
            kind, gradient
        )
        expected = (slope * activation).sum(dim=1).detach().numpy()[0]
        agree({"map": found["map"][item]}, {"map": expected})
        assert found["value"][item] == pytest.approx(value.item(), abs=1e-5)


def _layer(item: int, name: str) -> np.ndarray:
    image = tensor(IMAGES[item : item + 1])
    first = torch.relu(
        torch.nn.functional.conv2d(image, tensor(CNN_WEIGHTS["k1"]), tensor(CNN_WEIGHTS["c1"]), padding=1)
    )
    return (first if name == "relu1" else cnn_twin(image)[0]).numpy()


def _logits_from(activation: torch.Tensor, name: str) -> torch.Tensor:
    if name == "relu1":
        pooled = torch.nn.functional.max_pool2d(activation, 2)
        activation = torch.nn.functional.conv2d(pooled, tensor(CNN_WEIGHTS["k2"]))
    return torch.relu(activation).mean(dim=(2, 3)) @ tensor(CNN_WEIGHTS["v"])


AWKWARD = [
    "mask",
    "alpha",
    "target",
    "target.weight",
    "value",
    "weight",
    "model.weight",
    "x.groups",
    "map",
    "mul.1",
    "constant.1",
]


@pytest.mark.parametrize("names", list(itertools.permutations(AWKWARD, 4))[::397])
@pytest.mark.parametrize("program", ["forward", "vjp", "path_gradient", "masked_forward"])
def test_a_model_may_use_our_names_inside(names: tuple[str, ...], program: str) -> None:
    new = dict(zip(["w1", "h1", "b2", "h0"], names, strict=True))
    nodes = [(op, [new.get(n, n) for n in read], [new.get(n, n) for n in write]) for op, read, write in MLP_NODES]
    weights = {new.get(name, name): array for name, array in MLP_WEIGHTS.items()}
    renamed = made(nodes, {"x": ("float32", ["N", 4])}, {"z": ("float32", ["N", 3])}, weights)
    feeds = _feeds(program)
    agree(run(explain.compile(renamed, program), feeds), run(explain.compile(mlp(), program), feeds), 1e-6)


def _feeds(program: str) -> dict[str, np.ndarray]:
    own = {"x": X}
    if program == "forward":
        return own
    if program == "vjp":
        return own | {"z.cotangent": np.ones((5, 3), np.float32)}
    if program == "masked_forward":
        return own | {
            "x.groups": np.arange(4),
            "x.background": X[:2],
            "mask": np.ones((5, 1, 4), np.float32),
            "background.weight": np.full(2, 0.5, np.float32),
        }
    path = {"x.baseline": X[:, None] * 0, "alpha": np.full((5, 2), 0.5, np.float32)}
    target = {"target": np.zeros((5, 1, 1), np.int64), "target.weight": np.ones((5, 1), np.float32)}
    return own | path | target | {"weight": np.ones((5, 2, 1), np.float32)}


def test_an_input_with_the_name_of_ours_is_refused_by_name() -> None:
    nodes = [("Tanh", ["target"], ["y"])]
    model = made(nodes, {"target": ("float32", ["n", 3])}, {"y": ("float32", ["n", 3])})
    with pytest.raises(explain.InvalidModel, match="input 'target' has the name of an input of this program"):
        explain.compile(model, "path_gradient")
    assert dict(explain.compile(model, "masked_forward").inputs)["target.groups"] == SHARED


@pytest.mark.parametrize(
    ("program", "options", "error", "sentence"),
    [
        ("lime", {}, explain.InvalidParameter, "program: came 'lime', expected one of forward, vjp"),
        (
            "vjp",
            {"noise": True},
            explain.InvalidParameter,
            "option 'noise' of program 'vjp' is unknown; expected output",
        ),
        ("forward", {"space": "logit"}, explain.InvalidParameter, "expected no options"),
        ("path_gradient", {"output": "q"}, explain.InvalidParameter, "output: came 'q', expected one of y"),
        ("path_gradient", {"space": "odds"}, explain.InvalidParameter, "space: came 'odds', expected one of logit"),
        ("masked_forward", {"groups": "none"}, explain.InvalidParameter, "groups: came 'none', expected one of shared"),
        ("activation_map", {"kind": "cam"}, explain.InvalidParameter, "kind: came 'cam', expected one of grad_cam"),
        ("activation_map", {}, explain.MethodUnavailable, "no convolution between its inputs and the explained output"),
    ],
)
def test_refusals(program: str, options: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        explain.compile(mlp("Softmax"), program, **options)


def test_an_unknown_layer_is_refused_by_name() -> None:
    with pytest.raises(explain.InvalidParameter, match="layer: 'flat' is no value"):
        explain.compile(cnn(), "activation_map", layer="flat")


def test_a_program_is_made_once_and_its_digest_is_the_same_in_every_process() -> None:
    model = explain.Model(cnn())
    assert explain.compile(model, "activation_map") is explain.compile(model, "activation_map")
    here = explain.compile(model, "masked_forward").digest
    assert here != explain.compile(model, "masked_forward", space="probability").digest
    code = "import sys, explain; print(explain.compile(sys.stdin.buffer.read(), 'masked_forward').digest)"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed}
        there = subprocess.run(
            [sys.executable, "-c", code],
            input=cnn().SerializeToString(),
            env=environment,
            capture_output=True,
            check=True,
        )
        assert there.stdout.decode().strip() == here

"""Programs state the shapes that hold for any number of rows, and only those; the Relu's two masks agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

import explain
from tests.explain.graphs import CNN_NODES, CNN_WEIGHTS, K1, made, numbers, run, tensor

IMAGE = {"image": ("float32", ["n", 1, 8, 8])}


def network(batch: Any, side: Any = 8) -> onnx.ModelProto:
    spec = {"image": ("float32", [batch, 1, side, side])}
    return made(CNN_NODES, spec, {"logits": ("float32", [batch, 2])}, CNN_WEIGHTS)


def stated(model: Any, program: str = "path_gradient") -> dict[str, list[Any]]:
    compiled = explain.compile(model, program).model
    onnx.checker.check_model(compiled, full_check=True)
    return {
        value.name: [dim.dim_value or dim.dim_param or None for dim in value.type.tensor_type.shape.dim]
        for value in compiled.graph.value_info
    }


def test_a_value_and_its_gradient_are_stated_with_one_shape() -> None:
    shapes = stated(network("n"))
    assert shapes["conv1"][1:] == shapes["relu1"][1:] == [3, 8, 8]
    same = [name for name, shape in shapes.items() if shape == shapes["conv1"]]
    assert set(same) > {"conv1", "relu1"}  # and the gradients of both


def test_the_rows_of_a_program_are_no_dimension_of_its_inputs() -> None:
    compiled = explain.compile(network("N"), "path_gradient")
    declared = {dim.dim_param for value in compiled.model.graph.input for dim in value.type.tensor_type.shape.dim}
    rows = {shape[0] for shape in stated(network("N")).values()}
    assert rows
    assert not rows & declared


@pytest.mark.parametrize(
    "model",
    [network(1), network("s", "s"), explain.Model(network(1), row_by_row=True)],
    ids=["fixed-batch", "one-symbol-for-all", "row-by-row"],
)
def test_what_need_not_hold_is_not_stated(model: Any) -> None:
    assert stated(model) == {}


def test_a_model_placed_twice_has_two_sets_of_symbols() -> None:
    nodes = [
        ("Gather", ["table", "ids"], ["encoded"]),
        ("Relu", ["encoded"], ["kept"]),
        ("ReduceSum", ["kept"], ["y"], {"keepdims": 0}),
    ]
    nodes[2] = ("MatMul", ["kept", "w"], ["y"])
    weights = {"table": numbers(5, 3), "w": numbers(3, 2)}
    model = made(nodes, {"ids": ("int64", ["n", 4])}, {"y": ("float32", ["n", 4, 2])}, weights)
    shapes = stated(model)
    at_x, at_baseline = (shapes[name][0] for name in ("encoded/x/encoded", "encoded/baseline/encoded"))
    assert len({at_x, at_baseline, shapes["kept"][0]}) == 3


def relu_between(after: str) -> onnx.ModelProto:
    """Convolution, Relu, and `after` before the sum of everything."""
    last = {"Conv": ("Conv", ["r", "k2"], ["t"], {"pads": [1, 1, 1, 1]}), "Sqrt": ("Sqrt", ["r"], ["t"])}[after]
    nodes = [("Conv", ["image", "k1"], ["c"]), ("Relu", ["c"], ["r"]), last]
    nodes += [("GlobalAveragePool", ["t"], ["m"]), ("Flatten", ["m"], ["z"])]
    weights = {"k1": K1, "k2": numbers(3, 3, 3, 3, seed=9)}
    return made(nodes, IMAGE, {"z": ("float32", ["n", 3])}, weights)


@pytest.mark.parametrize(("after", "mask"), [("Conv", "HardSigmoid"), ("Sqrt", "Where")])
def test_a_relu_masks_by_a_product_only_where_slopes_are_finite(after: str, mask: str) -> None:
    operators = {node.op_type for node in explain.compile(relu_between(after), "vjp").model.graph.node}
    assert operators & {"HardSigmoid", "Where"} == {mask}


@pytest.mark.parametrize("after", ["Conv", "Sqrt"])
def test_both_masks_give_the_gradient_of_pytorch(after: str) -> None:
    image = numbers(2, 1, 8, 8, seed=3)
    image[0, 0, :4] = 0.0  # the Relu at its kink
    feeds = {"image": image, "z.cotangent": numbers(2, 3, seed=4)}
    x = tensor(image).requires_grad_()
    hidden = torch.relu(torch.nn.functional.conv2d(x, tensor(K1)))
    if after == "Conv":
        hidden = torch.nn.functional.conv2d(hidden, tensor(numbers(3, 3, 3, 3, seed=9)), padding=1)
    else:
        hidden = torch.sqrt(hidden)
    (hidden.mean(dim=(2, 3)) * tensor(feeds["z.cotangent"])).sum().backward()
    assert x.grad is not None
    found = run(explain.compile(relu_between(after), "vjp"), feeds)["image.gradient"]
    assert np.isfinite(found).all()
    assert explain.gradient_error(found, x.grad.numpy()).max() < 1e-5


@pytest.mark.parametrize("size", [1e-37, 1e-20, 1.0, 1e30])
def test_the_product_passes_a_gradient_whole_however_small_the_output(size: float) -> None:
    model = relu_between("Conv")
    for tensor_ in model.graph.initializer:
        if tensor_.name == "k1":
            tensor_.CopyFrom(onnx.numpy_helper.from_array(np.ones((3, 1, 3, 3), np.float32), "k1"))
    cotangent = numbers(1, 3, seed=4)
    program = explain.compile(model, "vjp")
    grads = [
        run(program, {"image": np.full((1, 1, 8, 8), value, np.float32), "z.cotangent": cotangent})["image.gradient"]
        for value in (size, 1.0)
    ]
    np.testing.assert_array_equal(*grads)

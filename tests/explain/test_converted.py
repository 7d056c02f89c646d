"""What old files mean is what their programs compute: against ONNX Runtime on the file itself."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import explain
from tests.explain.graphs import attribute, made, numbers, run, session

X = numbers(2, 1, 5, 7, seed=1000)


def old(op: str, opset: int, scales: list[float], mode: str, **attributes: Any) -> onnx.ModelProto:
    """y = op(x, scales) at an opset of its time; scales are an attribute before opset 9."""
    inside = opset < 9
    given = {"mode": mode, **attributes, **({"scales": [float(scale) for scale in scales]} if inside else {})}
    node = helper.make_node(op, ["x"] if inside else ["x", "s"], ["y"], **given)
    held = [] if inside else [numpy_helper.from_array(np.array(scales, np.float32), "s")]
    ends = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 5, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, None, None])],
    ]
    graph = helper.make_graph([node], "old", *ends, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


@pytest.mark.parametrize(
    ("op", "opset", "scales", "mode"),
    [
        ("Upsample", 7, [1, 1, 2, 2], "linear"),
        ("Upsample", 9, [1, 1, 2, 3], "linear"),
        ("Upsample", 9, [1, 1, 3, 5], "nearest"),
        ("Resize", 10, [1, 1, 2, 1.5], "linear"),
        ("Resize", 10, [1, 1, 0.6, 0.4], "linear"),
        ("Resize", 10, [1, 1, 0.6, 0.35], "nearest"),
        ("Resize", 10, [1, 1, 1.7, 2.3], "nearest"),
        ("Resize", 10, [1, 1, 0.35, 1.7], "nearest"),
    ],
)
def test_samples_are_placed_as_the_opset_of_the_file_has_it(
    op: str, opset: int, scales: list[float], mode: str
) -> None:
    model = old(op, opset, scales, mode)
    (expected,) = session(model.SerializeToString()).run(None, {"x": X})
    np.testing.assert_allclose(run(explain.compile(model, "forward"), {"x": X})["y"], expected, atol=1e-6)
    cotangent = numbers(*expected.shape, seed=1001)
    found = run(explain.compile(model, "vjp"), {"x": X, "y.cotangent": cotangent})["x.gradient"]
    step = numbers(*X.shape, seed=1002)
    (moved,) = session(model.SerializeToString()).run(None, {"x": X + step})
    assert (found * step).sum() == pytest.approx(((moved - expected) * cotangent).sum(), rel=1e-4)  # it is linear


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [11, 12, 13])
def test_an_export_whose_scales_are_empty(opset: int) -> None:
    class Resized(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(x, size=(9, 4), mode="bilinear", align_corners=False)

    file = io.BytesIO()
    axes = {"x": {0: "n"}}
    torch.onnx.export(
        Resized(), (torch.tensor(X),), file, dynamo=False, opset_version=opset, input_names=["x"], output_names=["y"],
        dynamic_axes=axes,
    )  # fmt: skip
    model = file.getvalue()
    cotangent = numbers(2, 1, 9, 4, seed=1003)
    found = run(explain.compile(model, "vjp"), {"x": X, "y.cotangent": cotangent})["x.gradient"]
    x = torch.tensor(X, requires_grad=True)
    (expected,) = torch.autograd.grad((Resized()(x) * torch.tensor(cotangent)).sum(), x)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("opset", [9, 11, 12, 13])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_final_softmax_is_seen_where_the_converter_knew_no_rank(op: str, opset: int) -> None:
    """Their shape is computed through a Cast, as old exporters write it, which inference does not follow."""
    nodes = [
        ("Shape", ["x"], ["s0"]),
        ("Cast", ["s0"], ["s1"], {"to": TensorProto.INT32}),
        ("Gather", ["s1", "first"], ["s2"]),
        ("Cast", ["s2"], ["s3"], {"to": TensorProto.INT64}),
        ("Concat", ["s3", "rest"], ["s4"], {"axis": 0}),
        ("Reshape", ["x", "s4"], ["f"]),
        ("MatMul", ["f", "w"], ["l"]),
        (op, ["l"], ["y"], {"axis": 1}),
    ]
    weights = {"first": np.array([0]), "rest": np.array([-1]), "w": numbers(6, 4, seed=1004)}
    model = explain.Model(
        made(nodes, {"x": ("float32", ["n", 2, 3])}, {"y": ("float32", ["n", 4])}, weights, opset=opset)
    )
    assert [node.op for node in model.graph.nodes if node.op in (op, "Flatten")] == [op]
    if op == "Softmax":
        assert (model.explained().space, model.explained().value) == ("logit", "l")
    x = numbers(3, 2, 3, seed=1005)
    logits = x.reshape(3, 6) @ weights["w"]
    normed = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = normed if op == "LogSoftmax" else np.exp(normed)
    np.testing.assert_allclose(run(explain.compile(model, "forward"), {"x": x})["y"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("axis", "rank"), [(1, 3), (2, 4)])
def test_a_softmax_over_several_axes_keeps_its_flattening(axis: int, rank: int) -> None:
    sizes = [2, 3, 4][: rank - 1]
    spec = ("float32", ["n", *sizes])
    model = made([("Softmax", ["x"], ["y"], {"axis": axis})], {"x": spec}, {"y": spec}, opset=11)
    x = numbers(2, *sizes, seed=1006)
    (expected,) = session(model.SerializeToString()).run(None, {"x": x})
    np.testing.assert_allclose(run(explain.compile(model, "forward"), {"x": x})["y"], expected, rtol=1e-5)


@pytest.mark.parametrize("rule", ["gauss_legendre", "midpoint", "adaptive"])
def test_a_gradient_that_is_no_number_at_an_end_of_the_path_is_not_counted(rule: str) -> None:
    """sqrt(x w squared) at silence: f is 0 there, its gradient infinite; no rule of points has weight at the ends."""
    nodes = [
        ("MatMul", ["x", "w"], ["a"]),
        ("Mul", ["a", "a"], ["q"]),
        ("Sqrt", ["q"], ["s"]),
        ("MatMul", ["s", "v"], ["y"]),
    ]
    weights = {"w": numbers(4, 6, seed=1007), "v": numbers(6, 2, seed=1008)}
    model = made(nodes, {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 2])}, weights)
    x = numbers(3, 4, seed=1009)
    found = attribute(model, {"x": x}, "integrated_gradients", baseline=0.0, target=1, rule=rule)
    signs = np.sign(x @ weights["w"])
    expected = x * ((signs * weights["v"][:, 1]) @ weights["w"].T)  # the gradient is the same along the whole path
    np.testing.assert_allclose(found.values["x"], expected, rtol=1e-4, atol=1e-5)
    assert {figures["nan_count"] for figures in found.quality} == {0}


def test_sizes_of_minus_one_are_open() -> None:
    """As PaddlePaddle writes them: strided convolutions and pools of pictures of any size."""
    nodes = [
        ("Conv", ["x", "w"], ["c"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], ["r"]),
        ("AveragePool", ["r"], ["y"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ]
    shape = {"x": ("float32", ["n", 3, "h", "w"])}
    model = made(nodes, shape, {"y": ("float32", ["n", 4, "a", "b"])}, {"w": numbers(4, 3, 3, 3, seed=1010)})
    for value in (*model.graph.input, *model.graph.output):
        for axis in (0, 2, 3):
            value.type.tensor_type.shape.dim[axis].dim_value = -1
    program = explain.compile(model, "vjp")
    for height, width in ((8, 12), (9, 7)):
        x = numbers(2, 3, height, width, seed=1011)
        (y,) = session(model.SerializeToString()).run(None, {"x": x})
        found = run(program, {"x": x, "y.cotangent": np.ones_like(y)})["x.gradient"]
        leaf = torch.tensor(x, requires_grad=True)
        hidden = torch.relu(torch.nn.functional.conv2d(leaf, torch.tensor(numbers(4, 3, 3, 3, seed=1010)), None, 2, 1))
        (expected,) = torch.autograd.grad(torch.nn.functional.avg_pool2d(hidden, 2).sum(), leaf)
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    attribute(model, {"x": x}, "saliency", target=(0, 0, 0))

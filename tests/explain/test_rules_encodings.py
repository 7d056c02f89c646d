"""Integer inputs: attributed at the output of their encoding, one number per code, judged by PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import explain
from tests.explain.single import numbers, session

N = helper.make_node
LEVELS, WIDTH = 4, 3
FIRST, SECOND = numbers(2 * LEVELS, 5), numbers(5, 3, seed=1)
TABLE, MIXED = numbers(LEVELS, WIDTH, seed=2), numbers(2 * WIDTH + 2, 3, seed=3)
ALPHA, WEIGHT = np.array([0.05, 0.5, 0.9]), np.array([0.3, 0.45, 0.25])
CODES = np.array([[0, 3], [2, 2], [1, 0]])
BASELINES = np.array([[1, 3], [0, 1], [1, 2]])


def model(nodes: list[onnx.NodeProto], inputs: dict[str, int], **constants: np.ndarray) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(name, kind, ["N", 2]) for name, kind in inputs.items()]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    arrays = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in constants.items()}
    tensors = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    graph = helper.make_graph(nodes, "encoded", infos, [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def one_hot() -> onnx.ModelProto:
    """y = tanh(onehot(codes) FIRST) SECOND"""
    nodes = [
        N("OneHot", ["codes", "depth", "values"], ["hot"]),
        N("Flatten", ["hot"], ["flat"]),
        N("MatMul", ["flat", "first"], ["h"]),
        N("Tanh", ["h"], ["t"]),
        N("MatMul", ["t", "second"], ["y"]),
    ]
    more = {"depth": np.array(LEVELS), "values": np.array([0, 1], np.float32)}
    return model(nodes, {"codes": TensorProto.INT64}, first=FIRST, second=SECOND, **more)


def after_one_hot(hot: torch.Tensor) -> torch.Tensor:
    return torch.tanh(hot.flatten(1) @ torch.as_tensor(FIRST)) @ torch.as_tensor(SECOND)


def compared() -> onnx.ModelProto:
    """The same, with the one-hot made by comparing and casting, as exporters write it."""
    nodes = [
        N("Unsqueeze", ["codes", "last"], ["u"]),
        N("Equal", ["u", "levels"], ["e"]),
        N("Cast", ["e"], ["hot"], to=TensorProto.FLOAT),
        N("Flatten", ["hot"], ["flat"]),
        N("MatMul", ["flat", "first"], ["h"]),
        N("Tanh", ["h"], ["t"]),
        N("MatMul", ["t", "second"], ["y"]),
    ]
    more = {"last": np.array([-1]), "levels": np.arange(LEVELS)}
    return model(nodes, {"codes": TensorProto.INT64}, first=FIRST, second=SECOND, **more)


def embedded() -> onnx.ModelProto:
    """y = (flatten(TABLE[codes]), x)^2 MIXED"""
    nodes = [
        N("Gather", ["table", "codes"], ["e"]),
        N("Flatten", ["e"], ["flat"]),
        N("Concat", ["flat", "x"], ["all"], axis=1),
        N("Mul", ["all", "all"], ["square"]),
        N("MatMul", ["square", "mixed"], ["y"]),
    ]
    return model(nodes, {"codes": TensorProto.INT32, "x": TensorProto.FLOAT}, table=TABLE, mixed=MIXED)


def after_embedding(e: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([e.flatten(1), x], 1).square() @ torch.as_tensor(MIXED)


def walked(
    f: Callable[..., torch.Tensor], starts: list[np.ndarray], ends: list[np.ndarray], target: int
) -> list[np.ndarray]:
    """sum_k weight_k (end - start) grad f at start + alpha_k (end - start), all parts moving together."""
    begin, difference = (
        [torch.as_tensor(s) for s in starts],
        [torch.as_tensor(e - s) for s, e in zip(starts, ends, strict=True)],
    )
    totals = [torch.zeros_like(d) for d in difference]
    for alpha, weight in zip(ALPHA, WEIGHT, strict=True):
        points = [(b + alpha * d).requires_grad_() for b, d in zip(begin, difference, strict=True)]
        f(*points)[:, target].sum().backward()
        totals = [t + weight * d * p.grad for t, d, p in zip(totals, difference, points, strict=True)]
    return [total.numpy() for total in totals]


def attributions(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], target: int, *names: str) -> list[np.ndarray]:
    program = explain.compile(proto, "path_gradient")
    onnx.checker.check_model(program.model, full_check=True)
    n = len(feeds["codes"])
    shared = {
        "alpha": np.tile(ALPHA, (n, 1)).astype(np.float32),
        "weight": np.tile(WEIGHT[:, None], (n, 1, 1)).astype(np.float32),
        "target": np.full((n, 1, 1), target),
        "target.weight": np.ones((n, 1), np.float32),
    }
    return session(program.model).run([f"{name}.attribution" for name in names], feeds | shared)


@pytest.mark.parametrize("make", [one_hot, compared])
@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 3)])
def test_categories_are_attributed_at_their_one_hot_encoding(make: Callable[[], onnx.ModelProto], rows: slice) -> None:
    x, baseline = CODES[rows], BASELINES[rows]
    found = attributions(make(), {"codes": x, "codes.baseline": baseline[:, None]}, 1, "codes")[0]
    expected = walked(after_one_hot, [np.eye(LEVELS)[baseline]], [np.eye(LEVELS)[x]], 1)[0].sum(-1)
    assert found.shape == (len(x), 1, 2)
    assert explain.attribution_error(found[:, 0], expected) <= 1e-5


def test_a_category_equal_to_its_baseline_gets_nothing() -> None:
    found = attributions(one_hot(), {"codes": CODES, "codes.baseline": BASELINES[:, None]}, 0, "codes")[0]
    assert np.array_equal(found[:, 0] == 0, CODES == BASELINES)


def test_categories_and_numbers_move_together() -> None:
    x, start = numbers(3, 2, seed=5), numbers(3, 2, seed=6)
    feeds = {"codes": CODES.astype(np.int32), "codes.baseline": BASELINES[:, None].astype(np.int32)}
    feeds |= {"x": x.astype(np.float32), "x.baseline": start[:, None].astype(np.float32)}
    codes, plain = attributions(embedded(), feeds, 2, "codes", "x")
    expected = walked(after_embedding, [TABLE[BASELINES], start], [TABLE[CODES], x], 2)
    assert explain.attribution_error(codes[:, 0], expected[0].sum(-1)) <= 1e-5
    assert explain.attribution_error(plain[:, 0], expected[1]) <= 1e-5


@pytest.mark.parametrize("rows", [1, 3])
def test_the_gradient_of_categories_is_that_of_their_encoding(rows: int) -> None:
    program = explain.compile(one_hot(), "vjp")
    onnx.checker.check_model(program.model, full_check=True)
    cotangent = numbers(rows, 3, seed=8)
    feeds = {"codes": CODES[:rows], "y.cotangent": cotangent.astype(np.float32)}
    found = session(program.model).run(["codes.gradient"], feeds)[0]
    hot = torch.tensor(np.eye(LEVELS)[CODES[:rows]], requires_grad=True)
    (after_one_hot(hot) * torch.as_tensor(cotangent)).sum().backward()
    assert found.shape == (rows, 2, LEVELS)
    assert found == pytest.approx(hot.grad.numpy(), abs=1e-5)


def test_another_encoding_is_told_apart() -> None:
    found = attributions(one_hot(), {"codes": CODES, "codes.baseline": BASELINES[:, None]}, 1, "codes")[0]
    other = walked(after_one_hot, [np.eye(LEVELS)[BASELINES]], [2 * np.eye(LEVELS)[CODES]], 1)[0].sum(-1)
    assert explain.attribution_error(found[:, 0], other) > 0.01

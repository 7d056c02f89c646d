"""Quantisation: its gradient is PyTorch's of fake quantisation, and operators on bytes are what ONNX Runtime runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name everybody gives it

import explain
from explain.prepare.expansions import EXPANSIONS
from explain.registry import REGISTRY
from tests.explain.bytes_made import STEP, agrees, fake, node, quantized_model, ranged
from tests.explain.graphs import numbers, run

X = 6 * numbers(3, 4, 6, seed=3000)
PICTURES = 3 * numbers(3, 4, 7, 7, seed=3001)
KINDS = ["int8", "uint8", "int16", "uint16"]
ZERO = {"int8": -20, "uint8": 130, "int16": -300, "uint16": 32000}
Q, D = "QuantizeLinear", "DequantizeLinear"


def pair(opset: int, **weights: Any) -> onnx.ModelProto:
    """y = DequantizeLinear(QuantizeLinear(x)), with zero points where they are among the weights."""
    names = "s z" if "z" in weights else "s"
    axis = {} if np.ndim(weights["s"]) == 0 else {"axis": 1}
    nodes = [node(Q, f"x {names}", "q", **axis), node(D, f"q {names}", "y", **axis)]
    return quantized_model(nodes, {"x": ["n", 4, 6]}, weights, opset)


BYTES = [(dtype, opset) for opset in (13, 18, 21, 23) for dtype in KINDS if opset > 18 or dtype.endswith("8")]


@pytest.mark.parametrize(("dtype", "opset"), BYTES)
def test_the_gradient_passes_where_nothing_is_clipped(dtype: str, opset: int) -> None:
    wide = np.float32(STEP if dtype in ("int8", "uint8") else 1 / 4096)
    model = pair(opset, s=wide, z=np.array(ZERO[dtype], dtype))
    agrees(model, X, lambda x: fake(x, wide, ZERO[dtype], dtype), quanta=0)
    clipped = explain.compile(model, "vjp")
    found = run(clipped, {"x": X, "y.cotangent": np.ones_like(X)})["x.gradient"]
    assert {*np.unique(found)} == {0.0, 1.0}


@pytest.mark.parametrize("opset", [13, 21])
def test_scales_and_zero_points_along_an_axis(opset: int) -> None:
    scales, zeros = np.array([1, 2, 0.5, 1], np.float32) * STEP, np.array([0, 3, -100, 90], np.int8)
    agrees(pair(opset, s=scales, z=zeros), X, lambda x: fake(x, scales, zeros, "int8", axis=1), quanta=0)


def test_without_a_zero_point_bytes_count_from_0() -> None:
    agrees(pair(18, s=np.float32(STEP)), X, lambda x: fake(x), quanta=0)


def test_ends_of_the_range_belong_to_it() -> None:
    """Half a step beyond the last number still rounds to it, and to the even number at a tie."""
    x = STEP * np.array([[-128.6, -128.5, -128.4, -128, 127, 127.4, 127.5, 127.6]], np.float32)
    model = quantized_model(
        [node(Q, "x s z", "q"), node(D, "q s z", "y")],
        {"x": ["n", 8]},
        {"s": np.float32(STEP), "z": np.int8(0)},
    )
    agrees(model, x, lambda x: fake(x, STEP, 0, "int8"), quanta=0)
    found = run(explain.compile(model, "vjp"), {"x": x, "y.cotangent": np.ones_like(x)})["x.gradient"]
    np.testing.assert_array_equal(found, [[0, 1, 1, 1, 1, 1, 0, 0]])


def test_other_scales_on_the_way_back_are_a_factor() -> None:
    weights = {"s": np.float32(STEP), "t": np.float32(3 * STEP), "z": np.int8(0)}
    model = quantized_model([node(Q, "x s z", "q"), node(D, "q t z", "y")], {"x": ["n", 4, 6]}, weights)
    agrees(model, X, lambda x: 3 * fake(x, STEP, 0, "int8"), quanta=0)


# What is done to bytes that stand for numbers: nodes from q to r, and the same on numbers.
HANDED_ON: dict[str, tuple[list[onnx.NodeProto], Any]] = {
    "Clip": ([node("Clip", "q low high", "r")], lambda x: x.clamp((-90 - 5) * STEP, (100 - 5) * STEP)),
    "Concat": ([node("Concat", "q q", "r", axis=2)], lambda x: torch.cat([x, x], 2)),
    "Expand": ([node("Expand", "q wide", "r")], lambda x: x.expand(2, *x.shape)),
    "Flatten": ([node("Flatten", "q", "r")], lambda x: x.flatten(1)),
    "Gather": ([node("Gather", "q places", "r", axis=1)], lambda x: x[:, [2, 0]]),
    "MaxPool": ([node("MaxPool", "q", "r", kernel_shape=[2])], lambda x: F.max_pool1d(x, 2, 1)),
    "Pad": ([node("Pad", "q pads", "r")], lambda x: F.pad(x, (1, 2), value=-5 * STEP)),
    "Pad to a byte": ([node("Pad", "q pads low", "r")], lambda x: F.pad(x, (1, 2), value=(-90 - 5) * STEP)),
    "ReduceMax": ([node("ReduceMax", "q axis", "r")], lambda x: x.amax(2, keepdim=True)),
    "Reshape": ([node("Reshape", "q sizes", "r")], lambda x: x.reshape(-1, 3, 8)),
    "Slice": ([node("Slice", "q first last axis", "r")], lambda x: x[:, :, 1:4]),
    "Split": ([node("Split", "q", "one r", axis=2, num_outputs=2)], lambda x: x[:, :, 3:]),
    "Transpose": ([node("Transpose", "q", "r", perm=[0, 2, 1])], lambda x: x.transpose(1, 2)),
    "Unsqueeze": ([node("Unsqueeze", "q axis", "r")], lambda x: x.unsqueeze(2)),
    "Where": ([node("Where", "yes q low", "r")], lambda x: torch.where(torch.tensor(YES), x, (-90 - 5) * STEP)),
    "several": (
        [
            node("Transpose", "q", "t", perm=[0, 2, 1]),
            node("MaxPool", "t", "m", kernel_shape=[2]),
            node("Neg", "x", "unread"),
            node("Reshape", "m sizes", "r"),
        ],
        lambda x: F.max_pool1d(x.transpose(1, 2), 2, 1).reshape(-1, 3, 6),
    ),
}
YES = np.array([True, False, True, True, False, True])
CONSTANTS: dict[str, Any] = {
    "s": np.float32(STEP),
    "z": np.int8(5),
    "low": np.int8(-90),
    "high": np.int8(100),
    "wide": np.array([2, 1, 4, 6]),
    "places": np.array([2, 0]),
    "pads": np.array([0, 0, 1, 0, 0, 2]),
    "axis": np.array([2]),
    "first": np.array([1]),
    "last": np.array([4]),
    "yes": YES,
}


@pytest.mark.parametrize("name", HANDED_ON)
def test_what_only_hands_bytes_on_hands_numbers_on(name: str) -> None:
    nodes, twin = HANDED_ON[name]
    weights = CONSTANTS | {"sizes": np.array([-1, 3, 6 if name == "several" else 8])}
    model = quantized_model([node(Q, "x s z", "q"), *nodes, node(D, "r s z", "y")], {"x": ["n", 4, 6]}, weights)
    agrees(model, X, lambda x: twin(fake(x, STEP, 5, "int8")), quanta=0)


def on_bytes(op: str, reads: str, weights: dict[str, Any], shape: list[Any], **attributes: Any) -> onnx.ModelProto:
    """x and (for two operands) a function of x in bytes, an operator on them, and its result as numbers."""
    nodes = [node(Q, "x s z", "a"), node("Neg", "x", "n"), node(Q, "n s z", "b")]
    nodes += [node(op, reads, "c", **attributes), node(D, "c t u", "y")]
    held = {"s": np.float32(STEP), "z": np.uint8(120), "t": np.float32(STEP), "u": np.uint8(100)}
    return quantized_model(nodes, {"x": shape}, held | weights)


def out(y: torch.Tensor) -> torch.Tensor:
    return fake(y, STEP, 100)


def into(x: torch.Tensor) -> torch.Tensor:
    return fake(x, STEP, 120)


W8 = np.random.default_rng(1).integers(-90, 90, (5, 4, 3, 3)).astype(np.int8)
M8 = np.random.default_rng(2).integers(-90, 90, (6, 5)).astype(np.int8)
BIAS = np.array([300, -200, 100, 0, 50], np.int32)
PER, PER_COLUMN = (np.array(each, np.float32) / 256 for each in ([0.5, 1, 2, 0.25, 0.5], [1, 2, 4, 0.5, 1]))
T3, TP, SHAPE, MAP = torch.tensor, PICTURES, ["n", 4, 6], ["n", 4, 7, 7]
WEIGHT = {"w": W8, "v": PER, "k": np.zeros(5, np.int8), "B": BIAS, "m": M8, "o": np.float32(1 / 256), "O": np.int8(3)}
WEIGHT |= {"p": PER_COLUMN, "kp": np.zeros(5, np.int8), "mT": np.ascontiguousarray(M8.T)}
BOTH = "a s z b s z t u"


def kernel() -> torch.Tensor:
    return torch.tensor(W8 * PER[:, None, None, None])


def matrix() -> torch.Tensor:
    return torch.tensor((M8.astype(np.float32) - 3) / 256)


OPERATORS: list[tuple[str, str, np.ndarray, Any, dict[str, Any]]] = [
    (
        "QLinearConv",
        "a s z w v k t u B",
        PICTURES,
        lambda x: F.conv2d(
            into(x), kernel(), torch.tensor((BIAS * PER * STEP).astype(np.float32)), stride=2, padding=1
        ),
        {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    ("QLinearMatMul", "a s z m o O t u", X, lambda x: into(x) @ matrix(), {}),
    ("QLinearMatMul", "a s z m p kp t u", X, lambda x: into(x) @ torch.tensor(M8 * PER_COLUMN), {}),
    ("ms.QLinearAdd", BOTH, X, lambda x: into(x) + into(-x), {}),
    ("ms.QLinearMul", BOTH, X / 4, lambda x: into(x) * into(-x), {}),
    ("ms.QLinearSigmoid", "a s z t u", X, lambda x: torch.sigmoid(into(x)), {}),
    ("ms.QLinearLeakyRelu", "a s z t u", X, lambda x: F.leaky_relu(into(x), 0.2), {"alpha": 0.2}),
    ("ms.QLinearSoftmax", "a s z t u", X, lambda x: torch.softmax(into(x), 2), {"axis": 2, "opset": 13}),
    (
        "ms.QLinearAveragePool",
        "a s z t u",
        PICTURES,
        lambda x: F.avg_pool2d(into(x), 3, 2),
        {"kernel_shape": [3, 3], "strides": [2, 2]},
    ),
    ("ms.QLinearGlobalAveragePool", "a s z t u", PICTURES, lambda x: into(x).mean((2, 3), keepdim=True), {}),
    ("ms.QLinearConcat", "t u a s z b s z", X, lambda x: torch.cat([into(x), into(-x)], 1), {"axis": 1}),
    ("ms.QLinearWhere", "yes a s z b s z t u", X, lambda x: torch.where(T3(YES), into(x), into(-x)), {}),
]


@pytest.mark.parametrize(("op", "reads", "x", "twin", "attributes"), OPERATORS, ids=lambda value: str(value)[:20])
def test_an_operator_on_bytes(op: str, reads: str, x: np.ndarray, twin: Any, attributes: dict[str, Any]) -> None:
    shape: list[Any] = ["n", *x.shape[1:]]
    model = on_bytes(op, reads, WEIGHT | {"yes": YES}, shape, **attributes)
    agrees(model, x, lambda x: out(twin(x)))


@pytest.mark.parametrize(("turned", "ends"), [(0, "t u"), (1, "t u"), (1, "_ _")])
def test_a_gemm_on_bytes(turned: int, ends: str) -> None:
    """Its bias is in units of alpha and both scales; without a scale of its own the result is a number."""
    rows = X[:, 0]
    nodes = [
        node(Q, "x s z", "a"),
        node("ms.QGemm", f"a s z {'mT' if turned else 'm'} p kp B {ends}", "c", transB=turned),
    ]
    nodes += [node(D, "c t u", "y")] if "t" in ends else [node("Identity", "c", "y")]
    held = {"s": np.float32(STEP), "z": np.uint8(120), "t": np.float32(STEP), "u": np.uint8(100)}
    model = quantized_model(nodes, {"x": ["n", 6]}, held | WEIGHT)
    bias = torch.tensor((BIAS * PER_COLUMN * STEP).astype(np.float32))
    last = out if "t" in ends else torch.nn.Identity()
    agrees(model, rows, lambda x: last(into(x) @ torch.tensor(M8 * PER_COLUMN) + bias))


def dynamic(products: list[onnx.NodeProto], shape: list[Any], **weights: Any) -> onnx.ModelProto:
    """As ONNX Runtime's dynamic quantisation writes it: the range first, the scales behind the product."""
    nodes = [node("DynamicQuantizeLinear", "x", "q r u"), *products]
    return quantized_model(nodes, {"x": shape}, WEIGHT | weights)


SCALED = [node("Cast", "i", "f", to=1), node("Mul", "r o", "ro"), node("Mul", "f ro", "y")]
DYNAMIC: dict[str, tuple[onnx.ModelProto, np.ndarray, Any]] = {
    "MatMulInteger": (
        dynamic([node("MatMulInteger", "q m u O", "i"), *SCALED], SHAPE),
        X,
        lambda x: ranged(x) @ matrix(),
    ),
    "MatMulInteger of columns": (
        dynamic([node("MatMulInteger", "q m u kp", "i"), *SCALED[:1], node("Mul", "r p", "ro"), SCALED[2]], SHAPE),
        X,
        lambda x: ranged(x) @ torch.tensor(M8 * PER_COLUMN),
    ),
    "MatMulInteger scaled in two steps": (
        dynamic(
            [node("MatMulInteger", "q m u O", "i"), SCALED[0], node("Mul", "f o", "fo"), node("Mul", "fo r", "y")],
            SHAPE,
        ),
        X,
        lambda x: ranged(x) @ matrix(),
    ),
    "MatMulInteger of itself": (
        dynamic(
            [
                node("Transpose", "x", "xT", perm=[0, 2, 1]),
                node("DynamicQuantizeLinear", "xT", "q2 r2 u2"),
                node("MatMulInteger", "q q2 u u2", "i"),
                SCALED[0],
                node("Mul", "r r2", "ro"),
                SCALED[2],
            ],
            SHAPE,
        ),
        X,
        lambda x: ranged(x) @ ranged(x.transpose(1, 2)),
    ),
    "ConvInteger": (
        dynamic([node("ConvInteger", "q w u", "i", pads=[1, 1, 1, 1]), *SCALED], MAP),
        PICTURES,
        lambda x: F.conv2d(ranged(x), torch.tensor(W8 / np.float32(256)), padding=1),
    ),
    "MatMulIntegerToFloat": (
        dynamic([node("ms.MatMulIntegerToFloat", "q m r o u O", "y")], SHAPE),
        X,
        lambda x: ranged(x) @ matrix(),
    ),
    "DynamicQuantizeMatMul": (
        quantized_model([node("ms.DynamicQuantizeMatMul", "x m o O", "y")], {"x": SHAPE}, WEIGHT),
        X,
        lambda x: ranged(x) @ matrix(),
    ),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_ranges_found_at_run_time(name: str) -> None:
    model, x, twin = DYNAMIC[name]
    assert explain.Model(model).row_by_row
    agrees(model, x, twin, step=1e-2, tolerance=2e-5)


def test_attention_on_bytes() -> None:
    """As the operator on numbers, which has tests of its own."""
    random = np.random.default_rng(8)
    w, b = random.integers(-90, 90, (6, 18)).astype(np.int8), random.standard_normal(18).astype(np.float32)
    nodes = [
        node(Q, "x s z", "q"),
        node("ms.QAttention", "q w b s o _ z O", "y", num_heads=2),
    ]
    weights = {"s": np.float32(STEP), "z": np.uint8(120), "w": w, "b": b, "o": np.float32(1 / 256), "O": np.int8(0)}
    model = quantized_model(nodes, {"x": ["n", 4, 6]}, weights)

    def twin(x: torch.Tensor) -> torch.Tensor:
        parts = (into(x) @ torch.tensor(w / np.float32(256)) + torch.tensor(b)).split(6, 2)
        q, k, v = (part.reshape(-1, 4, 2, 3).transpose(1, 2) for part in parts)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 4, 6)

    agrees(model, X / 3, twin, step=1e-3)


@pytest.mark.parametrize("dtype", KINDS)
def test_the_runtimes_own_pair(dtype: str) -> None:
    """Which holds 16 bits at any opset; a program that needs them has it too."""
    wide = np.float32(STEP if dtype.endswith("8") else 1 / 4096)
    nodes = [node("ms.QuantizeLinear", "x s z", "q"), node("ms.DequantizeLinear", "q s z", "y")]
    model = quantized_model(nodes, {"x": ["n", 4, 6]}, {"s": wide, "z": np.array(ZERO[dtype], dtype)})
    agrees(model, X, lambda x: fake(x, wide, ZERO[dtype], dtype), quanta=0)
    domains = {item.domain for item in explain.compile(model, "vjp").model.graph.node}
    assert domains == ({""} if dtype.endswith("8") else {"", "com.microsoft"})


# Operators of which this file tests whole models: alone they have bytes at one of their ends.
TESTED = {Q, D, *(op.removeprefix("ms.") for op, *_ in OPERATORS), *(name for name in DYNAMIC if " " not in name)}
TESTED |= {"QGemm", "QAttention"}


def test_every_operator_on_bytes_is_tested() -> None:
    written = {op for (_, op), made in EXPANSIONS.items() if made.__module__ == "explain.prepare.expansions.quantized"}
    assert written <= TESTED
    ruled = {op for (_, op), entry in REGISTRY.rules.items() if entry.rule.__module__ == "explain.rules.quantized"}
    assert ruled == {Q, D, "DynamicQuantizeLinear"}

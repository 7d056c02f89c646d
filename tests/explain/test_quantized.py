"""Quantised files as they come: weights held as bytes, whole networks as ONNX Runtime's quantiser writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from torch import nn

import explain
from tests.explain.architectures.harness import Exporter, token_batch
from tests.explain.architectures.test_tokens import exported
from tests.explain.bytes_made import STEP, node, quantized_model
from tests.explain.graphs import attribute, numbers, run, session
from tests.explain.test_rules_quantized import D, Q

X = numbers(3, 6, seed=3100)
BYTES = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT16}


def served(model: onnx.ModelProto, feeds: dict[str, np.ndarray], row_by_row: bool = False) -> np.ndarray:
    loaded, count = session(model.SerializeToString()), len(next(iter(feeds.values())))
    step = 1 if row_by_row else count
    parts = [{name: array[i : i + step] for name, array in feeds.items()} for i in range(0, count, step)]
    return np.concatenate([loaded.run(None, part)[0] for part in parts])


def large_bytes(model: onnx.ModelProto) -> list[str]:
    return [t.name for t in model.graph.initializer if t.data_type in BYTES and np.prod(t.dims) > 8]


PACKED = np.random.default_rng(3).integers(-7, 8, (6, 5)).astype(np.int8)
SCALES = (np.random.default_rng(4).random((3, 5)) + 0.5).astype(np.float32)
INT4 = helper.make_tensor("w", TensorProto.INT4, PACKED.shape, PACKED)
HELD: dict[str, tuple[int, list[onnx.NodeProto], dict[str, Any], np.ndarray]] = {
    "one scale": (
        13,
        [node(D, "w s z", "W")],
        {"w": PACKED, "s": np.float32(0.1), "z": np.int8(3)},
        0.1 * (PACKED - 3.0),
    ),
    "columns": (
        13,
        [node(D, "w s z", "W", axis=1)],
        {"w": PACKED, "s": SCALES[0], "z": np.arange(5, dtype=np.int8)},
        SCALES[0] * (PACKED - np.arange(5.0)),
    ),
    "rows, turned round": (
        18,
        [node("Transpose", "w", "v", perm=[1, 0]), node(D, "v s", "W", axis=-1)],
        {"w": np.ascontiguousarray(PACKED.T), "s": SCALES[1]},
        SCALES[1] * PACKED,
    ),
    "numbers in the file": (
        18,
        [node(Q, "w s z", "q"), node(D, "q s z", "W")],
        {"w": 0.1 * PACKED.astype(np.float32) + 0.02, "s": np.float32(0.1), "z": np.int8(0)},
        0.1 * PACKED,
    ),
    "blocks of 4 bits": (
        21,
        [node(D, "w s", "W", axis=0, block_size=2)],
        {"w": INT4, "s": SCALES},
        np.repeat(SCALES, 2, 0) * PACKED,
    ),
    "halves": (
        21,
        [node(D, "w s", "h"), node("Cast", "h", "W", to=1)],
        {"w": PACKED, "s": np.float16(0.5)},
        0.5 * PACKED,
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_weights_in_bytes_become_numbers_once(name: str) -> None:
    opset, nodes, weights, expected = HELD[name]
    model = quantized_model([*nodes, node("MatMul", "x W", "y")], {"x": ["n", 6]}, weights, opset)
    program = explain.compile(model, "vjp")
    assert large_bytes(program.model) == []
    assert {item.op_type for item in program.model.graph.node} <= {"MatMul", "Identity", "Cast", "Transpose"}
    found = run(program, {"x": X, "y.cotangent": np.ones((3, 5), np.float32)})
    np.testing.assert_allclose(found["y"], X @ expected, rtol=1e-4, atol=1e-5)
    own = served(model, {"x": X})  # ONNX Runtime quantises x beside such weights on some machines
    np.testing.assert_allclose(found["y"], own, atol=1e-2 * np.abs(own).max())
    np.testing.assert_allclose(found["x.gradient"], np.tile(expected.sum(1), (3, 1)), rtol=1e-4, atol=1e-5)
    assert explain.coverage(model).approximations == ()  # nothing is rounded when it runs


def test_large_weights_in_bytes_are_not_kept_beside_the_numbers() -> None:
    w = np.random.default_rng(5).integers(-100, 100, (64, 64)).astype(np.int8)
    weights = {"w": w, "s": np.float32(0.01), "z": np.int8(2)}
    model = quantized_model([node(D, "w s z", "W"), node("MatMul", "x W", "y")], {"x": ["n", 64]}, weights)
    prepared = explain.Model(model).prepared
    assert [(t.name, t.data_type) for t in prepared.graph.initializer] == [("W", TensorProto.FLOAT)]
    assert large_bytes(model) == ["w"]


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", ["none", "packed", "numbers"])
def test_matrices_packed_in_blocks(bits: int, zeros: str) -> None:
    k, n, block = 40, 3, 16
    random, blocks = np.random.default_rng(bits), -(-k // block)
    packed = random.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
    weights: dict[str, Any] = {"B": packed, "s": random.random((n, blocks)).astype(np.float32), "c": numbers(n)}
    if zeros == "packed":
        weights["z"] = random.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)
    elif zeros == "numbers":
        weights["z"] = (8 * random.random((n, blocks))).astype(np.float32)
    reads = f"x B s {'_' if zeros == 'none' else 'z'} _ c"
    given = {"K": k, "N": n, "bits": bits, "block_size": block}
    model = quantized_model([node("ms.MatMulNBits", reads, "y", **given)], {"x": ["n", k]}, weights)
    x = numbers(2, k, seed=3101)
    found = run(explain.compile(model, "vjp"), {"x": x, "y.cotangent": np.ones((2, n), np.float32)})
    codes = [
        [(int(byte) >> shift) % 2**bits for byte in row.reshape(-1) for shift in range(0, 8, bits)] for row in packed
    ]
    offset = np.full((n, blocks), 2.0 ** (bits - 1))
    if zeros == "packed":
        rows = weights["z"].reshape(n, -1)
        offset = np.array(
            [[(int(b) >> s) % 2**bits for b in row for s in range(0, 8, bits)][:blocks] for row in rows], float
        )
    elif zeros == "numbers":
        offset = weights["z"].astype(float)
    w = np.array(
        [[(codes[j][i] - offset[j, i // block]) * weights["s"][j, i // block] for j in range(n)] for i in range(k)]
    )
    np.testing.assert_allclose(found["y"], x @ w + weights["c"], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found["x.gradient"], np.tile(w.sum(1), (2, 1)), rtol=1e-4, atol=1e-4)
    if zeros != "numbers" and bits != 2:
        np.testing.assert_allclose(found["y"], served(model, {"x": x}), rtol=1e-2, atol=0.05)


REFUSED: dict[str, tuple[list[onnx.NodeProto], str]] = {
    "bytes read as such": (
        [node(Q, "x s z", "q"), node("Cast", "q", "c", to=1), node(D, "q s z", "d"), node("Add", "c d", "y")],
        "its bytes are read by Cast",
    ),
    "bytes that are multiplied, beside another way": (
        [node(Q, "x s z", "q"), node("Mul", "q q", "m"), node(D, "m s z", "d"), node("Add", "d x", "y")],
        "its bytes are read by Mul",
    ),
    "an operator that nobody knows": (
        [node(Q, "x s z", "q"), node("ms.QLinearReduceMean", "q s z s z", "p", axes=[1]), node(D, "p s z", "y")],
        "no gradient rule for com.microsoft::QLinearReduceMean",
    ),
    "another layout": (
        [
            node(Q, "x s z", "q"),
            node("ms.QLinearGlobalAveragePool", "q s z s z", "p", channels_last=1),
            node(D, "p s z", "y"),
        ],
        "attribute channels_last=1 is not covered",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_covered_is_refused_by_name(name: str) -> None:
    nodes, sentence = REFUSED[name]
    weights = {"s": np.float32(STEP), "z": np.uint8(100)}
    model = quantized_model(nodes, {"x": ["n", 3, 4, 4] if "layout" in name else ["n", 6]}, weights)
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "n"
    model.graph.output[0].type.tensor_type.shape.dim.add()
    coverage = explain.coverage(model)
    assert not coverage.differentiable
    assert any(sentence in blocker.reason for blocker in coverage.blocking), coverage.blocking


def test_blocks_of_activations_are_refused() -> None:
    weights = {"s": np.ones((1, 3), np.float32), "z": np.zeros((1, 3), np.int8)}
    nodes = [node(Q, "x s z", "q", axis=1, block_size=2), node(D, "q s z", "y", axis=1, block_size=2)]
    with pytest.raises(explain.UnsupportedOperator, match="block_size is covered for constants alone"):
        explain.compile(quantized_model(nodes, {"x": [1, 6]}, weights, 21), "vjp")


@pytest.mark.parametrize("squash", ["Softmax", "Sigmoid"])
def test_a_rounded_probability_is_explained_by_its_logit(squash: str) -> None:
    w = numbers(6, 3, seed=3102)
    nodes = [node("MatMul", "x w", "l"), node(squash, "l", "p"), node(Q, "p s z", "q"), node(D, "q s z", "y")]
    model = quantized_model(nodes, {"x": ["n", 6]}, {"w": w, "s": np.float32(1 / 255), "z": np.uint8(0)})
    outputs = {"y": served(model, {"x": X})}
    found = attribute(model, {"x": X}, "integrated_gradients", baseline=0.0, target=1, outputs=outputs)
    assert found.units == "logit"
    np.testing.assert_allclose(found.values["x"], X * w[:, 1], rtol=1e-4, atol=1e-6)
    assert max(figures["forward_gap"] for figures in found.quality) <= 0.5 / 255 + 1e-6
    assert found.approximations == ()  # the rounding is behind what is explained
    slope = attribute(model, {"x": X}, "saliency", target=1, outputs=outputs, space="probability")
    assert slope.approximations == ("straight_through",)


class Rows(CalibrationDataReader):
    """Rows by which ranges are found."""

    def __init__(self, rows: list[dict[str, np.ndarray]]) -> None:
        self.rows: Iterator[dict[str, np.ndarray]] = iter(rows)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rows, None)


class Digits(nn.Module):
    """A small residual network: [N, 1, 8, 8] to 10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.outer = (nn.Conv2d(i, o, 3, padding=1) for i, o in ((1, 8), (8, 8), (8, 8)))
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = nn.functional.max_pool2d(torch.relu(x + self.outer(torch.relu(self.inner(x)))), 2)
        return self.head(x.flatten(1))


@pytest.fixture(scope="module")
def trained() -> tuple[onnx.ModelProto, np.ndarray]:
    """The network, trained for a moment to tell bars from squares, and pictures of them."""
    torch.manual_seed(0)
    random, network = torch.Generator().manual_seed(1), Digits()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)

    def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.randint(0, 10, (count,), generator=random)
        x = 0.3 * torch.randn(count, 1, 8, 8, generator=random)
        for row, label in zip(x, labels.tolist(), strict=True):
            row[0, label % 8, :] += 1.0
            row[0, :, label // 8 * 4 + label % 3] += 1.0
        return x, labels

    for _ in range(150):
        x, labels = pictures(64)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), labels).backward()
        optimizer.step()
    network.eval()
    assert (network(x).argmax(1) == labels).float().mean() > 0.9
    proto = Exporter(False, 17)(network, {"x": x[:2]}, [{0: "n"}])
    return proto, pictures(16)[0].numpy()


WAYS: dict[str, dict[str, Any]] = {
    "QDQ": {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
    "QDQ by channel": {"quant_format": QuantFormat.QDQ, "per_channel": True},
    "QDQ of 16 bits": {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QUInt16,
        "weight_type": QuantType.QInt16,
    },
    "QOperator": {"quant_format": QuantFormat.QOperator, "activation_type": QuantType.QUInt8},
    "dynamic": {},
}


def quantized(proto: onnx.ModelProto, rows: list[dict[str, np.ndarray]], how: str, folder: Path) -> onnx.ModelProto:
    """The model as ONNX Runtime's quantiser writes it."""
    onnx.save(proto, folder / "plain.onnx")
    if how == "dynamic":
        quantize_dynamic(folder / "plain.onnx", folder / "bytes.onnx")
    else:
        quantize_static(folder / "plain.onnx", folder / "bytes.onnx", Rows(rows), **WAYS[how])
    return onnx.load(folder / "bytes.onnx")


def rank_correlation(found: np.ndarray, expected: np.ndarray) -> float:
    """Spearman's, of the absolute attributions of each item; their mean."""
    pairs = zip(np.abs(found), np.abs(expected), strict=True)
    return float(np.mean([explain.spearman(one.ravel(), other.ravel()) for one, other in pairs]))


@pytest.mark.filterwarnings("ignore")  # of what the quantiser says of itself
@pytest.mark.parametrize("how", WAYS)
def test_a_quantised_network_is_explained_as_its_original(
    how: str, trained: tuple[onnx.ModelProto, np.ndarray], tmp_path: Path
) -> None:
    proto, x = trained
    model = quantized(proto, [{"x": x}], how, tmp_path)
    outputs = {"y": served(model, {"x": x}, row_by_row=how == "dynamic")}
    target = outputs["y"].argmax(1)
    assert "straight_through" in explain.coverage(model).approximations
    for method, options in {
        "integrated_gradients": {"baseline": 0.0},
        "deeplift": {"baseline": 0.0},
        "saliency": {},
    }.items():
        found = attribute(model, {"x": x}, method, target=target, outputs=outputs, **options)
        expected = attribute(proto, {"x": x}, method, target=target, **options)
        assert rank_correlation(found.values["x"], expected.values["x"]) >= (0.9 if method != "saliency" else 0.8)
        assert found.approximations == ("straight_through",)
        assert expected.approximations == ()
        step = float(np.abs(outputs["y"]).max()) / 127
        assert max(figures["forward_gap"] for figures in found.quality) <= 2 * step
        if method != "saliency":
            assert max(abs(figures["completeness_gap_relative"]) for figures in found.quality) <= 0.05
    found = attribute(model, {"x": x[:2]}, "occlusion", target=target[:2], baseline=0.0, layout="CHW")
    assert found.approximations == ()  # it asks for no gradient


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["QDQ", "QOperator"])
def test_fusions_of_the_runtime_change_no_gradient(
    how: str, trained: tuple[onnx.ModelProto, np.ndarray], tmp_path: Path
) -> None:
    """Where the runtime makes kernels on bytes of the forward half, what the backward half reads is still there."""
    proto, x = trained
    program = explain.compile(quantized(proto, [{"x": x}], how, tmp_path), "vjp")
    feeds = {"x": x, "y.cotangent": np.random.default_rng(6).standard_normal((len(x), 10)).astype(np.float32)}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(program.serialize(), options, providers=["CPUExecutionProvider"])
    (expected,) = plain.run(["x.gradient"], feeds)
    errors = explain.gradient_error(run(program, feeds)["x.gradient"], expected)
    assert np.median(errors) <= 1e-5
    assert errors.max() <= 0.1  # a tie that a last digit rounds the other way lets one unit more or less through


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["dynamic", "QDQ"])
def test_a_quantised_transformer(how: str, tmp_path: Path) -> None:
    _, proto = exported("bert", "eager", Exporter(False, 17))
    inputs = token_batch(4, 9)
    model = quantized(proto, [inputs], how, tmp_path)
    outputs = {"y": served(model, inputs, row_by_row=how == "dynamic")}
    baseline = {name: np.zeros_like(array) if name == "input_ids" else array for name, array in inputs.items()}
    options: dict[str, Any] = {"baseline": baseline, "target": 1}
    found = attribute(model, inputs, "integrated_gradients", outputs=outputs, **options)
    expected = attribute(proto, inputs, "integrated_gradients", **options)
    (name,) = [name for name in expected.values if np.abs(expected.values[name]).max() > 0]
    assert rank_correlation(found.values[name], expected.values[name]) >= 0.9
    assert max(figures["forward_gap"] for figures in found.quality) <= 0.02

"""Token models as ONNX Runtime and its tool for transformers fuse and save them: attributions of the plain model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.transformers import optimizer

import explain
from tests.explain.architectures.harness import TOLERANCE, Exporter, token_errors
from tests.explain.architectures.test_tokens import exported, sizes
from tests.explain.single import session

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch and transformers speak of their own future
Save = Callable[[str, onnx.ModelProto, Path], onnx.ModelProto]


def by_runtime(_: str, proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "saved.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "saved.onnx")


def by_tool(name: str, proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(proto, folder / "plain.onnx")
    kind, heads, width = {"bert": ("bert", 3, 24), "gpt2": ("gpt2", 3, 24), "t5": ("t5", 0, 0)}[name]
    made = optimizer.optimize_model(str(folder / "plain.onnx"), kind, num_heads=heads, hidden_size=width, opt_level=1)
    made.save_model_to_file(str(folder / "saved.onnx"))
    return onnx.load(folder / "saved.onnx")


def fused(proto: onnx.ModelProto) -> Counter[str]:
    own = (node.op_type for node in proto.graph.node if node.domain == "com.microsoft" or "Simplified" in node.op_type)
    return Counter(own)


FILES: list[tuple[str, str | None, int, Save, dict[str, int]]] = [
    ("bert", "eager", 13, by_runtime, {"FusedMatMul": 2, "Gelu": 2, "FusedGemm": 1}),
    ("gpt2", None, 17, by_tool, {"SkipLayerNormalization": 4, "FastGelu": 2}),
    ("t5", "eager", 17, by_runtime, {"SimplifiedLayerNormalization": 12, "FusedMatMul": 1}),
    ("t5", "eager", 17, by_tool, {"SimplifiedLayerNormalization": 2, "SkipSimplifiedLayerNormalization": 10}),
]


@pytest.mark.parametrize(("name", "how", "opset", "save", "expected"), FILES, ids=lambda value: str(value)[:20])
def test_attributions_of_a_fused_file(
    name: str, how: str | None, opset: int, save: Save, expected: dict[str, int], tmp_path: Path
) -> None:
    module, proto = exported(name, how, Exporter(False, opset))
    saved = save(name, proto, tmp_path)
    assert fused(saved) == expected
    assert max(token_errors(module, saved, sizes(name))) <= TOLERANCE


def test_gradients_of_fused_attention(tmp_path: Path) -> None:
    """The tool makes a mask the number of tokens that count: what is padded stands at the end here."""
    _, proto = exported("bert", "eager", Exporter(False, 13))
    saved = by_tool("bert", proto, tmp_path)
    assert fused(saved) == {"EmbedLayerNormalization": 1, "Attention": 2, "SkipLayerNormalization": 4, "BiasGelu": 2}
    for count, length in [(3, 8), (2, 11)]:
        ids = np.random.default_rng(count).integers(0, 50, (count, length))
        mask = (np.arange(length) < np.array([[length], [4], [7]])[:count]).astype(np.int64)
        plain, other = (by_embedding(model, ids, mask) for model in (proto, saved))
        assert [value.shape for value in plain] == [(count, 4), (count, length, 24)]
        for found, expected in zip(other, plain, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def by_embedding(proto: onnx.ModelProto, ids: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The value, and the gradient of its first column at the embedding."""
    program = explain.compile(proto, "vjp")
    output = program.explained.output if program.explained else ""
    cotangent = np.zeros((len(ids), 4), np.float32)
    cotangent[:, 0] = 1
    feeds = {"input_ids": ids, "attention_mask": mask, f"{output}.cotangent": cotangent}
    value, gradient = session(program.model).run([output, "input_ids.gradient"], feeds)
    return value, gradient

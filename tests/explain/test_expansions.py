"""Files that ONNX Runtime optimised and saved: the same gradients as those of the file they were made from."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import explain
from explain.prepare import opset_of, prepare
from explain.prepare.expansions import EXPANSIONS, MICROSOFT
from explain.prepare.expansions.registry import expansion
from tests.explain.single import assert_close, gradients, numbers, session

N = helper.make_node


class Pictures(nn.Module):
    """Convolutions with every activation that ONNX Runtime fuses, and products with theirs."""

    def __init__(self) -> None:
        super().__init__()
        acts = [nn.LeakyReLU(0.1), nn.ReLU(), nn.Hardsigmoid(), nn.Sigmoid(), nn.ReLU6(), nn.Tanh()]
        convs = [nn.Conv2d(2 if i == 0 else 4, 4, 3, padding=1, stride=1 + i % 2) for i in range(len(acts))]
        self.body = nn.Sequential(*(part for pair in zip(convs, acts, strict=True) for part in pair))
        self.head = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Sequences(nn.Module):
    """Two blocks of a transformer, whose scores are scaled products of queries with turned keys."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList([nn.Linear(8, 24), nn.Linear(8, 24)])
        self.outer = nn.ModuleList([nn.Linear(8, 16), nn.Linear(8, 16)])
        self.back = nn.ModuleList([nn.Linear(16, 8), nn.Linear(16, 8)])
        self.norms = nn.ModuleList([nn.LayerNorm(8) for _ in range(4)])
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(2):
            q, k, v = self.inner[i](x).chunk(3, -1)
            x = self.norms[2 * i](x + torch.softmax(0.3 * (q @ k.transpose(1, 2)), -1) @ v)
            x = self.norms[2 * i + 1](x + self.back[i](nn.functional.gelu(self.outer[i](x))))
        return self.head(x.mean(1))


SHAPES: dict[type[nn.Module], list[tuple[int, ...]]] = {
    Pictures: [(2, 2, 9, 8), (1, 2, 12, 9)],
    Sequences: [(2, 4, 8), (3, 6, 8)],
}


def exported(kind: type[nn.Module], opset: int) -> onnx.ModelProto:
    torch.manual_seed(1)
    shape, file = SHAPES[kind][0], io.BytesIO()
    axes = {
        "x": {0: "N", **{axis: f"s{axis}" for axis in range(1, len(shape)) if shape[axis] != SHAPES[kind][1][axis]}}
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            kind().eval(),
            (torch.zeros(shape),),
            file,
            input_names=["x"],
            output_names=["y"],
            opset_version=opset,
            dynamic_axes=axes,
            dynamo=False,
        )
    return onnx.load_from_string(file.getvalue())


def optimised(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The file as ONNX Runtime saves it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def by_transformers(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The file as ONNX Runtime's tool for transformers saves it."""
    from onnxruntime.transformers import optimizer

    path = folder / "plain.onnx"
    onnx.save(proto, path)
    made = optimizer.optimize_model(str(path), "bert", num_heads=1, hidden_size=8, opt_level=1)
    made.save_model_to_file(str(folder / "tool.onnx"))
    return onnx.load(folder / "tool.onnx")


FILES = [
    (Pictures, 18, optimised, {"FusedConv": 6, "FusedGemm": 1}),
    (Pictures, 12, optimised, {"FusedConv": 6, "FusedGemm": 1}),
    (Sequences, 18, optimised, {"FusedMatMul": 2, "BiasGelu": 2}),
    (Sequences, 14, optimised, {"FusedMatMul": 2, "BiasGelu": 2}),
    (Sequences, 17, by_transformers, {"SkipLayerNormalization": 4, "BiasGelu": 2}),
]


@pytest.mark.parametrize(("kind", "opset", "save", "fused"), FILES, ids=[f"{f[0].__name__}-{f[1]}" for f in FILES])
def test_an_optimised_file_has_the_gradients_of_the_plain_one(
    kind: type[nn.Module], opset: int, save: Any, fused: dict[str, int], tmp_path: Path
) -> None:
    plain = exported(kind, opset)
    saved = save(plain, tmp_path)
    assert fused.items() <= Counter(node.op_type for node in saved.graph.node if node.domain == MICROSOFT).items()
    before = saved.SerializeToString()
    handles = explain.Model(plain), explain.Model(saved)
    for shape in SHAPES[kind]:
        x = numbers(*shape).astype(np.float32)
        expected, found = (gradients(handle, {"x": x})["x"] for handle in handles)
        assert_close(found, expected, 1e-5, "gradient of the optimised file")
        served = session(saved).run(None, {"x": x})[0]
        assert_close(
            session(explain.compile(handles[1], "forward").model).run(None, {"x": x})[0], served, 1e-5, "value"
        )
    assert saved.SerializeToString() == before
    assert explain.coverage(saved).differentiable


def model(
    nodes: list[onnx.NodeProto], shape: list[Any], opset: int = 18, kind: int = TensorProto.FLOAT, **constants: Any
) -> onnx.ModelProto:
    x, y = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", kind, None)
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "fused", [x], [y], initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_what_an_expansion_makes_known_lets_the_next_one_be_expanded() -> None:
    nodes = [
        N("FusedMatMul", ["x", "x"], ["a"], domain=MICROSOFT, transB=1),
        N("Exp", ["a"], ["b"]),
        N("FusedMatMul", ["b", "x"], ["y"], domain=MICROSOFT, transA=1),
    ]
    prepared = prepare(model(nodes, ["N", 2, 3]))
    assert [node.op_type for node in prepared.graph.node] == ["Transpose", "MatMul", "Exp", "Transpose", "MatMul"]


def test_equal_nodes_and_results_that_are_there_already_keep_their_names() -> None:
    nodes = [
        N("Gelu", ["x"], ["a"], domain=MICROSOFT),
        N("Gelu", ["x"], ["b"], domain=MICROSOFT),
        N("FusedGemm", ["a", "w"], ["c"], domain=MICROSOFT),
        N("Sum", ["a", "b", "c"], ["y"]),
    ]
    proto, x = model(nodes, ["N", 3], w=np.eye(3, dtype=np.float32)), numbers(2, 3).astype(np.float32)
    expected = 3 * nn.functional.gelu(torch.tensor(x)).numpy()
    assert_close(session(explain.compile(proto, "forward").model).run(None, {"x": x})[0], expected, 1e-5, "value")


@pytest.mark.parametrize("opset", [13, 18, 21])
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_simplified_layer_normalization_stands_in_the_default_domain(opset: int, kind: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    scale = np.array([1, 2, 0.5, 1.5], dtype)
    nodes = [N("SimplifiedLayerNormalization", ["x", "g"], ["y"], epsilon=1e-3, axis=-1)]
    proto, x = model(nodes, ["N", 3, 4], opset, kind, g=scale), numbers(2, 3, 4).astype(dtype)
    leaf = torch.tensor(x.astype(np.float64), requires_grad=True)
    y = nn.functional.rms_norm(leaf, (4,), torch.tensor(scale.astype(np.float64)), 1e-3)
    y.sum().backward()
    tolerance = 1e-5 if kind == TensorProto.FLOAT else 5e-3
    program = explain.compile(proto, "vjp")
    assert opset_of(program.model) == 18
    run, wide = session(program.model), x.astype(np.float32)
    gradient, value = run.run(["x.gradient", "y"], {"x": wide, "y.cotangent": np.ones_like(wide)})
    assert_close(value.astype(np.float64), y.detach().numpy(), tolerance, "value")
    assert_close(
        value.astype(np.float64), session(proto).run(None, {"x": x})[0].astype(np.float64), tolerance, "served"
    )
    assert_close(gradient.astype(np.float64), leaf.grad.numpy(), tolerance, "gradient")


def test_an_output_that_is_not_made_leaves_the_node_to_be_refused() -> None:
    w, b = np.zeros((4, 12), np.float32), np.zeros(12, np.float32)
    nodes = [N("Attention", ["x", "w", "b"], ["y", "present"], domain=MICROSOFT, name="attend", num_heads=2)]
    proto = model(nodes, ["N", 3, 4], w=w, b=b)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 4]))
    proto.graph.output.append(helper.make_tensor_value_info("present", TensorProto.FLOAT, [2, "N", 2, 3, 2]))
    assert [node.op_type for node in prepare(proto).graph.node] == ["Attention"]
    with pytest.raises(explain.UnsupportedOperator, match=r"Attention \(node 'attend', opset 18\)"):
        explain.compile(proto, "vjp", output="y")


def test_an_expansion_is_registered_once() -> None:
    before = dict(EXPANSIONS)
    with pytest.raises(explain.RegistrationError, match="expansion of 'Gelu' is registered twice"):
        expansion("Gelu")(lambda emit, node: emit.neg(node.inputs[0]))
    assert before == EXPANSIONS


def between(x: torch.Tensor, row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
    """[C, H, W] read between four elements; outside is 0."""
    total = torch.zeros(x.shape[0], dtype=x.dtype)
    i, j = int(torch.floor(row)), int(torch.floor(column))
    for a, b in ((i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1)):
        if 0 <= a < x.shape[1] and 0 <= b < x.shape[2]:
            total = total + (1 - (row - a).abs()) * (1 - (column - b).abs()) * x[:, a, b]
    return total


def deformed(
    x: torch.Tensor, w: torch.Tensor, offset: torch.Tensor, b: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Place by place: 2 groups, 2 offset groups, strides (2, 1), dilations (1, 2), pads (1, 0)."""
    high, wide = w.shape[2:]
    apart = offset.reshape(len(x), 2, high * wide, 2, *offset.shape[2:])
    counted = mask.reshape(len(x), 2, high * wide, *offset.shape[2:])
    y = []
    for n, r, c in np.ndindex(len(x), *offset.shape[2:]):
        read = []
        for g in (0, 1):
            places = []
            for k, (i, j) in enumerate(np.ndindex(high, wide)):
                at = apart[n, g, k, 0, r, c] + 2 * r - 1 + i, apart[n, g, k, 1, r, c] + c + 2 * j
                places.append(between(x[n, 2 * g : 2 * g + 2], *at) * counted[n, g, k, r, c])
            read.append(torch.stack(places, -1).reshape(2, high, wide))
        half = len(w) // 2
        y.append(torch.cat([(w[half * g : half * (g + 1)] * read[g]).sum((1, 2, 3)) for g in (0, 1)]) + b)
    return torch.stack(y).reshape(len(x), *offset.shape[2:], len(w)).permute(0, 3, 1, 2)


def test_a_convolution_that_is_deformed() -> None:
    w, b = numbers(6, 2, 3, 2, seed=1).astype(np.float32), numbers(6, seed=2).astype(np.float32)
    names = ["x", "w", "offset", "b", "mask"]
    given = {"offset_group": 2, "group": 2, "pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}
    shapes = {"x": ["N", 4, "H", "W"], "offset": ["N", 24, "h", "w"], "mask": ["N", 12, "h", "w"]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6, None, None])
    constants = [numpy_helper.from_array(value, name) for name, value in (("w", w), ("b", b))]
    graph = helper.make_graph([N("DeformConv", names, ["y"], **given)], "deformed", inputs, [y], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    handle = explain.Model(proto)
    for n, high, wide in [(2, 6, 5), (1, 4, 7)]:
        size = (high + 3 - 3) // 2 + 1, wide + 1 - 3 + 1
        feeds = {"x": numbers(n, 4, high, wide), "offset": numbers(n, 24, *size), "mask": numbers(n, 12, *size, seed=3)}
        leaves = {name: torch.tensor(value, requires_grad=True) for name, value in feeds.items()}
        value = deformed(leaves["x"], torch.tensor(w).double(), leaves["offset"], torch.tensor(b), leaves["mask"])
        value.sum().backward()
        single = {name: array.astype(np.float32) for name, array in feeds.items()}
        assert_close(session(proto).run(None, single)[0], value.detach().numpy(), 1e-4, "kernel")
        found = gradients(handle, single)
        for name, leaf in leaves.items():
            assert_close(found[name], leaf.grad.numpy(), 2e-4, f"gradient of {name}")

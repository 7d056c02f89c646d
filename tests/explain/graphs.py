"""Small ONNX models made by hand, their twins in PyTorch (float64), and the plainest way to run a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

import explain

Feeds = Mapping[str, np.ndarray]
Nodes = Sequence[tuple[Any, ...]]
Specs = Mapping[str, tuple[str, list[Any] | None]]
Twin = Callable[..., torch.Tensor]
SESSIONS: dict[str, onnxruntime.InferenceSession] = {}


def made(
    nodes: Nodes, inputs: Specs, outputs: Specs, weights: Feeds | None = None, opset: int = 18, **domains: int
) -> onnx.ModelProto:
    """A checked model; a node is (operator, inputs, outputs) and, where it has any, its attributes."""
    protos = [helper.make_node(op, read, write, **dict(*rest)) for op, read, write, *rest in nodes]
    declared = [
        [helper.make_tensor_value_info(name, kind(dtype), shape) for name, (dtype, shape) in specs.items()]
        for specs in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(protos, "small", *declared, initializers)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(f"ai.onnx.{d}", v) for d, v in domains.items())]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def kind(dtype: str) -> int:
    if dtype == "string":
        return int(onnx.TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def run(program: explain.Program, feeds: Feeds) -> dict[str, np.ndarray]:
    """A program on ONNX Runtime as it stands; the first time it is also checked as a file."""
    if program.digest not in SESSIONS:
        onnx.checker.check_model(program.model, full_check=True)
        SESSIONS[program.digest] = session(program.serialize())
    loaded = SESSIONS[program.digest]
    assert [value.name for value in loaded.get_inputs()] == list(program.inputs)
    assert set(feeds) == set(program.inputs)
    if program.max_items == 1:
        assert {len(array) for name, array in feeds.items() if program.inputs[name] == "item"} == {1}
    answers = loaded.run(list(program.outputs), dict(feeds))
    return dict(zip(program.outputs, answers, strict=True))


def serve(model: onnx.ModelProto, feeds: Feeds) -> dict[str, np.ndarray]:
    """The served model itself."""
    loaded = session(model.SerializeToString())
    names = [value.name for value in loaded.get_outputs()]
    return dict(zip(names, loaded.run(names, dict(feeds)), strict=True))


def attribute(model: Any, inputs: Feeds, method: str, **options: Any) -> explain.Attribution:
    return explain.attribute(model, inputs, method=method, run=run, **options)


def numbers(*shape: int, seed: int = 0, dtype: str = "float32", scale: float = 1.0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) * scale).astype(dtype)


def taken_turns(size: int, count: int, seed: int) -> list[int]:
    """The background row, of `size`, of each of `count` samples: two in a row from one, turn after turn."""
    order: list[int] = []
    while len(order) < count:
        turn = np.random.default_rng([seed, len(order) // (2 * size), 1]).permutation(size)
        order += [int(row) for row in turn for _ in range(2)]
    return order[:count]


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.tensor(array, dtype=torch.float64 if np.asarray(array).dtype.kind == "f" else torch.int64)


W1, B1, W2, B2 = numbers(4, 6, seed=1), numbers(6, seed=2), numbers(6, 3, seed=3), numbers(3, seed=4)
MLP_NODES: Nodes = [
    ("MatMul", ["x", "w1"], ["h0"]),
    ("Add", ["h0", "b1"], ["h1"]),
    ("Tanh", ["h1"], ["h"]),
    ("Gemm", ["h", "w2", "b2"], ["z"]),
]
MLP_WEIGHTS = {"w1": W1, "b1": B1, "w2": W2, "b2": B2}


def mlp(link: str | None = None, dtype: str = "float32", opset: int = 18, batch: Any = "batch") -> onnx.ModelProto:
    """x [N, 4] -> tanh -> z [N, 3], or y = link(z)."""
    weights = {name: array.astype(dtype) for name, array in MLP_WEIGHTS.items()}
    nodes = [*MLP_NODES, (link, ["z"], ["y"])] if link else MLP_NODES
    return made(nodes, {"x": (dtype, [batch, 4])}, {"y" if link else "z": (dtype, [batch, 3])}, weights, opset)


def mlp_twin(x: torch.Tensor) -> torch.Tensor:
    w1, b1, w2, b2 = (tensor(array) for array in (W1, B1, W2, B2))
    return torch.tanh(x @ w1 + b1) @ w2 + b2


K1, C1, K2, V = numbers(3, 1, 3, 3, seed=5), numbers(3, seed=6), numbers(4, 3, 3, 3, seed=7), numbers(4, 2, seed=8)
CNN_NODES: Nodes = [
    ("Conv", ["image", "k1", "c1"], ["conv1"], {"pads": [1, 1, 1, 1]}),
    ("Relu", ["conv1"], ["relu1"]),
    ("MaxPool", ["relu1"], ["pooled"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Conv", ["pooled", "k2"], ["conv2"]),
    ("Relu", ["conv2"], ["relu2"]),
    ("GlobalAveragePool", ["relu2"], ["mean"]),
    ("Flatten", ["mean"], ["flat"]),
    ("MatMul", ["flat", "v"], ["logits"]),
]
CNN_WEIGHTS = {"k1": K1, "c1": C1, "k2": K2, "v": V}


def cnn() -> onnx.ModelProto:
    """image [N, 1, 8, 8] -> two convolutions -> probabilities [N, 2]."""
    nodes = [*CNN_NODES, ("Softmax", ["logits"], ["p"], {"axis": 1})]
    return made(nodes, {"image": ("float32", ["n", 1, 8, 8])}, {"p": ("float32", ["n", 2])}, CNN_WEIGHTS)


def cnn_twin(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The second convolution's output, and the logits."""
    first = torch.relu(torch.nn.functional.conv2d(image, tensor(K1), tensor(C1), padding=1))
    conv2 = torch.nn.functional.conv2d(torch.nn.functional.max_pool2d(first, 2), tensor(K2))
    return conv2, torch.relu(conv2).mean(dim=(2, 3)) @ tensor(V)


def dot(y: torch.Tensor, index: np.ndarray, weight: np.ndarray) -> torch.Tensor:
    """f of one item: y [1, ...], index [S, D], weight [S]."""
    picked = [y[(0, *place.tolist())] * float(w) for place, w in zip(index, weight, strict=True)]
    return torch.stack(picked).sum()


def slow_path(f: Twin, walked: Feeds, feeds: Feeds, fixed: Feeds | None = None) -> dict[str, np.ndarray]:
    """What `path_gradient` promises, one item and one point at a time; `walked` holds the inputs that are walked."""
    alpha, weight = feeds["alpha"].astype(float), feeds["weight"].astype(float)
    (n, k), r = alpha.shape, weight.shape[2]
    found = {
        f"{name}.{of}": np.zeros((n, r, *walked[name].shape[1:]))
        for name in walked
        for of in ("gradient", "attribution")
    }
    found["value"] = np.zeros((n, k))
    for item in range(n):
        rest = {name: tensor(array[item : item + 1]) for name, array in (fixed or {}).items()}
        for point in range(k):
            steps, at = {}, {}
            for name, array in walked.items():
                base = feeds[f"{name}.baseline"][item]
                j = point if len(base) > 1 else 0
                noise = feeds[f"{name}.noise"][item] if f"{name}.noise" in feeds else np.zeros((1, *array.shape[1:]))
                x = array[item].astype(float) + noise[point if len(noise) > 1 else 0]
                steps[name] = x - base[j]
                at[name] = tensor((base[j] + alpha[item, point] * steps[name])[None]).requires_grad_()
            value = dot(f(**at, **rest), feeds["target"][item], feeds["target.weight"][item])
            found["value"][item, point] = float(value.detach())
            slopes = torch.autograd.grad(value, list(at.values()), allow_unused=True)
            for name, slope in zip(at, slopes, strict=True):
                g = np.zeros(walked[name].shape[1:]) if slope is None else slope.numpy()[0]
                for column in range(r):
                    found[f"{name}.gradient"][item, column] += weight[item, point, column] * g
                    found[f"{name}.attribution"][item, column] += weight[item, point, column] * steps[name] * g
    return found


def agree(found: Feeds, expected: Feeds, tolerance: float = 2e-5) -> None:
    """The same names, shapes and numbers, relative to the largest expected number of each."""
    assert set(found) == set(expected)
    for name, want in expected.items():
        assert found[name].shape == want.shape, name
        assert explain.attribution_error(found[name].astype(float), want.astype(float)) <= tolerance, name

"""Export a module, compile its gradient once, and compare it at every batch and size with PyTorch in float64."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.export import Dim

import explain
from tests.explain.single import numbers, session

TOLERANCE, FLIPPED = 1e-4, 1e-3
ALPHA, WEIGHT = np.array([0.1, 0.4, 0.8]), np.array([0.2, 0.5, 0.3])
N = {0: Dim.DYNAMIC}
NT = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
NHW = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}


@dataclass(frozen=True)
class Exporter:
    """Which of PyTorch's two exporters, and the opset it is asked for."""

    dynamo: bool
    opset: int

    def __str__(self) -> str:
        """Part of a test's name."""
        return f"{'dynamo' if self.dynamo else 'traced'}{self.opset}"

    def __call__(
        self, module: nn.Module, example: dict[str, torch.Tensor], dynamic: Sequence[dict[int, Any]]
    ) -> onnx.ModelProto:
        """The module as an ONNX model with inputs of these names and the output `y`."""
        buffer, names = io.BytesIO(), list(example)
        options: dict[str, Any] = {"opset_version": self.opset, "input_names": names, "output_names": ["y"]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the exporters say of their own parts
            if self.dynamo:
                shapes = tuple(dynamic)
                exported = torch.onnx.export(
                    module, tuple(example.values()), dynamo=True, dynamic_shapes=shapes, verbose=False, **options
                )
                exported.save(buffer)
            else:
                axes = {name: {axis: f"{name}{axis}" for axis in d} for name, d in zip(names, dynamic, strict=True)}
                arguments = tuple(example.values())
                torch.onnx.export(
                    module, arguments, buffer, dynamo=False, dynamic_axes=axes | {"y": {0: "n"}}, **options
                )
        return onnx.load_model_from_string(buffer.getvalue())


def pixel_errors(
    module: nn.Module, proto: onnx.ModelProto, shapes: Sequence[tuple[int, ...]], *, fixed_masks: bool = False
) -> list[float]:
    """Gradient errors of one compiled graph against PyTorch in float64: the worst item, for each shape.

    With `fixed_masks` PyTorch's nn.ReLU let through what passed in the exported model in float32.
    """
    program = explain.compile(proto, "vjp")
    onnx.checker.check_model(program.model, full_check=True)
    runtime, worst, double = session(program.model), [], module.double()
    for shape in shapes:
        x = torch.tensor(numbers(*shape), requires_grad=True)
        fed = x.detach().numpy().astype(np.float32)
        with relus_as_in(double, relu_masks(proto, fed) if fixed_masks else None):
            y = double(x)
        cotangent = numbers(*y.shape, seed=5)
        (y * torch.as_tensor(cotangent)).sum().backward()
        found, forward = runtime.run(["x.gradient", "y"], {"x": fed, "y.cotangent": cotangent.astype(np.float32)})
        scale = float(y.detach().abs().max())
        np.testing.assert_allclose(forward, y.detach().numpy(), atol=1e-4 * max(scale, 1.0), rtol=1e-4)
        worst.append(float(explain.gradient_error(found, x.grad.numpy()).max()))
    module.float()
    return worst


def relu_masks(proto: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """Where every Relu of the exported model lets through, in the order in which they run."""
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    names = [node.output[0] for node in proto.graph.node if node.op_type == "Relu"]
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return [value > 0 for value in session(shown).run(names, {"x": x})] if names else []


@contextmanager
def relus_as_in(module: nn.Module, masks: list[np.ndarray] | None) -> Iterator[None]:
    """Every nn.ReLU, in the order in which they run, passes what its mask says."""
    left = iter(masks or [])

    def replace(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return inputs[0] * torch.as_tensor(next(left), dtype=inputs[0].dtype)

    chosen = [part for part in module.modules() if isinstance(part, nn.ReLU)] if masks is not None else []
    hooks = [part.register_forward_hook(replace) for part in chosen]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def token_batch(n: int, t: int, written: int = 0) -> dict[str, np.ndarray]:
    """Ids, a mask that hides some of the last two positions, and, for a decoder, what was written so far."""
    random = np.random.default_rng((n, t))
    mask = np.ones((n, t), dtype=np.int64)
    mask[:, -2:] = random.integers(0, 2, (n, 2))
    batch = {"input_ids": random.integers(2, 50, (n, t)), "attention_mask": mask}
    return batch | ({"decoder_input_ids": random.integers(2, 50, (n, written))} if written else {})


def token_errors(
    module: Any, proto: onnx.ModelProto, sizes: Sequence[tuple[int, ...]], *, held: Sequence[str] = ("attention_mask",)
) -> list[float]:
    """Errors of `input_ids.attribution` along a path of three points, the worst item, for each (N, T[, written]).

    Inputs in `held` are no leaves of the program: they need no baseline.
    """
    program = explain.compile(proto, "path_gradient")
    onnx.checker.check_model(program.model, full_check=True)
    assert not [name for name in held if f"{name}.baseline" in program.inputs]
    runtime, double, worst = session(program.model), module.double(), []
    for n, t, *written in sizes:
        batch = token_batch(n, t, *written)
        baseline = np.random.default_rng(n + t).integers(2, 50, (n, t))
        arguments = [torch.as_tensor(value) for value in batch.values()]
        y = double(*arguments)
        target = [1] if y.ndim == 2 else [y.shape[1] - 1, 3]
        feeds = {**batch, "input_ids.baseline": baseline[:, None], "alpha": np.tile(ALPHA, (n, 1)).astype(np.float32)}
        feeds |= {"weight": np.tile(WEIGHT[:, None], (n, 1, 1)).astype(np.float32)}
        feeds |= {"target": np.tile(np.array([[target]]), (n, 1, 1)), "target.weight": np.ones((n, 1), np.float32)}
        if written:
            feeds["decoder_input_ids.baseline"] = batch["decoder_input_ids"][:, None]
        found = runtime.run(["input_ids.attribution"], {k: v for k, v in feeds.items() if k in program.inputs})[0]
        expected = walked(double, baseline, arguments, target)
        worst.append(float(explain.gradient_error(found[:, 0], expected).max()))
    module.float()
    return worst


def walked(module: Any, baseline: np.ndarray, arguments: list[torch.Tensor], target: list[int]) -> np.ndarray:
    """sum over k and the embedding's width: weight_k (e(x) - e(b)) grad at e(b) + alpha_k (e(x) - e(b))."""
    table = module.table().detach()
    start, end = table[torch.as_tensor(baseline)], table[arguments[0]]
    total = torch.zeros(baseline.shape, dtype=torch.float64)
    for alpha, weight in zip(ALPHA, WEIGHT, strict=True):
        point = (start + alpha * (end - start)).requires_grad_()
        module.judged(point, *arguments[1:])[(slice(None), *target)].sum().backward()
        total += weight * ((end - start) * point.grad).sum(-1)
    return total.numpy()

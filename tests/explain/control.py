"""Models with control flow, written as text, and their gradients against a twin that PyTorch differentiates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import torch
from onnx import numpy_helper, parser

import explain
from tests.explain.graphs import Feeds, numbers, run, tensor

TOLERANCE = 1e-4
Twin = Callable[..., torch.Tensor]


def parsed(text: str, weights: Mapping[str, np.ndarray] | None = None, opset: int = 18) -> onnx.ModelProto:
    """A checked model out of `graph (inputs) => (outputs) { nodes }`, with initializers added."""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    for name, array in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def gradient_of(model: onnx.ModelProto | explain.Model, feeds: Feeds, cotangent: np.ndarray) -> dict[str, np.ndarray]:
    """What the vjp program gives for the output y."""
    return run(explain.compile(model, "vjp"), {**feeds, "y.cotangent": cotangent})


def check_against(
    model: onnx.ModelProto | explain.Model, twin: Twin, feeds: Feeds, tolerance: float = TOLERANCE
) -> dict[str, np.ndarray]:
    """Value and gradients of sum(cotangent * y) are those of the twin, in float64; gives what the program gave."""
    leaves = {name: tensor(array) for name, array in feeds.items()}
    floats = {name: leaf.requires_grad_() for name, leaf in leaves.items() if leaf.is_floating_point()}
    y = twin(**leaves)
    cotangent = numbers(*y.shape, seed=17)
    found = gradient_of(model, feeds, cotangent)
    np.testing.assert_allclose(found["y"], y.detach().numpy(), rtol=tolerance, atol=tolerance, err_msg="y")
    given = torch.autograd.grad((y * tensor(cotangent)).sum(), list(floats.values()), allow_unused=True)
    for (name, leaf), expected in zip(floats.items(), given, strict=True):
        want = np.zeros(leaf.shape) if expected is None else expected.numpy()
        assert found[f"{name}.gradient"].shape == want.shape, name
        error = explain.attribution_error(found[f"{name}.gradient"].astype(float), want)
        assert error <= tolerance, f"{name}: error {error}"
    return found

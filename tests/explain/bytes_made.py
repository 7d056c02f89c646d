"""Models on bytes made by hand, and what PyTorch says of them: its fake quantisation, of which the derivative is the
straight-through estimator's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

import explain
from tests.explain.graphs import kind, run, session

Twin = Callable[..., torch.Tensor]
STEP = 1 / 16  # a power of 2: all quotients by it are exact


def quantized_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[Any]],
    weights: dict[str, Any],
    opset: int = 18,
    dtype: str = "float32",
) -> onnx.ModelProto:
    """Inputs of a dtype and these shapes, an output `y` of unknown shape, and ONNX Runtime's own domain."""
    held = [
        w if isinstance(w, onnx.TensorProto) else numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()
    ]
    ends = [helper.make_tensor_value_info(name, kind(dtype), shape) for name, shape in inputs.items()]
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "bytes", ends, [y], held)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def node(op: str, reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    """A node; an operator with `ms.` in front is one of ONNX Runtime's own, `_` an absent input."""
    domain = "com.microsoft" if op.startswith("ms.") else ""
    names = ["" if name == "_" else name for name in reads.split()]
    return helper.make_node(op.removeprefix("ms."), names, makes.split(), domain=domain, **attributes)


def fake(
    x: torch.Tensor, scale: Any = STEP, zero: Any = 0, dtype: str = "uint8", axis: int | None = None
) -> torch.Tensor:
    """x rounded and clipped to the bytes of a dtype, as numbers; scales along an axis, if one is given."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if axis is None:
        return torch.fake_quantize_per_tensor_affine(x.float(), float(scale), int(zero), int(low), int(high)).to(
            x.dtype
        )
    scales, zeros = torch.tensor(scale, dtype=torch.float32), torch.tensor(zero, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(x.float(), scales, zeros, axis, int(low), int(high)).to(x.dtype)


def ranged(x: torch.Tensor) -> torch.Tensor:
    """x quantised by its own range, as DynamicQuantizeLinear does; the range is held."""
    x, given = x.detach(), x
    high, low = float(x.max().clamp(min=0)), float(x.min().clamp(max=0))
    step = np.float32(np.float32(high - low) / np.float32(255))
    zero = int(np.clip(np.rint(np.float32(-low) / step), 0, 255))
    return fake(given, step, zero)


def agrees(
    model: onnx.ModelProto,
    x: np.ndarray,
    twin: Twin,
    *,
    quanta: float = 1.0,
    step: float = STEP,
    tolerance: float = 1e-5,
) -> None:
    """The program's forward value is that of ONNX Runtime on the file itself within some steps, and that of the twin;
    its gradient is that of the twin, row by row."""
    program = explain.compile(model, "vjp")
    served = session(model.SerializeToString())
    for row in np.split(x, len(x)) if program.max_items == 1 else [x]:
        (expected,) = served.run(None, {"x": row})
        at = torch.tensor(row, requires_grad=True)
        y = twin(at)
        cotangent = np.random.default_rng(7).standard_normal(expected.shape).astype(np.float32)
        (y * torch.tensor(cotangent)).sum().backward()
        found = run(program, {"x": row, "y.cotangent": cotangent})
        np.testing.assert_allclose(found["y"], expected, atol=quanta * step + 1e-5)
        np.testing.assert_allclose(found["y"], y.detach().numpy(), atol=quanta * step + 1e-5)
        assert at.grad is not None
        assert explain.attribution_error(found["x.gradient"], at.grad.numpy()) <= tolerance

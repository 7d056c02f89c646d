"""PyTorch's own functions for ONNX operators: the twin of an operator takes its inputs and attributes.

Inputs come by position (None where one is left out), attributes by name; what comes back is one tensor or a tuple of
them, in the order of the operator's outputs. A twin need not know every form of its operator: one that fails, or whose
value is not the operator's, judges nothing (tests/explain/others.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from tests.explain.twins_networks import NETWORKS
from tests.explain.twins_sequences import SEQUENCES
from tests.explain.twins_shape import SHAPES

F = torch.nn.functional
Tensor = torch.Tensor
Twin = Callable[..., Any]


def reduction(f: Callable[[Tensor, tuple[int, ...], bool], Tensor]) -> Twin:
    """A reduction over `axes`: all where there are none, unless it is then to do nothing."""

    def twin(x: Tensor, axes: Tensor | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        given = [] if axes is None else axes.tolist()
        whole = not given and not noop_with_empty_axes
        return f(x, tuple(range(x.ndim) if whole else given), bool(keepdims)) if given or whole else x

    return twin


def product(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdims)
    return x


def norm(p: int) -> Callable[[Tensor, tuple[int, ...], bool], Tensor]:
    return lambda x, axes, keepdims: torch.linalg.vector_norm(x, p, axes, keepdims)


def cumulated(f: Callable[[Tensor, int], Tensor], start: float) -> Twin:
    """A running sum or product along an axis: from its end, and without the element itself, on request."""

    def twin(x: Tensor, axis: Tensor, exclusive: int = 0, reverse: int = 0) -> Tensor:
        along = int(axis)
        x = x.flip(along) if reverse else x
        if exclusive:
            first = torch.full_like(x.narrow(along, 0, 1), start)
            x = torch.cat([first, x.narrow(along, 0, x.shape[along] - 1)], along)
        return f(x, along).flip(along) if reverse else f(x, along)

    return twin


def unchanged(x: Tensor, *others: Tensor, **attributes: Any) -> tuple[Tensor, Tensor]:
    return x, torch.ones_like(x)


def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    y = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return y if c is None else y + beta * c


def dequantize(
    x: Tensor, scale: Tensor, zero: Tensor | None = None, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Tensor:
    def spread(t: Tensor) -> Tensor:
        if block_size:
            return t.repeat_interleave(block_size, axis)
        return t.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]) if t.ndim else t

    return (x if zero is None else x - spread(zero)) * spread(scale)


def quantization_step(x: Tensor) -> tuple[Tensor, ...]:
    high, low = x.max().clamp(min=0), x.min().clamp(max=0)
    step = (high - low) / 255
    zero = torch.clamp(torch.round(-low / step), 0, 255)
    return torch.clamp(torch.round(x / step) + zero, 0, 255), step, zero


UNCHANGED: dict[str, Twin] = dict.fromkeys(["Cast", "CastLike", "Dropout", "Identity"], unchanged)
ELEMENTWISE: dict[str, Twin] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Add": torch.add,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Clip": clip,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "DequantizeLinear": dequantize,
    "Div": torch.div,
    "DynamicQuantizeLinear": quantization_step,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Log": torch.log,
    "Max": lambda *xs: functools.reduce(torch.maximum, xs),
    "Mean": lambda *xs: functools.reduce(torch.add, xs) / len(xs),
    "Min": lambda *xs: functools.reduce(torch.minimum, xs),
    "Mod": lambda x, y, fmod=0: torch.fmod(x, y) if fmod else torch.remainder(x, y),
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Pow": torch.pow,
    "Reciprocal": torch.reciprocal,
    "Sigmoid": torch.sigmoid,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Sum": lambda *xs: functools.reduce(torch.add, xs),
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "Where": torch.where,
}
ACTIVATIONS: dict[str, Twin] = {
    "Celu": lambda x, alpha=1.0: F.celu(x, alpha),
    "Elu": lambda x, alpha=1.0: F.elu(x, alpha),
    "Gelu": lambda x, approximate="none": F.gelu(x, approximate=approximate),
    "HardSigmoid": lambda x, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1),
    "HardSwish": F.hardswish,
    "LeakyRelu": lambda x, alpha=0.01: F.leaky_relu(x, alpha),
    "LogSoftmax": lambda x, axis=-1: F.log_softmax(x, axis),
    "Mish": F.mish,
    "PRelu": lambda x, slope: torch.where(x < 0, slope * x, x),
    "Relu": F.relu,
    "Selu": lambda x, alpha=1.6732632, gamma=1.0507010: gamma * torch.where(x > 0, x, alpha * torch.expm1(x)),
    "Shrink": lambda x, lambd=0.5, bias=0.0: F.softshrink(x, lambd) + x.sign() * (x.abs() > lambd) * (lambd - bias),
    "Softmax": lambda x, axis=-1: F.softmax(x, axis),
    "Softplus": lambda x: F.softplus(x, threshold=100.0),
    "Softsign": F.softsign,
    "SwiGLU": lambda a, b, alpha=1.0: a * torch.sigmoid(alpha * a) * b,
    "Swish": lambda x, alpha=1.0: x * torch.sigmoid(alpha * x),
    "ThresholdedRelu": lambda x, alpha=1.0: F.threshold(x, alpha, 0.0),
}
REDUCTIONS: dict[str, Twin] = {
    "CumProd": cumulated(torch.cumprod, 1.0),
    "CumSum": cumulated(torch.cumsum, 0.0),
    "ReduceL1": reduction(norm(1)),
    "ReduceL2": reduction(norm(2)),
    "ReduceLogSum": reduction(lambda x, axes, keepdims: x.sum(axes, keepdims).log()),
    "ReduceLogSumExp": reduction(torch.logsumexp),
    "ReduceMax": reduction(torch.amax),
    "ReduceMean": reduction(torch.mean),
    "ReduceMin": reduction(torch.amin),
    "ReduceProd": reduction(product),
    "ReduceSum": reduction(torch.sum),
    "ReduceSumSquare": reduction(lambda x, axes, keepdims: x.square().sum(axes, keepdims)),
}
LINEAR: dict[str, Twin] = {
    "Det": torch.linalg.det,
    "Einsum": lambda *xs, equation: torch.einsum(equation, *xs),
    "Gemm": gemm,
    "MatMul": torch.matmul,
}
TWINS = UNCHANGED | ELEMENTWISE | ACTIVATIONS | REDUCTIONS | LINEAR | SHAPES | NETWORKS | SEQUENCES

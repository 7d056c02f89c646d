"""The rescale rule of DeepLIFT (Shrikumar et al. 2017, arXiv:1704.02685) on operators: slope times change is change.

It stands on the rules between two points (secant.py), which are exact for kinks and, halfway, for products of two.
Functions of one variable get the slope of their chord; what mixes its operands otherwise is taken apart into products,
sums and such functions, at the level of the graph. What is left (operators that neither bend nor are taken apart, as
LRN or the grid of GridSample) has its gradient halfway, and the answer's completeness gap says what that misses.

A chord of a change near 0 is rounding divided by rounding: there the slope halfway is as good. Where a function has a
formula for its chord that does not subtract, that is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..between import Chord, halfway
from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, Registry
from .normalize import per_channel
from .recurrent import swept
from .reduce import is_identity, kept
from .secant import SECANT, SWEEPS

RESCALE = Registry(SECANT)
rescale = RESCALE.vjp
SCALED = frozenset({"Acosh", "Log", "Pow"})  # functions whose own scale is that of what they are given


@rescale("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Log", "Mish")
@rescale("Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh")
def unary(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """The slope of the chord, and where it is short the slope that the rules below have."""
    beneath = SECANT.find(node).rule(emit, node, grad)
    return _chord(emit, node, grad, beneath if isinstance(beneath, str) else str((beneath or [""])[0]))


def _chord(emit: Emitter, node: Chord, grad: str, beneath: str) -> str:
    (x, to_x), (y, to_y) = node.ends(), node.results()
    scale = emit.max(emit.abs(x), emit.abs(to_x)) if node.op in SCALED else None
    slope, far = _slope(emit, (x, to_x), (y, to_y), scale)
    return emit.where(far, emit.mul(grad, slope), beneath)


def _slope(emit: Emitter, x: tuple[str, str], y: tuple[str, str], scale: str | None = None) -> tuple[str, str]:
    """The slope of a chord, and whether the change is far enough for it, on the scale of 1 or the one given.

    Rounding makes an error of eps / change in it, curvature one of change^2 in the slope halfway: alike at cbrt(eps).
    """
    change, dtype = emit.sub(x[1], x[0]), emit.dtype(x[0])
    near = float(np.cbrt(np.finfo(dtype).eps))
    far = emit.greater(emit.abs(change), emit.mul(scale, near) if scale else near)
    return emit.div(emit.sub(y[1], y[0]), emit.where(far, change, np.ones((), dtype=dtype))), far


@rescale("Pow", broadcasts="all")
def power(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """A fixed exponent makes it a function of one variable."""
    beneath = SECANT.find(node).rule(emit, node, grad)
    base, exponent = beneath if isinstance(beneath, tuple) else (None, None)
    fixed = node.constant(1) is not None and base is not None
    return (_chord(emit, node, grad, base) if fixed and base else base), exponent


@rescale("Sqrt")
def sqrt(emit: Emitter, node: Chord, grad: str) -> Gradients:
    return emit.div(grad, emit.add(*node.results()))


@rescale("Reciprocal")
def reciprocal(emit: Emitter, node: Chord, grad: str) -> Gradients:
    return emit.neg(emit.mul(grad, emit.mul(*node.results())))


@rescale("Div", broadcasts="all")
def div(emit: Emitter, node: Node, grad: str) -> Gradients:
    """a (1/b): the mean of 1/b, and the mean of a times the chord of 1/b; where b stays it is linear."""
    if not isinstance(node, Chord):
        return SECANT.find(node).rule(emit, node, grad)
    a, b = node.ends(), node.ends(1)
    inverses = [emit.reciprocal(end) for end in b]
    to_b = emit.mul(emit.mul(grad, halfway(emit, *a)), emit.mul(*inverses))
    return emit.mul(grad, halfway(emit, *inverses)), emit.neg(to_b)


def _shares(emit: Emitter, node: Chord, axes: list[Any]) -> tuple[str, str]:
    """Of z: m, what a share p = e^(z - L) of the softmax is of its logarithm, and the sum of m.

    L is the logarithm of the sum of e^z. The chord of the exponential from z - L is m = (p' - p) / (log p' - log p), a
    number between the two shares (their logarithmic mean); and as shares sum to 1 at both ends, what they change by
    sums to 0: 0 = sum m (dz - dL), so dL = sum m dz / sum m. Nothing here grows with z.
    """
    dtype = emit.dtype(node.inputs[0])
    least, lowest = (np.array(float(np.finfo(dtype).min) * part, dtype) for part in (0.5, 1e-8))
    some, logs = np.array(np.finfo(dtype).tiny, dtype), []
    for end in node.ends():
        top = emit.max(emit.reduce_max(end, *axes, keepdims=1), least)
        down = emit.max(emit.sub(end, top), lowest)  # what is masked stays a number
        total = emit.max(emit.reduce_sum(emit.exp(down), *axes, keepdims=1), some)  # 0 where all is masked
        logs.append(emit.sub(down, emit.log(total)))
    slope, far = _slope(emit, (logs[0], logs[1]), (emit.exp(logs[0]), emit.exp(logs[1])))
    share = emit.where(far, slope, emit.exp(halfway(emit, *logs)))
    return share, emit.max(emit.reduce_sum(share, *axes, keepdims=1), some)


@rescale("Softmax")
def softmax(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """dp = m (dz - dL)."""
    axes = [[int(node.attr("axis", -1))]]
    share, whole = _shares(emit, node, axes)
    mean = emit.div(emit.reduce_sum(emit.mul(grad, share), *axes, keepdims=1), whole)
    return emit.mul(share, emit.sub(grad, mean))


@rescale("LogSoftmax")
def log_softmax(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """dz - dL."""
    axes = [[int(node.attr("axis", -1))]]
    share, whole = _shares(emit, node, axes)
    return emit.sub(grad, emit.mul(share, emit.div(emit.reduce_sum(grad, *axes, keepdims=1), whole)))


@rescale("ReduceLogSumExp")
def reduce_log_sum_exp(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """dL."""
    if is_identity(node):
        return grad
    share, whole = _shares(emit, node, list(filter(None, node.inputs[1:2])))
    return emit.mul(share, emit.div(kept(emit, node, grad), whole))


@rescale("ReduceL2")
def reduce_l2(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """sqrt of a sum of squares: (a + b) / (|a| + |b|)."""
    norms = emit.add(*(kept(emit, node, end) for end in node.results()))
    one = np.ones((), dtype=emit.dtype(norms))
    whole = emit.div(kept(emit, node, grad), emit.where(emit.greater(norms, 0.0), norms, one))
    return emit.mul(emit.add(*node.ends()), whole)


@rescale("LayerNormalization", many=True)
def layer_normalization(emit: Emitter, node: Chord, grads: list[str | None]) -> Gradients:
    if any(grads[1:]):
        return SECANT.find(node).rule(emit, node, grads)
    scaled = emit.mul(grads[0] or emit.zeros_like(node.inputs[0]), node.inputs[1])
    rank = node.rank()
    return _normalized(emit, node, scaled, list(range(int(node.attr("axis", -1)) % rank, rank)))


@rescale("InstanceNormalization")
def instance_normalization(emit: Emitter, node: Chord, grad: str) -> Gradients:
    scaled = emit.mul(grad, per_channel(emit, node.inputs[1], node.rank()))
    return _normalized(emit, node, scaled, list(range(2, node.rank())))


def _normalized(emit: Emitter, node: Chord, grad: str, axes: list[int]) -> str:
    """d s with d = x - mean x and s = (mean d^2 + eps)^(-1/2), of which the chord is -s s' s s' / (s + s')."""
    d = [emit.sub(end, emit.reduce_mean(end, axes, keepdims=1)) for end in node.ends()]
    epsilon = float(node.attr("epsilon", 1e-5))
    variances = [emit.add(emit.reduce_mean(emit.mul(end, end), axes, keepdims=1), epsilon) for end in d]
    s = [emit.reciprocal(emit.sqrt(variance)) for variance in variances]
    middle, product = halfway(emit, *d), emit.mul(*s)
    chord = emit.div(emit.mul(product, product), emit.add(*s))
    pull = emit.mul(emit.mul(emit.reduce_mean(emit.mul(grad, middle), axes, keepdims=1), chord), 2.0)
    to_d = emit.sub(emit.mul(grad, halfway(emit, *s)), emit.mul(middle, pull))
    return emit.sub(to_d, emit.reduce_mean(to_d, axes, keepdims=1))


@rescale("GRU", "LSTM", "RNN", many=True)
def recurrent(emit: Emitter, node: Chord, grads: list[str | None]) -> Gradients:
    """Products of gates and states halfway, chords of the activations: one sweep back along both ends' time."""
    sweep, activations = SWEEPS[node.op]
    return swept(emit, node, grads, sweep, activations, RESCALE, (node.start, node.stop))

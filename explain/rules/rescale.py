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


def _exponentials(emit: Emitter, node: Chord, axes: list[Any]) -> tuple[list[str], list[str], str]:
    """Of z: e^(z - c) at both ends, their sums, and the slope of the exponential; c, the same for both ends, is halfway
    between their largest z."""
    z, least = node.ends(), float(np.finfo(emit.dtype(node.inputs[0])).min)
    tops = [emit.max(emit.reduce_max(end, *axes, keepdims=1), np.array(least, emit.dtype(end))) for end in z]
    top = emit.add(emit.mul(tops[0], 0.5), emit.mul(tops[1], 0.5))
    u = (emit.sub(z[0], top), emit.sub(z[1], top))
    e = (emit.exp(u[0]), emit.exp(u[1]))
    slope, far = _slope(emit, u, e)
    some = np.array(1e-18, dtype=emit.dtype(z[0]))  # where all is masked
    sums = [emit.max(emit.reduce_sum(end, *axes, keepdims=1), some) for end in e]
    return list(e), sums, emit.where(far, slope, emit.exp(halfway(emit, *u)))


@rescale("Softmax")
def softmax(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """e^(z - c) / S: a quotient of exponentials."""
    axes = [[int(node.attr("axis", -1))]]
    e, sums, slope = _exponentials(emit, node, axes)
    inverses = [emit.reciprocal(end) for end in sums]
    by_sum = emit.reduce_sum(emit.mul(grad, halfway(emit, *e)), *axes, keepdims=1)
    to_e = emit.sub(emit.mul(grad, halfway(emit, *inverses)), emit.mul(by_sum, emit.mul(*inverses)))
    return emit.mul(slope, to_e)


@rescale("LogSoftmax")
def log_softmax(emit: Emitter, node: Chord, grad: str) -> Gradients:
    """z - log S."""
    axes = [[int(node.attr("axis", -1))]]
    _, sums, slope = _exponentials(emit, node, axes)
    whole = emit.mul(emit.reduce_sum(grad, *axes, keepdims=1), _log_slope(emit, sums))
    return emit.sub(grad, emit.mul(slope, whole))


@rescale("ReduceLogSumExp")
def reduce_log_sum_exp(emit: Emitter, node: Chord, grad: str) -> Gradients:
    if is_identity(node):
        return grad
    _, sums, slope = _exponentials(emit, node, list(filter(None, node.inputs[1:2])))
    return emit.mul(slope, emit.mul(kept(emit, node, grad), _log_slope(emit, sums)))


def _log_slope(emit: Emitter, sums: list[str]) -> str:
    x = sums[0], sums[1]
    slope, far = _slope(emit, x, (emit.log(x[0]), emit.log(x[1])), emit.max(*x))
    return emit.where(far, slope, emit.reciprocal(halfway(emit, *x)))


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

"""Elementwise operators: activations, arithmetic, selection."""

import math

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp


@vjp("Identity", "Dropout")
def identity(emit: Emitter, node: Node, grad: str) -> Gradients:
    """At inference Dropout is the identity; a training-mode Dropout is refused."""
    training = node.constant(2)
    if node.input(2) and (training is None or bool(training)):
        raise node.refuse("Dropout in training mode is random; export the model in evaluation mode")
    return grad


@vjp("Cast")
def cast(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.cast_like_value(grad, node.inputs[0])


@vjp("CastLike")
def cast_like(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Only the dtype of the second input is read."""
    x, like = node.inputs
    return emit.cast_like_value(grad, x), emit.zeros_like(like)


@vjp("Neg")
def neg(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.neg(grad)


@vjp("Add", "Sum", broadcasts="all")
def add(emit: Emitter, node: Node, grad: str) -> Gradients:
    return (grad,) * len(node.inputs)


@vjp("Mean", broadcasts="all")
def mean(emit: Emitter, node: Node, grad: str) -> Gradients:
    return (emit.mul(grad, 1.0 / len(node.inputs)),) * len(node.inputs)


@vjp("Sub", broadcasts="all")
def sub(emit: Emitter, node: Node, grad: str) -> Gradients:
    return grad, emit.neg(grad)


@vjp("Mul", broadcasts="all")
def mul(emit: Emitter, node: Node, grad: str) -> Gradients:
    a, b = node.inputs
    return emit.mul(grad, b), emit.mul(grad, a)


@vjp("Div", broadcasts="all")
def div(emit: Emitter, node: Node, grad: str) -> Gradients:
    _, b = node.inputs
    over_b = emit.div(grad, b)
    return over_b, emit.neg(emit.mul(over_b, node.outputs[0]))


@vjp("Pow", broadcasts="all")
def power(emit: Emitter, node: Node, grad: str) -> Gradients:
    """d(x^p) = p x^(p-1) dx + x^p log(x) dp, with log(x) taken as 0 where x <= 0, and p x^(p-1) as 0 where p is 0."""
    x, p = node.inputs
    exponent, known = emit.cast_like_value(p, x), node.constant(1)
    one = np.array(1, dtype=emit.dtype(x))
    base = x if known is not None and known.all() else emit.where(emit.equal(exponent, 0.0), one, x)
    dx = emit.mul(grad, emit.mul(exponent, emit.pow(base, emit.sub(exponent, one))))
    positive = emit.greater(x, 0.0)
    logarithm = emit.where(positive, emit.log(emit.where(positive, x, one)), np.zeros_like(one))
    return dx, emit.cast_like_value(emit.mul(grad, emit.mul(node.outputs[0], logarithm)), p)


@vjp("Abs")
def absolute(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, emit.sign(node.inputs[0]))


@vjp("Exp")
def exp(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, node.outputs[0])


@vjp("Log")
def log(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.div(grad, node.inputs[0])


@vjp("Sqrt")
def sqrt(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.div(emit.mul(grad, 0.5), node.outputs[0])


@vjp("Reciprocal")
def reciprocal(emit: Emitter, node: Node, grad: str) -> Gradients:
    y = node.outputs[0]
    return emit.neg(emit.mul(grad, emit.mul(y, y)))


@vjp("Erf")
def erf(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    return emit.mul(grad, emit.mul(emit.exp(emit.neg(emit.mul(x, x))), 2.0 / math.sqrt(math.pi)))


@vjp("Sin")
def sin(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, emit.cos(node.inputs[0]))


@vjp("Cos")
def cos(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.neg(emit.mul(grad, emit.sin(node.inputs[0])))


@vjp("Tan")
def tan(emit: Emitter, node: Node, grad: str) -> Gradients:
    y = node.outputs[0]
    return emit.add(grad, emit.mul(grad, emit.mul(y, y)))


@vjp("Sinh")
def sinh(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, emit.cosh(node.inputs[0]))


@vjp("Cosh")
def cosh(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, emit.sinh(node.inputs[0]))


@vjp("Asin")
def asin(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.div(grad, emit.sqrt(_one_minus_square(emit, node.inputs[0])))


@vjp("Acos")
def acos(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.neg(emit.div(grad, emit.sqrt(_one_minus_square(emit, node.inputs[0]))))


@vjp("Atan")
def atan(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    return emit.div(grad, emit.add(emit.mul(x, x), 1.0))


@vjp("Atanh")
def atanh(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.div(grad, _one_minus_square(emit, node.inputs[0]))


@vjp("Asinh")
def asinh(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    return emit.div(grad, emit.sqrt(emit.add(emit.mul(x, x), 1.0)))


@vjp("Acosh")
def acosh(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    return emit.div(grad, emit.sqrt(emit.sub(emit.mul(x, x), 1.0)))


@vjp("Tanh")
def tanh(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, _one_minus_square(emit, node.outputs[0]))


@vjp("Sigmoid")
def sigmoid(emit: Emitter, node: Node, grad: str) -> Gradients:
    y = node.outputs[0]
    return emit.mul(grad, emit.sub(y, emit.mul(y, y)))


@vjp("Relu")
def relu(emit: Emitter, node: Node, grad: str) -> Gradients:
    """The mask is taken from the output, so that a runtime may keep Conv+Relu fused."""
    return _where(emit, emit.greater(node.outputs[0], 0.0), grad)


@vjp("LeakyRelu")
def leaky_relu(emit: Emitter, node: Node, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 0.01))
    return emit.where(emit.greater(node.inputs[0], 0.0), grad, emit.mul(grad, alpha))


@vjp("PRelu", broadcasts="all")
def prelu(emit: Emitter, node: Node, grad: str) -> Gradients:
    x, slope = node.inputs
    positive = emit.greater(x, 0.0)
    zero = emit.sub(grad, grad)
    return emit.where(positive, grad, emit.mul(grad, slope)), emit.where(positive, zero, emit.mul(grad, x))


@vjp("Elu")
def elu(emit: Emitter, node: Node, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 1.0))
    return emit.where(emit.greater(node.inputs[0], 0.0), grad, emit.mul(grad, emit.add(node.outputs[0], alpha)))


@vjp("Selu")
def selu(emit: Emitter, node: Node, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 1.6732631921768188))
    gamma = float(node.attr("gamma", 1.0507010221481323))
    negative = emit.mul(grad, emit.add(node.outputs[0], alpha * gamma))
    return emit.where(emit.greater(node.inputs[0], 0.0), emit.mul(grad, gamma), negative)


@vjp("Celu")
def celu(emit: Emitter, node: Node, grad: str) -> Gradients:
    alpha = float(node.attr("alpha", 1.0))
    negative = emit.mul(grad, emit.add(emit.mul(node.outputs[0], 1.0 / alpha), 1.0))
    return emit.where(emit.greater(node.inputs[0], 0.0), grad, negative)


@vjp("ThresholdedRelu")
def thresholded_relu(emit: Emitter, node: Node, grad: str) -> Gradients:
    return _where(emit, emit.greater(node.inputs[0], float(node.attr("alpha", 1.0))), grad)


@vjp("Softplus")
def softplus(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(grad, emit.sigmoid(node.inputs[0]))


@vjp("Softsign")
def softsign(emit: Emitter, node: Node, grad: str) -> Gradients:
    denominator = emit.add(emit.abs(node.inputs[0]), 1.0)
    return emit.div(grad, emit.mul(denominator, denominator))


@vjp("HardSigmoid")
def hard_sigmoid(emit: Emitter, node: Node, grad: str) -> Gradients:
    y, alpha = node.outputs[0], float(node.attr("alpha", 0.2))
    inside = emit.logical_and(emit.greater(y, 0.0), emit.less(y, 1.0))
    return _where(emit, inside, emit.mul(grad, alpha))


@vjp("HardSwish")
def hard_swish(emit: Emitter, node: Node, grad: str) -> Gradients:
    """x * clip(x/6 + 1/2, 0, 1): 0 below -3, 1 above 3, x/3 + 1/2 between."""
    x = node.inputs[0]
    between = emit.mul(grad, emit.add(emit.mul(x, 1.0 / 3.0), 0.5))
    return emit.where(emit.greater_or_equal(x, 3.0), grad, _where(emit, emit.greater(x, -3.0), between))


@vjp("Mish")
def mish(emit: Emitter, node: Node, grad: str) -> Gradients:
    """x tanh(s), s = softplus(x): tanh(s) + x (1 - tanh(s)^2) sigmoid(x)."""
    x = node.inputs[0]
    t = emit.tanh(emit.softplus(x))
    slope = emit.add(t, emit.mul(emit.mul(x, _one_minus_square(emit, t)), emit.sigmoid(x)))
    return emit.mul(grad, slope)


@vjp("Clip", broadcasts="all")
def clip(emit: Emitter, node: Node, grad: str) -> Gradients:
    """min(max(x, low), high): a bound takes the gradient where it is beyond x, x takes it at its bounds."""
    x, low, high = (node.input(i) for i in range(3))
    to_low = to_high = None
    if high:
        above = emit.greater(emit.max(x, low) if low else x, high)
        to_high, grad = _where(emit, above, grad), _where(emit, emit.logical_not(above), grad)
    if low:
        below = emit.less(x, low)
        to_low, grad = _where(emit, below, grad), _where(emit, emit.logical_not(below), grad)
    return (grad, to_low, to_high)[: len(node.inputs)]


@vjp("Where", broadcasts="all")
def where(emit: Emitter, node: Node, grad: str) -> Gradients:
    condition = node.inputs[0]
    zero = np.zeros((), dtype=emit.dtype(grad))
    return None, emit.where(condition, grad, zero), emit.where(condition, zero, grad)


@vjp("Max", "Min", broadcasts="all")
def extreme(emit: Emitter, node: Node, grad: str) -> Gradients:
    """The gradient goes to the operands that attain the extreme, shared equally among ties."""
    y = node.outputs[0]
    masks = [emit.cast_like_value(emit.equal(x, y), y) for x in node.inputs]
    share = emit.div(grad, emit.node("Sum", masks)[0])
    return [emit.mul(share, mask) for mask in masks]


@vjp("Mod", broadcasts="all")
def mod(emit: Emitter, node: Node, grad: str) -> Gradients:
    """x minus a whole number of divisors: passes to x almost everywhere; the divisor must be a constant."""
    if node.constant(1) is None:
        raise node.refuse("the divisor is computed; only a constant divisor is covered")
    return grad, None


def _one_minus_square(emit: Emitter, x: str) -> str:
    return emit.sub(np.ones((), dtype=emit.dtype(x)), emit.mul(x, x))


def _where(emit: Emitter, condition: str, grad: str) -> str:
    return emit.where(condition, grad, np.zeros((), dtype=emit.dtype(grad)))

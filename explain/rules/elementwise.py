"""Elementwise operators: arithmetic, functions of one variable, selection."""

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
    if known is None or (known < 1).any() or (known != np.round(known)).any():
        dx = _where_asked(emit, grad, dx)
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
    return _where_asked(emit, grad, emit.div(grad, node.inputs[0]))


@vjp("Sqrt")
def sqrt(emit: Emitter, node: Node, grad: str) -> Gradients:
    return _where_asked(emit, grad, emit.div(emit.mul(grad, 0.5), node.outputs[0]))


def _where_asked(emit: Emitter, grad: str, result: str) -> str:
    """0 where nothing is asked: behind a choice that was not taken, a slope may be infinite or no number."""
    zero = np.zeros((), dtype=emit.dtype(grad))
    return emit.where(emit.equal(grad, zero), zero, result)


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
    return emit.div(grad, emit.sqrt(one_minus_square(emit, node.inputs[0])))


@vjp("Acos")
def acos(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.neg(emit.div(grad, emit.sqrt(one_minus_square(emit, node.inputs[0]))))


@vjp("Atan")
def atan(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    return emit.div(grad, emit.add(emit.mul(x, x), 1.0))


@vjp("Atanh")
def atanh(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.div(grad, one_minus_square(emit, node.inputs[0]))


@vjp("Asinh")
def asinh(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    return emit.div(grad, emit.sqrt(emit.add(emit.mul(x, x), 1.0)))


@vjp("Acosh")
def acosh(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    return emit.div(grad, emit.sqrt(emit.sub(emit.mul(x, x), 1.0)))


@vjp("Clip", broadcasts="all")
def clip(emit: Emitter, node: Node, grad: str) -> Gradients:
    """min(max(x, low), high): a bound takes the gradient where it is beyond x, x takes it at its bounds."""
    x, low, high = (node.input(i) for i in range(3))
    to_low = to_high = None
    if high:
        above = emit.greater(emit.max(x, low) if low else x, high)
        to_high, grad = only_where(emit, above, grad), only_where(emit, emit.logical_not(above), grad)
    if low:
        below = emit.less(x, low)
        to_low, grad = only_where(emit, below, grad), only_where(emit, emit.logical_not(below), grad)
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


def one_minus_square(emit: Emitter, x: str) -> str:
    """1 - x^2."""
    return emit.sub(np.ones((), dtype=emit.dtype(x)), emit.mul(x, x))


def only_where(emit: Emitter, condition: str, grad: str) -> str:
    """The gradient where the condition holds, 0 elsewhere."""
    return emit.where(condition, grad, np.zeros((), dtype=emit.dtype(grad)))

"""Reductions, softmax and cumulative sums."""

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp


def kept(emit: Emitter, node: Node, value: str) -> str:
    """A reduced value with the reduced axes back as 1, so that it broadcasts against the input."""
    if int(node.attr("keepdims", 1)):
        return value
    if node.input(1):
        return emit.unsqueeze(value, node.inputs[1])
    return emit.reshape(value, [1] * node.rank())


def is_identity(node: Node) -> bool:
    """Without axes a reduction takes all of them, or none where noop_with_empty_axes says so."""
    axes = node.constant(1) if node.input(1) else np.zeros(0)
    return bool(node.attr("noop_with_empty_axes", 0)) and axes is not None and axes.size == 0


@vjp("ReduceSum")
def reduce_sum(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    return grad if is_identity(node) else emit.expand(kept(emit, node, grad), emit.shape(x))


@vjp("ReduceMean")
def reduce_mean(emit: Emitter, node: Node, grad: str) -> Gradients:
    x, y = node.inputs[0], node.outputs[0]
    if is_identity(node):
        return grad
    count = emit.cast_like_value(emit.div(emit.size(x), emit.size(y)), x)
    return emit.expand(kept(emit, node, emit.div(grad, count)), emit.shape(x))


@vjp("ReduceMax", "ReduceMin")
def reduce_extreme(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Shared equally among the elements that attain the extreme (as torch.amax)."""
    x, axes = node.inputs[0], node.input(1)
    if is_identity(node):
        return grad
    mask = emit.cast_like_value(emit.equal(x, kept(emit, node, node.outputs[0])), x)
    count = emit.reduce_sum(mask, axes, keepdims=1) if axes else emit.reduce_sum(mask, keepdims=1)
    return emit.mul(mask, emit.div(kept(emit, node, grad), count))


@vjp("ReduceL1")
def reduce_l1(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(emit.sign(node.inputs[0]), kept(emit, node, grad))


@vjp("ReduceL2")
def reduce_l2(emit: Emitter, node: Node, grad: str) -> Gradients:
    """x / ||x||, and 0 where the norm is 0."""
    y = kept(emit, node, node.outputs[0])
    one = np.ones((), dtype=emit.dtype(y))
    safe = emit.where(emit.greater(y, 0.0), y, one)
    return emit.mul(node.inputs[0], emit.div(kept(emit, node, grad), safe))


@vjp("ReduceSumSquare")
def reduce_sum_square(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.mul(emit.mul(node.inputs[0], 2.0), kept(emit, node, grad))


@vjp("ReduceLogSum")
def reduce_log_sum(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    inverse = emit.exp(emit.neg(kept(emit, node, node.outputs[0])))
    return emit.expand(emit.mul(kept(emit, node, grad), inverse), emit.shape(x))


@vjp("ReduceLogSumExp")
def reduce_log_sum_exp(emit: Emitter, node: Node, grad: str) -> Gradients:
    weights = emit.exp(emit.sub(node.inputs[0], kept(emit, node, node.outputs[0])))
    return emit.mul(weights, kept(emit, node, grad))


@vjp("ReduceProd")
def reduce_prod(emit: Emitter, node: Node, grad: str) -> Gradients:
    """The product of the others: y/x, except that a single zero gets the product of the rest and several get 0."""
    x, axes = node.inputs[0], [node.inputs[1]] if node.input(1) else []
    if is_identity(node):
        return grad
    one = np.ones((), dtype=emit.dtype(x))
    is_zero = emit.equal(x, 0.0)
    zeros = emit.reduce_sum(emit.cast_like_value(is_zero, x), *axes, keepdims=1)
    rest = emit.reduce_prod(emit.where(is_zero, one, x), *axes, keepdims=1)
    no_zero = emit.div(kept(emit, node, node.outputs[0]), emit.where(is_zero, one, x))
    only_zero = emit.where(is_zero, rest, emit.sub(rest, rest))
    none = np.zeros((), dtype=emit.dtype(x))
    slope = emit.where(emit.equal(zeros, 0.0), no_zero, emit.where(emit.equal(zeros, 1.0), only_zero, none))
    return emit.mul(slope, kept(emit, node, grad))


@vjp("Softmax")
def softmax(emit: Emitter, node: Node, grad: str) -> Gradients:
    y, axis = node.outputs[0], int(node.attr("axis", -1))
    weighted = emit.mul(y, grad)
    result = emit.sub(weighted, emit.mul(y, emit.reduce_sum(weighted, [axis], keepdims=1)))
    if not _is_replaced_where_undefined(node, y):
        return result
    return emit.where(emit.is_nan(y), np.zeros((), dtype=emit.dtype(y)), result)


def _is_replaced_where_undefined(node: Node, value: str) -> bool:
    """Whether the model replaces some of these probabilities: those of a row that is masked entirely are NaN.

    What replaces them is constant, so their gradient is 0, where 0 * NaN would be NaN.
    """
    for user in node.graph.consumers.get(value, ()):
        if user.op in ("IsNaN", "Where"):
            return True
        if user.op in ("Cast", "Identity") and _is_replaced_where_undefined(user, user.outputs[0]):
            return True
    return False


@vjp("LogSoftmax")
def log_softmax(emit: Emitter, node: Node, grad: str) -> Gradients:
    y, axis = node.outputs[0], int(node.attr("axis", -1))
    return emit.sub(grad, emit.mul(emit.exp(y), emit.reduce_sum(grad, [axis], keepdims=1)))


@vjp("CumSum")
def cum_sum(emit: Emitter, node: Node, grad: str) -> Gradients:
    reverse = 1 - int(node.attr("reverse", 0))
    return emit.cum_sum(grad, node.inputs[1], exclusive=int(node.attr("exclusive", 0)), reverse=reverse)

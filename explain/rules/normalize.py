"""Normalisations. At inference BatchNormalization is a scale per channel; the others carry statistics of the input:
with xh = (x - mean) * s and g = gamma * dy, dx = s * (g - mean(g) - xh * mean(g * xh))."""

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp


@vjp("BatchNormalization", many=True)
def batch_normalization(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    if int(node.attr("training_mode", 0)):
        raise node.refuse("attribute training_mode=1 is not covered; export the model in evaluation mode")
    _, scale, _, _, variance = node.inputs
    slope = emit.div(scale, emit.sqrt(emit.add(variance, float(node.attr("epsilon", 1e-5)))))
    grad = grads[0] or emit.zeros_like(node.outputs[0])
    return emit.mul(grad, per_channel(emit, slope, node.rank())), None, None, None, None


@vjp("InstanceNormalization")
def instance_normalization(emit: Emitter, node: Node, grad: str) -> Gradients:
    x, scale, _ = node.inputs
    axes = list(range(2, node.rank()))
    return _normalized(emit, x, emit.mul(grad, per_channel(emit, scale, node.rank())), axes, node)


@vjp("LayerNormalization", many=True)
def layer_normalization(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """Mean and inverse deviation may be explained as well: m = mean(x) spreads evenly, ds/dx = -s^2 xh / n."""
    x, rank = node.inputs[0], node.rank()
    axes = list(range(int(node.attr("axis", -1)) % rank, rank))
    scaled = emit.mul(grads[0] or emit.zeros_like(x), node.inputs[1])
    total = _normalized(emit, x, scaled, axes, node)
    by_mean, by_deviation = (*grads, None, None)[1:3]
    if by_mean:
        share = emit.div(emit.cast_like_value(by_mean, x), _count(emit, x, by_mean))
        total = emit.add(total, share)
    if by_deviation:
        xh, s = _standard(emit, x, axes, node)
        share = emit.div(emit.cast_like_value(by_deviation, x), _count(emit, x, by_deviation))
        total = emit.sub(total, emit.mul(xh, emit.mul(emit.mul(s, s), share)))
    return total


def _count(emit: Emitter, x: str, reduced: str) -> str:
    return emit.cast_like_value(emit.div(emit.size(x), emit.size(reduced)), x)


def _standard(emit: Emitter, x: str, axes: list[int], node: Node) -> tuple[str, str]:
    """The input at mean 0 and deviation 1, and the inverse deviation."""
    centred = emit.sub(x, emit.reduce_mean(x, axes, keepdims=1))
    variance = emit.reduce_mean(emit.mul(centred, centred), axes, keepdims=1)
    s = emit.reciprocal(emit.sqrt(emit.add(variance, float(node.attr("epsilon", 1e-5)))))
    return emit.mul(centred, s), s


def _normalized(emit: Emitter, x: str, grad: str, axes: list[int], node: Node) -> str:
    xh, s = _standard(emit, x, axes, node)
    pull = emit.mul(xh, emit.reduce_mean(emit.mul(grad, xh), axes, keepdims=1))
    return emit.mul(s, emit.sub(emit.sub(grad, emit.reduce_mean(grad, axes, keepdims=1)), pull))


@vjp("LpNormalization")
def lp_normalization(emit: Emitter, node: Node, grad: str) -> Gradients:
    """y = x / ||x||_p: (dy - h * sum(dy * y)) / ||x||, h = y for p = 2 and sign(x) for p = 1."""
    x, y, axis = node.inputs[0], node.outputs[0], int(node.attr("axis", -1))
    second = int(node.attr("p", 2)) == 2
    norm = emit.reduce_l2(x, [axis], keepdims=1) if second else emit.reduce_l1(x, [axis], keepdims=1)
    along = emit.reduce_sum(emit.mul(grad, y), [axis], keepdims=1)
    return emit.div(emit.sub(grad, emit.mul(y if second else emit.sign(x), along)), norm)


@vjp("LRN")
def lrn(emit: Emitter, node: Node, grad: str) -> Gradients:
    """y = x u^-b with u = bias + alpha/size * (window sum of x^2 over channels):
    dx = dy u^-b - 2 alpha/size b x * (mirrored window sum of dy x u^(-b-1))."""
    x, size = node.inputs[0], int(node.attr("size"))
    alpha, beta, bias = (float(node.attr(k, d)) for k, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    u = emit.add(emit.mul(_channel_sum(emit, emit.mul(x, x), size, before, after), alpha / size), bias)
    reach = emit.mul(emit.mul(grad, x), emit.pow(u, -beta - 1.0))
    back = emit.mul(emit.mul(x, _channel_sum(emit, reach, size, after, before)), 2.0 * alpha * beta / size)
    return emit.sub(emit.mul(grad, emit.pow(u, -beta)), back)


def _channel_sum(emit: Emitter, x: str, size: int, before: int, after: int) -> str:
    """Sum over `size` neighbouring channels of [N, C, ...]: a pooling over the channel axis."""
    plane = emit.reshape(x, emit.join(emit.dim(x, 0), 1, emit.dim(x, 1), -1))
    pooled = emit.average_pool(plane, kernel_shape=[size, 1], pads=[before, 0, after, 0], count_include_pad=1)
    return emit.reshape(emit.mul(pooled, float(size)), emit.shape(x))


def per_channel(emit: Emitter, vector: str, rank: int) -> str:
    """[C] as [C, 1, 1, ...] for a tensor [N, C, ...] of this rank."""
    return emit.reshape(vector, np.array([-1] + [1] * (rank - 2), dtype=np.int64)) if rank > 2 else vector

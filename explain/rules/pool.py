"""Poolings, overlapping windows included: contributions of windows that share an element add up."""

import math

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp
from .windows import Windows, crop_to_input

POOL_ATTRIBUTES = ("auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides")


@vjp("MaxPool", many=True)
def max_pool(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """The operator run again with its second output says where each maximum was, as an index into the whole tensor."""
    x, grad = node.inputs[0], grads[0]
    attributes = {name: node.attr(name) for name in POOL_ATTRIBUTES}
    _, indices = emit.node("MaxPool", [x], attributes, 2)
    zeros = emit.zeros(emit.reshape(emit.size(x), [1]), x)
    flat = emit.reshape(grad or emit.zeros_like(node.outputs[0]), [-1])
    total = emit.scatter_elements(zeros, emit.reshape(indices, [-1]), flat, axis=0, reduction="add")
    return emit.reshape(total, emit.shape(x))


@vjp("AveragePool")
def average_pool(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Each output spreads its gradient, divided by the elements it averaged, over its window."""
    windows = Windows.of(node, tuple(node.attr("kernel_shape")))
    shared = emit.div(grad, _window_counts(emit, node, windows, grad))
    return _spread(emit, windows, shared, node)


def _spread(emit: Emitter, windows: Windows, shared: str, node: Node) -> str:
    """What belongs to a window goes to each of its elements."""
    x = node.inputs[0]
    ones = np.ones((1, 1, *windows.kernel), dtype=emit.dtype(shared))
    single = emit.reshape(shared, emit.join(-1, 1, emit.dims(shared, 2)))
    full = emit.conv_transpose(single, ones, strides=windows.strides, dilations=windows.dilations)
    channels = emit.reshape(full, emit.join(emit.dims(x, 0, 2), emit.dims(full, 2)))
    return crop_to_input(emit, channels, windows, node)


def _window_counts(emit: Emitter, node: Node, windows: Windows, grad: str) -> str:
    """How many elements each window averaged, [1, 1, spatial...]: a sum over a mask of ones.

    Pads count where count_include_pad says so; what ceil_mode lets hang over the end never does.
    """
    x, n, dtype = node.inputs[0], windows.rank, emit.dtype(grad)
    count_pads, ceil = bool(node.attr("count_include_pad", 0)), bool(node.attr("ceil_mode", 0))
    unpadded = windows.begin is not None and not any((*windows.begin, *(windows.end or ())))
    if not ceil and (unpadded or (count_pads and windows.begin is not None)):
        return emit.constant(np.array(math.prod(windows.kernel), dtype=dtype))
    axes = list(range(2, 2 + n))
    inside = emit.expand(np.ones((), dtype=dtype), emit.join(1, 1, emit.dims(x, 2)))
    begin = windows.begin_at_run_time(emit, x)
    if windows.end is None:
        end = emit.sub(_same_total(emit, windows, x), begin)
    else:
        end = emit.constant(np.array(windows.end))
    mask = emit.pad_along(inside, emit.concat(begin, end, axis=0), axes, 2 + n, 1.0 if count_pads else 0.0)
    if ceil:
        overhang = [0] * n + [stride - 1 for stride in windows.strides]
        mask = emit.pad_along(mask, overhang, axes, 2 + n)
    ones = np.ones((1, 1, *windows.kernel), dtype=dtype)
    counts = emit.conv(mask, ones, strides=windows.strides, dilations=windows.dilations)
    return emit.slice(counts, [0] * n, emit.dims(grad, 2), axes)


def _same_total(emit: Emitter, windows: Windows, x: str) -> str:
    """Pads before and after together: twice the smaller side, or one more."""
    upper = Windows(windows.kernel, windows.strides, windows.dilations, None, None, True)
    lower = Windows(windows.kernel, windows.strides, windows.dilations, None, None, False)
    return emit.add(upper.begin_at_run_time(emit, x), lower.begin_at_run_time(emit, x))


@vjp("LpPool")
def lp_pool(emit: Emitter, node: Node, grad: str) -> Gradients:
    """y = (sum |x|^p)^(1/p) over a window: sign(x) |x|^(p-1) y^(1-p) dy, and 0 where all of a window is 0."""
    windows = Windows.of(node, tuple(node.attr("kernel_shape")))
    return emit.mul(_lp_slope(emit, node), _spread(emit, windows, _over_norm(emit, node, grad), node))


@vjp("GlobalLpPool")
def global_lp_pool(emit: Emitter, node: Node, grad: str) -> Gradients:
    """LpPool with one window over all spatial axes."""
    return emit.mul(_lp_slope(emit, node), _over_norm(emit, node, grad))


def _lp_slope(emit: Emitter, node: Node) -> str:
    x, p = node.inputs[0], int(node.attr("p", 2))
    return x if p == 2 else emit.mul(emit.sign(x), emit.pow(emit.abs(x), float(p - 1)))


def _over_norm(emit: Emitter, node: Node, grad: str) -> str:
    y = node.outputs[0]
    nonzero = emit.where(emit.greater(y, 0.0), y, np.ones((), dtype=emit.dtype(y)))
    return emit.div(grad, emit.pow(nonzero, float(int(node.attr("p", 2)) - 1)))


@vjp("MaxUnpool")
def max_unpool(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Each element finds its gradient where it was put (by ONNX Runtime also where 'output_shape' is stated)."""
    x, indices = node.inputs[:2]
    taken = emit.gather(emit.reshape(grad, [-1]), emit.reshape(indices, [-1]), axis=0)
    return emit.reshape(taken, emit.shape(x))


@vjp("GlobalAveragePool")
def global_average_pool(emit: Emitter, node: Node, grad: str) -> Gradients:
    x = node.inputs[0]
    count = emit.cast_like_value(emit.div(emit.size(x), emit.size(node.outputs[0])), x)
    return emit.expand(emit.div(grad, count), emit.shape(x))


@vjp("GlobalMaxPool")
def global_max_pool(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Shared equally among the elements that attain the maximum."""
    x = node.inputs[0]
    mask = emit.cast_like_value(emit.equal(x, node.outputs[0]), x)
    axes = list(range(2, node.rank()))
    return emit.mul(mask, emit.div(grad, emit.reduce_sum(mask, axes, keepdims=1)))

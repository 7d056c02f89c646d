"""Operators of which opset 18 knows the name, but not what newer opsets let them mean."""

import math

import numpy as np

from ...emit import Emitter
from ...graph import Node
from ...rules.windows import Windows
from .registry import LATER, expansion


@expansion("GridSample", domain=LATER)
def grid_sample(emit: Emitter, node: Node) -> str:
    """Opset 20 gave its modes the names they have elsewhere."""
    mode = node.attr("mode", b"linear").decode()
    named = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return emit.node("GridSample", node.inputs, {**node.attributes, "mode": named})[0]


@expansion("DFT", domain=LATER)
def dft(emit: Emitter, node: Node) -> str:
    """Opset 20 made an input of the axis."""
    axis = np.array(-2) if not node.input(2) else node.constant(2)
    if axis is None:
        raise node.refuse("its axis is computed at run time; only a constant axis is covered")
    operands = [name for name in node.inputs[:2] if name]
    return emit.node("DFT", operands, {**node.attributes, "axis": int(axis)})[0]


@expansion("AveragePool", domain=LATER)
def average_pool(emit: Emitter, node: Node) -> str:
    """Opset 19 lets windows be dilated: a convolution with ones, over the elements it found."""
    dilations = node.attr("dilations")
    if not dilations or set(dilations) == {1}:
        kept = {name: value for name, value in node.attributes.items() if name != "dilations"}
        return emit.node("AveragePool", node.inputs, kept)[0]
    x, windows = node.inputs[0], Windows.of(node, tuple(node.attr("kernel_shape")))
    single = emit.reshape(x, emit.join(-1, 1, emit.dims(x, 2)))
    ones = emit.expand(np.ones((), dtype=emit.dtype(x)), emit.join(1, 1, emit.dims(x, 2)))
    if node.attr("auto_pad", b"NOTSET").decode().startswith("SAME"):
        total, inside = (_same_windows(emit, node, windows, part) for part in (single, ones))
    else:
        total = _sums(emit, node, windows, single, 0.0)
        inside = _sums(emit, node, windows, ones, float(bool(node.attr("count_include_pad", 0))))
    if node.attr("auto_pad", b"NOTSET").decode().startswith("SAME") and node.attr("count_include_pad", 0):
        inside = emit.constant(np.array(math.prod(windows.kernel), dtype=emit.dtype(x)))
    mean = emit.div(total, inside)
    return emit.reshape(mean, emit.join(emit.dims(x, 0, 2), emit.dims(mean, 2)))


def _same_windows(emit: Emitter, node: Node, windows: Windows, x: str) -> str:
    ones = np.ones((1, 1, *windows.kernel), dtype=emit.dtype(x))
    given = {"strides": windows.strides, "dilations": windows.dilations, "auto_pad": node.attr("auto_pad")}
    return emit.node("Conv", [x, ones], given)[0]


def _sums(emit: Emitter, node: Node, windows: Windows, x: str, padding: float) -> str:
    """Sums over windows of [N, 1, spatial...], padded with `padding`; beyond the padding lies 0."""
    n, axes = windows.rank, list(range(2, 2 + windows.rank))
    begin, end = windows.begin or (0,) * n, windows.end or (0,) * n
    padded = emit.pad_along(x, [*begin, *end], axes, 2 + n, padding)
    ceil = bool(node.attr("ceil_mode", 0))
    if ceil:
        overhang = [0] * n + [stride - 1 for stride in windows.strides]
        padded = emit.pad_along(padded, overhang, axes, 2 + n)
    ones = np.ones((1, 1, *windows.kernel), dtype=emit.dtype(x))
    sums = emit.conv(padded, ones, strides=windows.strides, dilations=windows.dilations)
    if not ceil:
        return sums
    reach = emit.add(emit.dims(x, 2), np.array(begin) - 1)  # no window begins beyond the input and the padding before
    count = emit.add(emit.div(reach, np.array(windows.strides)), [1])
    return emit.slice(sums, [0] * n, count, axes)


@expansion("DeformConv", domain=LATER)
def deform_conv(emit: Emitter, node: Node) -> str:
    """A convolution that reads its input beside the places of its kernel: GridSample there, then a product.

    The offsets are [N, offset groups * places * 2 (row, column), rows, columns]; each group moves its own channels.
    """
    x, w, offset, b, mask = (node.input(i) for i in range(5))
    kernel = [int(size) for size in node.attr("kernel_shape") or (node.shape(1) or ())[2:] if size is not None]
    if node.rank() != 4 or len(kernel) != 2:
        raise node.refuse("only pictures (2 spatial axes) and kernels of known size are covered")
    count, groups, group = math.prod(kernel), int(node.attr("offset_group", 1)), int(node.attr("group", 1))
    items, sizes = emit.dim(x, 0), emit.dims(offset, 2)
    split = emit.join(items, groups, emit.div(emit.dim(x, 1), [groups]))
    pictures = emit.reshape(x, emit.join(-1, emit.div(emit.dim(x, 1), [groups]), emit.dims(x, 2)))
    read = emit.grid_sample(pictures, _moved(emit, node, kernel, groups), mode="bilinear", padding_mode="zeros")
    read = emit.reshape(read, emit.join(split, count, -1))
    if mask:
        read = emit.mul(read, emit.reshape(mask, emit.join(items, groups, 1, count, -1)))
    columns = emit.reshape(read, emit.join(items, group, -1, emit.reduce_prod(sizes, keepdims=1)))
    weights = emit.reshape(w, emit.join(group, emit.div(emit.dim(w, 0), [group]), -1))
    y = emit.reshape(emit.matmul(weights, columns), emit.join(items, -1, sizes))
    return emit.add(y, emit.reshape(b, [-1, 1, 1])) if b else y


def _moved(emit: Emitter, node: Node, kernel: list[int], groups: int) -> str:
    """The grid [N * groups, places * rows, columns, 2] of where each place of the kernel reads, between -1 and 1."""
    x, offset = node.inputs[0], node.inputs[2]
    count, sizes = math.prod(kernel), emit.dims(offset, 2)
    apart = emit.reshape(offset, emit.join(emit.dim(offset, 0), groups, count, 2, sizes))
    steps = np.indices(kernel).reshape(2, count, 1, 1)
    along = []
    for axis in (1, 0):
        stride, dilation = ((node.attr(name) or (1, 1))[axis] for name in ("strides", "dilations"))
        pad = (node.attr("pads") or (0, 0))[axis]
        starts = emit.sub(emit.mul(emit.arange(emit.dim(offset, 2 + axis)), [stride]), [pad])
        upright = emit.unsqueeze(starts, [1]) if axis == 0 else starts
        at = emit.cast_like_value(emit.add(upright, steps[axis] * dilation), offset)
        place = emit.add(emit.gather(apart, np.array(axis), axis=3), at)
        size = emit.cast_like_value(emit.dim(x, 2 + axis), offset)
        scaled = emit.sub(emit.div(emit.add(emit.mul(place, 2.0), 1.0), size), 1.0)
        along.append(emit.unsqueeze(scaled, [5]))
    rows = emit.mul(emit.dim(offset, 2), [count])
    return emit.reshape(emit.concat(*along, axis=5), emit.join(-1, rows, emit.dim(offset, 3), 2))

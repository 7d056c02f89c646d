"""Sampling pictures between their elements: GridSample and RoiAlign.

GridSample reads, along each axis, some neighbours (taps) of a place u = i + t, i whole, with weights that are
polynomials in t; with padding a neighbour outside is one inside, or 0. So its value is a sum over the taps of all axes
of weight times element, linear in the elements; the slope of a weight leads to the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp

A = -0.75
# Row k: the weight of tap k as a polynomial in t (1, t, t^2, t^3).
WEIGHTS = {
    b"nearest": np.array([[1.0]]),
    b"bilinear": np.array([[1.0, -1.0], [0.0, 1.0]]),
    b"bicubic": np.array([[0, A, -2 * A, A], [1, 0, -A - 3, A + 2], [0, -A, 2 * A + 3, -A - 2], [0, 0, A, -A]]),
}


@dataclass(frozen=True)
class Taps:
    """The neighbours along one axis, each [N, taps, places]: where they are, their weights, what these change by."""

    indices: str
    weights: str
    slopes: str


@vjp("GridSample")
def grid_sample(emit: Emitter, node: Node, grad: str) -> Gradients:
    """dx: an element gets its weight times dy; dgrid: slopes in the place of weights, times elements times dy."""
    x, grid = node.inputs
    n = node.rank() - 2
    taps = [_taps(emit, node, axis, n) for axis in range(n)]
    flat = emit.reshape(x, emit.join(emit.dims(x, 0, 2), -1))
    dy = emit.unsqueeze(emit.reshape(grad, emit.join(emit.dims(x, 0, 2), -1)), [2])  # [N, C, 1, places]
    indices = _indices(emit, x, taps)
    weighted = emit.mul(dy, emit.unsqueeze(_product(emit, [tap.weights for tap in taps]), [1]))
    rows = emit.reshape(weighted, emit.join(emit.dims(x, 0, 2), -1))
    whole = emit.expand(indices, emit.shape(rows))
    dx = emit.scatter_elements(emit.zeros_like(flat), whole, rows, axis=2, reduction="add")
    elements = emit.reshape(emit.gather_elements(flat, whole, axis=2), emit.shape(weighted))
    reach = emit.reduce_sum(emit.mul(elements, dy), [1], keepdims=0)  # [N, taps, places]
    along = [_along(emit, node, reach, taps, axis) for axis in reversed(range(n))]
    dgrid = emit.reshape(emit.concat(*along, axis=2), emit.shape(grid))
    return emit.reshape(dx, emit.shape(x)), emit.cast_like_value(dgrid, grid)


def _taps(emit: Emitter, node: Node, axis: int, n: int) -> Taps:
    """Of one spatial axis; the last one comes first in the grid."""
    x, grid, mode = node.inputs[0], node.inputs[1], node.attr("mode", b"bilinear")
    length = emit.dim(x, 2 + axis)
    places = emit.gather(emit.reshape(grid, emit.join(emit.dim(grid, 0), -1, n)), [n - 1 - axis], axis=2)
    u = emit.transpose(_unscaled(emit, node, places, length), perm=[0, 2, 1])  # [N, 1, places]
    whole, polynomials = emit.round(u) if mode == b"nearest" else emit.floor(u), WEIGHTS[mode]
    count = len(polynomials)
    offsets = np.arange(count).reshape(count, 1) - max(count // 2 - 1, 0)
    indices, inside = _padded(emit, node, emit.add(emit.cast_to(whole, "int64"), offsets), length)
    powers = emit.pow(emit.sub(u, whole), np.arange(count, dtype=emit.dtype(u)).reshape(count, 1))
    slopes = np.pad(polynomials[:, 1:] * np.arange(1, count), [(0, 0), (0, 1)])
    values = (emit.matmul(m.astype(emit.dtype(u)), powers) for m in (polynomials, slopes))
    if inside:
        values = (emit.mul(value, emit.cast_like_value(inside, value)) for value in values)
    weights, changes = (emit.cast_like_value(value, x) for value in values)
    return Taps(indices, weights, changes)


def _unscaled(emit: Emitter, node: Node, places: str, length: str) -> str:
    """From -1 ... 1 to elements: the ends are the centres of the outermost ones, or their outer edges."""
    size, half = emit.cast_like_value(length, places), emit.mul(emit.add(places, 1.0), 0.5)
    if int(node.attr("align_corners", 0)):
        return emit.mul(half, emit.sub(size, 1.0))
    return emit.sub(emit.mul(half, size), 0.5)


def _padded(emit: Emitter, node: Node, indices: str, length: str) -> tuple[str, str]:
    """Which element stands at each index, and where zeros stand outside, whether the index is inside."""
    last, padding = emit.sub(length, [1]), node.attr("padding_mode", b"zeros")
    if padding == b"reflection":
        aligned = bool(node.attr("align_corners", 0))
        turn = emit.mul(last, [2]) if aligned else emit.add(emit.mul(last, [2]), [1])
        period = emit.max(turn, np.ones(1, dtype=np.int64)) if aligned else emit.add(turn, [1])
        again = emit.mod(indices, period)
        return emit.min(again, emit.sub(turn, again)), ""
    clamped = emit.max(emit.min(indices, last), np.zeros(1, dtype=np.int64))
    return clamped, emit.equal(clamped, indices) if padding == b"zeros" else ""


def _product(emit: Emitter, values: list[str]) -> str:
    """[N, k, places] of each axis as their products [N, k k' ..., places], later axes running faster."""

    def outer(a: str, b: str) -> str:
        product = emit.mul(emit.unsqueeze(a, [2]), emit.unsqueeze(b, [1]))
        return emit.reshape(product, emit.join(0, -1, emit.dim(a, 2)))

    return reduce(outer, values)


def _indices(emit: Emitter, x: str, taps: list[Taps]) -> str:
    """Places of the elements in a flattened picture, as [N, 1, taps of all axes * places]."""
    total = taps[0].indices
    for axis, tap in enumerate(taps[1:], 1):
        row = emit.mul(total, emit.dim(x, 2 + axis))
        both = emit.add(emit.unsqueeze(row, [2]), emit.unsqueeze(tap.indices, [1]))
        total = emit.reshape(both, emit.join(0, -1, emit.dim(total, 2)))
    return emit.reshape(total, [0, 1, -1])


def _along(emit: Emitter, node: Node, reach: str, taps: list[Taps], axis: int) -> str:
    """Change along one coordinate of the grid, [N, places, 1]."""
    size = emit.cast_like_value(emit.dim(node.inputs[0], 2 + axis), reach)
    span = emit.sub(size, 1.0) if int(node.attr("align_corners", 0)) else size
    changes = _product(emit, [tap.slopes if i == axis else tap.weights for i, tap in enumerate(taps)])
    total = emit.reduce_sum(emit.mul(reach, changes), [1], keepdims=0)
    return emit.unsqueeze(emit.mul(total, emit.mul(span, 0.5)), [2])


@vjp("RoiAlign")
def roi_align(emit: Emitter, node: Node, grad: str) -> Gradients:
    """A mean over a grid of samples is separable: y = R X C' for each region, so dX adds up R' dy C."""
    if node.attr("mode", b"avg") != b"avg":
        raise node.refuse(f"attribute mode={node.attr('mode').decode()!r} is not covered; 'avg' is")
    x, _, items = node.inputs
    rows = _roi_means(emit, node, 1, int(node.attr("output_height", 1)), emit.dim(x, 2))
    columns = _roi_means(emit, node, 0, int(node.attr("output_width", 1)), emit.dim(x, 3))
    spread = emit.matmul(emit.matmul(emit.transpose(rows, perm=[0, 1, 3, 2]), grad), columns)
    places = emit.unsqueeze(emit.cast_to(items, "int64"), [1])
    return emit.scatter_nd(emit.zeros_like(x), places, spread, reduction="add"), None, None


def _roi_means(emit: Emitter, node: Node, coordinate: int, bins: int, length: str) -> str:
    """[regions, 1, bins, length]: what each element of an axis counts in the mean over the samples of a bin."""
    rois, ratio, scale = node.inputs[1], int(node.attr("sampling_ratio", 0)), float(node.attr("spatial_scale", 1.0))
    half = node.attr("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
    ends = (emit.gather(rois, [coordinate + i], axis=1) for i in (0, 2))
    start, end = (emit.add(emit.mul(side, scale), -0.5 if half else 0.0) for side in ends)
    extent = emit.sub(end, start)
    extent = extent if half else emit.max(extent, np.ones((), dtype=emit.dtype(extent)))
    size = emit.unsqueeze(emit.mul(extent, 1.0 / bins), [2, 3])  # [regions, 1, 1, 1]
    one = np.ones((), dtype=emit.dtype(size))
    count = emit.add(emit.mul(size, 0.0), float(ratio)) if ratio else emit.max(emit.ceil(size), one)
    most = emit.reshape(emit.cast_to(emit.reduce_max(count, keepdims=0), "int64"), [1])
    sample = emit.reshape(emit.cast_like_value(emit.arange(most), size), [1, 1, -1, 1])
    number = np.arange(bins, dtype=emit.dtype(size)).reshape(1, bins, 1, 1)
    inner = emit.add(number, emit.div(emit.add(sample, 0.5), count))
    at = emit.add(emit.unsqueeze(start, [2, 3]), emit.mul(inner, size))  # [regions, bins, samples, 1]
    last, beyond = emit.cast_like_value(emit.sub(length, [1]), at), emit.cast_like_value(length, at)
    counted = emit.logical_and(emit.greater_or_equal(at, -1.0), emit.less_or_equal(at, beyond))
    counted = emit.logical_and(counted, emit.less(sample, count))
    clamped = emit.max(emit.min(at, last), np.zeros((), dtype=emit.dtype(at)))
    distance = emit.abs(emit.sub(clamped, emit.cast_like_value(emit.arange(length), at)))
    share = emit.div(emit.relu(emit.sub(one, distance)), count)
    means = emit.reduce_sum(emit.mul(share, emit.cast_like_value(counted, share)), [2], keepdims=0)
    return emit.unsqueeze(means, [1])

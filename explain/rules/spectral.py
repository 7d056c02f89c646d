"""Fourier transforms: linear, so the gradient is the transform with all its phases turned round.

With w = e^(-2 pi i / m), Y_k = sum_n w^(nk) x_n has dx_n = sum_k w^(-nk) dY_k, m times the inverse transform of dY; a
real signal takes the real part. What a transform cut off is padded with zeros, what it padded is cut off.
"""

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp


@vjp("DFT")
def dft(emit: Emitter, node: Node, grad: str) -> Gradients:
    x, rank = node.inputs[0], node.rank()
    axis = int(node.attr("axis", 1)) % rank
    inverse, half = int(node.attr("inverse", 0)), int(node.attr("onesided", 0))
    length = emit.dim(x if half and not inverse else grad, axis)
    if node.input(1) and half and not inverse:
        length = emit.reshape(emit.cast_to(node.inputs[1], "int64"), [1])
    if inverse and half:
        _check_bins(node, axis)
        back = _half_spectrum(emit, _turned(emit, grad, length, axis, 0), length, axis, rank)
    else:
        back = _turned(emit, _to_length(emit, grad, length, axis, rank), length, axis, 1 - inverse)
    if inverse:
        back = emit.div(back, emit.cast_like_value(length, back))
    fitted = _to_length(emit, back, emit.dim(x, axis), axis, rank)
    return emit.slice(fitted, [0], emit.dim(x, -1), [-1])


def _check_bins(node: Node, axis: int) -> None:
    """A real signal of length m has m // 2 + 1 bins; with another number of them runtimes differ."""
    length, bins = node.constant(1) if node.input(1) else None, (node.shape() or ())[axis]
    if length is not None and isinstance(bins, int) and int(length) // 2 + 1 != bins:
        raise node.refuse(f"a one-sided inverse to dft_length={int(length)} of {bins} bins is not covered")


def _turned(emit: Emitter, x: str, length: str, axis: int, inverse: int) -> str:
    """sum_n w^(+-nk) x_n: the inverse transform without its division."""
    y = emit.dft(x, emit.squeeze(length, [0]), axis=axis, inverse=inverse)
    return emit.mul(y, emit.cast_like_value(length, y)) if inverse else y


def _half_spectrum(emit: Emitter, x: str, length: str, axis: int, rank: int) -> str:
    """The first half of a spectrum, in which all but its ends stand for their mirror images too."""
    bins = emit.add(emit.div(length, [2]), [1])
    kept, number = emit.slice(x, [0], bins, [axis]), emit.arange(bins)
    mirrored = emit.logical_and(emit.greater(number, [0]), emit.less(emit.mul(number, [2]), length))
    one, two = (np.array(factor, dtype=emit.dtype(x)) for factor in (1, 2))
    upright = [-1 if i == axis else 1 for i in range(rank)]
    return emit.mul(kept, emit.reshape(emit.where(mirrored, two, one), upright))


def _to_length(emit: Emitter, x: str, length: str, axis: int, rank: int) -> str:
    """Cut off or padded with zeros at the end of one axis."""
    missing = emit.sub(length, emit.dim(x, axis))
    return emit.pad_along(x, emit.concat([0], missing, axis=0), [axis], rank)


@vjp("STFT")
def stft(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Frames of the signal, weighted by a window, are transformed; each adds its gradient where it was taken."""
    signal, step, window, size = (node.input(i) for i in range(4))
    length = emit.reshape(emit.cast_to(size, "int64"), [1]) if size else emit.dim(window, 0)
    full = _to_length(emit, grad, length, 2, 4)  # [N, frames, length, 2]
    frames = _turned(emit, full, length, 2, 1)
    if window:
        frames = emit.mul(frames, emit.unsqueeze(window, [1]))
    starts = emit.mul(emit.arange(emit.dim(grad, 1)), emit.cast_to(emit.reshape(step, [1]), "int64"))
    places = emit.reshape(emit.add(emit.unsqueeze(starts, [1]), emit.arange(length)), [-1])
    parts = emit.reshape(frames, [0, -1, 2])
    zeros = emit.zeros(emit.join(emit.dims(signal, 0, 2), 2), parts)
    column = emit.expand(emit.reshape(places, [1, -1, 1]), emit.shape(parts))
    total = emit.scatter_elements(zeros, column, parts, axis=1, reduction="add")
    if node.rank() == 2:
        return emit.gather(total, np.array(0), axis=2)
    return emit.slice(total, [0], emit.dim(signal, 2), [2])

"""Convolutions, any number of spatial axes, groups, dilations and pads.

The gradient with respect to the input of a stride-1 convolution is again a convolution, with the kernel transposed
and flipped: runtimes fold that constant and run their fastest kernel. With strides it is a ConvTranspose without
pads, whose result is then cut: `output_padding` would expose values that asymmetric pads had removed.
"""

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp
from .windows import Windows, crop_to_input

BLOCK = 16  # channels, at most


@vjp("Conv")
def conv(emit: Emitter, node: Node, grad: str) -> Gradients:
    w = node.inputs[1]
    windows, group = Windows.of(node, _kernel(node)), int(node.attr("group", 1))
    if windows.begin is not None and windows.end is not None and set(windows.strides) == {1}:
        pads = [e - p for side in (windows.begin, windows.end) for e, p in zip(windows.extent, side, strict=True)]
        if min(pads) >= 0:
            flipped = _transposed_kernel(emit, node, w, group)
            return emit.conv(grad, flipped, pads=pads, dilations=windows.dilations, group=group)
    full = emit.conv_transpose(grad, w, strides=windows.strides, dilations=windows.dilations, group=group)
    return _entered(emit, node, crop_to_input(emit, full, windows, node))


def _entered(emit: Emitter, node: Node, grad: str) -> str:
    """The gradient, behind a convolution that changes nothing: one weight of 1 for each channel.

    ONNX Runtime holds what lies between convolutions in blocks of channels, but has no ConvTranspose for them and goes
    on in plain layout behind one: down a stage of residual blocks, with every sum and mask. Only a convolution goes
    back. On ResNet-50 that saves a tenth of the gradient's time.
    """
    channels = (node.shape() or (None, None))[1]
    if node.rank() != 4 or emit.dtype(grad) != "float32" or not isinstance(channels, int) or channels % BLOCK:
        return grad
    return emit.conv(grad, np.ones((channels, 1, 1, 1), dtype=np.float32), group=channels)


def _transposed_kernel(emit: Emitter, node: Node, w: str, group: int) -> str:
    """[O, C/g, k...] to [C, O/g, k...] with every spatial axis flipped."""
    n = node.rank(1) - 2
    shape = node.shape(1)
    spatial = list(range(2, 2 + n))
    flipped = emit.slice(w, [-1] * n, [-(2**62)] * n, spatial, [-1] * n)
    if group == 1:
        return emit.transpose(flipped, perm=[1, 0, *spatial])
    if shape is None or not all(isinstance(size, int) for size in shape):
        raise node.refuse("a grouped convolution needs a kernel of known shape")
    sizes = [int(size or 0) for size in shape]
    blocks = emit.reshape(flipped, [group, sizes[0] // group, *sizes[1:]])
    swapped = emit.transpose(blocks, perm=[0, 2, 1, *(axis + 1 for axis in spatial)])
    return emit.reshape(swapped, [group * sizes[1], sizes[0] // group, *sizes[2:]])


@vjp("ConvTranspose")
def conv_transpose(emit: Emitter, node: Node, grad: str) -> Gradients:
    """The adjoint of the adjoint: a Conv of the gradient with the same kernel, strides, dilations and pads."""
    kernel = _kernel(node)
    n, auto = len(kernel), node.attr("auto_pad", b"NOTSET").decode()
    pads = list(node.attr("pads") or [0] * 2 * n) if auto == "NOTSET" else [0] * 2 * n
    strides, dilations = node.attr("strides") or [1] * n, node.attr("dilations") or [1] * n
    if auto.startswith("SAME") or node.attr("output_shape") is not None:
        extent = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
        grad, pads = _padded_to_whole(emit, node, grad, list(strides), extent), [0] * 2 * n
    group = int(node.attr("group", 1))
    return emit.conv(grad, node.inputs[1], strides=strides, dilations=dilations, pads=pads, group=group)


def _padded_to_whole(emit: Emitter, node: Node, grad: str, strides: list[int], extent: list[int]) -> str:
    """What the node cut off, or added where it was asked for more than there is, follows from the size it gave."""
    n = len(strides)
    more = [e + 1 + p for e, p in zip(extent, node.attr("output_padding") or [0] * n, strict=True)]
    whole = emit.add(emit.mul(emit.sub(emit.dims(node.inputs[0], 2), [1]), strides), more)
    total = emit.sub(whole, emit.dims(grad, 2))
    cut = emit.max(total, np.zeros(1, dtype=np.int64))  # what was added stands at the end
    half = emit.div(cut, [2])
    begin = half if node.attr("auto_pad") == b"SAME_UPPER" else emit.sub(cut, half)
    sides = begin, emit.sub(total, begin)
    return emit.pad_along(grad, emit.concat(*sides, axis=0), range(2, 2 + n), 2 + n)


@vjp("Col2Im")
def col2im(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Blocks that were added up are taken out again: a convolution with one unit kernel for each place of a block."""
    block = node.constant(2)
    if block is None:
        raise node.refuse("its block_shape is computed at run time; only a constant block_shape is covered")
    count, n = int(block.prod()), len(block)
    kernel = np.eye(count, dtype=emit.dtype(grad)).reshape(count, 1, *block)
    given = {name: node.attr(name, default) for name, default in (("dilations", [1] * n), ("strides", [1] * n))}
    single = emit.reshape(grad, emit.join(-1, 1, emit.dims(grad, 2)))
    taken = emit.conv(single, kernel, pads=node.attr("pads", [0] * 2 * n), **given)
    return emit.reshape(taken, emit.shape(node.inputs[0]))


def _kernel(node: Node) -> tuple[int, ...]:
    stated = node.attr("kernel_shape")
    if stated:
        return tuple(stated)
    shape = node.shape(1)
    if shape is None or not all(isinstance(size, int) for size in shape[2:]):
        raise node.refuse("the kernel size is unknown; state 'kernel_shape'")
    return tuple(int(size or 0) for size in shape[2:])

"""Operators that move elements without changing them: reshape, transpose, join, split, repeat, pad."""

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp
from .scatter import scatter_along


@vjp("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.reshape(grad, emit.shape(node.inputs[0]), allowzero=1)


@vjp("Transpose")
def transpose(emit: Emitter, node: Node, grad: str) -> Gradients:
    rank = node.rank()
    perm = node.attr("perm") or list(range(rank))[::-1]
    return emit.transpose(grad, perm=[int(i) for i in np.argsort(perm)])


@vjp("Concat")
def concat(emit: Emitter, node: Node, grad: str) -> Gradients:
    axis = int(node.attr("axis")) % node.output_rank()
    if len(node.inputs) == 1:
        return grad
    sizes = emit.join(*(emit.dim(x, axis) for x in node.inputs))
    return emit.split(grad, sizes, len(node.inputs), axis=axis)


@vjp("Split", many=True)
def split(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """A part that was not used gets zeros; one without a name is split off again, to know its size."""
    whole = all(node.outputs)
    parts = node.outputs if whole else emit.node("Split", node.inputs, dict(node.attributes), len(grads))
    filled = [grad or emit.zeros_like(part) for grad, part in zip(grads, parts, strict=True)]
    return emit.concat(*filled, axis=int(node.attr("axis", 0)))


@vjp("Expand", broadcasts="all")
def expand(emit: Emitter, node: Node, grad: str) -> Gradients:
    return grad


@vjp("Tile")
def tile(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Axis i was repeated r_i times: reshape to (r_0, d_0, r_1, d_1, ...) and sum the repeats."""
    x, repeats = node.inputs
    rank = node.rank()
    if rank == 0:
        return grad
    pairs = emit.concat(emit.unsqueeze(repeats, [1]), emit.unsqueeze(emit.shape(x), [1]), axis=1)
    parts = emit.reshape(grad, emit.reshape(pairs, [-1]))
    return emit.reduce_sum(parts, list(range(0, 2 * rank, 2)), keepdims=0)


@vjp("DepthToSpace")
def depth_to_space(emit: Emitter, node: Node, grad: str) -> Gradients:
    block = int(node.attr("blocksize"))
    if node.attr("mode", b"DCR") == b"DCR":
        return emit.space_to_depth(grad, blocksize=block)
    x = node.inputs[0]
    sizes = emit.join(emit.dim(x, 0), -1, emit.dim(x, 2), block, emit.dim(x, 3), block)
    parts = emit.reshape(grad, sizes)
    return emit.reshape(emit.transpose(parts, perm=[0, 1, 3, 5, 2, 4]), emit.shape(x))


@vjp("SpaceToDepth")
def space_to_depth(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.depth_to_space(grad, blocksize=int(node.attr("blocksize")))


@vjp("Pad")
def pad(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Constant: cut the padding off (padding with the negated pads). Other modes: where each element came from,
    found by padding the positions, tells where its gradient goes."""
    x, pads = node.inputs[:2]
    axes = _pad_axes(node)
    mode = node.attr("mode", b"constant").decode()
    if mode == "constant":
        inside = emit.pad_along(grad, emit.neg(pads), axes, node.rank())
        if not node.input(2) or node.constant(2) is not None:
            return inside
        outside = emit.sub(emit.reduce_sum(grad, keepdims=0), emit.reduce_sum(inside, keepdims=0))
        return inside, None, emit.reshape(outside, emit.shape(node.inputs[2]))
    count = len(axes)
    for i, axis in enumerate(axes):
        own = emit.gather(pads, [i, i + count], axis=0)
        positions = emit.pad(emit.arange(emit.dim(x, axis)), own, mode=mode)
        grad = scatter_along(emit, grad, positions, axis, emit.dim(x, axis), node.rank())
    return grad


def _pad_axes(node: Node) -> list[int]:
    rank = node.rank()
    if not node.input(3):
        return list(range(rank))
    axes = node.constant(3)
    if axes is None:
        raise node.refuse("its axes are computed at run time; only constant axes are covered")
    return [int(axis) % rank for axis in axes]

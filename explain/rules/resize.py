"""Resize: linear in its input and separable, so each resized axis is a matrix, found by resizing an identity."""

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp

KEPT = ("antialias", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "mode", "nearest_mode")


@vjp("Resize")
def resize(emit: Emitter, node: Node, grad: str) -> Gradients:
    """For axis a of length L resized to M by A [L, M]: dx = dy A^T along that axis."""
    x, rank = node.inputs[0], node.rank()
    if node.attr("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise node.refuse("attribute keep_aspect_ratio_policy is covered for 'stretch' only")
    axes = [int(axis) % rank for axis in node.attr("axes") or range(rank)]
    for place, axis in enumerate(axes):
        if not _kept_as_is(node, place, axis):
            grad = _along(emit, node, grad, x, axis, place, rank)
    return grad


def _kept_as_is(node: Node, place: int, axis: int) -> bool:
    """Whether this axis is certainly not resized (batch and channels nearly always)."""
    if _crops(node):
        return False
    if node.input(2):
        scales = node.constant(2)
        return scales is not None and float(scales[place]) == 1.0
    before, after = node.shape(), node.graph.type(node.outputs[0]).shape
    return before is not None and after is not None and before[axis] is not None and before[axis] == after[axis]


def _crops(node: Node) -> bool:
    """Whether a region of the input is resized; what it has outside the input is a constant."""
    return bool(node.attr("coordinate_transformation_mode", b"half_pixel") == b"tf_crop_and_resize")


def _region(emit: Emitter, node: Node, place: int) -> str:
    """The region of one axis as that of axis 2 of four; the others are taken whole."""
    roi = node.inputs[1]
    zero, one = (np.array([value], dtype=emit.dtype(roi)) for value in (0, 1))
    count = len(node.attr("axes") or range(node.rank()))
    start, end = (emit.gather(roi, [at], axis=0) for at in (place, place + count))
    return emit.concat(zero, zero, start, zero, one, one, end, one, axis=0)


def _along(emit: Emitter, node: Node, grad: str, x: str, axis: int, place: int, rank: int) -> str:
    length = emit.dim(x, axis)
    square = emit.zeros(emit.join(length, length), grad)
    basis = emit.reshape(emit.eye_like(square), emit.join(1, length, length, 1))
    kept, roi = {name: node.attr(name) for name in KEPT}, _region(emit, node, place) if _crops(node) else ""
    if node.input(2):
        one = np.ones(1, dtype=np.float32)
        scale = emit.gather(node.inputs[2], [place], axis=0)
        resized = emit.resize(basis, roi, emit.concat(one, one, scale, one, axis=0), **kept)
    else:
        size = emit.gather(node.inputs[3], [place], axis=0)
        resized = emit.resize(basis, roi, "", emit.join(1, length, size, 1), **kept)
    matrix = emit.squeeze(resized, [0, 3])
    last = [i for i in range(rank) if i != axis] + [axis]
    product = emit.matmul(emit.transpose(grad, perm=last), emit.transpose(matrix, perm=[1, 0]))
    return emit.transpose(product, perm=[int(i) for i in np.argsort(last)])

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
    axes = [int(axis) % rank for axis in node.attr("axes") or range(rank)]
    for place, axis in enumerate(axes):
        if not _kept_as_is(node, place, axis):
            grad = _along(emit, node, grad, x, axis, place, rank)
    return grad


def _kept_as_is(node: Node, place: int, axis: int) -> bool:
    """Whether this axis is certainly not resized (batch and channels nearly always)."""
    if _crops(node) or _keeps_aspect(node):
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


def _keeps_aspect(node: Node) -> bool:
    """Whether all axes have one scale, which rounds to sizes within (or beyond) those that are asked for."""
    policy = node.attr("keep_aspect_ratio_policy", b"stretch")
    if policy == b"stretch" or node.input(2):
        return False
    place = node.attr("coordinate_transformation_mode", b"half_pixel")
    if node.attr("antialias", 0) or node.attr("exclude_outside", 0) or place not in (b"half_pixel", b"asymmetric"):
        raise node.refuse(
            f"attribute keep_aspect_ratio_policy={policy.decode()!r} is not covered with 'antialias', "
            "'exclude_outside' or coordinates other than half_pixel and asymmetric"
        )
    return True


def _common_scale(emit: Emitter, node: Node) -> str:
    """The smallest (or largest) of the scales that the sizes ask for, float32 [1]."""
    axes, rank = node.attr("axes") or range(node.rank()), node.rank()
    lengths = emit.gather(emit.shape(node.inputs[0]), np.array([axis % rank for axis in axes]), axis=0)
    scales = emit.div(emit.cast_to(node.inputs[3], "float32"), emit.cast_to(lengths, "float32"))
    smallest = node.attr("keep_aspect_ratio_policy") == b"not_larger"
    return emit.reduce_min(scales, keepdims=1) if smallest else emit.reduce_max(scales, keepdims=1)


def _along(emit: Emitter, node: Node, grad: str, x: str, axis: int, place: int, rank: int) -> str:
    length = emit.dim(x, axis)
    square = emit.zeros(emit.join(length, length), grad)
    basis = emit.reshape(emit.eye_like(square), emit.join(1, length, length, 1))
    matrix = emit.squeeze(_resized_basis(emit, node, basis, length, place, emit.dim(grad, axis)), [0, 3])
    last = [i for i in range(rank) if i != axis] + [axis]
    product = emit.matmul(emit.transpose(grad, perm=last), emit.transpose(matrix, perm=[1, 0]))
    return emit.transpose(product, perm=[int(i) for i in np.argsort(last)])


def _resized_basis(emit: Emitter, node: Node, basis: str, length: str, place: int, size: str) -> str:
    """The unit vectors of one axis, as axis 2 of four, resized as the node resizes that axis.

    A scale alone rounds down where a policy rounds to the nearest: the vectors are continued, the result is cut.
    """
    kept, roi = {name: node.attr(name) for name in KEPT}, _region(emit, node, place) if _crops(node) else ""
    one = np.ones(1, dtype=np.float32)
    if node.input(2):
        scale = emit.gather(node.inputs[2], [place], axis=0)
        return emit.resize(basis, roi, emit.concat(one, one, scale, one, axis=0), **kept)
    if _keeps_aspect(node):
        scale = _common_scale(emit, node)
        more = emit.add(emit.cast_to(emit.reciprocal(scale), "int64"), [2])
        longer = emit.pad_along(basis, emit.concat([0], more, axis=0), [2], 4, mode="edge")
        return emit.slice(emit.resize(longer, roi, emit.concat(one, one, scale, one, axis=0), **kept), [0], size, [2])
    wanted = emit.gather(node.inputs[3], [place], axis=0)
    return emit.resize(basis, roi, "", emit.join(1, length, wanted, 1), **kept)

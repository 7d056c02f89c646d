"""Slices, gathers, scatters, sorting."""

from collections.abc import Callable

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp
from .elementwise import only_where
from .scatter import scatter_along


@vjp("Slice")
def slice_(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Slicing the positions of each axis the same way tells where the gradient goes (any step, any sign)."""
    x, axes = node.inputs[0], _slice_axes(node)
    starts, ends, steps = (emit.cast_to(node.input(i), "int64") if node.input(i) else "" for i in (1, 2, 4))
    known = node.constant(4)
    if not steps or (known is not None and (known == 1).all()):
        return _padded_back(emit, x, grad, starts, axes, node.rank())
    for i, axis in enumerate(axes):
        length = emit.dim(x, axis)
        start, end, step = (emit.gather(values, [i], axis=0) for values in (starts, ends, steps))
        positions = emit.slice(emit.arange(length), start, end, [0], step)
        grad = scatter_along(emit, grad, positions, axis, length, node.rank())
    return grad


def _padded_back(emit: Emitter, x: str, grad: str, starts: str, axes: list[int], rank: int) -> str:
    """What a slice of step 1 took away before its start and behind its end is zero: a padding of the gradient."""
    chosen = np.array(axes, dtype=np.int64)
    length, kept = emit.gather(emit.shape(x), chosen, axis=0), emit.gather(emit.shape(grad), chosen, axis=0)
    from_front = emit.where(emit.less(starts, 0), emit.add(starts, length), starts)
    before = emit.max(emit.min(from_front, length), [0])
    after = emit.sub(emit.sub(length, kept), before)
    return emit.pad_along(grad, emit.concat(before, after, axis=0), axes, rank)


def _slice_axes(node: Node) -> list[int]:
    rank = node.rank()
    if node.input(3):
        axes = node.constant(3)
        if axes is None:
            raise node.refuse("its axes are computed at run time; only constant axes are covered")
        return [int(axis) % rank for axis in axes]
    shape = node.shape(1)
    if shape is None or not isinstance(shape[0], int):
        raise node.refuse("the number of its starts is unknown; export the model with shape information")
    return list(range(shape[0]))


@vjp("Gather")
def gather(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Indices of any rank are flattened; rows gathered twice receive both gradients."""
    data, indices = node.inputs
    rank = node.rank()
    axis = int(node.attr("axis", 0)) % rank
    flat = emit.cast_to(emit.reshape(indices, [-1]), "int64")
    before = [emit.dims(data, 0, axis)] if axis else []
    after = [emit.dims(data, axis + 1)] if axis + 1 < rank else []
    rows = emit.reshape(grad, emit.join(*before, emit.shape(flat), *after))
    return scatter_along(emit, rows, flat, axis, emit.dim(data, axis), rank)


@vjp("GatherElements")
def gather_elements(emit: Emitter, node: Node, grad: str) -> Gradients:
    data, indices = node.inputs
    axis = int(node.attr("axis", 0))
    return emit.scatter_elements(emit.zeros_like(data), indices, grad, axis=axis, reduction="add")


@vjp("GatherND")
def gather_nd(emit: Emitter, node: Node, grad: str) -> Gradients:
    data, indices = node.inputs
    batch = int(node.attr("batch_dims", 0))
    if batch:
        indices = emit.concat(*_batch_positions(emit, indices, batch, node.rank(1)), indices, axis=-1)
    return emit.scatter_nd(emit.zeros_like(data), indices, grad, reduction="add")


def _batch_positions(emit: Emitter, indices: str, batch: int, rank: int) -> list[str]:
    """For each of the first `batch` axes of `indices` [b0, b1, ..., k], the positions along it as [b0, b1, ..., 1]."""
    column = emit.join(emit.dims(indices, 0, -1), 1)
    positions = (emit.arange(emit.dim(indices, axis)) for axis in range(batch))
    upright = (emit.reshape(p, [-1 if i == axis else 1 for i in range(rank)]) for axis, p in enumerate(positions))
    return [emit.expand(p, column) for p in upright]


Gatherer = Callable[[str], str]
Scatterer = Callable[[str, str, str], str]


@vjp("ScatterElements")
def scatter_elements(emit: Emitter, node: Node, grad: str) -> Gradients:
    indices, axis = node.inputs[1], int(node.attr("axis", 0))

    def gather(x: str) -> str:
        return emit.gather_elements(x, indices, axis=axis)

    def scatter(x: str, updates: str, reduction: str) -> str:
        return emit.scatter_elements(x, indices, updates, axis=axis, reduction=reduction)

    return _scattered(emit, node, grad, gather, scatter)


@vjp("ScatterND")
def scatter_nd(emit: Emitter, node: Node, grad: str) -> Gradients:
    """As ScatterElements, for whole slices."""
    indices = node.inputs[1]

    def gather(x: str) -> str:
        return emit.gather_nd(x, indices)

    def scatter(x: str, updates: str, reduction: str) -> str:
        return emit.scatter_nd(x, indices, updates, reduction=reduction)

    return _scattered(emit, node, grad, gather, scatter)


def _scattered(emit: Emitter, node: Node, grad: str, gather: Gatherer, scatter: Scatterer) -> Gradients:
    """Without reduction the overwritten elements get none; with "add" everything passes."""
    updates = node.inputs[2]
    match node.attr("reduction", b"none"):
        case b"add":
            return grad, None, gather(grad)
        case b"mul":
            return _multiplied(emit, node, grad, gather, scatter)
        case b"max" | b"min":
            return _outdone(emit, node, grad, gather, scatter)
    return scatter(grad, emit.zeros_like(updates), "none"), None, gather(grad)


def _multiplied(emit: Emitter, node: Node, grad: str, gather: Gatherer, scatter: Scatterer) -> Gradients:
    """The product of the other factors of a place: all of them over one's own, where zeros are counted apart."""
    data, _, updates = node.inputs
    one = np.ones((), dtype=emit.dtype(data))
    factors = [emit.where(emit.equal(x, 0.0), one, x) for x in (data, updates)]
    zero = [emit.cast_like_value(emit.equal(x, 0.0), x) for x in (data, updates)]
    zeros, whole = scatter(zero[0], zero[1], "add"), emit.mul(grad, scatter(factors[0], factors[1], "mul"))
    there = [(whole, zeros), (gather(whole), gather(zeros))]
    own, update = (
        only_where(emit, emit.equal(count, is_zero), emit.div(rest, factor))
        for factor, is_zero, (rest, count) in zip(factors, zero, there, strict=True)
    )
    return own, None, update


def _outdone(emit: Emitter, node: Node, grad: str, gather: Gatherer, scatter: Scatterer) -> Gradients:
    """What attains the extreme of its place shares the gradient equally: the element itself and its updates."""
    data, _, updates = node.inputs
    y = node.outputs[0]
    own, update = (emit.cast_like_value(emit.equal(x, at), x) for x, at in ((data, y), (updates, gather(y))))
    share = emit.div(grad, emit.max(scatter(own, update, "add"), np.ones((), dtype=emit.dtype(data))))
    return emit.mul(own, share), None, emit.mul(update, gather(share))


@vjp("Compress")
def compress(emit: Emitter, node: Node, grad: str) -> Gradients:
    """What was kept goes back to where it stood: along an axis, or among all elements in their order."""
    x, condition = node.inputs
    axis, kept = node.attr("axis"), emit.squeeze(emit.non_zero(condition), [0])
    if axis is not None:
        along = int(axis) % node.rank()
        return scatter_along(emit, grad, kept, along, emit.dim(x, along), node.rank())
    flat = scatter_along(emit, grad, kept, 0, emit.reshape(emit.size(x), [1]), 1)
    return emit.reshape(flat, emit.shape(x))


@vjp("TopK", many=True)
def top_k(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """The gradient of the values returns to where they were; the indices carry none."""
    axis = int(node.attr("axis", -1))
    grad = grads[0] or emit.zeros_like(node.outputs[0])
    zeros = emit.zeros_like(node.inputs[0])
    return emit.scatter_elements(zeros, node.outputs[1], grad, axis=axis, reduction="add"), None


@vjp("Unique", many=True)
def unique(emit: Emitter, node: Node, grads: list[str | None]) -> Gradients:
    """A value that occurs several times is that of its first occurrence, to which the gradient returns."""
    x, axis = node.inputs[0], node.attr("axis")
    grad = grads[0] or emit.zeros_like(node.outputs[0])
    _, first = emit.node("Unique", [x], dict(node.attributes), 2)
    if axis is not None:
        along = int(axis) % node.rank()
        return scatter_along(emit, grad, first, along, emit.dim(x, along), node.rank())
    zeros = emit.zeros(emit.reshape(emit.size(x), [1]), x)
    total = emit.scatter_elements(zeros, first, grad, axis=0, reduction="add")
    return emit.reshape(total, emit.shape(x))


@vjp("ReverseSequence")
def reverse_sequence(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Turning the same stretches round again puts each element back."""
    return emit.node("ReverseSequence", (grad, node.inputs[1]), dict(node.attributes))[0]


@vjp("Trilu")
def trilu(emit: Emitter, node: Node, grad: str) -> Gradients:
    return emit.trilu(grad, *node.inputs[1:], upper=int(node.attr("upper", 1)))

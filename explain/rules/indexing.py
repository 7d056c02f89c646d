"""Slices, gathers, scatters, sorting."""

import numpy as np

from ..emit import Emitter
from ..graph import Node
from ..registry import Gradients, vjp
from .scatter import scatter_along


@vjp("Slice")
def slice_(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Slicing the positions of each axis the same way tells where the gradient goes (any step, any sign)."""
    x, axes = node.inputs[0], _slice_axes(node)
    starts, ends, steps = (emit.cast_to(node.input(i), "int64") if node.input(i) else "" for i in (1, 2, 4))
    known = node.constant(4)
    if not steps or (known is not None and (known == 1).all()):
        return _padded_back(emit, x, grad, starts, axes)
    for i, axis in enumerate(axes):
        length = emit.dim(x, axis)
        start, end, step = (emit.gather(values, [i], axis=0) for values in (starts, ends, steps))
        positions = emit.slice(emit.arange(length), start, end, [0], step)
        grad = scatter_along(emit, grad, positions, axis, length, node.rank())
    return grad


def _padded_back(emit: Emitter, x: str, grad: str, starts: str, axes: list[int]) -> str:
    """What a slice of step 1 took away before its start and behind its end is zero: a padding of the gradient."""
    chosen, zero = np.array(axes, dtype=np.int64), np.zeros((), dtype=emit.dtype(grad))
    length, kept = emit.gather(emit.shape(x), chosen, axis=0), emit.gather(emit.shape(grad), chosen, axis=0)
    from_front = emit.where(emit.less(starts, 0), emit.add(starts, length), starts)
    before = emit.max(emit.min(from_front, length), [0])
    after = emit.sub(emit.sub(length, kept), before)
    return emit.pad(grad, emit.concat(before, after, axis=0), zero, chosen)


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


@vjp("ScatterElements")
def scatter_elements(emit: Emitter, node: Node, grad: str) -> Gradients:
    """Without reduction the overwritten elements get none; with "add" everything passes."""
    _, indices, updates = node.inputs
    axis = int(node.attr("axis", 0))
    gathered = emit.gather_elements(grad, indices, axis=axis)
    if _scatter_adds(node):
        return grad, None, gathered
    kept = emit.scatter_elements(grad, indices, emit.zeros_like(updates), axis=axis)
    return kept, None, gathered


@vjp("ScatterND")
def scatter_nd(emit: Emitter, node: Node, grad: str) -> Gradients:
    """As ScatterElements, for whole slices."""
    _, indices, updates = node.inputs
    gathered = emit.gather_nd(grad, indices)
    if _scatter_adds(node):
        return grad, None, gathered
    return emit.scatter_nd(grad, indices, emit.zeros_like(updates)), None, gathered


def _scatter_adds(node: Node) -> bool:
    reduction = node.attr("reduction", b"none").decode()
    if reduction not in ("none", "add"):
        raise node.refuse(f"attribute reduction={reduction!r} is not covered; 'none' and 'add' are")
    return bool(reduction == "add")


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

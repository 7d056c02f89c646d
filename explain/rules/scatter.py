"""Adding gradients back along one axis, shared by the rules for slicing, gathering and padding."""

from ..emit import Emitter


def scatter_along(emit: Emitter, grad: str, positions: str, axis: int, length: str, rank: int) -> str:
    """Zeros with `length` elements along `axis`, to which slice i of `grad` is added at positions[i].

    `positions` is int64 [n] with n = the size of `grad` along `axis`; `length` is int64 [1]. Duplicates add up.
    """
    sides = [emit.dims(grad, 0, axis)] if axis else []
    rest = [emit.dims(grad, axis + 1)] if axis + 1 < rank else []
    zeros = emit.zeros(emit.join(*sides, length, *rest), grad)
    column = emit.reshape(positions, [1] * axis + [-1] + [1] * (rank - axis - 1))
    return emit.scatter_elements(zeros, emit.expand(column, emit.shape(grad)), grad, axis=axis, reduction="add")

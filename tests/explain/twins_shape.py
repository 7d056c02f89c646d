"""PyTorch's functions for operators that move elements: shapes, slices, gathers, scatters (see twins.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

F = torch.nn.functional
Tensor = torch.Tensor


def split(x: Tensor, sizes: Tensor | None = None, axis: int = 0, num_outputs: int = 0) -> tuple[Tensor, ...]:
    each = -(-x.shape[axis] // num_outputs) if sizes is None else sizes.tolist()
    return torch.split(x, each, axis)


def sliced(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
    count = len(starts)
    along = range(count) if axes is None else axes.tolist()
    strides = [1] * count if steps is None else steps.tolist()
    for axis, start, end, stride in zip(along, starts.tolist(), ends.tolist(), strides, strict=True):
        places = range(x.shape[axis])[slice(start, end, stride)]
        x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def reshape(x: Tensor, shape: Tensor, allowzero: int = 0) -> Tensor:
    sizes = shape.tolist()
    return x.reshape(sizes if allowzero else [size or x.shape[i] for i, size in enumerate(sizes)])


def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


def unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def pad(
    x: Tensor, pads: Tensor, value: Tensor | None = None, axes: Tensor | None = None, mode: str = "constant"
) -> Tensor:
    """Constant padding is PyTorch's; of the other modes numpy says where each element comes from."""
    along = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes.tolist()]
    before, after = pads.reshape(2, -1).tolist()
    widths = {axis: (before[i], after[i]) for i, axis in enumerate(along)}
    if mode == "constant":
        flat = [width for axis in reversed(range(x.ndim)) for width in widths.get(axis, (0, 0))]
        return F.pad(x, flat) if value is None else F.pad(x, flat) + value * (F.pad(torch.ones_like(x), flat) == 0)
    for axis, width in widths.items():
        places = np.pad(np.arange(x.shape[axis]), width, mode)  # type: ignore[call-overload]
        x = x.index_select(axis, torch.from_numpy(places))
    return x


def center_crop_pad(x: Tensor, shape: Tensor, axes: list[int] | None = None) -> Tensor:
    for axis, size in zip(range(x.ndim) if axes is None else axes, shape.tolist(), strict=True):
        gap, widths = size - x.shape[axis], [0, 0] * x.ndim
        place = 2 * (x.ndim - 1 - axis % x.ndim)
        before = gap // 2 if gap > 0 else -(-gap // 2)
        widths[place], widths[place + 1] = before, gap - before
        x = F.pad(x, widths)
    return x


def depth_to_space(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    return F.pixel_shuffle(x.reshape(n, blocksize**2, -1, h, w).transpose(1, 2).reshape(n, c, h, w), blocksize)


def space_to_depth(x: Tensor, blocksize: int, mode: str = "DCR") -> Tensor:
    y = F.pixel_unshuffle(x, blocksize)
    if mode == "CRD":
        return y
    return y.unflatten(1, (x.shape[1], -1)).transpose(1, 2).reshape(y.shape)


def gather(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    axis %= x.ndim
    taken = x.index_select(axis, indices.reshape(-1) % x.shape[axis])
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def gather_elements(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    return torch.gather(x, axis, indices % x.shape[axis])


def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    if batch_dims:
        rows = [gather_nd(part, index, batch_dims - 1) for part, index in zip(x, indices, strict=True)]
        return torch.stack(rows)
    return x[tuple(indices.unbind(-1))]


REDUCED = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, reduction: str = "none") -> Tensor:
    places = indices % x.shape[axis]
    if reduction == "none":
        return torch.scatter(x, axis, places, updates)
    return torch.scatter_reduce(x, axis, places, updates, REDUCED[reduction])


def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str = "none") -> Tensor:
    """Where each element of the updates goes, in the flattened tensor."""
    depth = indices.shape[-1]
    numbers = torch.arange(x.numel()).reshape(x.shape)
    places = numbers[tuple(indices.reshape(-1, depth).T)].reshape(-1)
    return scatter_elements(x.reshape(-1), places, updates.reshape(-1), 0, reduction).reshape(x.shape)


def tensor_scatter(
    cache: Tensor, update: Tensor, starts: Tensor | None = None, axis: int = -2, mode: str = "linear"
) -> Tensor:
    rows = []
    for i, (old, new) in enumerate(zip(cache, update, strict=True)):
        along = axis % cache.ndim - 1
        first = 0 if starts is None else int(starts[i])
        places = (torch.arange(new.shape[along]) + first) % old.shape[along]
        rows.append(old.index_copy(along, places, new))
    return torch.stack(rows)


def reverse_sequence(x: Tensor, lengths: Tensor, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    rows = x.movedim((batch_axis, time_axis), (0, 1))
    turned = [
        torch.cat([row[:length].flip(0), row[length:]]) for row, length in zip(rows, lengths.tolist(), strict=True)
    ]
    return torch.stack(turned).movedim((0, 1), (batch_axis, time_axis))


def top_k(x: Tensor, k: Tensor, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, ...]:  # noqa: A002
    return tuple(torch.topk(x, int(k), axis, bool(largest), bool(sorted)))


def compress(x: Tensor, condition: Tensor, axis: int | None = None) -> Tensor:
    flat, along = (x.reshape(-1), 0) if axis is None else (x, axis)
    return flat.index_select(along, condition.nonzero().reshape(-1))


def unique(x: Tensor, axis: int | None = None, sorted: int = 1) -> tuple[Tensor, ...]:  # noqa: A002
    """PyTorch's has no gradient, but says which values are equal; each is taken where it first occurs."""
    flat, along = (x.reshape(-1), 0) if axis is None else (x, axis)
    _, kind = torch.unique(flat.detach(), return_inverse=True, dim=along)
    first = torch.full([int(kind.max()) + 1], len(kind))
    first = first.scatter_reduce(0, kind, torch.arange(len(kind)), "amin")
    order = torch.arange(len(first)) if sorted else first.argsort()
    kind = order.argsort()[kind]
    return flat.index_select(along, first[order]), first[order], kind, torch.bincount(kind)


SHAPES: dict[str, Callable[..., Any]] = {
    "CenterCropPad": center_crop_pad,
    "Compress": compress,
    "Concat": lambda *xs, axis: torch.cat(xs, axis),
    "DepthToSpace": depth_to_space,
    "Expand": lambda x, shape: x.expand(torch.broadcast_shapes(x.shape, shape.tolist())),
    "Flatten": lambda x, axis=1: x.reshape(int(np.prod(x.shape[:axis])), -1),
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Pad": pad,
    "Reshape": reshape,
    "ReverseSequence": reverse_sequence,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Slice": sliced,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "TensorScatter": tensor_scatter,
    "Tile": lambda x, repeats: x.tile(repeats.tolist()),
    "TopK": top_k,
    "Transpose": lambda x, perm=None: x.permute(perm or tuple(reversed(range(x.ndim)))),
    "Trilu": lambda x, k=None, upper=1: (torch.triu if upper else torch.tril)(x, 0 if k is None else int(k)),
    "Unique": unique,
    "Unsqueeze": unsqueeze,
}

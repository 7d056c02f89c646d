"""The geometry that convolutions and poolings share: strides, dilations, pads (some known only at run time)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..dtypes import Shape
from ..emit import Emitter
from ..graph import Node


@dataclass(frozen=True)
class Windows:
    """Sliding windows over the spatial axes of [N, C, spatial...].

    `begin` and `end` are the pads before and after each axis, or None where `auto_pad` makes them depend on a size
    that is known only at run time.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...] | None
    end: tuple[int, ...] | None
    upper: bool

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def extent(self) -> tuple[int, ...]:
        """Elements one window spans along each axis, minus one."""
        return tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilations, strict=True))

    @classmethod
    def of(cls, node: Node, kernel: tuple[int, ...]) -> Windows:
        """Read the attributes that Conv and the poolings have in common."""
        n = len(kernel)
        strides = tuple(node.attr("strides") or (1,) * n)
        dilations = tuple(node.attr("dilations") or (1,) * n)
        auto = node.attr("auto_pad", b"NOTSET").decode()
        upper = auto != "SAME_LOWER"
        windows = cls(kernel, strides, dilations, None, None, upper)
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            same = windows._same_pads(node)
            return windows if same is None else cls(kernel, strides, dilations, *same, upper)
        pads = tuple(node.attr("pads") or (0,) * 2 * n) if auto == "NOTSET" else (0,) * 2 * n
        return cls(kernel, strides, dilations, pads[:n], pads[n:], upper)

    def _same_pads(self, node: Node) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """SAME pads where they do not depend on an unknown size: stride 1, or a static input."""
        shape = node.shape()
        sizes = shape[2:] if shape is not None else (None,) * self.rank
        begin, end = [], []
        for size, stride, extent in zip(sizes, self.strides, self.extent, strict=True):
            if stride != 1 and not isinstance(size, int):
                return None
            whole = size if isinstance(size, int) else 1
            total = max((-(-whole // stride) - 1) * stride + extent + 1 - whole, 0)
            small = total // 2
            begin.append(small if self.upper else total - small)
            end.append(total - small if self.upper else small)
        return tuple(begin), tuple(end)

    def begin_at_run_time(self, emit: Emitter, x: str) -> str:
        """Pads before each axis as int64 [spatial rank]."""
        if self.begin is not None:
            return emit.constant(np.array(self.begin, dtype=np.int64))
        size, stride = emit.dims(x, 2), np.array(self.strides)
        windows = emit.div(emit.add(size, stride - 1), stride)
        reach = emit.add(emit.mul(emit.sub(windows, [1]), stride), np.array(self.extent) + 1)
        total = emit.max(emit.sub(reach, size), np.zeros(1, dtype=np.int64))
        small = emit.div(total, [2])
        return small if self.upper else emit.sub(total, small)


def crop_to_input(emit: Emitter, full: str, windows: Windows, node: Node) -> str:
    """From the gradient with respect to the padded input of a node to that of the input.

    `full` lacks up to stride - 1 elements at the end, which no window reached: they are zero. Where sizes are known,
    only what is too much is cut and only what is missing added, and no shape is read: reading that of a value which a
    runtime holds in a layout of its own costs a copy.
    """
    n, x = windows.rank, node.inputs[0]
    axes = list(range(2, 2 + n))
    sizes, counts = _known(node.shape(), n), _known(node.graph.type(node.outputs[0]).shape, n)
    if windows.begin is None or sizes is None or counts is None:
        full = emit.pad_along(full, [0] * n + [stride - 1 for stride in windows.strides], axes, 2 + n)
        begin = windows.begin_at_run_time(emit, x)
        return emit.slice(full, begin, emit.add(begin, emit.dims(x, 2)), axes)
    reached = [(o - 1) * s + e + 1 for o, s, e in zip(counts, windows.strides, windows.extent, strict=True)]
    stops = [begin + size for begin, size in zip(windows.begin, sizes, strict=True)]
    missing = [max(stop - end, 0) for stop, end in zip(stops, reached, strict=True)]
    if any(missing):
        full = emit.pad_along(full, [0] * n + missing, axes, 2 + n)
    if any(windows.begin) or any(stop < end for stop, end in zip(stops, reached, strict=True)):
        full = emit.slice(full, list(windows.begin), stops, axes)
    return full


def _known(shape: Shape | None, n: int) -> list[int] | None:
    """The last n sizes, if all are known."""
    sizes = [size for size in (shape or ())[2:] if isinstance(size, int)]
    return sizes if len(sizes) == n else None

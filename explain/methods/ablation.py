"""What goes when something is taken away: one group at a time, or a window that slides over the item."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from ..errors import InvalidParameter
from ..plans import MaskPlan, Outcome
from ..positions import by_position
from ..request import Request
from .base import Method, Parameter, bounded, by_group

SHARE = 15 / 224  # a window of 15 pixels on a picture of 224 (Zeiler & Fergus), and as much of other sizes


def _feature_ablation(request: Request) -> MaskPlan:
    """f(x) less f without the group, of each group."""
    bounded("feature_ablation", request.groups.count, request.groups.count)
    named = by_group(request)

    def reduce(f: np.ndarray, full: np.ndarray, _: np.ndarray) -> Outcome:
        return Outcome(named(full[:, None] - f), full)

    return MaskPlan(request, 1.0 - np.eye(request.groups.count), reduce, compared=False)


def _occlusion(request: Request) -> MaskPlan:
    """Of each position, the mean over the windows that cover it of f(x) less f without the window."""
    if request.groups.names is not None:
        raise InvalidParameter("groups: occlusion slides a window over the elements; use feature_ablation with groups")
    request, sizes = by_position(request, "occlusion", request.parameters["layout"])
    share = [max(1, math.ceil(size * SHARE)) if len(sizes) > 1 else 1 for size in sizes]
    window = _per_axis("window", request.parameters["window"], sizes, share)
    stride = _per_axis("stride", request.parameters["stride"], sizes, [-(-width // 2) for width in window])
    bounded("occlusion", math.prod(_steps(sizes, window, stride)), math.prod(sizes))
    covered = windows(sizes, window, stride)
    named, counts = by_group(request), np.maximum(covered.sum(axis=0), 1)

    def reduce(f: np.ndarray, full: np.ndarray, _: np.ndarray) -> Outcome:
        return Outcome(named((full[:, None] - f) @ covered / counts), full)

    return MaskPlan(request, 1.0 - covered, reduce, compared=False)


def _steps(sizes: tuple[int, ...], window: list[int], stride: list[int]) -> list[int]:
    """How many windows there are along each axis."""
    return [
        max(0, math.ceil((size - width) / step)) + 1 for size, width, step in zip(sizes, window, stride, strict=True)
    ]


def windows(sizes: tuple[int, ...], window: list[int], stride: list[int]) -> np.ndarray:
    """Which of the prod(sizes) positions each window covers, [K, P] of 0 and 1; the last are cut at the border."""
    axes = []
    for size, width, step, count in zip(sizes, window, stride, _steps(sizes, window, stride), strict=True):
        starts = np.arange(count)[:, None] * step
        axes.append((np.arange(size) >= starts) & (np.arange(size) < starts + width))
    return np.array([_outer(rows).reshape(-1) for rows in product(*axes)], dtype=np.float32)


def _outer(rows: tuple[np.ndarray, ...]) -> np.ndarray:
    """Where all rows, one for each axis, hold."""
    inside = np.ones((), dtype=bool)
    for row in rows:
        inside = inside[..., None] & row
    return inside


def _per_axis(name: str, given: Any, sizes: tuple[int, ...], default: list[int]) -> list[int]:
    """One whole number for each axis of positions: one for all, a list, or the default; raises InvalidParameter."""
    wanted = default if given is None else [given] * len(sizes) if isinstance(given, int) else list(given)
    whole = all(isinstance(size, int) and not isinstance(size, bool) and size >= 1 for size in wanted)
    if len(wanted) != len(sizes) or not whole:
        expected = f"a whole number of at least 1, or {len(sizes)} of them for axes of {list(sizes)}"
        raise InvalidParameter(f"parameter {name!r}: came {given!r}, expected {expected}")
    return wanted


LAYOUT = Parameter("layout", None, {"type": ["string", "null"]}, "axes of an item, such as CHW or HWC")


def _size(name: str, text: str) -> Parameter:
    return Parameter(name, None, {"type": ["integer", "array", "null"], "minimum": 1}, text)


FEATURE_ABLATION = Method(
    "feature_ablation",
    "What the output loses when one feature or group is replaced.",
    "Kokhlikyan et al. 2020, arXiv:2009.07896",
    frozenset({"reference", "masks"}),
    "M + 1 F per reference row",
    (),
    _feature_ablation,
)
OCCLUSION = Method(
    "occlusion",
    "What the output loses when a window that slides over the item is replaced.",
    "Zeiler & Fergus 2014, arXiv:1311.2901",
    frozenset({"reference"}),
    "one F per window and reference row",
    (
        _size("window", "positions a window covers along each axis; default 15/224 of it (1 for a row of features)"),
        LAYOUT,
        _size("stride", "positions between windows; default half a window"),
    ),
    _occlusion,
)

"""What stands in the place of one input: its own mean or blur, a constant, a token.

A fill takes the label of its errors, the array [N, item...] and what came with its kind, and gives float64 rows, each
item's own [N, item...] or one for all [item...].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InvalidParameter
from ..layout import Layout, read_layout
from ..options import fits, refused

NUMBER = {"type": "number"}
NUMBERS = "a number, one for each channel, or one for each element of an item of rank 1"
CONSTANT = {
    "description": NUMBERS,
    "anyOf": [NUMBER, {"type": "array", "items": NUMBER, "minItems": 1}],
}
ID = "the id of the mask or pad token"
TOKEN = {"type": "integer", "minimum": 0, "description": ID}
TRUNCATE = 4.0  # deviations, after which a Gaussian is cut off
WIDEST = 250_000.0  # deviation from which on all weights are taken for equal


def places(label: str, array: np.ndarray, layout: str | None) -> Layout:
    """The layout of items whose elements can be averaged: images, and series. Raises InvalidParameter for others."""
    if array.dtype.kind not in "fu" and not (array.dtype.kind == "i" and array.ndim > 2):
        raise InvalidParameter(f"{label}: came {array.dtype} {list(array.shape)}, which are codes without a mean")
    if array.ndim == 2 and layout is None:
        raise InvalidParameter(
            f"{label}: items of rank 1 are taken for columns, which have no common mean; say layout 'T' for a series,"
            " or give a constant or a background"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidParameter(f"{label}: the input holds NaN or infinity")
    read = read_layout(label, array.shape[1:], layout)
    if not read.space:
        raise InvalidParameter(f"{label}: layout {read.axes!r} has no axis of places")
    return read


def mean(array: np.ndarray, layout: Layout) -> np.ndarray:
    """The mean of each item's channels over their places, [N, item...]."""
    rows = np.empty(array.shape)
    for item, values in enumerate(array):
        rows[item] = values.astype(np.float64).mean(axis=layout.space, keepdims=True)
    return rows


def blur(array: np.ndarray, layout: Layout, sigma: float) -> np.ndarray:
    """Each item under a Gaussian of `sigma` pixels or steps, along each axis that is a place, borders mirrored."""
    rows = np.empty(array.shape)
    kernels = {axis: _gaussian(layout.shape[axis], sigma) for axis in layout.space}
    for item, values in enumerate(array):
        smooth = values.astype(np.float64)
        for axis, kernel in kernels.items():
            smooth = np.moveaxis(np.tensordot(kernel, smooth, (1, axis)), 0, axis)
        rows[item] = smooth
    return rows


def _gaussian(length: int, sigma: float) -> np.ndarray:
    """The matrix [L, L] that blurs along an axis; what lies beyond a border is its mirror image (d c b a | a b c d)."""
    sigma = min(sigma, WIDEST)
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weight = np.exp(-0.5 * (offsets / sigma) ** 2)
    period = np.bincount(offsets % (2 * length), weight / weight.sum(), minlength=2 * length)
    source = np.arange(2 * length)
    target = np.arange(length)[:, None]
    whole = period[(source - target) % (2 * length)]
    return np.asarray(whole[:, :length] + whole[:, : length - 1 : -1])


def constant(label: str, array: np.ndarray, given: Any, layout: str | None) -> np.ndarray:
    """One number everywhere, or one for each channel (each element of an item of rank 1), [item...]."""
    shape = array.shape[1:]
    if array.dtype.kind not in "biuf":
        raise InvalidParameter(f"{label}: came {array.dtype} items, expected numbers; give a background instead")
    if not fits(given, CONSTANT):
        raise refused(label, given, NUMBERS)
    values = np.asarray(given, dtype=np.float64)
    if values.ndim == 0:
        return np.broadcast_to(values, shape)
    if len(shape) == 1:
        expected, axis = shape[0], 0
    else:
        axis = read_layout(label, shape, layout, needs="C").axes.index("C")
        expected = shape[axis]
    if len(values) != expected:
        raise InvalidParameter(f"{label}: came {len(values)} numbers, expected 1 or {expected}")
    return np.broadcast_to(values.reshape([-1 if a == axis else 1 for a in range(len(shape))]), shape)


def token(label: str, array: np.ndarray, given: Any) -> np.ndarray:
    """A mask or pad token everywhere, [item...]."""
    if array.dtype.kind not in "iu":
        raise InvalidParameter(f"{label}: came {array.dtype} items, expected token ids (whole numbers)")
    if not fits(given, TOKEN):
        raise refused(label, given, ID)
    return np.broadcast_to(np.float64(given), array.shape[1:])


def cast(label: str, rows: np.ndarray, dtype: np.dtype[Any], *, exact: bool) -> np.ndarray:
    """Rows in the input's dtype: rounded and cut to its range, or refused where `exact` numbers do not fit."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            fitted = rows.astype(dtype)
        if not np.isfinite(fitted).all():
            raise InvalidParameter(f"{label}: holds numbers that {dtype} cannot hold")
        return fitted
    if dtype.kind == "b":
        low, high = 0, 1
    else:
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    whole = np.rint(rows)
    if exact and (not np.array_equal(whole, rows) or (rows < low).any() or (rows > high).any()):
        raise InvalidParameter(f"{label}: holds numbers that {dtype} cannot hold, expected whole ones")
    return np.asarray(np.clip(whole, low, high).astype(dtype))

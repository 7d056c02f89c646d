"""Values from JSON as numpy arrays, never with a silent loss.

An integer is a good float; a float is an integer only if it has no fraction; a boolean is neither; nothing is NaN,
infinite or beyond the range of its dtype. What fails is named with its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import InvalidInput, shown
from .layout import Array, described, fits
from .manifest import Dim

Place = Callable[[tuple[int, ...]], str]


def number(value: Any, dtype: str, field: str) -> float | int:
    """One JSON number that `dtype` can hold. Raises InvalidInput naming `field`."""
    kind = np.dtype(dtype)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(field, kind_of(value), "true or false" if kind.kind == "b" else "a number")
    if kind.kind == "b":
        raise InvalidInput(field, shown(value), "true or false")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(field, shown(value), "a finite number")
    if kind.kind == "f":
        return _as_float(value, kind, field)
    if value != int(value):
        raise InvalidInput(field, shown(value), f"a whole number, as the model takes {dtype}")
    limits = np.iinfo(kind)
    if not limits.min <= value <= limits.max:
        raise InvalidInput(field, shown(value), f"{limits.min} to {limits.max}, as the model takes {dtype}")
    return int(value)


def _as_float(value: float, kind: np.dtype[Any], field: str) -> float:
    limit = float(np.finfo(kind).max)
    if abs(value) > limit:
        raise InvalidInput(field, shown(value), f"at most {limit:.9g} in size, as the model takes {kind.name}")
    return float(value)


def array(value: Any, dtype: str, item_shape: tuple[Dim, ...], field: str) -> Array:
    """Nested lists as one item of shape `item_shape` (free where it is not an int).

    Raises InvalidInput naming `field` and the index at fault.
    """
    shape = _shape_of(value, len(item_shape), field)
    if not fits(shape, item_shape):
        raise InvalidInput(field, f"nested lists of shape {list(shape)}", f"shape {described(item_shape)}")
    flat: list[Any] = []
    _flatten(value, shape, 0, flat, field)
    return _converted(flat, shape, dtype, field)


def _shape_of(value: Any, rank: int, field: str) -> tuple[int, ...]:
    """The shape told by the first element at each depth; deeper than `rank` is never followed."""
    shape: list[int] = []
    while isinstance(value, list):
        if len(shape) == rank:
            raise InvalidInput(field, f"lists nested more than {rank} deep", f"lists nested {rank} deep")
        if not value:
            raise InvalidInput(field, "an empty list", "at least one number")
        shape.append(len(value))
        value = value[0]
    return tuple(shape)


def _flatten(value: Any, shape: tuple[int, ...], depth: int, flat: list[Any], field: str) -> None:
    if depth == len(shape):
        flat.append(value)
        return
    if not isinstance(value, list) or len(value) != shape[depth]:
        came = f"{len(value)} elements" if isinstance(value, list) else kind_of(value)
        raise InvalidInput(f"{field} at depth {depth}", came, f"a list of {shape[depth]}, as the first one there")
    if depth + 1 == len(shape):
        flat.extend(value)
        return
    for element in value:
        _flatten(element, shape, depth + 1, flat, field)


def _converted(flat: list[Any], shape: tuple[int, ...], dtype: str, field: str) -> Array:
    kind = np.dtype(dtype)
    types = set(map(type, flat))
    if kind.kind == "b" and types == {bool}:
        return np.array(flat, dtype=kind).reshape(shape)
    if types <= {int, float} and kind.kind == "f":
        fast = floats(flat, kind)
        if fast is not None:
            return fast.reshape(shape)
    # Something is wrong, or it is whole numbers: look at one after the other, and name the first that does not fit.
    checked = [number(value, dtype, f"{field}{_index(position, shape)}") for position, value in enumerate(flat)]
    return np.array(checked, dtype=kind).reshape(shape)


def floats(flat: list[Any], kind: np.dtype[Any]) -> Array | None:
    """The numbers as floats, or None if one of them is not finite in that dtype."""
    try:
        wide = np.array(flat, dtype=np.float64)
    except OverflowError:
        return None
    largest = np.abs(wide).max(initial=0.0)
    return wide.astype(kind) if largest <= float(np.finfo(kind).max) else None


def _index(position: int, shape: tuple[int, ...]) -> str:
    return "".join(f"[{int(index)}]" for index in np.unravel_index(position, shape)) if shape else ""


def kind_of(value: Any) -> str:
    """A value of a wrong kind, as an error text names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "the boolean true" if value else "the boolean false"
    if isinstance(value, str):
        return f"the text {shown(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    return shown(value)

"""Arrays by name: what came, checked against what the model takes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .dtypes import Type
from .errors import InvalidInputs, InvalidParameter
from .model import Model
from .programs.draft import item_shape

Arrays = dict[str, np.ndarray]


def check_inputs(model: Model, inputs: Mapping[str, Any], *, of_features: bool = False) -> Arrays:
    """Inputs as arrays [N, item...] in the model's dtypes, or those of them that are not held; raises InvalidInputs."""
    expected = {name: k for name, k in model.graph.inputs.items() if not (of_features and name in model.held)}
    if of_features and isinstance(inputs, Mapping):
        inputs = {name: array for name, array in inputs.items() if name not in model.held}
    if not isinstance(inputs, Mapping):
        raise InvalidInputs(f"inputs: came {type(inputs).__name__}, expected arrays by name for {', '.join(expected)}")
    for name in inputs:
        if name in model.graph.constants:
            raise InvalidInputs(f"input {name!r} has its value in the file, which programs hold; leave it out")
        if name not in expected:
            raise InvalidInputs(f"input {name!r} is unknown; expected {', '.join(expected)}")
    missing = [name for name in expected if name not in inputs]
    if missing:
        raise InvalidInputs(f"input {missing[0]!r} is missing; expected {', '.join(expected)}")
    arrays = {
        name: fitted(f"input {name!r}", inputs[name], kind, model.takes_missing) for name, kind in expected.items()
    }
    counts = set()
    for name, array in arrays.items():
        item = item_shape(model, name)
        if array.ndim != len(item) + 1 or not _fits(array.shape[1:], item):
            raise InvalidInputs(f"input {name!r}: came shape {array.shape}, expected {_spelled(('N', *item))}")
        if len(array) and not array.size and (name not in model.held or model.recurrent):
            of = f"; the model has a {model.recurrent}, which takes at least one step" if model.recurrent else ""
            raise InvalidInputs(f"input {name!r}: came shape {array.shape}, which holds no elements{of}")
        counts.add(len(array))
    if len(counts) != 1 or 0 in counts:
        spelled = ", ".join(map(str, sorted(counts)))
        raise InvalidInputs(f"inputs: came {spelled} items, expected the same number in each, at least 1")
    return arrays


def fitted(label: str, value: Any, kind: Type, missing: bool = False) -> np.ndarray:
    """The value in the model's dtype, without changing what it says; floating-point values are finite, or NaN where
    values may be `missing`."""
    if kind.dtype == "string":
        strings = np.asarray(value, dtype=object)
        if not all(isinstance(text, str) for text in strings.reshape(-1)):
            raise InvalidInputs(f"{label}: holds something that is no string; expected strings")
        return strings
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidInputs(f"{label}: came rows of different lengths, expected an array") from error
    wanted = np.dtype(kind.dtype)
    if array.dtype.kind not in "biuf" or (wanted.kind in "iu" and array.dtype.kind == "f"):
        raise InvalidInputs(f"{label}: came dtype {array.dtype}, expected {wanted}")
    if array.dtype != wanted:
        given = array
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            array = given.astype(wanted)
        if wanted.kind in "biu" and not np.array_equal(array, given):
            raise InvalidInputs(f"{label}: holds values that {wanted} cannot hold")
    if wanted.kind == "f" and not np.isfinite(array).all() and (not missing or np.isinf(array).any()):
        raise InvalidInputs(f"{label}: holds NaN or infinity; expected finite numbers of {wanted}")
    return array


def _fits(shape: tuple[int, ...], item: tuple[Any, ...]) -> bool:
    return all(not isinstance(want, int) or have == want for have, want in zip(shape, item, strict=True))


def _spelled(shape: tuple[Any, ...]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def shares(label: str, weight: Any, size: int, row: str = "row") -> np.ndarray:
    """What each of `size` rows counts, float64 that sums to 1: equal unless given. Raises InvalidParameter."""
    if weight is None:
        return np.full(size, 1.0 / size)
    try:
        given = np.asarray(weight, dtype=np.float64)
    except (TypeError, ValueError):
        given = np.zeros(0)
    if given.shape != (size,) or not np.isfinite(given).all() or (given < 0).any() or not given.sum() > 0:
        raise InvalidParameter(f"{label}: expected {size} numbers of at least 0, one for each {row}")
    return np.asarray(given / given.sum())


def digest_arrays(arrays: Mapping[str, np.ndarray] | None) -> str | None:
    """SHA-256 over names, dtypes, shapes and little-endian bytes, in hex; each text in UTF-8 behind its length."""
    if arrays is None:
        return None
    state = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(f"{name}|{array.dtype.name}|{array.shape}|".encode())
        if array.dtype == object:
            for text in (str(value).encode() for value in array.reshape(-1)):
                state.update(b"%d:%s" % (len(text), text))
        else:
            state.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return state.hexdigest()

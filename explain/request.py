"""What was asked, made precise: arrays checked against the model, target resolved to indices, defaults filled in.

Everything a plan needs is in a `Request`; nothing is guessed later. What came wrong is refused here, in one sentence
that names the parameter, what came and what was expected.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InvalidInputs, InvalidParameter, InvalidTarget
from .graph import Type
from .model import Explained, Model
from .programs.draft import item_shape

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Target:
    """`index` [N, S, D] int64 and `weight` [N, S]: f = sum over S of weight * y[index], y the explained output."""

    index: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Groups:
    """Which group each element belongs to, by input ([item...] int64, -1 = never masked), and the groups' names.

    `names` is None where every element is a group of its own.
    """

    index: Arrays
    count: int
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Request:
    """One explanation to be made: N items, resolved."""

    model: Model
    explained: Explained
    inputs: Arrays
    outputs: Arrays
    target: Target
    baseline: Arrays | None
    background: Arrays | None
    groups: Groups
    seed: int
    parameters: Mapping[str, Any]

    @property
    def items(self) -> int:
        """N, the number of items."""
        return len(next(iter(self.inputs.values())))


def check_inputs(model: Model, inputs: Mapping[str, Any]) -> Arrays:
    """Inputs as arrays [N, item...] in the model's dtypes; raises InvalidInputs."""
    expected = model.graph.inputs
    if not isinstance(inputs, Mapping):
        raise InvalidInputs(f"inputs: came {type(inputs).__name__}, expected arrays by name for {', '.join(expected)}")
    for name in inputs:
        if name not in expected:
            raise InvalidInputs(f"input {name!r} is unknown; expected {', '.join(expected)}")
    missing = [name for name in expected if name not in inputs]
    if missing:
        raise InvalidInputs(f"input {missing[0]!r} is missing; expected {', '.join(expected)}")
    arrays = {name: _fitted(f"input {name!r}", inputs[name], kind) for name, kind in expected.items()}
    counts = set()
    for name, array in arrays.items():
        item = item_shape(model, name)
        if array.ndim != len(item) + 1 or not _fits(array.shape[1:], item):
            raise InvalidInputs(f"input {name!r}: came shape {array.shape}, expected {_spelled(('N', *item))}")
        if len(array) and not array.size:
            raise InvalidInputs(f"input {name!r}: came shape {array.shape}, which holds no elements")
        counts.add(len(array))
    if len(counts) != 1 or 0 in counts:
        spelled = ", ".join(map(str, sorted(counts)))
        raise InvalidInputs(f"inputs: came {spelled} items, expected the same number in each, at least 1")
    return arrays


def _fitted(label: str, value: Any, kind: Type) -> np.ndarray:
    """The value in the model's dtype, without changing what it says; floating-point values are finite."""
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
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        fitted = array.astype(wanted, copy=False)
    if wanted.kind in "biu" and not np.array_equal(fitted, array):
        raise InvalidInputs(f"{label}: holds values that {wanted} cannot hold")
    if wanted.kind == "f" and not np.isfinite(fitted).all():
        raise InvalidInputs(f"{label}: holds NaN or infinity; expected finite numbers of {wanted}")
    return fitted


def _fits(shape: tuple[int, ...], item: tuple[Any, ...]) -> bool:
    return all(not isinstance(want, int) or have == want for have, want in zip(shape, item, strict=True))


def _spelled(shape: tuple[Any, ...]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def check_reference(model: Model, inputs: Arrays, role: str, value: Any, *, per_item: bool) -> Arrays | None:
    """A baseline ([1 or N, item...]) or background ([B, item...]) for every input: from a dict, an array or a number.

    A number stands for every element of a baseline; one item stands for all. Raises InvalidParameter.
    """
    if value is None:
        return None
    given = value if isinstance(value, Mapping) else dict.fromkeys(inputs, value)
    unknown = sorted(set(given) - set(inputs))
    if unknown:
        raise InvalidParameter(f"{role}: input {unknown[0]!r} is unknown; expected {', '.join(inputs)}")
    if len(inputs) > 1 and isinstance(value, (list, tuple, np.ndarray)):
        raise InvalidParameter(f"{role}: the model has inputs {', '.join(inputs)}; give one array for each, by name")
    found: Arrays = {}
    for name, array in inputs.items():
        if name not in given:
            raise InvalidParameter(f"{role}: nothing came for input {name!r}; give one array for each input")
        try:
            reference = _fitted(f"{role} of {name!r}", given[name], model.graph.inputs[name])
        except InvalidInputs as error:
            raise InvalidParameter(str(error)) from error
        found[name] = _rows(role, name, reference, array, per_item=per_item)
    if not per_item and len({len(rows) for rows in found.values()}) != 1:
        raise InvalidParameter(f"{role}: every input needs the same number of rows")
    return found


def _rows(role: str, name: str, reference: np.ndarray, array: np.ndarray, *, per_item: bool) -> np.ndarray:
    item, n = array.shape[1:], len(array)
    if reference.ndim == 0 and per_item:
        return np.full((1, *item), reference)
    if reference.shape == item:
        reference = reference[None]
    if reference.shape[1:] != item or (per_item and len(reference) not in (1, n)) or len(reference) == 0:
        leading = f"[{n}, " if per_item else "[B, "
        expected = leading + ", ".join(map(str, item)) + "]"
        raise InvalidParameter(f"{role} of {name!r}: came shape {reference.shape}, expected {expected}")
    return reference


def resolve_target(explained: Explained, outputs: Arrays, target: Any, items: int) -> Target:
    """The target of every item; None is the predicted class, the only element of an output with one.

    `target` may be an index, a list of N indices, a tuple of D indices (position, ..., class), {"class": a, "versus":
    b} for a contrast, or a `Target`. Raises InvalidTarget, naming what the output has.
    """
    output = outputs[explained.output]
    shape = output.shape[1:]
    dtype = np.dtype(explained.dtype)
    if isinstance(target, Target):
        return _checked_target(target, shape, items, dtype)
    if isinstance(target, Mapping):
        if set(target) != {"class", "versus"}:
            raise InvalidTarget(f"target: came {dict(target)!r}, expected an index or {{'class': a, 'versus': b}}")
        sides = [_indices(target[key], shape, items) for key in ("class", "versus")]
        weight = np.tile(np.array([1, -1], dtype=dtype), (items, 1))
        return Target(np.stack(sides, axis=1), weight)
    index = _predicted(output, items) if target is None else _indices(target, shape, items)
    return Target(index[:, None, :], np.ones((items, 1), dtype=dtype))


def _predicted(output: np.ndarray, items: int) -> np.ndarray:
    shape = output.shape[1:]
    if math.prod(shape) == 1:
        return np.zeros((items, len(shape)), dtype=np.int64)
    if len(shape) != 1:
        raise InvalidTarget(f"target: the output has shape {list(shape)} for each item; say which element to explain")
    return np.asarray(np.argmax(output, axis=1), dtype=np.int64)[:, None]


def _checked_target(target: Target, shape: tuple[int, ...], items: int, dtype: np.dtype[Any]) -> Target:
    index, weight = np.asarray(target.index), np.asarray(target.weight)
    if index.dtype.kind not in "iu" or index.ndim != 3 or (len(index), index.shape[2]) != (items, len(shape)):
        expected = f"whole numbers [{items}, S, {len(shape)}]"
        raise InvalidTarget(f"target: came indices {index.dtype} {index.shape}, expected {expected}")
    if weight.dtype.kind not in "iuf" or weight.shape != index.shape[:2] or not np.isfinite(weight).all():
        expected = f"finite numbers {list(index.shape[:2])}"
        raise InvalidTarget(f"target: came weights {weight.dtype} {weight.shape}, expected {expected}")
    _check_range(index, shape)
    return Target(index.astype(np.int64), weight.astype(dtype))


def _indices(target: Any, shape: tuple[int, ...], items: int) -> np.ndarray:
    """[N, D] indices from one index, one per item, or one list of D where D is not 1."""
    try:
        array = np.asarray(target)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iu":
        raise InvalidTarget(f"target: came {target!r}, expected a whole number (the output has shape {list(shape)})")
    d = len(shape)
    if d == 0 and array.ndim == 0:
        _check_range(array[None, None], (1,))
        array = np.zeros((items, 0), dtype=np.int64)
    elif array.shape == (d,) and (d > 1 or isinstance(target, tuple)):
        array = np.tile(array, (items, 1))
    elif array.ndim == 0 and d == 1:
        array = np.tile(array, (items, d))
    elif array.shape == (items,) and d == 1:
        array = array[:, None]
    if array.shape != (items, d):
        raise InvalidTarget(f"target: came {target!r}, expected {d} indices for each of {items} items")
    _check_range(array, shape)
    return array.astype(np.int64)


def _check_range(index: np.ndarray, shape: tuple[int, ...]) -> None:
    sizes = np.array(shape, dtype=np.int64)
    if ((index < 0) | (index >= sizes)).any():
        limits = ", ".join(f"0 to {size - 1}" for size in shape)
        raise InvalidTarget(f"target: came {np.squeeze(index).tolist()}, expected {limits}")


def resolve_groups(inputs: Arrays, groups: Mapping[str, Any] | None, names: Any) -> Groups:
    """Declared groups, checked; or one group for each element of each input. Raises InvalidParameter."""
    if groups is None:
        if names is not None:
            raise InvalidParameter("group_names: came without groups")
        start, index = 0, {}
        for name, array in inputs.items():
            size = math.prod(array.shape[1:])
            index[name] = np.arange(start, start + size, dtype=np.int64).reshape(array.shape[1:])
            start += size
        return Groups(index, start, None)
    if not isinstance(groups, Mapping) or set(groups) != set(inputs):
        came = ", ".join(map(str, groups)) or "nothing" if isinstance(groups, Mapping) else repr(groups)
        raise InvalidParameter(f"groups: came {came}, expected one array for each of {', '.join(inputs)}")
    index = {}
    for name, array in inputs.items():
        given = _whole_numbers(groups[name])
        if given is None or given.shape != array.shape[1:]:
            expected = list(array.shape[1:])
            came = "no whole numbers" if given is None else f"shape {list(given.shape)}"
            raise InvalidParameter(f"groups of {name!r}: came {came}, expected whole numbers of shape {expected}")
        index[name] = given.astype(np.int64)
    used = sorted({int(i) for array in index.values() for i in array.reshape(-1)} - {-1})
    if not used or used != list(range(len(used))):
        raise InvalidParameter(f"groups: came numbers {used[:10]}, expected 0 to G-1 without gaps (-1 = never masked)")
    labels = [f"group {i}" for i in used] if names is None else names
    if not isinstance(labels, (list, tuple)) or len(labels) != len(used):
        raise InvalidParameter(f"group_names: came {labels!r}, expected {len(used)} names")
    return Groups(index, len(used), tuple(map(str, labels)))


def _whole_numbers(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "iu" else None


def digest_arrays(arrays: Mapping[str, np.ndarray] | None) -> str | None:
    """SHA-256 over names, dtypes, shapes and little-endian bytes, in hex."""
    if arrays is None:
        return None
    state = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(f"{name}|{array.dtype.name}|{array.shape}|".encode())
        if array.dtype == object:
            state.update("\0".join(map(str, array.reshape(-1))).encode())
        else:
            state.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return state.hexdigest()

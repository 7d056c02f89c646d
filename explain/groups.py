"""The groups of a request: declared element by element, made from a spec, or one for each element."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from .arrays import Arrays
from .errors import InvalidParameter
from .segments import Segments
from .segments import resolve as made_from_spec


def resolve_groups(
    inputs: Arrays,
    groups: Any,
    names: Any,
    layouts: Mapping[str, str] | None = None,
    held: Collection[str] = (),
) -> Segments:
    """Groups by a spec ("patches", {"superpixels": {"count": 50}}), as declared by input, or one for each element.

    Declared are whole numbers of the shape of an item, or of all items where they differ. `layouts` is read of models
    with one input; with several the spec says which it means, and its layout. Inputs that are `held` are in no group.
    Raises InvalidParameter.
    """
    if held:
        features = {name: array for name, array in inputs.items() if name not in held}
        found = resolve_groups(features, groups, names, layouts)
        return holding(found, inputs)
    if groups is None:
        if names is not None:
            raise InvalidParameter("group_names: came without groups")
        return _elements(tuple((name, array.shape[1:]) for name, array in inputs.items()))
    if isinstance(groups, str) or (isinstance(groups, Mapping) and groups and not set(groups) & set(inputs)):
        if names is not None:
            raise InvalidParameter("group_names: came with groups made from a spec, which names them")
        main = next(iter(inputs)) if len(inputs) == 1 else None
        return made_from_spec(groups, inputs, main=main, layout=(layouts or {}).get(main or ""))
    return _declared(inputs, groups, names)


def holding(groups: Segments, inputs: Arrays) -> Segments:
    """The same groups, where inputs that are in none stay as they are."""
    shapes = {name: array.shape if groups.per_item else array.shape[1:] for name, array in inputs.items()}
    index = {name: groups.index[name] if name in groups.index else np.full(shapes[name], -1) for name in inputs}
    return replace(groups, index=index, counted=groups.counted and len(groups.index) == len(inputs))


@lru_cache(maxsize=16)
def _elements(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> Segments:
    """Every element of items of these shapes by itself; made once, so nobody may write to it."""
    start, index = 0, {}
    for name, shape in shapes:
        size = math.prod(shape)
        index[name] = np.arange(start, start + size, dtype=np.int64).reshape(shape)
        index[name].flags.writeable = False
        start += size
    return Segments(index, start, None, counted=True)


def _declared(inputs: Arrays, groups: Any, names: Any) -> Segments:
    if not isinstance(groups, Mapping) or set(groups) != set(inputs):
        came = ", ".join(map(str, groups)) or "nothing" if isinstance(groups, Mapping) else repr(groups)
        raise InvalidParameter(f"groups: came {came}, expected one array for each of {', '.join(inputs)}")
    index = {}
    for name, array in inputs.items():
        given = _whole_numbers(groups[name])
        if given is None or given.shape not in (array.shape[1:], array.shape):
            expected = list(array.shape[1:])
            came = "no whole numbers" if given is None else f"shape {list(given.shape)}"
            raise InvalidParameter(f"groups of {name!r}: came {came}, expected whole numbers of shape {expected}")
        index[name] = given.astype(np.int64)
    per_item = any(given.ndim == inputs[name].ndim for name, given in index.items())
    if per_item:
        index = {name: np.broadcast_to(given, inputs[name].shape) for name, given in index.items()}
    used = sorted({int(i) for array in index.values() for i in array.reshape(-1)} - {-1})
    if not used or used != list(range(len(used))):
        raise InvalidParameter(f"groups: came numbers {used[:10]}, expected 0 to G-1 without gaps (-1 = never masked)")
    labels = [f"group {i}" for i in used] if names is None else names
    if not isinstance(labels, (list, tuple)) or len(labels) != len(used):
        raise InvalidParameter(f"group_names: came {labels!r}, expected {len(used)} names")
    return Segments(index, len(used), tuple(map(str, labels)), per_item)


def _whole_numbers(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value)
    except ValueError:
        return None
    return array if array.dtype.kind in "iu" else None

"""Groups declared as lists of an item's positions, flat and from 0: one-hot blocks, or whatever belongs together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InvalidParameter
from ..options import fits, refused
from .base import numbered

POSITIONS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
LISTS = {"type": "array", "items": POSITIONS, "minItems": 1}
NAMED = {"type": "object", "additionalProperties": POSITIONS, "minProperties": 1}
BLOCKS = {
    "description": "lists of positions, or such lists by name; by input where the model has several",
    "anyOf": [LISTS, NAMED, {"type": "object", "additionalProperties": {"anyOf": [LISTS, NAMED]}}],
}


def declared(
    label: str, given: Any, inputs: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], int, tuple[str, ...]]:
    """The index of each input that has blocks [item...], how many groups there are, and their names.

    Every position of such an input is in one block. Blocks of one name in several inputs are one group. Raises
    InvalidParameter.
    """
    by_input = _by_input(label, given, inputs)
    names: dict[str, int] = {}
    index = {}
    for name, blocks in by_input.items():
        if not isinstance(blocks, Mapping):
            blocks = dict(zip(_own(name, len(blocks), len(by_input), len(names)), blocks, strict=True))
        for block in blocks:
            names.setdefault(str(block), len(names))
        numbers = [names[str(block)] for block in blocks]
        index[name] = _index(f"{label} of {name!r}", list(blocks.values()), numbers, inputs[name].shape[1:])
    return index, len(names), tuple(names)


def _own(name: str, count: int, inputs: int, start: int) -> tuple[str, ...]:
    """Names of blocks that came without: numbered, and with their input where there are several."""
    return numbered("block", count) if inputs == 1 else tuple(f"{name} block {start + i}" for i in range(count))


def _by_input(label: str, given: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    expected = f"lists of positions, alone or by name, for each of {', '.join(inputs)}"
    if isinstance(given, Mapping) and given and not any(fits(blocks, POSITIONS) for blocks in given.values()):
        for name, blocks in given.items():
            if name not in inputs:
                raise InvalidParameter(f"{label}: input {name!r} is unknown; expected {', '.join(inputs)}")
            if not _are_blocks(blocks):
                raise refused(f"{label} of {name!r}", blocks, "lists of positions, whole numbers of at least 0")
        return dict(given)
    if not _are_blocks(given):
        raise refused(label, given, expected)
    if len(inputs) > 1:
        raise InvalidParameter(f"{label}: the model has inputs {', '.join(inputs)}; give the blocks of each, by name")
    return dict.fromkeys(inputs, given)


def _are_blocks(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(fits(block, POSITIONS) for block in value.values())
    return fits(value, LISTS)


def _index(label: str, blocks: list[list[int]], numbers: list[int], shape: tuple[int, ...]) -> np.ndarray:
    index = np.full(math.prod(shape), -1, dtype=np.int64)
    for number, block in zip(numbers, blocks, strict=True):
        for position in block:
            if position >= len(index):
                raise InvalidParameter(f"{label}: came position {position}, expected 0 to {len(index) - 1}")
            if index[position] >= 0:
                raise InvalidParameter(f"{label}: position {position} is in two blocks; expected one")
            index[position] = number
    if (index < 0).any():
        lacking = int(np.flatnonzero(index < 0)[0])
        raise InvalidParameter(f"{label}: position {lacking} is in no block; list it, alone where it is its own group")
    return index.reshape(shape)

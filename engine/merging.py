"""The figures of several engine processes as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from .counters import EngineStatistics, Histogram

T = TypeVar("T")


def merged(figures: Sequence[EngineStatistics]) -> EngineStatistics:
    """Numbers are added, by name where they have one; names are those of all."""
    total = EngineStatistics()
    for each in figures:
        total = _added(total, each)
    return total


def _added(one: T, other: T) -> T:
    added: Any
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        counts = _added(one.counts, other.counts) if one.bounds == other.bounds else one.counts or other.counts
        added = replace(one, counts=counts, total=one.total + other.total)
    elif is_dataclass(one) and not isinstance(one, type):
        names = [field.name for field in fields(one)]
        added = type(one)(**{name: _added(getattr(one, name), getattr(other, name)) for name in names})
    elif isinstance(one, Mapping) and isinstance(other, Mapping):
        added = {name: _added(one[name], other[name]) for name in one if name in other}
        added |= {name: value for source in (one, other) for name, value in source.items() if name not in added}
    elif isinstance(one, tuple) and isinstance(other, tuple):
        added = _added_tuples(one, other)
    else:
        added = one + other  # type: ignore[operator]
    return added  # type: ignore[no-any-return]


def _added_tuples(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    """Tuples of counts are of one length and added place by place (an empty one is all zeros); others are joined."""
    if any(isinstance(value, str) for value in one + other):
        return tuple(dict.fromkeys(one + other))
    if not one or not other:
        return one or other
    return tuple(a + b for a, b in zip(one, other, strict=True))

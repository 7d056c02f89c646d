"""A row as columns: which element of which input each is. One order for rows that go in and values that come out.

First the manifest's features in their order, then the elements of every other input, flat, in the order of the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model_store import Feature

from ..exported import Array


@dataclass(frozen=True)
class Column:
    """The element at flat position ``index`` of one item of ``input``; ``feature`` is None where it has no name."""

    name: str
    input: str
    index: int
    feature: Feature | None = None


def columns_of(features: Sequence[Feature], sizes: Mapping[str, int]) -> list[Column]:
    """The columns of a model; ``sizes`` are the numbers of elements of an item, by input."""
    named = [Column(each.label or each.name, each.input, each.index, each) for each in features]
    fed = {column.input for column in named}
    rest = [Column(f"{name}[{i}]", name, i) for name, size in sizes.items() if name not in fed for i in range(size)]
    return named + rest


def split(rows: Array, columns: Sequence[Column], shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Rows [N, columns] as inputs [N, ...item] by name."""
    found = {}
    for name, shape in shapes.items():
        places = sorted((column.index, place) for place, column in enumerate(columns) if column.input == name)
        found[name] = rows[:, [place for _, place in places]].reshape(len(rows), *shape)
    return found


def joined(arrays: Mapping[str, Array], columns: Sequence[Column]) -> Array:
    """Arrays [N, ...item] by input name as one [N, columns]; the other way of `split`."""
    flat = {name: array.reshape(len(array), -1) for name, array in arrays.items()}
    return np.stack([flat[column.input][:, column.index] for column in columns], axis=1)

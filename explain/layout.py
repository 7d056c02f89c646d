"""What the axes of an item are: channels, rows, columns, time. Read from a layout, or inferred from rank and use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .errors import InvalidParameter

LETTERS = {"C": "channels", "D": "depth", "H": "rows", "W": "columns", "T": "time"}
IMAGE = {2: "HW", 3: "CHW"}
SERIES = {1: "T", 2: "CT"}
ANY = {1: "T", 2: "CT", 3: "CHW", 4: "CDHW"}


@dataclass(frozen=True)
class Layout:
    """One letter for each axis of an item: C channels, D depth, H rows, W columns, T time; and the item's shape."""

    axes: str
    shape: tuple[int, ...]

    @property
    def channel(self) -> int | None:
        """The axis of the channels, None without one."""
        return self.axes.index("C") if "C" in self.axes else None

    @property
    def space(self) -> tuple[int, ...]:
        """The axes that are places: rows and columns of an image, time of a series."""
        return tuple(axis for axis, letter in enumerate(self.axes) if letter != "C")

    def size(self, letter: str) -> int:
        """How long an axis is; raises ValueError for a letter that the layout has not."""
        return self.shape[self.axes.index(letter)]

    def along(self, letter: str, values: np.ndarray) -> np.ndarray:
        """Values along one axis, shaped so that they broadcast over an item."""
        shape = [1] * len(self.shape)
        shape[self.axes.index(letter)] = len(values)
        return values.reshape(shape)

    def places(self) -> np.ndarray:
        """The number of each element's place, int64 [item...]: all channels of one place have the same."""
        numbers = np.arange(int(np.prod([self.shape[axis] for axis in self.space])), dtype=np.int64)
        open_shape = [1 if axis == self.channel else size for axis, size in enumerate(self.shape)]
        return np.broadcast_to(numbers.reshape(open_shape), self.shape)


def read_layout(
    label: str, shape: tuple[int, ...], given: str | None, inferred: Mapping[int, str] = ANY, needs: str = ""
) -> Layout:
    """The layout of items of a shape: as given ("CHW", "NHWC", "TC", ...), else by rank. Raises InvalidParameter.

    `needs` are the letters it must have. An item that looks like an image with its channels last is refused where no
    layout was given, instead of being taken for one of many channels.
    """
    if given is None:
        if len(shape) == 3 and shape[0] > 4 >= shape[2]:
            raise InvalidParameter(f"{label}: items {list(shape)} may be images HWC; give layout 'HWC' or 'CHW'")
        if len(shape) not in inferred:
            ranks = " or ".join(f"{axes} (rank {rank})" for rank, axes in inferred.items())
            raise InvalidParameter(f"{label}: came items of shape {list(shape)}, expected {ranks}; or give a layout")
        given = inferred[len(shape)]
    axes = given[1:] if given.startswith("N") else given
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or not set(axes) <= set(LETTERS):
        raise InvalidParameter(
            f"{label}: came layout {given!r}, expected {len(shape)} of the letters {', '.join(LETTERS)}, one for each"
            f" axis of items {list(shape)}"
        )
    lacking = [LETTERS[letter] for letter in needs if letter not in axes]
    if lacking:
        raise InvalidParameter(f"{label}: layout {given!r} has no axis of {lacking[0]}")
    return Layout(axes, shape)

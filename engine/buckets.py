"""Runs of a few fixed sizes, for devices on which every new shape costs something.

cuDNN chooses an algorithm for each shape it meets, the arena of a GPU grows for it, and a CUDA graph is of one shape
alone. So a run is filled up to one of fixed sizes, powers of two and the most it may carry, by repeating its last item;
what comes out for the repetitions is cut off. A processor only loses by it. Nothing here knows a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .protocol import Array, Kind


def sizes(most: int) -> tuple[int, ...]:
    """The fixed sizes of runs of at most `most` items: the powers of two below it, and `most`."""
    return (*(1 << power for power in range((most - 1).bit_length())), most)


def fit(items: int, most: int) -> int:
    """The smallest of the fixed sizes that holds so many items; their own number where none does."""
    return next((size for size in sizes(most) if size >= items), items)


def below(items: int, most: int) -> int | None:
    """The largest of the fixed sizes that is smaller than the one these items fill up to; None if there is none."""
    return max((size for size in sizes(most) if size < fit(items, most)), default=None)


def repeated(inputs: Mapping[str, Kind], feeds: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Feeds of `count` items, each of them the last of `feeds` (at least one item); read-only, shared inputs as they
    are. Only axis 0 is repeated: the evaluations of an item, on axis 1, are the program's own."""
    return {
        name: np.broadcast_to(feeds[name][-1:], (count, *feeds[name].shape[1:])) if kind == "item" else feeds[name]
        for name, kind in inputs.items()
    }

"""What the makers of groups give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Segments:
    """Which group each element belongs to.

    `index` by input: int64 [item...], shared by all items, or [N, item...] where `per_item`; values 0 to `count` - 1,
    -1 = never masked. An item with fewer groups than `count` does not use the last numbers: `count` is the largest of
    the batch, an item's own index does not depend on its company. `names` [G] are short; None where every element is a
    group of its own. `layouts` says by input what the axes of an item are ("CHW", "T"), where groups are places.
    `counted` says that every element is a group of its own in the order of the inputs.
    """

    index: dict[str, np.ndarray]
    count: int
    names: tuple[str, ...] | None
    per_item: bool = False
    layouts: Mapping[str, str] = field(default_factory=dict)
    counted: bool = False

    @property
    def kind(self) -> Literal["item", "elements", "shared"]:
        """What programs call groups like these."""
        if self.per_item:
            return "item"
        return "elements" if self.counted else "shared"

    @property
    def all_masked(self) -> bool:
        """Whether every element belongs to a group, so that none stays when all are removed."""
        return all(int(index.min(initial=0)) >= 0 for index in self.index.values())

    def counts(self, items: int) -> np.ndarray:
        """How many groups each of N items has, int64 [N]."""
        if not self.per_item:
            return np.full(items, self.count, dtype=np.int64)
        tops = [index.reshape(items, -1).max(axis=1) for index in self.index.values()]
        return np.asarray(np.max(tops, axis=0) + 1, dtype=np.int64)


@dataclass(frozen=True)
class Part:
    """The groups of one input: `index` [item...] or, `per_item`, [N, item...]; `axes` names the item's axes, if any."""

    index: np.ndarray
    count: int
    names: tuple[str, ...]
    per_item: bool = False
    axes: str | None = None


def numbered(word: str, count: int) -> tuple[str, ...]:
    """Names that count: "step 0", "step 1", ..."""
    return tuple(f"{word} {number}" for number in range(count))

"""How far items are from the rows that samples start from: what is known of the samples before anything is run.

What a part of an item (an element, or a group of them) adds on the way from a row z to the item x is about its
difference from the row times a slope, so `far` = (x - z)^2 is what the squares of its samples are proportional to,
each element in units of its mean over the rows. To first order the slope changes along the way as all the differences
together, whichever of them it depends on: `bent` = far times the mean of `far` over the parts is what the squares of
what samples from one row differ by are proportional to. Both are scaled to a mean of 1 over the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np

from ..request import Arrays
from ..segments import Segments

BLOCK = 1 << 20  # differences that are held at a time


class Differences:
    """Of every item of `inputs` [N, item...] from the `rows` [R, item...], part by part.

    The parts are the `groups`, or every element of the inputs `names` alone. `row(first, count)` says which row each
    sample starts from, and `weight` [R] how much each counts; `noise` by name [N, item...] is the deviation of what is
    added to the items.
    """

    def __init__(
        self,
        inputs: Arrays,
        rows: Arrays,
        row: Callable[[int, int], np.ndarray],
        weight: np.ndarray,
        *,
        names: Sequence[str] = (),
        groups: Segments | None = None,
        noise: Arrays | None = None,
    ) -> None:
        chosen = list(groups.index) if groups else list(names)
        self.row, self.groups = row, None if groups is None or _single(groups) else groups
        self.weight = weight / weight.sum()
        self._rows = {name: _present(rows[name], rows[name]) for name in chosen}
        self._items = {name: _present(inputs[name], rows[name]) for name in chosen}
        self._noise = {name: _flat(array) ** 2 for name, array in (noise or {}).items()}

    @property
    def size(self) -> int:
        """R, the number of rows."""
        return len(self.weight)

    def sums(self, items: np.ndarray, first: int, count: int) -> np.ndarray:
        """Sums [4, n, P] over samples from `first` on: of `far`, far^2, `bent` and bent^2."""
        times = np.bincount(self.row(first, count), minlength=self.size)
        if np.abs(times - count * self.weight).max() < 1e-9:
            return np.asarray(self._all[:, items] * count)
        rows = np.flatnonzero(times)
        found = [self._summed(some, rows, times[rows].astype(float)) for some in self._together(items)]
        return np.asarray(np.concatenate(found, axis=1) * self._bend[:, items])

    @cached_property
    def _all(self) -> np.ndarray:
        """Means [4, N, P] over all rows."""
        return np.asarray(self._unscaled * self._bend)

    @cached_property
    def _bend(self) -> np.ndarray:
        """What brings `bent` and its square to their scale [4, N, P], and leaves `far` and its square."""
        scale = _inverse(self._unscaled[2])
        return np.array([np.ones_like(scale), np.ones_like(scale), scale, scale**2])

    @cached_property
    def _unscaled(self) -> np.ndarray:
        """Means [4, N, P] over all rows, `bent` not yet to scale."""
        rows, items = np.arange(self.size), np.arange(len(next(iter(self._items.values()))))
        found = [self._summed(some, rows, self.weight) for some in self._together(items)]
        return np.concatenate(found, axis=1)

    @cached_property
    def _scale(self) -> Arrays:
        """By name, one part in the mean square over the rows [N, E]; 0 where nothing ever differs."""
        found = {}
        for name, x in self._items.items():
            z = self._rows[name]
            if x.dtype.kind == "f":
                mean = self.weight @ z
                found[name] = (x - mean) ** 2 + self.weight @ (z - mean) ** 2 + self._noise.get(name, 0.0)
            else:
                found[name] = np.array([self.weight @ (item != z) for item in x])
        return {name: _inverse(scale) for name, scale in found.items()}

    def _together(self, items: np.ndarray) -> Iterator[np.ndarray]:
        """Items whose differences are held at a time."""
        alone = self.groups is not None and self.groups.per_item
        step = 1 if alone else max(1, BLOCK // (self.size * self._elements))
        return (items[at : at + step] for at in range(0, len(items), step))

    def _summed(self, items: np.ndarray, rows: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Sums [4, n, P] over these rows, each so many times, `bent` not yet to scale."""
        if self._held is not None:
            return np.asarray(times @ self._held[:, items[:, None], rows])
        step = max(1, BLOCK // (len(items) * self._elements))
        cuts = [slice(at, at + step) for at in range(0, len(rows), step)]
        return np.asarray(sum(times[cut] @ self._powers(items, rows[cut]) for cut in cuts))

    @cached_property
    def _held(self) -> np.ndarray | None:
        """All items and rows [4, N, R, P], where they are few."""
        count = len(next(iter(self._items.values())))
        if 4 * count * self.size * self._elements > BLOCK or (self.groups is not None and self.groups.per_item):
            return None
        return self._powers(np.arange(count), np.arange(self.size))

    @cached_property
    def _elements(self) -> int:
        """E, the elements of an item that differ or not."""
        return sum(x.shape[1] for x in self._items.values())

    def _powers(self, items: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`far`, its square, `bent`, not yet to scale, and its square [4, n, m, P]."""
        far = self._far(items, rows)
        bent = far * far.mean(axis=2, keepdims=True)
        return np.array([far, far**2, bent, bent**2])

    def _far(self, items: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(x - z)^2 [n, m, P] by part, its mean over all rows 1."""
        squares = {}
        for name, array in self._items.items():
            x, z = array[items, None], self._rows[name][rows]
            if x.dtype.kind == "f":
                square = (x - z) ** 2 + (self._noise[name][items, None] if name in self._noise else 0.0)
            else:
                square = (x != z).astype(np.float64)
            squares[name] = square * self._scale[name][items, None]
        if self.groups is None:
            return np.concatenate(list(squares.values()), axis=2)
        return self._by_group(items, squares, self.groups)

    def _by_group(self, items: np.ndarray, squares: Arrays, groups: Segments) -> np.ndarray:
        """The mean over the elements of each group that ever differ [n, m, G]; of one item where groups are its own."""
        shape = next(iter(squares.values())).shape[:2]
        total, varying = np.zeros((*shape, groups.count)), np.zeros((len(items), 1, groups.count))
        for name, square in squares.items():
            flat = (groups.index[name][items[0]] if groups.per_item else groups.index[name]).reshape(-1)
            order = np.argsort(flat, kind="stable")[np.count_nonzero(flat < 0) :]
            if len(order):
                present, starts = np.unique(flat[order], return_index=True)
                total[:, :, present] += np.add.reduceat(square[:, :, order], starts, axis=2)
                ever = (self._scale[name][items, None] > 0).astype(np.float64)
                varying[:, :, present] += np.add.reduceat(ever[:, :, order], starts, axis=2)
        return total / np.maximum(varying, 1.0)


def _single(groups: Segments) -> bool:
    """Whether the elements of the inputs, one behind the other, are the groups."""
    if groups.per_item:
        return False
    index = np.concatenate([part.reshape(-1) for part in groups.index.values()])
    return len(index) == groups.count and bool((index == np.arange(groups.count)).all())


def _flat(array: np.ndarray) -> np.ndarray:
    """[N, E], numbers as float64; codes as they are, since only whether they differ matters."""
    flat = array.reshape(len(array), -1)
    return flat.astype(np.float64) if flat.dtype.kind == "f" else flat


def _present(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[N, E]; a value that is missing is as far off the mean of the rows as their deviation says."""
    flat, known = _flat(array), _flat(rows)
    if flat.dtype.kind != "f" or np.isfinite(flat).all():
        return flat
    there = np.isfinite(known)
    count, known = np.maximum(there.sum(axis=0), 1), np.where(there, known, 0.0)
    mean = known.sum(axis=0) / count
    deviation = np.sqrt((np.where(there, known - mean, 0.0) ** 2).sum(axis=0) / count)
    return np.asarray(np.where(np.isfinite(flat), flat, mean + deviation))


def _inverse(values: np.ndarray) -> np.ndarray:
    """One part in each, 0 for 0."""
    return np.asarray(np.divide(1.0, values, out=np.zeros_like(values, dtype=np.float64), where=values > 0))

"""A binary tree over groups, for partition SHAP: which groups are split from which, and in what order (Owen values).

Places (pixels, patches, steps, tokens) are halved across the longer side; columns are clustered by how they go
together in the background; what has no order is halved by number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InvalidParameter
from .base import Segments
from .linkage import average_linkage

ROWS = 10  # of a background that correlations are read from
COLUMNS = 4096  # at most, of all inputs together


def hierarchy(
    segments: Segments,
    inputs: Mapping[str, np.ndarray],
    *,
    background: Mapping[str, np.ndarray] | None = None,
    declared: Any = None,
) -> np.ndarray:
    """Children int64 [G-1, 2], or [N, G-1, 2] for groups that differ per item; raises InvalidParameter.

    Leaf i is group i, the k-th row is node G + k and the last the root, as scipy's linkage numbers them. `background`
    [B, item...] by input, of at least 10 rows, clusters groups that are no places by 1 - |correlation|; `declared` is
    such an array already. Groups that an item does not have are joined last, where they change no value.
    """
    items = len(next(iter(inputs.values())))
    if declared is not None:
        joins = _declared(declared, segments.count)
        return np.tile(joins, (items, 1, 1)) if segments.per_item else joins
    if not segments.per_item:
        distance = None if segments.layouts else _distances(segments, background)
        return _tree(segments, segments.index, segments.count) if distance is None else average_linkage(distance)
    counts = segments.counts(items)
    each = [
        _tree(segments, {name: index[item] for name, index in segments.index.items()}, int(counts[item]))
        for item in range(items)
    ]
    return np.stack(each)


class _Joins:
    """The rows of the tree so far."""

    def __init__(self, leaves: int) -> None:
        self.leaves, self.rows = leaves, list[tuple[int, int]]()

    def join(self, first: int, second: int) -> int:
        """The node that joins two."""
        self.rows.append((first, second))
        return self.leaves + len(self.rows) - 1

    def halved(self, nodes: list[int]) -> int:
        """The root over nodes in their order."""
        if len(nodes) == 1:
            return nodes[0]
        middle = len(nodes) // 2
        return self.join(self.halved(nodes[:middle]), self.halved(nodes[middle:]))

    def split(self, groups: np.ndarray, centres: np.ndarray) -> int:
        """The root over groups [n] at centres [n, d]: cut in the middle of the longer side, the first one of equals."""
        sides = np.ptp(centres, axis=0)
        axis = int(sides.argmax())
        if len(groups) == 1 or sides[axis] <= 0:
            return self.halved([int(group) for group in groups])
        along = centres[:, axis]
        low = along < (along.min() + along.max()) / 2
        if low.all() or not low.any():  # neighbours in floating point
            low = along == along.min()
        return self.join(self.split(groups[low], centres[low]), self.split(groups[~low], centres[~low]))


def _tree(segments: Segments, index: Mapping[str, np.ndarray], used: int) -> np.ndarray:
    """The tree of one item: a subtree for the groups of each input, these halved, the groups not used joined last."""
    joins = _Joins(segments.count)
    roots: list[int] = []
    seen: set[int] = set()
    for name, groups_of in index.items():
        own = np.array([group for group in np.unique(groups_of) if group >= 0 and group not in seen], dtype=np.int64)
        seen.update(own.tolist())
        if not len(own):
            continue
        axes = segments.layouts.get(name)
        if axes is None:
            roots.append(joins.halved(own.tolist()))
            continue
        centres = _centres(groups_of, axes, segments.count)[own]
        if centres.shape[1] == 1:
            roots.append(joins.halved(own[np.argsort(centres[:, 0], kind="stable")].tolist()))
        else:
            roots.append(joins.split(own, centres))
    root = joins.halved(roots or [0])
    for group in range(used if roots else 1, segments.count):
        root = joins.join(root, group)
    return np.array(joins.rows, dtype=np.int64).reshape(-1, 2)


def _centres(index: np.ndarray, axes: str, count: int) -> np.ndarray:
    """The mean place of each group's elements [G, d], over the axes that are places; 0 for one that has none."""
    masked = index >= 0
    groups = index[masked]
    sizes = np.maximum(np.bincount(groups, minlength=count), 1)
    places = np.nonzero(masked)
    space = [axis for axis, letter in enumerate(axes) if letter != "C"]
    return np.stack([np.bincount(groups, places[axis], minlength=count) / sizes for axis in space], axis=1)


def _distances(segments: Segments, background: Mapping[str, np.ndarray] | None) -> np.ndarray | None:
    """1 - |correlation| [G, G] over the background's rows, or None where there are too few rows or too many columns.

    Of groups of several columns, the largest |correlation| between a column of one and a column of the other; columns
    that do not vary go with none.
    """
    if background is None or segments.count < 2:
        return None
    numeric = [name for name in segments.index if background[name].dtype.kind in "biuf"]
    columns = {name: segments.index[name].reshape(-1) for name in numeric}
    if not numeric or len(background[numeric[0]]) < ROWS or sum(map(len, columns.values())) > COLUMNS:
        return None
    group = np.concatenate(list(columns.values()))
    rows = np.concatenate([_rows(name, background[name], len(columns[name])) for name in numeric], axis=1)
    centred = rows - rows.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    varies = spread > 1e-12 * np.abs(rows).max(axis=0)
    unit = centred / np.where(varies, spread, 1.0) * varies
    together = np.abs(unit.T @ unit)
    masked = group >= 0
    most = np.zeros((segments.count, segments.count))
    np.maximum.at(most, (group[masked][:, None], group[masked][None, :]), together[np.ix_(masked, masked)])
    return 1.0 - np.minimum(np.maximum(most, most.T), 1.0)


def _rows(name: str, rows: np.ndarray, columns: int) -> np.ndarray:
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    if flat.shape[1] != columns or not np.isfinite(flat).all():
        raise InvalidParameter(f"background of {name!r}: expected finite rows of {columns} elements for the hierarchy")
    return flat


def _declared(value: Any, count: int) -> np.ndarray:
    """Children that came with the request, if they are a tree: every node but the root is a child once."""
    expected = (
        f"[{count - 1}, 2] whole numbers: groups are 0 to {count - 1}, the k-th row joins two as node {count} + k"
    )
    try:
        joins = np.asarray(value if count > 1 or len(value) else np.zeros((0, 2), dtype=np.int64))
    except (TypeError, ValueError) as error:
        raise InvalidParameter(f"hierarchy: expected {expected}") from error
    if joins.dtype.kind not in "iu" or joins.shape != (count - 1, 2):
        raise InvalidParameter(f"hierarchy: came {joins.dtype} {list(joins.shape)}, expected {expected}")
    early = (joins >= 0) & (joins < count + np.arange(count - 1)[:, None])
    if not early.all():
        row = int(np.flatnonzero(~early.all(axis=1))[0])
        raise InvalidParameter(f"hierarchy: row {row} joins {joins[row].tolist()}, of which one is no earlier node")
    numbers, times = np.unique(joins, return_counts=True)
    if (times > 1).any():
        raise InvalidParameter(f"hierarchy: node {int(numbers[times > 1][0])} is joined twice, expected once")
    return joins.astype(np.int64)

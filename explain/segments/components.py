"""Connected pieces of an image of labels (4 neighbours), and the absorption of small ones; all in whole arrays."""

from __future__ import annotations

import numpy as np


def connected(labels: np.ndarray) -> np.ndarray:
    """The piece of each pixel, int64 [H, W]: numbered from 0 by their first pixels, row by row."""
    first, second = _neighbours(labels.shape)
    same = labels.reshape(-1)[first] == labels.reshape(-1)[second]
    roots = union(labels.size, first[same], second[same])
    return np.unique(roots, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def absorb(pieces: np.ndarray, smallest: float) -> np.ndarray:
    """Pieces of fewer than `smallest` pixels joined to the neighbour they share most border with, until none is left.

    A piece that is large enough never joins another by itself, so no two of them are joined.
    """
    first, second = _neighbours(pieces.shape)
    while True:
        flat = pieces.reshape(-1)
        sizes = np.bincount(flat)
        small = sizes < smallest
        if not small.any() or len(sizes) == 1:
            return pieces
        sides = np.concatenate([np.stack([flat[first], flat[second]]), np.stack([flat[second], flat[first]])], axis=1)
        sides = sides[:, (sides[0] != sides[1]) & small[sides[0]]]
        borders, lengths = np.unique(sides[0] * len(sizes) + sides[1], return_counts=True)
        own, other = np.divmod(borders, len(sizes))
        order = np.lexsort((other, -lengths, own))
        own, other = own[order], other[order]
        longest = np.flatnonzero(np.diff(own, prepend=-1))
        roots = union(len(sizes), own[longest], other[longest])
        pieces = np.unique(roots[flat], return_inverse=True)[1].reshape(pieces.shape).astype(np.int64)


def union(size: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The smallest member of each one's set [size], after joining the pairs: hooking and pointer jumping."""
    roots = np.arange(size)
    while True:
        low, high = np.minimum(roots[first], roots[second]), np.maximum(roots[first], roots[second])
        apart = low != high
        if not apart.any():
            return roots
        first, second = first[apart], second[apart]
        np.minimum.at(roots, high[apart], low[apart])
        while not np.array_equal(roots, roots[roots]):
            roots = roots[roots]


def _neighbours(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [E] and their neighbours to the right and below [E]."""
    number = np.arange(shape[0] * shape[1]).reshape(shape)
    first = np.concatenate([number[:, :-1].reshape(-1), number[:-1].reshape(-1)])
    second = np.concatenate([number[:, 1:].reshape(-1), number[1:].reshape(-1)])
    return first, second

"""Spearman's rank correlation."""

from __future__ import annotations

import numpy as np


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of the ranks of two arrays of the same size, equal values sharing the mean of their ranks.

    NaN where either is constant or holds a NaN: nothing can be said there.
    """
    ranks = [_ranks(np.asarray(values, dtype=np.float64).reshape(-1)) for values in (one, other)]
    centred = [rank - rank.mean() for rank in ranks]
    lengths = [float(np.linalg.norm(rank)) for rank in centred]
    if not all(np.isfinite(lengths)) or 0.0 in lengths:
        return float("nan")
    return float(centred[0] @ centred[1] / (lengths[0] * lengths[1]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 on; NaN everywhere if one value is NaN."""
    if np.isnan(values).any():
        return np.full(values.shape, np.nan)
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places.reshape(-1)])

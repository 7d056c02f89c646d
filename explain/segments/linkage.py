"""Average linkage (Sokal & Michener 1958): which two clusters are joined next, until one is left."""

from __future__ import annotations

import numpy as np


def average_linkage(distance: np.ndarray) -> np.ndarray:
    """The joins [G-1, 2] int64 of a symmetric [G, G] distance: leaves are 0 to G-1, the k-th join is node G + k.

    Of equal distances the lowest numbers are joined first. The nearest of each row is kept and looked for again only
    where it was joined: joining never brings a cluster nearer than its parts were.
    """
    count = len(distance)
    apart = distance.astype(np.float64)
    np.fill_diagonal(apart, np.inf)
    node, size = np.arange(count), np.ones(count)
    partner = apart.argmin(axis=1) if count > 1 else np.zeros(1, dtype=np.int64)
    nearest = apart[np.arange(count), partner]
    joins = np.empty((count - 1, 2), dtype=np.int64)
    for step in range(count - 1):
        i = int(nearest.argmin())
        j = int(partner[i])
        joins[step] = sorted((int(node[i]), int(node[j])))
        merged = (size[i] * apart[i] + size[j] * apart[j]) / (size[i] + size[j])
        merged[[i, j]] = np.inf
        apart[i], apart[:, i] = merged, merged
        apart[j], apart[:, j] = np.inf, np.inf
        node[i], size[i], nearest[j] = count + step, size[i] + size[j], np.inf
        stale = np.flatnonzero(np.isin(partner, (i, j)) & np.isfinite(nearest))
        stale = np.union1d(stale, [i])
        partner[stale] = apart[stale].argmin(axis=1)
        nearest[stale] = apart[stale, partner[stale]]
    return joins

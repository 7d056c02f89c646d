"""A background of few rows that stands for many: weighted k-means, or a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import shares
from ..errors import InvalidParameter

KINDS = ("kmeans", "sample")
STARTS, ROUNDS = 8, 100
WORK = 2e8  # rows times columns times centres that all starts together may come to; the first is always made


def summarise(
    background: Mapping[str, np.ndarray],
    size: int,
    *,
    kind: str = "kmeans",
    seed: int = 0,
    weights: Any = None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """K <= `size` rows by input, [K, item...] in the background's dtypes, and their weights float64 [K], sum 1.

    "kmeans": the centres of weighted k-means over the standardised columns of all inputs together, each weighing what
    its cluster weighs; inputs of codes (whole numbers, booleans) take those of the row nearest to the centre. "sample":
    rows drawn without replacement, in their order, each with its share of the weight drawn. A background of no more
    rows than `size` stays as it is. Raises InvalidParameter.
    """
    rows = _checked(background)
    count = len(next(iter(rows.values())))
    weight = shares("background: weights", weights, count)
    if kind not in KINDS:
        raise InvalidParameter(f"background: kind: came {kind!r}, expected {' or '.join(KINDS)}")
    for name, value, least in (("size", size, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InvalidParameter(f"background: {name}: came {value!r}, expected a whole number of at least {least}")
    if count <= size:
        return rows, weight
    random = np.random.default_rng(seed)
    return _sample(rows, weight, size, random) if kind == "sample" else _kmeans(rows, weight, size, random)


def _checked(background: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = {name: np.asarray(array) for name, array in background.items()}
    counts = {len(array) if array.ndim else 0 for array in rows.values()}
    if len(counts) != 1 or 0 in counts or any(not array.size for array in rows.values()):
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in rows.items()) or "nothing"
        raise InvalidParameter(
            f"background: came {shapes}, expected the same number of rows for each input, at least 1"
        )
    for name, array in rows.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidParameter(f"background of {name!r}: holds NaN or infinity, expected finite numbers")
    return rows


def _sample(
    rows: dict[str, np.ndarray], weight: np.ndarray, size: int, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows drawn evenly among those that weigh something; each keeps its share of what was drawn."""
    weighty = np.flatnonzero(weight)
    drawn = np.sort(random.choice(weighty, min(size, len(weighty)), replace=False))
    return {name: array[drawn] for name, array in rows.items()}, weight[drawn] / weight[drawn].sum()


def _kmeans(
    rows: dict[str, np.ndarray], weight: np.ndarray, size: int, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Centres of the best of several starts, in the inputs' own units, heaviest first."""
    points = _standardised(rows, weight)
    starts = int(np.clip(WORK // max(points.size * size, 1), 1, STARTS))
    labels = min((_lloyd(points, weight, size, random) for _ in range(starts)), key=lambda found: found[1])[0]
    mass = np.bincount(labels, weight)
    used = np.argsort(-mass, kind="stable")
    used = used[mass[used] > 0]
    members = [np.flatnonzero((labels == cluster) & (weight > 0)) for cluster in used]
    medoids = np.array([_nearest_row(points, weight, own) for own in members])
    found = {}
    for name, array in rows.items():
        if array.dtype.kind != "f":
            found[name] = array[medoids]
            continue
        share = [weight[own] / weight[own].sum() for own in members]
        means = [np.tensordot(s, array[own].astype(np.float64), 1) for s, own in zip(share, members, strict=True)]
        found[name] = np.stack(means).astype(array.dtype)
    return found, mass[used] / mass[used].sum()


def _standardised(rows: Mapping[str, np.ndarray], weight: np.ndarray) -> np.ndarray:
    """All inputs' columns side by side [B, D], of mean 0 and deviation 1; those that do not vary are left out."""
    for name, array in rows.items():
        if array.dtype.kind not in "biuf":
            raise InvalidParameter(f"background of {name!r}: {array.dtype} has no mean; expected kind 'sample'")
    flat = np.concatenate([array.reshape(len(array), -1).astype(np.float64) for array in rows.values()], axis=1)
    centred = flat - weight @ flat
    spread = np.sqrt(weight @ centred**2)
    varies = spread > 1e-12 * np.abs(flat).max(axis=0)
    return np.asarray(centred[:, varies] / spread[varies])


def _lloyd(points: np.ndarray, weight: np.ndarray, size: int, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """Labels [B] and the weighted sum of squared distances, from one k-means++ start (Arthur & Vassilvitskii 2007)."""
    centres = _spread_out(points, weight, size, random)
    labels = np.full(len(points), -1)
    weighted = points * weight[:, None]
    for _ in range(ROUNDS):
        distance = _squared(points, centres)
        nearest = distance.argmin(axis=1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        order = np.argsort(labels, kind="stable")
        clusters, first = np.unique(labels[order], return_index=True)
        mass = np.bincount(labels, weight)[clusters, None]
        sums = np.add.reduceat(weighted[order], first, axis=0)
        centres[clusters] = np.where(mass > 0, sums / np.where(mass > 0, mass, 1.0), centres[clusters])
    least = _squared(points, centres)[np.arange(len(points)), labels]
    return labels, float(weight @ least)


def _spread_out(points: np.ndarray, weight: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """k-means++: each next centre is a row drawn in proportion to its weight and squared distance from those chosen."""
    chosen = [int(random.choice(len(points), p=weight))]
    least = _squared(points, points[chosen])[:, 0]
    while len(chosen) < size:
        chance = weight * least
        if not chance.sum() > 1e-12:  # fewer different rows than centres
            break
        chosen.append(int(random.choice(len(points), p=chance / chance.sum())))
        least = np.minimum(least, _squared(points, points[chosen[-1:]])[:, 0])
    return points[chosen]


def _squared(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances [B, K]."""
    crossed: np.ndarray = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(crossed, 0.0))


def _nearest_row(points: np.ndarray, weight: np.ndarray, own: np.ndarray) -> int:
    """Of a cluster's rows the one nearest to its mean, the first of equals."""
    mean = weight[own] @ points[own] / weight[own].sum()
    return int(own[((points[own] - mean) ** 2).sum(axis=1).argmin()])

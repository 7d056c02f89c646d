"""Harmonic inpainting: each segment filled from what lies around it.

Inside a segment the fill u solves Laplace's equation, 4 u = the sum of its neighbours (2 u along a series), with the
picture itself as neighbour where the segment ends; nothing flows over the border of the picture. All segments are
solved at once: they do not touch each other's unknowns, so one conjugate gradient (Hestenes & Stiefel 1952) serves all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import InvalidParameter
from ..layout import Layout

Operator = Callable[[np.ndarray], np.ndarray]
TOLERANCE = 1e-12  # of the residual, as a share of the right-hand side


def inpaint(label: str, array: np.ndarray, index: np.ndarray, layout: Layout) -> np.ndarray:
    """The fill of each item, float64 [N, item...]: in group g of `index` ([item...] or [N, item...]) from around g.

    Elements that are never masked (-1) keep their value. Raises InvalidParameter where a group has nothing around it.
    """
    groups = np.broadcast_to(index, array.shape)
    return np.stack([_filled(label, values, own, layout) for values, own in zip(array, groups, strict=True)])


def _filled(label: str, item: np.ndarray, groups: np.ndarray, layout: Layout) -> np.ndarray:
    values = item.astype(np.float64)
    links = [_Links(axis, groups) for axis in layout.space]
    free = groups >= 0
    _check_surrounded(label, groups, layout)
    degree = sum((link.degree for link in links), np.zeros(values.shape))
    outside = sum((link.across(values) for link in links), np.zeros(values.shape))

    def operator(u: np.ndarray) -> np.ndarray:
        return np.asarray(degree * u - sum((link.within(u) for link in links), np.zeros(u.shape)))

    target = np.where(free, outside, 0.0)
    start = np.where(free, values.mean(), 0.0)  # nothing of what is removed stays in the fill
    solved = _conjugate_gradient(lambda u: np.where(free, operator(u), 0.0), target, start)
    return np.asarray(np.where(free, solved, values))


class _Links:
    """The neighbours along one axis: which pairs are within a segment, and which lie across its end."""

    def __init__(self, axis: int, groups: np.ndarray) -> None:
        self.low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(groups.ndim))
        self.high = tuple(slice(1, None) if a == axis else slice(None) for a in range(groups.ndim))
        self.same = groups[self.low] == groups[self.high]
        self.degree = self._sum(np.ones(groups.shape), np.ones(self.same.shape))

    def within(self, values: np.ndarray) -> np.ndarray:
        """The sum of each element's neighbours in its own segment."""
        return self._sum(values, self.same)

    def across(self, values: np.ndarray) -> np.ndarray:
        """The sum of each element's neighbours in other segments."""
        return self._sum(values, ~self.same)

    def _sum(self, values: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        found = np.zeros(values.shape)
        found[self.low] += values[self.high] * pairs
        found[self.high] += values[self.low] * pairs
        return found


def _check_surrounded(label: str, groups: np.ndarray, layout: Layout) -> None:
    """Each channel's plane needs two groups (or something never masked): else a group has nothing around it."""
    first = groups[tuple(slice(None, 1) if axis in layout.space else slice(None) for axis in range(groups.ndim))]
    alone = (groups == first).all(axis=layout.space) & (first >= 0).any(axis=layout.space)
    if alone.any():
        raise InvalidParameter(f"{label}: a group covers everything, so nothing lies around it to fill it from")


def _conjugate_gradient(operator: Operator, target: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The solution of a symmetric positive definite system, operator(u) = target."""
    u = start
    residual = target - operator(u)
    direction, power = residual, float((residual**2).sum())
    enough = TOLERANCE**2 * max(float((target**2).sum()), np.finfo(float).tiny)
    for _ in range(u.size):
        if power <= enough:
            break
        moved = operator(direction)
        step = power / float((direction * moved).sum())
        u = u + step * direction
        residual = residual - step * moved
        power, before = float((residual**2).sum()), power
        direction = residual + (power / before) * direction
    return u

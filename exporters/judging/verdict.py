"""What a judge says: the error of every row with its tolerance, or that it cannot say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

import explain

from ..exported import Array


class Unjudged(Exception):
    """No valid judge of this exists here; the text says why. It never leaves the room."""


@dataclass(frozen=True)
class Judgement:
    """The error of each row [N] by a judge of this name and version."""

    errors: Array
    tolerance: float
    what: str
    judge: str
    version: str


def gradient_errors(found: Mapping[str, Array], judged: Mapping[str, Array]) -> Array:
    """‖g − g′‖₂ / ‖g′‖₂ per row over all judged inputs together."""
    return explain.gradient_error(joined(found, judged), joined(judged, judged))


def attribution_errors(found: Mapping[str, Array], judged: Mapping[str, Array], floor: Array | float = 0.0) -> Array:
    """max|φ − φ′| / max(max|φ′|, floor) per row over all judged inputs together; floor [N] or one number."""
    one, other = joined(found, judged), joined(judged, judged)
    scale = np.maximum(np.abs(other).max(axis=1), floor)
    apart = np.abs(one - other).max(axis=1)
    return np.asarray(np.divide(apart, scale, out=np.where(apart > 0, np.inf, 0.0), where=scale > 0))


def joined(arrays: Mapping[str, Array], names: Iterable[str]) -> Array:
    """[N, elements] float64: the named inputs side by side."""
    return np.concatenate([arrays[name].reshape(len(arrays[name]), -1).astype(np.float64) for name in names], axis=1)

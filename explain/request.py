"""What was asked, made precise: target resolved to indices, references and groups filled in, defaults stated.

Everything a plan needs is in a `Request`; nothing is guessed later. What came wrong is refused here, in one sentence
that names the parameter, what came and what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arrays import Arrays, digest_arrays
from .background import Background
from .errors import InvalidTarget
from .model import Explained, Model
from .removal import Replacement
from .segments import Segments

__all__ = ["Arrays", "Request", "Target", "resolve_target"]


@dataclass(frozen=True)
class Target:
    """`index` [N, S, D] int64 and `weight` [N, S]: f = sum over S of weight * y[index], y the explained output."""

    index: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Request:
    """One explanation to be made: N items, resolved.

    `baseline` [N or 1, item...] and `background` [B, item...] (its rows counting by `background_weight` [B], sum 1) are
    what a method compares with; `removal` is what takes the place of what a coalition of `groups` lacks. `prepared` is
    the background where it was prepared for this model, and so may be part of a program.
    """

    model: Model
    explained: Explained
    inputs: Arrays
    outputs: Arrays
    target: Target
    baseline: Arrays | None
    background: Arrays | None
    background_weight: np.ndarray
    removal: Replacement | None
    groups: Segments
    seed: int
    parameters: Mapping[str, Any]
    prepared: Background | None = None

    @property
    def items(self) -> int:
        """N, the number of items."""
        return len(next(iter(self.inputs.values())))

    @property
    def features(self) -> Arrays:
        """The inputs that are not held."""
        return {name: array for name, array in self.inputs.items() if name not in self.model.held}

    @property
    def background_digest(self) -> str | None:
        """SHA-256 of the background's rows, in hex."""
        return digest_arrays(self.background) if self.prepared is None else self.prepared.digest

    def part(self, items: np.ndarray, groups: int) -> Request:
        """The same of some of the items, which have the first `groups` of the groups."""

        def taken(arrays: Arrays, own: bool = True) -> Arrays:
            return {name: array[items] if own else array for name, array in arrays.items()}

        baseline, removal = self.baseline, self.removal
        if baseline is not None:
            baseline = {name: rows if len(rows) == 1 else rows[items] for name, rows in baseline.items()}
        if removal is not None:
            removal = replace(removal, rows=taken(removal.rows, removal.per_item))
        index = taken(self.groups.index, self.groups.per_item)
        names = self.groups.names
        return replace(
            self,
            inputs=taken(self.inputs),
            outputs=taken(self.outputs),
            target=Target(self.target.index[items], self.target.weight[items]),
            baseline=baseline,
            removal=removal,
            groups=replace(self.groups, index=index, count=groups, names=None if names is None else names[:groups]),
        )


def resolve_target(explained: Explained, outputs: Arrays, target: Any, items: int) -> Target:
    """The target of every item; None is the predicted class, the only element of an output with one.

    `target` may be an index, a list of N indices, a tuple of D indices (position, ..., class), {"class": a, "versus":
    b} for a contrast, or a `Target`. Raises InvalidTarget, naming what the output has.
    """
    output = outputs[explained.output]
    shape = output.shape[1:]
    dtype = np.dtype(explained.dtype)
    if isinstance(target, Target):
        return _checked_target(target, shape, items, dtype)
    if isinstance(target, Mapping):
        if set(target) != {"class", "versus"}:
            raise InvalidTarget(f"target: came {dict(target)!r}, expected an index or {{'class': a, 'versus': b}}")
        sides = [_indices(target[key], shape, items) for key in ("class", "versus")]
        weight = np.tile(np.array([1, -1], dtype=dtype), (items, 1))
        return Target(np.stack(sides, axis=1), weight)
    index = _predicted(output, items) if target is None else _indices(target, shape, items)
    return Target(index[:, None, :], np.ones((items, 1), dtype=dtype))


def _predicted(output: np.ndarray, items: int) -> np.ndarray:
    shape = output.shape[1:]
    if math.prod(shape) == 1:
        return np.zeros((items, len(shape)), dtype=np.int64)
    if len(shape) != 1:
        raise InvalidTarget(f"target: the output has shape {list(shape)} for each item; say which element to explain")
    return np.asarray(np.argmax(output, axis=1), dtype=np.int64)[:, None]


def _checked_target(target: Target, shape: tuple[int, ...], items: int, dtype: np.dtype[Any]) -> Target:
    index, weight = np.asarray(target.index), np.asarray(target.weight)
    if index.dtype.kind not in "iu" or index.ndim != 3 or (len(index), index.shape[2]) != (items, len(shape)):
        expected = f"whole numbers [{items}, S, {len(shape)}]"
        raise InvalidTarget(f"target: came indices {index.dtype} {index.shape}, expected {expected}")
    if weight.dtype.kind not in "iuf" or weight.shape != index.shape[:2] or not np.isfinite(weight).all():
        expected = f"finite numbers {list(index.shape[:2])}"
        raise InvalidTarget(f"target: came weights {weight.dtype} {weight.shape}, expected {expected}")
    _check_range(index, shape)
    return Target(index.astype(np.int64), weight.astype(dtype))


def _indices(target: Any, shape: tuple[int, ...], items: int) -> np.ndarray:
    """[N, D] indices from one index, one per item, or one list of D where D is not 1."""
    try:
        array = np.asarray(target)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iu":
        raise InvalidTarget(f"target: came {target!r}, expected a whole number (the output has shape {list(shape)})")
    d = len(shape)
    if d == 0 and array.ndim == 0:
        _check_range(array[None, None], (1,))
        array = np.zeros((items, 0), dtype=np.int64)
    elif array.shape == (d,) and (d > 1 or isinstance(target, tuple)):
        array = np.tile(array, (items, 1))
    elif array.ndim == 0 and d == 1:
        array = np.full((items, 1), array)
    elif array.shape == (items,) and d == 1:
        array = array[:, None]
    if array.shape != (items, d):
        raise InvalidTarget(f"target: came {target!r}, expected {d} indices for each of {items} items")
    _check_range(array, shape)
    return array.astype(np.int64)


def _check_range(index: np.ndarray, shape: tuple[int, ...]) -> None:
    sizes = np.array(shape, dtype=np.int64)
    if ((index < 0) | (index >= sizes)).any():
        limits = ", ".join(f"0 to {size - 1}" for size in shape)
        raise InvalidTarget(f"target: came {np.squeeze(index).tolist()}, expected {limits}")

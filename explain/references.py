"""What an explanation compares with: a baseline, or a background whose rows take the place of what is removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Arrays, fitted, shares
from .background import Background
from .errors import InvalidInputs, InvalidParameter
from .model import Model
from .removal import Replacement


@dataclass(frozen=True)
class References:
    """A baseline [1 or N, item...] and a background [B, item...], whose rows count by `weight` [B]; `prepared` is the
    background where it was prepared for this model."""

    baseline: Arrays | None
    background: Arrays | None
    weight: np.ndarray
    prepared: Background | None = None


def check_references(model: Model, inputs: Arrays, baseline: Any, background: Any, weight: Any) -> References:
    """What an explanation compares with; raises InvalidParameter."""
    start = check_reference(model, inputs, "baseline", baseline, per_item=True)
    if isinstance(background, Background):
        if weight is not None:
            raise InvalidParameter("background_weight: came beside a prepared background, which has its own")
        if background.fits(model, inputs):
            rows = with_held(inputs, background.rows)
            return References(start, rows, background.weight, background)
        background, weight = background.rows, background.weight
    others = check_reference(model, inputs, "background", background, per_item=False)
    return References(start, others, check_weight(others, weight))


def check_reference(model: Model, inputs: Arrays, role: str, value: Any, *, per_item: bool) -> Arrays | None:
    """A baseline ([1 or N, item...]) or background ([B, item...]) for every input: from a dict, an array or a number.

    A number stands for every element of a baseline; one item stands for all. Raises InvalidParameter.
    """
    if value is None:
        return None
    every, inputs = inputs, {name: array for name, array in inputs.items() if name not in model.held}
    given = value if isinstance(value, Mapping) else dict.fromkeys(inputs, value)
    given = {name: array for name, array in given.items() if name not in model.held}
    unknown = sorted(set(given) - set(inputs))
    if unknown:
        raise InvalidParameter(f"{role}: input {unknown[0]!r} is unknown; expected {', '.join(inputs)}")
    if len(inputs) > 1 and isinstance(value, (list, tuple, np.ndarray)):
        raise InvalidParameter(f"{role}: the model has inputs {', '.join(inputs)}; give one array for each, by name")
    found: Arrays = {}
    for name, array in inputs.items():
        if name not in given:
            raise InvalidParameter(f"{role}: nothing came for input {name!r}; give one array for each input")
        try:
            reference = fitted(f"{role} of {name!r}", given[name], model.graph.inputs[name], model.takes_missing)
        except InvalidInputs as error:
            raise InvalidParameter(str(error)) from error
        found[name] = _rows(role, name, reference, array, per_item=per_item)
    if not per_item and len({len(rows) for rows in found.values()}) != 1:
        raise InvalidParameter(f"{role}: every input needs the same number of rows")
    return with_held(every, found)


def with_held(inputs: Arrays, rows: Arrays) -> Arrays:
    """Rows for every input: of those that are held, which nothing takes the place of, nothing as many times."""
    size = max(map(len, rows.values())) if len({len(array) for array in rows.values()}) == 1 else 1
    return {name: rows[name] if name in rows else _nothing(array, size) for name, array in inputs.items()}


def _nothing(array: np.ndarray, size: int) -> np.ndarray:
    return np.full((size, *array.shape[1:]), "" if array.dtype == object else 0, dtype=array.dtype)


def _rows(role: str, name: str, reference: np.ndarray, array: np.ndarray, *, per_item: bool) -> np.ndarray:
    item, n = array.shape[1:], len(array)
    if reference.ndim == 0 and per_item:
        return np.full((1, *item), reference)
    if reference.shape == item:
        reference = reference[None]
    if reference.shape[1:] != item or (per_item and len(reference) not in (1, n)) or len(reference) == 0:
        leading = f"[{n}, " if per_item else "[B, "
        expected = leading + ", ".join(map(str, item)) + "]"
        raise InvalidParameter(f"{role} of {name!r}: came shape {reference.shape}, expected {expected}")
    return reference


def check_weight(background: Arrays | None, weight: Any) -> np.ndarray:
    """The share of each background row [B], which sum to 1: equal unless given. Raises InvalidParameter."""
    if background is None:
        if weight is not None:
            raise InvalidParameter("background_weight: came without a background")
        return np.ones(0)
    return shares("background_weight", weight, len(next(iter(background.values()))), "background row")


def replacement_of(background: Arrays | None, weight: np.ndarray, baseline: Arrays | None) -> Replacement | None:
    """What takes the place of removed elements: the background's rows, else the baseline, else nothing is known."""
    if background is not None:
        return Replacement(background, weight, per_item=False)
    if baseline is None:
        return None
    if all(len(rows) == 1 for rows in baseline.values()):
        return Replacement(baseline, np.ones(1), per_item=False)
    items = max(len(rows) for rows in baseline.values())
    spread = {name: np.broadcast_to(rows, (items, *rows.shape[1:])) for name, rows in baseline.items()}
    return Replacement({name: rows[:, None] for name, rows in spread.items()}, np.ones(1), per_item=True)

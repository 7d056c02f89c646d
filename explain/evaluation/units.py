"""Attributions with the data's own scale taken out, so that two models can be compared by what they make of it.

A contribution is a slope times the distance from the reference, and a slope is steep where the numbers are small. Both
factors belong to the data and are in every model's attributions, one with random weights included: rankings of them
agree for that reason alone. Per unit is: a contribution divided by the distance from the reference, then, as a slope,
multiplied by the spread of the element.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..methods import Method
from ..run import Attribution

POWERS = {"contribution": 1, "slope": 1, "squared slope": 2}


def unit_factors(
    method: Method, found: Attribution, inputs: Mapping[str, Any], baseline: Any, background: Any
) -> np.ndarray | None:
    """What each |attribution| [N, P] is multiplied by to be per unit, NaN where nothing can be said of an element.

    None where that has no meaning: attributions of groups and maps, and importances without units. The spread is the
    standard deviation over the background, or over the items where there is none: of each element for items of rank 1
    (features with units of their own), of the whole input for others (pixels, samples). Codes have no distances, but
    differ or not: a contribution is divided by the share of the reference that has another code, and a slope, which is
    one per unit of an encoding, says nothing beside those of numbers.
    """
    arrays = {name: np.asarray(inputs[name]) for name in found.values if name in inputs}
    plain = all(a.dtype.kind in "fiu" and a.shape == found.values[name].shape for name, a in arrays.items())
    if method.states not in POWERS or set(arrays) != set(found.values) or not plain:
        return None
    parts = []
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            shares = _of_codes(method, array, background, baseline, name)
            parts.append(np.where(np.isfinite(shares), shares, np.nan))
            continue
        wide = array.astype(np.float64)
        rows, start = _rows(background, name, wide), _rows(baseline, name, wide)
        factor = _spread(wide if rows is None else rows) ** POWERS[method.states]
        if method.states == "contribution":
            middle = np.zeros(()) if rows is None else rows.mean(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                factor = factor / np.abs(wide - (middle if start is None else start))
        spread = np.broadcast_to(factor, wide.shape).reshape(len(wide), -1)
        parts.append(np.where(np.isfinite(spread) & (spread > 0), spread, np.nan))
    return np.concatenate(parts, axis=1)


def _of_codes(method: Method, codes: np.ndarray, background: Any, baseline: Any, name: str) -> np.ndarray:
    """1 / the share of the reference with another code than the item's [N, P], NaN where nothing is known of it."""
    rows, start = _rows(background, name, codes), _rows(baseline, name, codes)
    if method.states != "contribution" or (rows is None and start is None):
        return np.full((len(codes), codes[0].size), np.nan)
    differ = codes != start if rows is None else (codes[:, None] != rows[None]).mean(axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / differ.astype(np.float64)).reshape(len(codes), -1)


def _rows(reference: Any, name: str, items: np.ndarray) -> np.ndarray | None:
    """The reference of one input [rows, item...] or a number, where there is one."""
    value = reference.get(name) if isinstance(reference, Mapping) else reference
    found = None if value is None else np.asarray(value, dtype=np.float64)
    return found if found is None or found.ndim in (0, items.ndim) else found[None]


def _spread(rows: np.ndarray) -> np.ndarray:
    if len(rows) < 2:
        return np.ones(rows.shape[1:])
    return np.asarray(rows.std(axis=0)) if rows.ndim == 2 else np.asarray(rows.std())

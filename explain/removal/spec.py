"""From what a request says ("mean", {"blur": {"sigma": 5}}, ...) to the rows that stand for what is removed.

There is no default: zeros are a grey image after one normalisation and a black one after another, and a real value of
most columns. Who removes says what takes the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import InvalidParameter
from ..options import Schema, kinds_schema, object_schema, read_kind
from ..segments import Segments
from . import fills
from .inpaint import inpaint

LAYOUT = {"layout": {"type": "string", "description": "a letter for each axis, such as CHW, HWC, HW, CT, TC or T"}}
SIGMA = {"type": "number", "exclusiveMinimum": 0, "description": "a number of pixels or steps above 0"}
KINDS: dict[str, Schema] = {
    "mean": object_schema(LAYOUT),
    "blur": object_schema({"sigma": SIGMA, **LAYOUT}, ("sigma",)),
    "inpaint": object_schema(LAYOUT),
    "constant": fills.CONSTANT,
    "token": fills.TOKEN,
    "background": object_schema({}),
}
_ONE = kinds_schema(KINDS, ("mean", "inpaint", "background"), "what stands in the place of what is removed")
SCHEMA = {
    "description": _ONE["description"],
    "anyOf": [*_ONE["anyOf"], {"type": "object", "description": "by input", "additionalProperties": _ONE}],
}


@dataclass(frozen=True)
class Replacement:
    """What stands in the place of removed elements.

    `rows` by input, in its dtype: [B, item...], shared by all items, or each item's own [N, B, item...] (`per_item`);
    `weight` [B] float64, sum 1, is how much each row counts. `spec` is what it was made from, None for given rows.
    """

    rows: dict[str, np.ndarray]
    weight: np.ndarray
    per_item: bool
    spec: Any = None

    @property
    def size(self) -> int:
        """B, the number of rows."""
        return len(self.weight)


@dataclass(frozen=True)
class _Fill:
    """Rows for one input: [B, item...] or, `own`, [N, B, item...], B = 1 or that of the background."""

    rows: np.ndarray
    own: bool


def resolve(
    spec: Any,
    inputs: Mapping[str, np.ndarray],
    *,
    segments: Segments | None = None,
    layouts: Mapping[str, str] | None = None,
    background: Mapping[str, np.ndarray] | None = None,
    background_weight: np.ndarray | None = None,
) -> Replacement:
    """The rows that a spec, one for all inputs or one each by name, puts in the place of what is removed.

    `segments` are the groups that may be removed: "inpaint" fills each from around it, and an input that is never
    masked needs no spec. `layouts` says by input what the axes of an item are, where the spec does not; "background"
    takes the rows of `background` [B, item...], which count by `background_weight` [B]. Raises InvalidParameter.
    """
    if spec is None:
        raise InvalidParameter(f"removal: nothing came, expected one of {', '.join(KINDS)}: zeros are never assumed")
    stays = {name for name in inputs if segments is not None and (segments.index[name] < 0).all()}
    if not inputs or any(not array.size for name, array in inputs.items() if name not in stays):
        raise InvalidParameter("removal: came inputs without elements")
    specs = _by_input(spec, inputs)
    known = {**(segments.layouts if segments else {}), **(layouts or {})}
    found, weight = {}, np.ones(1)
    for name, array in inputs.items():
        label = f"removal of {name!r}"
        if name in stays:
            found[name] = _Fill(array[:, None], own=True)
            continue
        if name not in specs:
            raise InvalidParameter(f"{label}: nothing came, expected one of {', '.join(KINDS)}")
        kind, given = read_kind(label, specs[name], KINDS)
        if kind == "background":
            found[name], weight = _rows(label, name, array, background, background_weight)
        else:
            found[name] = _fill(f"{label}: {kind}", kind, given, array, known.get(name), segments, name)
    return replace(_together(found, weight), spec=spec)


def _by_input(spec: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The spec of each input: one that is for all is for each."""
    if not isinstance(spec, Mapping):
        return dict.fromkeys(inputs, spec)
    named = any(key in inputs and key not in KINDS for key in spec)
    if not named and len(spec) == 1 and not all(_is_spec(value) for value in spec.values()):
        return dict.fromkeys(inputs, spec)
    for name in spec:
        if name not in inputs:
            raise InvalidParameter(f"removal: {name!r} is no input; expected {', '.join(inputs)}")
    return dict(spec)


def _is_spec(value: Any) -> bool:
    if isinstance(value, str):
        return value in KINDS
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in KINDS


def _fill(
    label: str, kind: str, given: Any, array: np.ndarray, layout: str | None, segments: Segments | None, name: str
) -> _Fill:
    """The one row that stands for an input, or for each item's."""
    if kind in ("constant", "token"):
        row = fills.token(label, array, given) if kind == "token" else fills.constant(label, array, given, layout)
        return _Fill(fills.cast(label, row[None], array.dtype, exact=True), own=False)
    places = fills.places(label, array, given["layout"] or layout)
    if kind == "mean":
        rows = fills.mean(array, places)
    elif kind == "blur":
        rows = fills.blur(array, places, float(given["sigma"]))
    elif segments is None:
        raise InvalidParameter(f"{label}: which groups are removed is not known; expected groups")
    else:
        rows = inpaint(label, array, segments.index[name], places)
    return _Fill(fills.cast(label, rows[:, None], array.dtype, exact=False), own=True)


def _rows(
    label: str,
    name: str,
    array: np.ndarray,
    background: Mapping[str, np.ndarray] | None,
    weight: np.ndarray | None,
) -> tuple[_Fill, np.ndarray]:
    """The background's rows of one input, and their shares."""
    if background is None or name not in background:
        raise InvalidParameter(f"{label}: there is no background for this input; give one, or another kind")
    rows = background[name]
    if rows.shape[1:] != array.shape[1:] or not len(rows):
        expected = ", ".join(map(str, array.shape[1:]))
        raise InvalidParameter(f"{label}: the background has shape {list(rows.shape)}, expected [B, {expected}]")
    shares = np.ones(len(rows)) if weight is None else np.asarray(weight, dtype=np.float64)
    if shares.shape != (len(rows),) or not np.isfinite(shares).all() or (shares < 0).any() or not shares.sum() > 0:
        raise InvalidParameter(f"{label}: expected {len(rows)} background weights of at least 0")
    return _Fill(rows.astype(array.dtype), own=False), shares / shares.sum()


def _together(found: Mapping[str, _Fill], weight: np.ndarray) -> Replacement:
    """All inputs with as many rows; each item's own as soon as one input has its own."""
    own, size = any(fill.own for fill in found.values()), len(weight)
    items = max((len(fill.rows) for fill in found.values() if fill.own), default=1)
    rows = {}
    for name, fill in found.items():
        item = fill.rows.shape[2:] if fill.own else fill.rows.shape[1:]
        if fill.rows.shape[1 if fill.own else 0] not in (1, size):
            raise InvalidParameter("removal: every input's background needs the same number of rows")
        spread = fill.rows if fill.own or not own else fill.rows[None]
        rows[name] = np.broadcast_to(spread, (items, size, *item) if own else (size, *item))
    return Replacement(rows, weight, own)

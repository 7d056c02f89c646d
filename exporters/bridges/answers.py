"""What an explanation says, whichever way it came: an `explain.Attribution`, or the JSON of a V1 or V2 explain answer.

Each reader gives a `Told`: attributions [N, ...item] by input name, or, where the answer names features or groups,
one [N, M] with their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import explain

from ..errors import InvalidBridge
from ..exported import Array

GROUPS = "groups"
HALF_WIDTH = "half_width"
ERROR_KINDS = ("standard_error", "quadrature_error")


@dataclass(frozen=True)
class Told:
    """An explanation of N rows.

    values    by input name [N, ...item]; under the one key "groups" [N, M] where ``names`` says what M are
    base      [N], or None for a method without; ``target``: what all rows explain, by name, or None
    errors    shaped like ``values``, of the kind ``error_kind``; ``half_widths`` of 95 % intervals, where they are told
    places    by column (name, input, index), where the answer says which element a feature feeds
    sent      the value of each of ``names`` as the client sent it, and as people read it, row by row
    """

    values: dict[str, Array]
    base: Array | None
    target: str | None
    errors: dict[str, Array] | None = None
    error_kind: str | None = None
    half_widths: dict[str, Array] | None = None
    names: tuple[str, ...] | None = None
    places: tuple[tuple[str, str, int], ...] | None = None
    sent: tuple[list[list[Any]], list[list[Any]]] | None = None


def told(answer: explain.Attribution | Mapping[str, Any]) -> Told:
    """Read an attribution or a served answer. Raises InvalidBridge for anything else."""
    if isinstance(answer, explain.Attribution):
        return _attribution(answer)
    try:
        if "explanations" in answer:
            return _v1(answer["explanations"])
        if "explanation" in answer:
            return _v2(answer["explanation"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InvalidBridge(f"answer: could not be read as an explain answer: {error!r}") from error
    if "error" in answer:
        raise InvalidBridge(f"answer: the server refused: {answer['error']}")
    raise InvalidBridge('answer: came neither an Attribution nor JSON with "explanations" (V1) or "explanation" (V2)')


def _attribution(answer: explain.Attribution) -> Told:
    named = None if answer.group_names is None else tuple(answer.group_names)
    return Told(
        values=answer.values,
        base=answer.base_values,
        target=answer.explained_name,
        errors=answer.errors,
        error_kind=answer.error_kind,
        half_widths=answer.half_widths,
        names=named,
    )


def _v1(rows: Sequence[Mapping[str, Any]]) -> Told:
    base, target = _bases([row["base_value"] for row in rows]), _target([row["target"] for row in rows])
    parts = [row["attributions"] for row in rows]
    if isinstance(parts[0], Mapping):
        values = {name: np.array([part[name] for part in parts], dtype=np.float64) for name in parts[0]}
        return Told(values, base, target)
    kind = next((kind for kind in ERROR_KINDS if parts[0] and kind in parts[0][0]), None)
    grouped = all(entry["value"] is None for part in parts for entry in part)
    sent = (
        [[entry["value"] for entry in part] for part in parts],
        [[entry["shown"] for entry in part] for part in parts],
    )
    return Told(
        values={GROUPS: _table(parts, "attribution")},
        base=base,
        target=target,
        errors=None if kind is None else {GROUPS: _table(parts, kind)},
        error_kind=kind,
        half_widths={GROUPS: _table(parts, HALF_WIDTH)} if parts[0] and HALF_WIDTH in parts[0][0] else None,
        names=tuple(entry["label"] or entry["feature"] for entry in parts[0]),
        sent=None if grouped else sent,
    )


def _v2(found: Mapping[str, Any]) -> Told:
    values, further = _tensors(found["attributions"]), _tensors(found.get("tensors", ()))
    kind = next((kind for kind in ERROR_KINDS if any(f"{name}.{kind}" in further for name in values)), None)
    errors, half_widths = _beside(values, further, kind), _beside(values, further, HALF_WIDTH)
    features = found["features"] or []
    names = tuple(entry["label"] or entry["feature"] for entry in features) if GROUPS in values else None
    places = [(entry["label"] or entry["feature"], entry["input"], entry["index"]) for entry in features if not names]
    base = _bases(found["base_value"] or [None])
    return Told(values, base, _target(found["target"]), errors, kind, half_widths, names, tuple(places) or None)


def _tensors(entries: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """V2 tensors by name; null, for an error that is not known, is NaN."""
    return {each["name"]: np.array(each["data"], dtype=np.float64).reshape(each["shape"]) for each in entries}


def _beside(values: Mapping[str, Array], further: Mapping[str, Array], kind: str | None) -> dict[str, Array] | None:
    """What the answer says of each value, if it does."""
    found = {name: further[f"{name}.{kind}"] for name in values if f"{name}.{kind}" in further}
    return found or None


def _table(parts: Sequence[Sequence[Mapping[str, Any]]], member: str) -> Array:
    """One member of every entry, [N, M]; an error that is not known is NaN."""
    return np.array([[entry.get(member) for entry in part] for part in parts], dtype=np.float64)


def _bases(values: Sequence[float | None]) -> Array | None:
    return None if None in values else np.array(values, dtype=np.float64)


def _target(targets: Sequence[Mapping[str, Any]]) -> str | None:
    """The name that all rows share; None where they explain different things."""
    names = {str(target.get("name") or target) for target in targets}
    return names.pop() if len(names) == 1 else None

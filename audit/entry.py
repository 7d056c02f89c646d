"""The entry of a decision: the small JSON object that names every fact and holds a digest of every tensor.

`compose` turns a row of a draft into its canonical bytes (RFC 8785) and the payloads that they name.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import rfc8785

from .draft import DecisionDraft, RowDraft
from .errors import InvalidDraft
from .schema import check_entry
from .tensors import Payload, pack, pack_bytes

SCHEMA_VERSION = 1
# JSON numbers are doubles to many readers, so RFC 8785 stops at the integers that a double holds exactly.
LARGEST_INTEGER = 2**53 - 1
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"))
# The role of a payload, and the field of the entry that lists it.
ROLES = {"input": "inputs", "output": "outputs", "attribution": "attributions", "explanation": "explanation_tensors"}


@dataclass(frozen=True)
class Entry:
    """A decision ready to be stored: its id, its canonical bytes with their SHA-256, and its payloads."""

    id: str
    content: bytes
    digest: str
    payloads: list[Payload]


def compose(draft: DecisionDraft, row: int, ulid: str, answered_at: datetime, duration_ns: int) -> Entry:
    """The entry of one row of a request; raises InvalidDraft naming the field that cannot be recorded."""
    item = draft.rows[row]
    payloads = [pack(role, name, array) for role, arrays in _arrays(item).items() for name, array in arrays.items()]
    received = None if item.received is None else pack_bytes("received", "body", item.received)
    fields = {
        "schema_version": SCHEMA_VERSION,
        "id": f"{ulid}.{row}",
        "row": row,
        "rows": len(draft.rows),
        "received_at": instant("received_at", draft.received_at),
        "answered_at": instant("answered_at", answered_at),
        "duration_ns": duration_ns,
        "route": draft.route,
        "principal": draft.principal,
        "request_id": draft.request_id,
        "model": draft.model,
        "runtime": draft.runtime,
        "received": received and {"media_type": item.received_type, **received.description()},
        "status": item.status,
        "note": item.note,
        "explanation": item.explanation,
        **{field: {p.name: p.description() for p in payloads if p.role == role} for role, field in ROLES.items()},
    }
    entry = plain(fields, "")
    check_entry(entry)
    content = canonical(entry)
    return Entry(entry["id"], content, hashlib.sha256(content).hexdigest(), payloads + ([received] if received else []))


def canonical(value: Any) -> bytes:
    """The canonical JSON of a value that `plain` has made; raises InvalidDraft for text that is not Unicode.

    Where no number is a float and all keys are ASCII, Python's own encoder writes the same bytes, ten times as fast.
    """
    try:
        if _is_simple(value):
            return _ENCODER.encode(value).encode()
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise InvalidDraft("entry", str(error), "a value that canonical JSON can hold") from error


def _is_simple(value: Any) -> bool:
    if isinstance(value, dict):
        return all(key.isascii() for key in value) and all(map(_is_simple, value.values()))
    if isinstance(value, list):
        return all(map(_is_simple, value))
    return not isinstance(value, float)


def instant(field: str, moment: datetime) -> str:
    """A moment as UTC text with microseconds; raises InvalidDraft for a datetime without a time zone."""
    if moment.tzinfo is None:
        raise InvalidDraft(field, f"{moment.isoformat()} without a time zone", "an aware datetime")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class _NotPlain(Exception):
    """There is something that is not of JSON's own types."""


def plain(value: Any, path: str) -> Any:
    """A copy made of JSON's own types; raises InvalidDraft with the path of what JSON cannot say."""
    try:
        return _copied(value)
    except _NotPlain:
        return _made_plain(value, path)


def _copied(value: Any) -> Any:
    """The same where it is JSON's own already, without a path for each element; else raises _NotPlain."""
    kind = value.__class__
    if kind is str or kind is bool or value is None:
        return value
    if kind is int and -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is list or kind is tuple:
        return [_copied(item) for item in value]
    if kind is dict and all(key.__class__ is str for key in value):
        return {key: _copied(item) for key, item in value.items()}
    raise _NotPlain


def _made_plain(value: Any, path: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise InvalidDraft(path, str(value), f"an integer of at most {LARGEST_INTEGER} in size")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidDraft(path, str(value), "a finite number, or null")
        return value
    if isinstance(value, list | tuple):
        return [_made_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _key(key, path): _made_plain(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()
        }
    raise InvalidDraft(
        path, f"a value of type {type(value).__name__}", "what JSON can hold; arrays go beside the entry"
    )


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise InvalidDraft(path, f"the key {key!r}", "keys that are strings")
    return key


def _arrays(item: RowDraft) -> dict[str, Mapping[str, np.ndarray[Any, Any]]]:
    return {
        "input": item.inputs,
        "output": item.outputs,
        "attribution": item.attributions or {},
        "explanation": item.explanation_tensors or {},
    }

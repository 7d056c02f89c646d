"""A decision as it is read back: entry and tensors, checked against each other, and the JSON that a reader is given."""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from .entry import ROLES
from .errors import CorruptDecision
from .tensors import Payload, as_json, unpack

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Decision:
    """One recorded decision whose digests have been checked.

    entry: the recorded facts, see schema/decision-1.json; digest: SHA-256 of its canonical bytes.
    inputs, outputs, attributions, explanation_tensors: the arrays by name; received: the client's own bytes.
    """

    entry: dict[str, Any]
    digest: str
    inputs: Arrays
    outputs: Arrays
    attributions: Arrays
    explanation_tensors: Arrays
    received: bytes | None

    @property
    def id(self) -> str:
        return str(self.entry["id"])

    def to_dict(self) -> dict[str, Any]:
        """Entry, digest and content as JSON's own types; NaN and infinity become null and `notes` says where."""
        notes: list[str] = []
        return {
            "id": self.id,
            "digest": self.digest,
            "entry": self.entry,
            **{field: _tensors(field, getattr(self, field), notes) for field in ROLES.values()},
            "explanation": self.entry["explanation"],
            "received": _received(self.received, self.entry),
            "notes": notes,
        }

    def to_json(self) -> str:
        """`to_dict` as strict JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


def restore(decision_id: str, content: bytes, digest: str, payloads: list[Payload]) -> Decision:
    """The decision of stored bytes; raises CorruptDecision naming everything that differs from what was recorded."""
    entry = checked_entry(decision_id, content, digest)
    expected = {(role, name): text for role, field in ROLES.items() for name, text in entry[field].items()}
    if entry["received"] is not None:
        expected["received", "body"] = {k: v for k, v in entry["received"].items() if k != "media_type"}
    stored = {(p.role, p.name): p for p in payloads}
    if differences := _differences(expected, stored):
        raise CorruptDecision(decision_id, differences)
    arrays = {field: {p.name: unpack(p) for p in payloads if p.role == role} for role, field in ROLES.items()}
    received = stored.get(("received", "body"))
    return Decision(entry=entry, digest=digest, received=received.content if received else None, **arrays)


def checked_entry(decision_id: str, content: bytes, digest: str) -> dict[str, Any]:
    """The entry of stored bytes; raises CorruptDecision for bytes that are not those that were recorded."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise CorruptDecision(decision_id, ["entry: its bytes do not match its digest"])
    return _parse(decision_id, content)


def _parse(decision_id: str, content: bytes) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(content)
        named = entry["id"]
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptDecision(decision_id, [f"entry: not a decision entry ({error})"]) from error
    if named != decision_id:
        raise CorruptDecision(decision_id, [f"entry: it is the entry of decision '{named}'"])
    return entry


def _differences(expected: dict[tuple[str, str], Any], stored: dict[tuple[str, str], Payload]) -> list[str]:
    missing = [f"{role} '{name}': missing" for role, name in sorted(expected.keys() - stored.keys())]
    extra = [f"{role} '{name}': not named by the entry" for role, name in sorted(stored.keys() - expected.keys())]
    changed = []
    for key in sorted(expected.keys() & stored.keys()):
        found = stored[key].description()
        parts = [part for part in ("dtype", "shape", "digest") if found[part] != expected[key][part]]
        if parts:
            changed.append(f"{key[0]} '{key[1]}': {' and '.join(parts)} differ from the entry")
    return missing + extra + changed


def _tensors(field: str, arrays: Arrays, notes: list[str]) -> dict[str, Any]:
    shown = {}
    for name, array in arrays.items():
        data, nulls = as_json(array)
        if nulls:
            notes.append(f"{field}.{name}: null stands for {nulls} value(s) that are NaN or infinite")
        dtype = "utf8" if array.dtype.kind == "O" else array.dtype.str
        shown[name] = {"dtype": dtype, "shape": list(array.shape), "data": data}
    return shown


def _received(content: bytes | None, entry: dict[str, Any]) -> dict[str, Any] | None:
    if content is None:
        return None
    return {"media_type": entry["received"]["media_type"], "base64": base64.b64encode(content).decode("ascii")}

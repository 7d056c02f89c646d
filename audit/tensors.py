"""Arrays as bytes and back: raw little-endian content with a dtype and a shape, and its SHA-256.

Strings of any length become a JSON list (dtype "utf8"), because an array of objects has no bytes of its own.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InvalidDraft

RAW_KINDS = "biufUS"
UTF8 = "utf8"


@dataclass(frozen=True)
class Payload:
    """One stored tensor: role and name say whose it is; content is what its digest covers."""

    role: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    content: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def description(self) -> dict[str, Any]:
        """What the entry says of this tensor."""
        return {"dtype": self.dtype, "shape": list(self.shape), "digest": self.digest}


def pack(role: str, name: str, array: np.ndarray[Any, Any]) -> Payload:
    """Turn an array into its payload; raises InvalidDraft for a dtype that has no portable bytes."""
    array = np.asarray(array)
    if array.dtype.kind == "O":
        return Payload(role, name, UTF8, array.shape, _strings(role, name, array))
    if array.dtype.kind not in RAW_KINDS:
        raise InvalidDraft(f"{role}.{name}", f"dtype {array.dtype}", "booleans, integers, floats or strings")
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return Payload(role, name, little.dtype.str, array.shape, little.tobytes())


def pack_bytes(role: str, name: str, content: bytes) -> Payload:
    """A byte string as a payload of unsigned bytes."""
    return Payload(role, name, "|u1", (len(content),), content)


def unpack(payload: Payload) -> np.ndarray[Any, Any]:
    """The array of a payload; raises ValueError when content, dtype and shape do not fit together."""
    if payload.dtype == UTF8:
        flat = np.empty(math.prod(payload.shape), dtype=object)
        flat[:] = json.loads(payload.content)
        return flat.reshape(payload.shape)
    dtype = np.dtype(payload.dtype)
    if len(payload.content) != math.prod(payload.shape) * dtype.itemsize:
        raise ValueError(f"{len(payload.content)} bytes for dtype {payload.dtype} and shape {list(payload.shape)}")
    if dtype.itemsize == 0:
        return np.empty(payload.shape, dtype)
    return np.frombuffer(payload.content, dtype).reshape(payload.shape).copy()


def as_json(array: np.ndarray[Any, Any]) -> tuple[Any, int]:
    """The array as nested lists with null for NaN and infinity, and how many values that was."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    if array.dtype.kind != "f":
        return array.tolist(), 0
    finite = np.isfinite(array)
    if finite.all():
        return array.tolist(), 0
    shown = array.astype(object)
    shown[~finite] = None
    return shown.tolist(), int((~finite).sum())


def _strings(role: str, name: str, array: np.ndarray[Any, Any]) -> bytes:
    for index, item in enumerate(array.ravel()):
        if not isinstance(item, str):
            raise InvalidDraft(f"{role}.{name}[{index}]", type(item).__name__, "a string, in an array of objects")
    try:
        return json.dumps(array.ravel().tolist(), ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise InvalidDraft(f"{role}.{name}", f"text that is not Unicode ({error.reason})", "Unicode text") from error

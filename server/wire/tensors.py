"""Tensors of the Open Inference Protocol: datatypes, JSON data to arrays, arrays to JSON data and to raw bytes.

Lengths are counted, never guessed: the number of elements must be the product of the shape, nested data must be nested
exactly as the shape says, and raw data must have exactly the bytes its shape and datatype need.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadRequest, InvalidOutput
from .strict_json import kind_of

Array = npt.NDArray[Any]

# Datatype of the protocol -> numpy dtype, little-endian as on the wire.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
BYTES = "BYTES"
_NAMES = {(dtype.kind, dtype.itemsize): name for name, dtype in DTYPES.items()}
MAX_RANK = 32


def datatype_of(dtype: npt.DTypeLike) -> str:
    """The protocol's name of a numpy dtype; text and objects are BYTES."""
    resolved = np.dtype(dtype)
    return _NAMES.get((resolved.kind, resolved.itemsize), BYTES)


def datatype_named(name: Any, what: str) -> str:
    """A datatype a client wrote.

    Raises:
        BadRequest: it is none of the protocol's.
    """
    if isinstance(name, str) and (name in DTYPES or name == BYTES):
        return name
    raise BadRequest(f"{what}.datatype", kind_of(name), "one of " + ", ".join([*DTYPES, BYTES]))


def shape_of(value: Any, what: str) -> tuple[int, ...]:
    """A shape a client wrote: a list of whole numbers, none negative.

    Raises:
        BadRequest: it is not.
    """
    if not isinstance(value, list) or len(value) > MAX_RANK:
        raise BadRequest(f"{what}.shape", kind_of(value), f"a list of at most {MAX_RANK} whole numbers")
    for size in value:
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
            raise BadRequest(f"{what}.shape", kind_of(size), "whole numbers, none negative")
    return tuple(value)


def from_json(data: Any, datatype: str, shape: Sequence[int], what: str) -> Array:
    """An array from the flat or nested ``data`` of a request.

    Raises:
        BadRequest: wrong nesting, wrong number of elements, or elements that are not of the datatype.
    """
    if datatype == "FP16":
        raise BadRequest(f"{what}.data", "FP16 as JSON", "FP16 as binary tensor data, or FP32")
    if not isinstance(data, list):
        raise BadRequest(f"{what}.data", kind_of(data), "a list")
    flat = _flatten(data, shape, what)
    if len(flat) != math.prod(shape):
        raise BadRequest(f"{what}.data", f"{len(flat)} elements", f"{math.prod(shape)} for shape {list(shape)}")
    _check_elements(flat, datatype, what)
    if datatype == BYTES:
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array.reshape(shape)
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=DTYPES[datatype].newbyteorder("=")).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise BadRequest(f"{what}.data", "a number out of range", f"numbers that fit {datatype}") from error


def _flatten(data: list[Any], shape: Sequence[int], what: str) -> list[Any]:
    if list not in set(map(type, data)):
        return data
    level: list[Any] = [data]
    for axis, size in enumerate(shape):
        for part in level:
            if not isinstance(part, list) or len(part) != size:
                came = f"{kind_of(part)} along axis {axis}"
                raise BadRequest(
                    f"{what}.data", came, f"lists of {size}, nested as shape {list(shape)}, or a flat list"
                )
        level = list(chain.from_iterable(level))
    return level


_ELEMENTS: dict[str, tuple[frozenset[type], str]] = {
    "?": (frozenset({bool}), "true or false"),
    "u": (frozenset({int}), "whole numbers"),
    "i": (frozenset({int}), "whole numbers"),
    "f": (frozenset({int, float}), "numbers"),
    "S": (frozenset({str}), "text"),
}


def _check_elements(flat: list[Any], datatype: str, what: str) -> None:
    kind = "S" if datatype == BYTES else DTYPES[datatype].char if datatype == "BOOL" else DTYPES[datatype].kind
    allowed, expected = _ELEMENTS[kind]
    if set(map(type, flat)) - allowed:
        at = next(index for index, element in enumerate(flat) if type(element) not in allowed)
        raise BadRequest(f"{what}.data[{at}]", kind_of(flat[at]), f"{expected} ({datatype})")


def from_bytes(content: bytes | memoryview, datatype: str, shape: Sequence[int], what: str) -> Array:
    """An array from raw little-endian bytes.

    Raises:
        BadRequest: more or fewer bytes than shape and datatype need.
    """
    count = math.prod(shape)
    if datatype == BYTES:
        return _texts_from_bytes(content, count, what).reshape(shape)
    dtype = DTYPES[datatype]
    if len(content) != count * dtype.itemsize:
        expected = f"{count * dtype.itemsize} bytes for shape {list(shape)} of {datatype}"
        raise BadRequest(what, f"{len(content)} bytes of binary data", expected)
    if datatype == "BOOL" and bytes(content).strip(b"\x00\x01"):
        raise BadRequest(what, "a byte other than 0 and 1", "one byte 0 or 1 for each BOOL")
    return np.frombuffer(content, dtype=dtype).astype(dtype.newbyteorder("=")).reshape(shape)


def _texts_from_bytes(content: bytes | memoryview, count: int, what: str) -> Array:
    texts: list[str] = []
    at = 0
    while at < len(content) and len(texts) < count:
        end = at + 4 + (struct.unpack_from("<I", content, at)[0] if at + 4 <= len(content) else len(content))
        if end > len(content):
            raise BadRequest(what, f"an element that ends beyond the {len(content)} bytes", "whole elements")
        try:
            texts.append(bytes(content[at + 4 : end]).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadRequest(f"{what}[{len(texts)}]", "bytes that are not UTF-8", "text in UTF-8") from error
        at = end
    if at != len(content) or len(texts) != count:
        raise BadRequest(what, f"{len(texts)} elements in {len(content)} bytes", f"exactly {count} elements")
    array = np.empty(count, dtype=object)
    array[:] = texts
    return array


def to_json(array: Array, what: str) -> list[Any]:
    """The flat, row-major JSON data of an output.

    Raises:
        InvalidOutput: a NaN or infinity, named by output and row.
        BadRequest: FP16, which has no JSON form.
    """
    if datatype_of(array.dtype) == "FP16":
        raise BadRequest(what, "FP16 as JSON asked for", "binary data asked for (parameters.binary_data)")
    require_finite(array, what)
    flat: list[Any] = array.ravel().tolist()
    return [_text(element) for element in flat] if array.dtype.kind in "OS" else flat


def _text(element: Any) -> Any:
    return element.decode("utf-8", "replace") if isinstance(element, bytes) else element


def require_finite(array: Array, what: str, decisions: Sequence[str] = ()) -> None:
    """Raises InvalidOutput naming ``what`` and the first row that holds a NaN or an infinity."""
    if array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    row = int(np.argwhere(~np.isfinite(np.atleast_1d(array)))[0][0])
    raise InvalidOutput(what, row, decisions)


def to_bytes(array: Array) -> bytes:
    """The raw little-endian bytes of an output; BYTES as length-prefixed elements."""
    if datatype_of(array.dtype) == BYTES:
        parts = [element if isinstance(element, bytes) else str(element).encode("utf-8") for element in array.flat]
        return b"".join(struct.pack("<I", len(part)) + part for part in parts)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()

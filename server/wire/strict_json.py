"""JSON, strictly: what a client sends is read once and means one thing, and what we send is valid JSON.

Refused on the way in: nesting deeper than :data:`MAX_DEPTH`, NaN and Infinity, numbers too large for a double,
the same key twice, a byte order mark, text that is not UTF-8, unpaired surrogates, integers of thousands of digits.
On the way out NaN and infinity raise, because they are not JSON.

msgspec reads and writes ten times faster than the standard library, and is as strict but for repeated keys, which it
takes, and NaN, which it writes as null. Whether a text has either is told by counting; only then, and for everything
that msgspec refuses, the standard library is asked, which also finds the words for an error.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

import msgspec
import numpy as np

from ..errors import BadRequest

MAX_DEPTH = 100
SHOWN = 60
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"')
_KEPT = b'"[]{}'
_DROPPED = bytes(code for code in range(256) if code not in _KEPT)
# Only a number written with a three-digit exponent or with hundreds of digits can exceed a double.
_MAY_OVERFLOW = re.compile(rb"[eE]\+?\d{3}|\d{200}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAX_DIGITS = 308
_LONG_NUMBER = re.compile(rb"\d{%d}" % (_MAX_DIGITS + 1))
_UNSURE = object()
_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode


def loads(body: bytes, what: str = "body") -> Any:
    """The value of a JSON text.

    Raises:
        BadRequest: the text is not strict JSON, as listed in the module's docstring.
    """
    value = _quickly(body)
    return _carefully(body, what) if value is _UNSURE else value


def _quickly(body: bytes) -> Any:
    """The value where it is certain that the text is strict JSON, else `_UNSURE`."""
    brackets = body.count(b"[") + body.count(b"{")
    if (brackets > MAX_DEPTH and depth(body) > MAX_DEPTH) or _LONG_NUMBER.search(body):
        return _UNSURE
    try:
        value = _read(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _UNSURE
    # Every member that is written has a colon: as many members as colons, so none came twice.
    return value if _members(value, body.count(b"{")) == body.count(b":") else _UNSURE


def _members(value: Any, objects: int) -> int:
    """How many members the objects within a value have, of which there are at most ``objects``."""
    found, seen = 0, 0
    waiting = [value]
    while waiting and seen < objects:
        at = waiting.pop()
        if isinstance(at, dict):
            seen += 1
            found += len(at)
            waiting.extend(at.values())
        elif isinstance(at, list):
            waiting.extend(at)
    return found


def _carefully(body: bytes, what: str) -> Any:
    """As `loads`, with the standard library."""
    if depth(body) > MAX_DEPTH:
        raise BadRequest(what, f"JSON nested deeper than {MAX_DEPTH}", f"at most {MAX_DEPTH} levels")
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer if _MAY_OVERFLOW.search(body) else None,
            parse_float=_finite if _MAY_OVERFLOW.search(body) else None,
        )
        if _SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise BadRequest(what, "text that is not valid UTF-8", "JSON in UTF-8") from error
    except json.JSONDecodeError as error:
        came = "nothing" if not body.strip() else f"{error.msg} at line {error.lineno} column {error.colno}"
        raise BadRequest(what, came, "a JSON value") from error
    except RecursionError as error:
        raise BadRequest(what, "JSON nested too deep", f"at most {MAX_DEPTH} levels") from error
    return value


def depth(body: bytes) -> int:
    """How deep brackets nest in a JSON text, without parsing it; strings do not count."""
    if b"\\" in body:
        body = _ESCAPE.sub(b"", body)
    brackets = np.frombuffer(_STRING.sub(b"", body.translate(None, _DROPPED)), dtype=np.uint8)
    opening = (brackets == ord("[")) | (brackets == ord("{"))
    closing = (brackets == ord("]")) | (brackets == ord("}"))
    levels = np.cumsum(opening.astype(np.int64) - closing.astype(np.int64))
    return int(levels.max(initial=0))


def dumps(value: Any) -> bytes:
    """Compact JSON in UTF-8.

    Raises:
        ValueError: a NaN or an infinity; callers name the output before it comes to this.
    """
    try:
        content = _write(value)
    except (TypeError, OverflowError):  # what only the standard library writes: whole numbers beyond 64 bits
        content = b"null"
    if b"null" not in content or (content != b"null" and _all_finite(value)):  # null may stand for a NaN
        return content
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _all_finite(value: Any) -> bool:
    """Whether no number in it is NaN or infinite; a sum is, if one of its terms is. Long lists are looked at as one, in
    a hundredth of the time that the standard library needs to write them, for which it keeps all threads waiting."""
    if isinstance(value, dict):
        return all(map(_all_finite, value.values()))
    if isinstance(value, list | tuple):
        try:
            return math.isfinite(sum(value))
        except TypeError:
            return all(map(_all_finite, value))
        except OverflowError:
            return False
    return not isinstance(value, float) or math.isfinite(value)


def kind_of(value: Any) -> str:
    """A short description of a JSON value for an error message; never its whole content."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {str(value)[:SHOWN]}"
    if isinstance(value, str):
        return f"the text {value[:SHOWN]!r}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"an object with {len(value)} members" if isinstance(value, dict) else type(value).__name__


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise BadRequest(f"member {twice[:SHOWN]!r}", "it twice", "each member once")
    return members


def _no_constant(token: str) -> Any:
    raise BadRequest("number", token, "a finite number (JSON has no NaN or Infinity)")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise BadRequest("number", f"an integer of {len(digits)} digits", "a number a double can hold")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise BadRequest("number", text[:SHOWN], "a number a double can hold")
    return number


def printable(text: str) -> str:
    """Text that UTF-8 can carry: unpaired surrogates replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")

"""What every answer carries, whoever gives it: a request id, headers that browsers obey, one shape of failure."""

from __future__ import annotations

import re
import secrets
from collections import deque

from .errors import headers_of, message_of, status_of
from .wire import negotiation, strict_json

REQUEST_ID_HEADER = "X-Request-Id"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_DIGITS = 32
_AT_ONCE = 256
_fresh: deque[str] = deque()


def request_id(given: str | None) -> str:
    """The id the client gave, if it is one, else a new one of 32 hexadecimal digits that nobody can guess.

    Randomness is asked of the system for many at once: each question lets go of the interpreter.
    """
    if given and _REQUEST_ID.fullmatch(given):
        return given
    try:
        return _fresh.pop()
    except IndexError:
        digits = secrets.token_hex(_DIGITS * _AT_ONCE // 2)
        _fresh.extend(digits[at : at + _DIGITS] for at in range(_DIGITS, len(digits), _DIGITS))
        return digits[:_DIGITS]


def failure(error: Exception) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a failed answer."""
    status = status_of(error).value
    headers = {"Content-Type": negotiation.JSON, **headers_of(status)}
    return status, headers, strict_json.dumps({"error": strict_json.printable(message_of(error))})

"""What every answer carries, whoever gives it: a request id, headers that browsers obey, one shape of failure."""

from __future__ import annotations

import re
import secrets
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from .errors import headers_of, message_of, status_of
from .gateway import ARRIVED, Application, Headers
from .logs import access
from .wire import negotiation, strict_json

REQUEST_ID_HEADER = "X-Request-Id"
# Where the environ of a request keeps its id, and that of the decision which its answer became.
REQUEST_ID = "glasshouse.request_id"
DECISION = "glasshouse.decision"
DECISION_HEADER = "Glasshouse-Decision"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAIRS = list(HEADERS.items())
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_DIGITS = 32
_AT_ONCE = 256
_fresh: deque[str] = deque()


class Envelope:
    """A WSGI application whose every answer carries those headers, and leaves a line in the log."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """See PEP 3333."""
        arrived = environ.setdefault(ARRIVED, time.monotonic())
        own_id = environ[REQUEST_ID] = request_id(environ.get("HTTP_X_REQUEST_ID"))

        def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
            given = {name for name, _ in headers}
            headers.extend(_PAIRS if given.isdisjoint(HEADERS) else [pair for pair in _PAIRS if pair[0] not in given])
            headers.append((REQUEST_ID_HEADER, own_id))
            path = environ["PATH_INFO"]
            if not path.isascii():
                path = path.encode("latin-1").decode("utf-8", "replace")
            seconds = time.monotonic() - arrived
            access(own_id, environ.get(DECISION), environ["REQUEST_METHOD"], path, int(status[:3]), seconds)
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return self._application(environ, start)


def is_request_id(text: str) -> bool:
    """Whether a text can be the id of a request."""
    return _REQUEST_ID.fullmatch(text) is not None


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

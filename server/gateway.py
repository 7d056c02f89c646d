"""From a request that Granian has read to a call of a WSGI application, and from its answer back (PEP 3333).

Granian hands over a *scope* (method, path, headers) and a *protocol* (what answers). The body is here already, so
reading it never waits; it also stands in the environ as it is, for an application that knows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

BODY = "glasshouse.body"
ARRIVED = "glasshouse.arrived"
HELD = "glasshouse.held"
Headers = list[tuple[str, str]]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Given = tuple[int, Headers, Iterable[bytes]]
_NO_HTTP_PREFIX = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
# The body has been read whole: how it was cut into pieces on the way is told to nobody.
_UNTOLD = frozenset({"transfer-encoding", "content-length", "expect", "connection"})


class Held(NamedTuple):
    """What an application leaves under :data:`HELD`, where the environ has that, instead of answering at once.

    The answer waits for ``until``, which takes no thread; ``finish`` then is what calling the application would be.
    """

    until: Future[None]
    finish: Callable[[], Iterable[bytes]]


def environ(scope: Any, body: bytes, arrived: float) -> dict[str, Any]:
    """The request as PEP 3333 has it.

    Args:
        scope: Granian's scope of one request.
        body: the whole body.
        arrived: ``time.monotonic()`` when its headers were there; kept under :data:`ARRIVED`.
    """
    server, _, port = scope.server.rpartition(":")
    variables: dict[str, Any] = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        # Bytes as latin-1, as PEP 3333 wants all text.
        "PATH_INFO": scope.path.encode("utf-8").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": server,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.0" if scope.http_version == "1" else "HTTP/" + scope.http_version,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        BODY: body,
        ARRIVED: arrived,
        HELD: None,
    }
    for name, value in scope.headers.items():
        variable = _variable(name)
        if variable is not None:
            variables[variable] = f"{variables[variable]},{value}" if variable in variables else value
    return variables


@lru_cache(maxsize=1024)
def _variable(name: str) -> str | None:
    """The environ's name of a header; None for one that is not handed on.

    ``content_length`` would become the same variable as ``content-length``: names with an underscore are dropped.
    """
    if name in _UNTOLD or "_" in name:
        return None
    return _NO_HTTP_PREFIX.get(name) or "HTTP_" + name.replace("-", "_").upper()


class Call:
    """One call of a WSGI application. ``until`` is what its answer waits for; None where it need not wait."""

    def __init__(self, application: Application, variables: dict[str, Any]) -> None:
        self._status, self._headers = 0, Headers()
        self._chunks = application(variables, self._start)
        self._held: Held | None = variables.get(HELD)

    @property
    def until(self) -> Future[None] | None:
        """See above."""
        return None if self._held is None else self._held.until

    def answer(self) -> Given:
        """Status, headers and body of the application's answer; the body must be closed by who reads it."""
        if self._held is not None:
            self._chunks = self._held.finish()
        return self._status, self._headers, self._chunks

    def _start(self, status: str, headers: Headers, exc_info: Any = None) -> None:  # noqa: ARG002 # PEP 3333
        self._status, self._headers = int(status[:3]), headers


def is_streamed(headers: Headers) -> bool:
    """Whether an answer comes piece by piece: its length is not known when it begins."""
    return not any(name.lower() == "content-length" for name, _ in headers)


def close(chunks: Iterable[bytes]) -> None:
    """Tells the application that nobody reads on; its generators end, and with them the work."""
    ending = getattr(chunks, "close", None)
    if ending is not None:
        ending()

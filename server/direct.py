"""The address that is asked most, answered without Flask's context around it: POST to ``/v2/models/<name>/infer``.

A small prediction takes less time than Flask needs to find its route, make its request and response and run its hooks.
What happens is the same: `routes.infer` answers, `Follower` counts and traces, `failed` answers what went wrong.
Everything else, and what a server other than our front hands over unread, goes to the application behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from .failed import failed
from .following import Followed, Follower
from .gateway import BODY, HELD, Application, Held
from .pool import MustWait
from .routes.exchange import refuse_coding
from .routes.infer import Inferred, infer
from .stages import NO_TRACE

ADDRESS = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer", re.ASCII)
PATTERNS = ("/v2/models/<name>/infer", "/v2/models/<name>/versions/<version>/infer")
ENDPOINT = "v2.infer"
_OK = HTTPStatus.OK.value
_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Direct:
    """A WSGI application in front of another. Raises `pool.MustWait` as the other one does."""

    def __init__(self, application: Application, follower: Follower) -> None:
        self._application = application
        self._follower = follower

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """See PEP 3333."""
        found = ADDRESS.fullmatch(environ["PATH_INFO"]) if environ["REQUEST_METHOD"] == "POST" else None
        if found is None or BODY not in environ or not environ["PATH_INFO"].isascii():
            return self._application(environ, start_response)
        name, version = found.groups()
        followed = self._follower.follow(environ, ENDPOINT, PATTERNS[version is not None], name)
        # A trace is the thread's that began it.
        held = HELD in environ and followed.trace is NO_TRACE
        try:
            begun: Inferred | Exception = infer(environ, followed, partial(_whole, environ), name, version, held=held)
        except MustWait:
            self._follower.abandon()
            raise
        except Exception as error:
            begun = error
        if held and isinstance(begun, Inferred) and begun.committed is not None:
            environ[HELD] = Held(begun.committed, lambda: _answered(begun, environ, followed, start_response))
            return ()
        return _answered(begun, environ, followed, start_response)


def _answered(
    begun: Inferred | Exception, environ: dict[str, Any], followed: Followed, start_response: Any
) -> Iterable[bytes]:
    status = _OK
    try:
        if isinstance(begun, Exception):
            raise begun
        content, headers = begun.written()
    except Exception as error:  # as Flask's own handler of errors: whatever it is, it is answered
        status, headers, content = failed(error, environ, followed)
    headers = {**headers, **followed.trace.headers, "Content-Length": str(len(content))}
    followed.end(status)
    start_response(_LINES[status], list(headers.items()))
    return [content]


def _whole(environ: dict[str, Any]) -> bytes:
    refuse_coding(environ)
    body: bytes = environ[BODY]
    return body

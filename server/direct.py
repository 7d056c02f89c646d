"""Predictions, answered without Flask's context around them: V2's ``infer`` and V1's ``predict``.

A small prediction takes less time than Flask needs to find its route, make its request and response and run its hooks.
What happens is the same: `routes.predicting` answers, `Follower` counts and traces, `failed` answers what went wrong.
Everything else, and what a server other than our front hands over unread, goes to the application behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple

from .failed import failed
from .following import Followed, Follower
from .gateway import BODY, HELD, Application, Held
from .pool import MustWait
from .routes.exchange import refuse_coding
from .routes.predicting import Predicted, infer, predict
from .stages import NO_TRACE

_OK = HTTPStatus.OK.value
_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class _Address(NamedTuple):
    """``form`` finds name and version in a path; ``patterns`` are Flask's, without and with a version. ``begin`` is
    handed ``body``, which reads it."""

    form: re.Pattern[str]
    patterns: tuple[str, str]
    endpoint: str
    begin: Callable[..., Predicted]
    body: Callable[[dict[str, Any]], Any]


def _whole(environ: dict[str, Any]) -> bytes:
    refuse_coding(environ)
    body: bytes = environ[BODY]
    return body


def _typed(environ: dict[str, Any]) -> tuple[bytes, str]:
    return _whole(environ), _media_type(environ)


def _media_type(environ: dict[str, Any]) -> str:
    text: str = environ.get("CONTENT_TYPE", "")
    return text.partition(";")[0].strip().lower()


ADDRESSES = (
    _Address(
        re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer", re.ASCII),
        ("/v2/models/<name>/infer", "/v2/models/<name>/versions/<version>/infer"),
        "v2.infer",
        infer,
        _whole,
    ),
    _Address(
        re.compile(r"/v1/models/([^/]+)(?:/versions/([^/]+))?:predict", re.ASCII),
        ("/v1/models/<name>:predict", "/v1/models/<name>/versions/<version>:predict"),
        "v1.predict",
        predict,
        _typed,
    ),
)


class Direct:
    """A WSGI application in front of another. Raises `pool.MustWait` as the other one does."""

    def __init__(self, application: Application, follower: Follower) -> None:
        self._application = application
        self._follower = follower

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """See PEP 3333."""
        found = _found(environ)
        if found is None:
            return self._application(environ, start_response)
        address, name, version = found
        followed = self._follower.follow(environ, address.endpoint, address.patterns[version is not None], name)
        # A trace is the thread's that began it.
        held = HELD in environ and followed.trace is NO_TRACE
        try:
            body = partial(address.body, environ)
            begun: Predicted | Exception = address.begin(environ, followed, body, name, version, held=held)
        except MustWait:
            self._follower.abandon()
            raise
        except Exception as error:
            begun = error
        if held and isinstance(begun, Predicted) and begun.committed is not None:
            environ[HELD] = Held(begun.committed, lambda: _answered(begun, environ, followed, start_response))
            return ()
        return _answered(begun, environ, followed, start_response)


def _found(environ: dict[str, Any]) -> tuple[_Address, str, str | None] | None:
    """The address, the model's name and the version asked for; None for what Flask answers."""
    path = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] != "POST" or BODY not in environ or not path.isascii():
        return None
    for address in ADDRESSES:
        found = address.form.fullmatch(path)
        if found is not None:
            # Forms are Flask's to read.
            form = address.body is _typed and _media_type(environ).startswith("multipart/")
            return None if form else (address, found[1], found[2])
    return None


def _answered(
    begun: Predicted | Exception, environ: dict[str, Any], followed: Followed, start_response: Any
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

"""Flask without what this server has no use for, for the sake of requests that take less time than Flask does.

Routes, hooks and error handlers are Flask's. Left out: cookies and sessions, addresses made from routes, answers that
are corrected on their way out. What is left is remembered: which route an address leads to.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any

from flask import Flask, Request, Response
from flask.sessions import NullSession, SessionInterface
from werkzeug.routing import MapAdapter, Rule

from .gateway import BODY

MOST_REMEMBERED = 1024
BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class InMemoryRequest(Request):
    """A request whose body and uploads stay in memory: they are there already, and their size is limited."""

    def get_data(self, *how: Any, **named: Any) -> Any:
        """The body: what the front has read, without reading it again."""
        body = self.environ.get(BODY)
        return body if body is not None else super().get_data(*how, **named)

    def _get_file_stream(self, *_sizes: Any, **_names: Any) -> IO[bytes]:
        return BytesIO()


class PlainResponse(Response):
    """A response that goes out as it is when it is whole: its length is known, and it has a body to send."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """See PEP 3333."""
        whole = isinstance(self.response, list) and "Content-Length" in self.headers and not self._on_close
        bodiless = (
            environ["REQUEST_METHOD"] == "HEAD" or self.status_code < HTTPStatus.OK or self.status_code in BODILESS
        )
        if bodiless or not whole:
            return super().__call__(environ, start_response)
        start_response(self.status, list(self.headers))
        return self.response  # type: ignore[return-value]  # bytes, as they were given


class NoSessions(SessionInterface):
    """There are no cookies here."""

    def open_session(self, app: Flask, request: Request) -> NullSession:  # noqa: ARG002 # Flask's signature
        """An empty one, never saved."""
        return NullSession()

    def is_null_session(self, obj: object) -> bool:  # noqa: ARG002 # Flask's signature
        """Always."""
        return True


class RememberedRoutes:
    """What Flask asks for the route of one request; asks Werkzeug where it has not been asked before."""

    def __init__(self, app: LeanFlask, request: Request) -> None:
        self._app = app
        self._request = request

    def match(self, return_rule: bool) -> tuple[Rule, dict[str, Any]]:
        """The rule and its arguments. Raises Werkzeug's errors of routing; they are not remembered."""
        environ = self._request.environ
        asked = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
        known = self._app.remembered.get(asked)
        if known is None:
            adapter: MapAdapter = self._app.routes_of(self._request)
            known = adapter.match(return_rule=return_rule)  # type: ignore[call-overload]  # Flask always wants it
            if len(self._app.remembered) < MOST_REMEMBERED:
                self._app.remembered[asked] = known
        return known[0], dict(known[1])


class LeanFlask(Flask):
    """A Flask application as this module's docstring says. ``remembered``: rule and arguments by method and path."""

    request_class = InMemoryRequest
    response_class = PlainResponse
    session_interface = NoSessions()

    def __init__(self, name: str) -> None:
        super().__init__(name, static_folder=None)
        self.remembered: dict[tuple[str, str], tuple[Rule, Any]] = {}

    def create_url_adapter(self, request: Request | None) -> Any:
        """See Flask."""
        return None if request is None else RememberedRoutes(self, request)

    def ensure_sync(self, func: Any) -> Any:
        """See Flask; there are no coroutines here to look for."""
        return func

    def routes_of(self, request: Request) -> MapAdapter:
        """Werkzeug's routes for a request."""
        return self.url_map.bind_to_environ(request.environ, subdomain="")

"""Follows every HTTP request from its start to its answer's end: counted, timed, and traced where that is wanted.

It is on the path of every request: Flask's proxies, a look-up for each attribute, are gone through once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Request, Response, g, request

from .envelope import REQUEST_ID
from .gateway import ARRIVED
from .messages import Answer
from .metrics import Figures
from .pool import MustWait
from .service import Service
from .stages import NO_TRACE, Trace

NO_ROUTE = "none"
# The headers that take a trace up (W3C Trace Context), and where the environ has them.
CARRIED = {"traceparent": "HTTP_TRACEPARENT", "tracestate": "HTTP_TRACESTATE"}


@dataclass(slots=True)
class Followed:
    """A request on its way: its route, the name in its address that may be a model's, and what went wrong.

    ``started`` is when it came, on ``time.monotonic``, ``waited`` how many seconds passed before it was begun.
    """

    service: Service
    figures: Figures
    route: str
    name: str
    started: float
    waited: float
    trace: Trace
    error: str | None = None

    def failed(self, error: BaseException) -> None:
        """It is answered with an error, or its stream ends with one."""
        self.error = type(error).__name__

    def encoded(self, answer: Answer) -> None:
        """Its answer is written down."""
        seconds = self.figures.encoded(answer)
        if self.trace is not NO_TRACE:
            self.trace.passed("encode", seconds)

    def end(self, status: int) -> None:
        """Its answer is out."""
        model = self.service.models.known(self.name) if self.name else ""
        seconds = time.monotonic() - self.started
        self.figures.ended(self.route, model, status, seconds, self.waited, self.error)
        self.trace.end(status, self.error)


class Follower:
    """Follows the requests of one application."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def follow(self, environ: Mapping[str, Any], endpoint: str, pattern: str | None, name: str) -> Followed:
        """A request has its thread; its id and when it came are known. ``name`` may be a model's, or be empty."""
        service, trace, arrived = self._service, NO_TRACE, environ[ARRIVED]
        if service.traces is not None:
            carried = {name: environ[variable] for name, variable in CARRIED.items() if variable in environ}
            trace = service.traces.begin(environ["REQUEST_METHOD"], pattern, environ[REQUEST_ID], carried)
        service.figures.began()
        return Followed(service, service.figures, endpoint, name, arrived, time.monotonic() - arrived, trace)

    def abandon(self) -> None:
        """It has to be answered elsewhere."""
        self._service.figures.abandoned()

    def begin(self) -> None:
        """Flask's hook: follows the request at hand."""
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # the proxy's own
        rule = asked.url_rule
        endpoint, pattern = (NO_ROUTE, None) if rule is None else (rule.endpoint, rule.rule)
        name = _model(asked.view_args) if pattern is not None and "/models/" in pattern else ""
        g.followed = self.follow(asked.environ, endpoint, pattern, name)

    def tear_down(self, error: BaseException | None) -> None:
        """Flask's hook: whatever happened, it is done with the request."""
        if isinstance(error, MustWait):
            self.abandon()

    def finish(self, response: Response) -> Response:
        """The answer is ready; where it is a stream, it ends later."""
        followed: Followed = g.followed
        if followed.trace is not NO_TRACE:
            response.headers.extend(followed.trace.headers)
        status = response.status_code
        if response.is_streamed:
            response.call_on_close(lambda: followed.end(status))
        else:
            followed.end(status)
        return response


def _model(view_args: Mapping[str, Any] | None) -> str:
    name = view_args.get("name", "") if view_args else ""
    return str(name)

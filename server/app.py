"""The Flask application: settings in, an app with its service out. One app per call, nothing at module level."""

from __future__ import annotations

import time
from http import HTTPStatus
from io import BytesIO
from typing import IO, Any

from flask import Flask, Request, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from . import routes
from .config import Config
from .envelope import HEADERS, REQUEST_ID_HEADER, failure, request_id
from .errors import InvalidOutput, headers_of, status_of
from .following import Follower
from .gateway import ARRIVED, BODY
from .logs import access, log, reasons
from .routes.incoming import DECISION_HEADER, EXTENSION
from .service import Service
from .serving import open_service
from .wire import negotiation, strict_json

MAX_FORM_MEMORY = 1024 * 1024
MAX_FORM_PARTS = 16


class InMemoryRequest(Request):
    """A request whose uploads stay in memory: the body is there already, and its size is limited."""

    def get_data(self, *how: Any, **named: Any) -> Any:
        """The body: what the front has read, without reading it again."""
        body = self.environ.get(BODY)
        return body if body is not None else super().get_data(*how, **named)

    def _get_file_stream(self, *_sizes: Any, **_names: Any) -> IO[bytes]:
        return BytesIO()


def create_app(config: Config, service: Service | None = None) -> Flask:
    """An application that answers for one store.

    Args:
        config: the settings.
        service: what answers; None opens the store, the engine and the decision records that the settings name, and
            loads the required models.
    """
    app = Flask("glasshouse", static_folder=None)
    app.request_class = InMemoryRequest
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FORM_MEMORY
    app.config["MAX_FORM_PARTS"] = MAX_FORM_PARTS
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # A path has one spelling: no redirects from doubled or trailing slashes.
    app.url_map.merge_slashes = False
    service = service if service is not None else open_service(config)
    app.extensions[EXTENSION] = service
    routes.register(app)
    follower = Follower(service)
    app.before_request(_begin)
    app.before_request(follower.begin)
    app.after_request(_finish)
    app.after_request(follower.finish)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _error)
    return app


def _begin() -> None:
    g.request_id = request_id(request.headers.get(REQUEST_ID_HEADER))
    g.arrived = request.environ.get(ARRIVED) or time.monotonic()
    g.decision = None


def _finish(response: Response) -> Response:
    response.headers[REQUEST_ID_HEADER] = g.request_id
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    seconds = time.monotonic() - g.arrived
    access(g.request_id, g.decision, request.method, request.path, response.status_code, seconds)
    return response


def _http_error(error: HTTPException) -> Response:
    """What Flask itself refuses, in our one shape."""
    g.followed.failed(error)
    status = error.code if error.code is not None else status_of(error).value
    content = strict_json.dumps({"error": strict_json.printable(_said(error))})
    response = Response(content, status, headers=headers_of(status), content_type=negotiation.JSON)
    for name, value in error.get_headers():
        if name in ("Allow", "Retry-After"):
            response.headers[name] = value
    return response


def _said(error: HTTPException) -> str:
    """Flask's refusal in our words, where it is one that clients meet."""
    path = request.path[:160]
    if isinstance(error, NotFound):
        return f"path {path}: not found; see /v2 and docs/http-api.md"
    if isinstance(error, MethodNotAllowed):
        expected = ", ".join(sorted(error.valid_methods or ()))
        return f"method: got {request.method} for {path}, expected one of {expected}"
    length, limit = request.content_length, request.max_content_length
    if isinstance(error, RequestEntityTooLarge) and limit is not None and (length is None or length > limit):
        return f"body: got {length or 'more'} bytes, expected at most {limit}"
    reason = " ".join((error.description or error.name).split())
    return f"{request.method} {path}: {reason}"


def _error(error: Exception) -> Response:
    """What any room raised, with the number of its type."""
    g.followed.failed(error)
    status = status_of(error)
    extra = {"request_id": g.request_id, "error": type(error).__name__}
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        log().error("request failed", extra=extra, exc_info=error)
    elif status > HTTPStatus.INTERNAL_SERVER_ERROR:
        # Known trouble, repeated by every probe and every request: its reasons are what helps, not where it surfaced.
        log().warning("request not served", extra={**extra, "reason": reasons(error)})
    else:
        log().debug("request refused", extra=extra)
    number, headers, content = failure(error)
    response = Response(content, number, headers=headers)
    if isinstance(error, InvalidOutput) and error.decisions:
        g.decision = error.decisions[0].rsplit(".", 1)[0]
        response.headers[DECISION_HEADER] = g.decision
    return response

"""The Flask application: settings in, an app with its service out. One app per call, nothing at module level."""

from __future__ import annotations

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from . import routes
from .config import Config
from .direct import Direct
from .envelope import Envelope
from .errors import headers_of, status_of
from .failed import failed
from .following import Follower
from .lean import LeanFlask
from .routes.incoming import EXTENSION, SHARE
from .service import Service
from .serving import open_service
from .shares import explain_share
from .wire import negotiation, strict_json

MAX_FORM_MEMORY = 1024 * 1024
MAX_FORM_PARTS = 16


def create_app(config: Config, service: Service | None = None) -> Flask:
    """An application that answers for one store.

    Args:
        config: the settings.
        service: what answers; None opens the store, the engine and the decision records that the settings name, and
            loads the required models.
    """
    app = LeanFlask("glasshouse")
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = MAX_FORM_MEMORY
    app.config["MAX_FORM_PARTS"] = MAX_FORM_PARTS
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    # A path has one spelling: no redirects from doubled or trailing slashes.
    app.url_map.merge_slashes = False
    service = service if service is not None else open_service(config)
    app.extensions[EXTENSION] = service
    app.extensions[SHARE] = explain_share(config)
    routes.register(app)
    follower = Follower(service)
    app.before_request(follower.begin)
    app.after_request(follower.finish)
    app.teardown_request(follower.tear_down)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _error)
    app.wsgi_app = Envelope(Direct(app.wsgi_app, follower))  # type: ignore[method-assign]  # as Flask's own documentation has it
    return app


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
    number, headers, content = failed(error, request.environ, g.followed)
    return Response(content, number, headers=headers)

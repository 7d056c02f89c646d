"""What every route does with a request: find the service, read the body whole or not at all, write JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from itertools import chain
from typing import Any

from flask import Response, current_app, g, request
from werkzeug.datastructures import Headers

from .. import shares
from ..errors import BadRequest, message_of
from ..gateway import BODY
from ..lean import PlainResponse
from ..messages import Answer
from ..service import Service
from ..wire import negotiation, strict_json
from .exchange import admit, refuse_coding, refuse_query, told

EXTENSION = "glasshouse"
SHARE = "glasshouse.explain_share"
MULTIPART = "multipart/form-data"
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": negotiation.PNG, b"\xff\xd8\xff": "image/jpeg"}


def service() -> Service:
    """The service of this application."""
    found: Service = current_app.extensions[EXTENSION]
    return found


def body() -> bytes:
    """The whole body.

    Raises:
        UnsupportedMedia: it is compressed.
        BadRequest: fewer bytes came than ``Content-Length`` announced.
    """
    environ = request.environ
    refuse_coding(environ)
    content: bytes | None = environ.get(BODY)
    if content is not None:  # the front has compared its length
        return content
    content = bytes(request.get_data(cache=True))
    announced = request.content_length
    # Other servers than ours hand on a body that was cut short without an error.
    if announced is not None and announced != len(content):
        raise BadRequest("body", f"{len(content)} bytes", f"the {announced} that Content-Length announces")
    return content


def body_or_file() -> tuple[bytes, str]:
    """The body and its media type; of a multipart form, its only file and that file's type.

    Raises:
        BadRequest: a form that is not exactly one file.
    """
    content, media_type = body(), request.mimetype
    if media_type != MULTIPART:
        return content, media_type
    files = [upload for _, upload in request.files.items(multi=True)]
    if len(files) != 1 or request.form:
        came = f"{len(files)} files and {len(request.form)} fields"
        raise BadRequest("form", came, "exactly one file and nothing else")
    content = files[0].read()
    kinds = [kind for signature, kind in _SIGNATURES.items() if content.startswith(signature)]
    return content, kinds[0] if kinds else files[0].mimetype


def query() -> dict[str, str]:
    """The query string's members, each at most once.

    Raises:
        BadRequest: a member that comes twice.
    """
    for name, texts in request.args.lists():
        if len(texts) != 1:
            raise BadRequest(f"query {name[:60]!r}", f"{len(texts)} of them", "each member once")
    return request.args.to_dict()


def no_query(expected: str) -> None:
    """Raises BadRequest where there is a query string: see `refuse_query`."""
    refuse_query(request.environ, expected)


def admitted(route: str) -> dict[str, Any]:
    """What a request message takes from HTTP rather than from the body: see `admit`, and what it raises."""
    return admit(request.environ, service(), g.followed.trace, route)


def explaining(view: Callable[..., Response]) -> Callable[..., Response]:
    """A route that explains: refused at once where explanations hold their share, which its answer's end gives back."""

    @wraps(view)
    def within_share(*arguments: Any, **named: Any) -> Response:
        share: shares.ExplainShare = current_app.extensions[SHARE]
        share.take()
        try:
            response = view(*arguments, **named)
        except BaseException:
            share.give_back()
            raise
        if response.is_streamed:
            response.call_on_close(share.give_back)
        else:
            share.give_back()
        return response

    return within_share


def as_json(value: Any, answer: Answer | None = None) -> Response:
    """A JSON answer; with the decision's id in a header where there is one."""
    return respond(strict_json.dumps(value), {"Content-Type": negotiation.JSON}, answer)


def as_lines(answers: Iterator[Any]) -> Response:
    """One JSON object a line as the answers come; an error after the first is a line of its own and the last.

    What goes wrong before the first answer is an ordinary error. When the client leaves, the work ends.
    """
    first, followed = next(answers), g.followed

    def lines() -> Iterator[bytes]:
        try:
            for value in chain([first], answers):
                yield strict_json.dumps(value) + b"\n"
        except Exception as error:  # the status has been sent: the client learns of it here, the log from the reason
            followed.failed(error)
            logging.getLogger(__name__).warning("a stream ended early", extra={"reason": type(error).__name__})
            yield strict_json.dumps({"error": message_of(error)}) + b"\n"

    return Response(lines(), headers={"Content-Type": negotiation.LINES})


def respond(content: bytes, headers: Mapping[str, str], answer: Answer | None = None) -> Response:
    """An answer of bytes."""
    return written(content, headers if answer is None else told(request.environ, g.followed, answer, dict(headers)))


def written(content: bytes, headers: Mapping[str, str]) -> Response:
    """An answer whose headers are complete."""
    return PlainResponse(content, headers=Headers(list(headers.items())))

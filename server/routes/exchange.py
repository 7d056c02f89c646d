"""What a client says beside its body, and is told beside its answer, by the WSGI environ alone."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qsl

from .. import shares
from ..envelope import DECISION, DECISION_HEADER, REQUEST_ID
from ..errors import BadRequest, UnsupportedMedia
from ..following import Followed
from ..gateway import ARRIVED
from ..messages import Answer
from ..service import Service
from ..stages import Trace

Environ = dict[str, Any]


def admit(environ: Environ, service: Service, trace: Trace, route: str) -> dict[str, Any]:
    """What a request message takes from HTTP rather than from the body. To be asked for before the body is decoded.

    Raises:
        DeadlineExceeded: its time was over before anything was done.
        QueueFull: a prediction for which too much work waits already.
        BadRequest: a time limit that is none.
    """
    arrived = environ.get(ARRIVED) or time.monotonic()
    seconds = shares.timeout_seconds(environ)
    shares.require_time(arrived, seconds)
    if route.endswith(("predict", "infer")):
        shares.require_engine(service.engine, service.config, arrived, seconds)
    fields = {"route": route, "request_id": environ[REQUEST_ID], "trace": trace}
    return {**fields, "arrived": arrived, "timeout_seconds": seconds}


def refuse_query(environ: Environ, expected: str) -> None:
    """Refuses a query string where none is read; nothing that was sent is passed over in silence.

    Args:
        environ: the request.
        expected: what to send instead.

    Raises:
        BadRequest: there is one.
    """
    text = environ.get("QUERY_STRING")
    for name, _ in parse_qsl(text, keep_blank_values=True) if text else ():
        raise BadRequest(f"query {name[:60]!r}", "it", expected)


def refuse_coding(environ: Environ) -> None:
    """Raises UnsupportedMedia for a body that is compressed."""
    coding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMedia(f"Content-Encoding: got {coding[:40]!r}, expected an uncompressed body")


def told(environ: Environ, followed: Followed, answer: Answer, headers: dict[str, str]) -> dict[str, str]:
    """The headers of an answer that is written down, with its decision where there is one."""
    followed.encoded(answer)
    if answer.decision is not None:
        environ[DECISION] = answer.decision
        return {**headers, DECISION_HEADER: answer.decision}
    return headers

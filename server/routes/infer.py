"""``infer`` of the Open Inference Protocol: from a WSGI environ to body and headers of the answer.

The Flask route in v2.py answers with it and, without Flask around it, `direct.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import BadRequest
from ..following import Followed
from ..messages import PredictRequest
from ..wire import binary, v2
from .exchange import Environ, admit, refuse_query, told

HEADER_LENGTH = "HTTP_" + binary.HEADER.upper().replace("-", "_")


def inferred(
    environ: Environ, followed: Followed, body: Callable[[], bytes], name: str, version: str | None
) -> tuple[bytes, dict[str, str]]:
    """Tensors in, tensors out. Raises what the rooms raise."""
    asked, framing = read(environ, followed, body, name, version, "v2.infer")
    if framing.explain:
        raise BadRequest("explain", "it", "the address ending in /explain for this member")
    answer = followed.service.predict(asked)
    content, headers = v2.infer_answer(answer, framing)
    return content, told(environ, followed, answer, headers)


def read(
    environ: Environ, followed: Followed, body: Callable[[], bytes], name: str, version: str | None, route: str
) -> tuple[PredictRequest, v2.InferBody]:
    """The request as meant, and how its answer is to be framed; ``body`` is read when the rest was found good."""
    refuse_query(environ, "no query here; members stand in the JSON")
    fields = admit(environ, followed.service, followed.trace, route)
    framing = v2.read(body(), environ.get(HEADER_LENGTH))
    if framing.timeout_seconds is not None:
        own = fields["timeout_seconds"]
        fields["timeout_seconds"] = framing.timeout_seconds if own is None else min(own, framing.timeout_seconds)
    return PredictRequest(name, version, framing.payload, outputs=framing.outputs, **fields), framing

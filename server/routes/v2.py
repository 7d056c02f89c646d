"""The Open Inference Protocol: ``infer``, and our extension ``explain``."""

from __future__ import annotations

from flask import Blueprint, Response, request

from .. import drawing
from ..errors import BadRequest
from ..messages import PredictRequest
from ..wire import binary, negotiation, options, v2
from .incoming import admitted, body, explaining, no_query, respond, service

blueprint = Blueprint("v2", __name__)
HEADER_LENGTH = "HTTP_" + binary.HEADER.upper().replace("-", "_")


@blueprint.post("/v2/models/<name>/infer")
@blueprint.post("/v2/models/<name>/versions/<version>/infer")
def infer(name: str, version: str | None = None) -> Response:
    """Tensors in, tensors out."""
    asked, framing = _read(name, version, "v2.infer")
    if framing.explain:
        raise BadRequest("explain", "it", "the address ending in /explain for this member")
    answer = service().predict(asked)
    content, headers = v2.infer_answer(answer, framing)
    return respond(content, headers, answer)


@blueprint.post("/v2/models/<name>/explain")
@blueprint.post("/v2/models/<name>/versions/<version>/explain")
@explaining
def explain(name: str, version: str | None = None) -> Response:
    """Tensors in; tensors and their explanation out, or the picture of it."""
    kinds = (negotiation.JSON, negotiation.BINARY, negotiation.PNG, negotiation.SVG)
    form = negotiation.choose(request.headers.get("Accept"), kinds)
    asked, framing = _read(name, version, "v2.explain")
    answer = service().explain(options.explain_request(asked, framing.explain))
    if form in (negotiation.JSON, negotiation.BINARY):
        content, headers = v2.explain_answer(answer, framing)
        return respond(content, headers, answer)
    return respond(drawing.render(answer, form), {"Content-Type": form}, answer)


def _read(name: str, version: str | None, route: str) -> tuple[PredictRequest, v2.InferBody]:
    no_query("no query here; members stand in the JSON")
    fields = admitted(route)
    framing = v2.read(body(), request.environ.get(HEADER_LENGTH))
    asked = PredictRequest(
        name,
        version,
        framing.payload,
        outputs=framing.outputs,
        **{**fields, "timeout_seconds": _shorter(fields["timeout_seconds"], framing.timeout_seconds)},
    )
    return asked, framing


def _shorter(one: float | None, other: float | None) -> float | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)

"""The Open Inference Protocol: ``infer``, and our extension ``explain``."""

from __future__ import annotations

from flask import Blueprint, Response, g, request

from .. import drawing
from ..wire import negotiation, options, v2
from .incoming import body, explaining, respond, service, written
from .predicting import infer as found
from .predicting import read

blueprint = Blueprint("v2", __name__)


@blueprint.post("/v2/models/<name>/infer")
@blueprint.post("/v2/models/<name>/versions/<version>/infer")
def infer(name: str, version: str | None = None) -> Response:
    """Tensors in, tensors out."""
    return written(*found(request.environ, g.followed, body, name, version).written())


@blueprint.post("/v2/models/<name>/explain")
@blueprint.post("/v2/models/<name>/versions/<version>/explain")
@explaining
def explain(name: str, version: str | None = None) -> Response:
    """Tensors in; tensors and their explanation out, or the picture of it."""
    kinds = (negotiation.JSON, negotiation.BINARY, negotiation.PNG, negotiation.SVG)
    form = negotiation.choose(request.headers.get("Accept"), kinds)
    asked, framing = read(request.environ, g.followed, body, name, version, "v2.explain")
    answer = service().explain(options.explain_request(asked, framing.explain))
    if form in (negotiation.JSON, negotiation.BINARY):
        content, headers = v2.explain_answer(answer, framing)
        return respond(content, headers, answer)
    return respond(drawing.render(answer, form), {"Content-Type": form}, answer)

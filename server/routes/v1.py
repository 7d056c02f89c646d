"""The V1 protocol: ``/v1/models/{m}:predict`` and ``:explain``."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, g, request

from .. import drawing
from ..messages import PredictRequest
from ..wire import negotiation, options, v1
from .incoming import admitted, as_json, as_lines, body_or_file, explaining, query, respond, service, written
from .predicting import predict as found

blueprint = Blueprint("v1", __name__)
FORMS = (negotiation.JSON, negotiation.PNG, negotiation.SVG, negotiation.LINES)


@blueprint.post("/v1/models/<name>:predict")
@blueprint.post("/v1/models/<name>/versions/<version>:predict")
def predict(name: str, version: str | None = None) -> Response:
    """Rows, or one image, in; predictions out."""
    return written(*found(request.environ, g.followed, body_or_file, name, version).written())


@blueprint.post("/v1/models/<name>:explain")
@blueprint.post("/v1/models/<name>/versions/<version>:explain")
@explaining
def explain(name: str, version: str | None = None) -> Response:
    """Rows, or one image, in; predictions with explanations out, as they come or finished, or the picture of one."""
    form = negotiation.choose(request.headers.get("Accept"), FORMS)
    asked, more = _read(name, version, "v1.explain")
    drawing.require_one_row(asked.payload, form)
    wanted = options.explain_request(asked, more)
    if form == negotiation.LINES:
        return as_lines(v1.explain_event(answer) for answer in service().explanations(wanted))
    answer = service().explain(wanted)
    if form == negotiation.JSON:
        return as_json(v1.explain_answer(answer), answer)
    return respond(drawing.render(answer, form), {"Content-Type": form}, answer)


def _read(name: str, version: str | None, route: str) -> tuple[PredictRequest, dict[str, Any]]:
    fields = admitted(route)
    content, media_type = body_or_file()
    payload, more = v1.read(content, media_type, query())
    return PredictRequest(name, version, payload, **fields), more

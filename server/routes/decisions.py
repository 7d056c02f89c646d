"""Recorded decisions, read back."""

from __future__ import annotations

from flask import Blueprint, Response, request

from .. import drawing
from ..wire import negotiation
from .incoming import as_json, respond, service

blueprint = Blueprint("decisions", __name__)


@blueprint.get("/v1/decisions/<decision_id>")
def decision(decision_id: str) -> Response:
    """Input, output, explanation and digests of one decision; of an answer, the ids of its decisions."""
    if "." not in decision_id:
        return as_json({"id": decision_id, "decisions": service().decisions(decision_id)})
    found = service().decision(decision_id)
    headers = {"Content-Type": negotiation.JSON, "Cache-Control": "no-store"}
    return respond(found.to_json().encode("utf-8"), headers)


@blueprint.get("/v1/decisions/<decision_id>/picture")
def picture(decision_id: str) -> Response:
    """The picture of a recorded explanation, drawn from its record."""
    form = negotiation.choose(request.headers.get("Accept"), drawing.FORMATS)
    return respond(drawing.written(service().picture_of(decision_id), form), {"Content-Type": form})

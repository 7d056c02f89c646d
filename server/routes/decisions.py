"""Recorded decisions, read back."""

from __future__ import annotations

from flask import Blueprint, Response

from ..wire import negotiation
from .incoming import respond, service

blueprint = Blueprint("decisions", __name__)


@blueprint.get("/v1/decisions/<decision_id>")
def decision(decision_id: str) -> Response:
    """Input, output, explanation and digests of one decision."""
    found = service().decision(decision_id)
    headers = {"Content-Type": negotiation.JSON, "Cache-Control": "no-store"}
    return respond(found.to_json().encode("utf-8"), headers)

"""What the server has counted, for Prometheus."""

from __future__ import annotations

from flask import Blueprint, Response, request

from ..metrics import scrape
from .incoming import respond, service

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Figures of all workers, in Prometheus' text format or as OpenMetrics."""
    content, media_type = scrape(service(), request.headers.get("Accept", ""))
    return respond(content, {"Content-Type": media_type})

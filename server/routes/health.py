"""Is the server alive, is it ready, is a model ready."""

from __future__ import annotations

from flask import Blueprint, Response

from ..errors import NotReady
from .incoming import as_json, service

blueprint = Blueprint("health", __name__)


@blueprint.get("/v2/health/live")
def live() -> Response:
    """The process answers."""
    return as_json({"live": True})


@blueprint.get("/v2/health/ready")
def ready() -> Response:
    """Every required model is loaded."""
    missing = service().models.missing()
    if missing:
        raise NotReady("not ready: " + "; ".join(_said(name, missing[name]) for name in sorted(missing)))
    return as_json({"ready": True})


def _said(name: str, reason: str) -> str:
    """A reason that names its model already is not told twice whose it is."""
    return reason if name in reason else f"model {name}: {reason}"


@blueprint.get("/v2/models/<name>/ready")
@blueprint.get("/v2/models/<name>/versions/<version>/ready")
def model_ready(name: str, version: str | None = None) -> Response:
    """The model has a session."""
    service().models.ensure(name, version)
    return as_json({"name": name, "ready": True})


@blueprint.get("/v1/models/<name>")
def v1_model(name: str) -> Response:
    """V1's word for the same."""
    service().models.ensure(name, None)
    return as_json({"name": name, "ready": True})

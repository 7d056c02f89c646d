"""The console: a page of static files, and the list of models it shows."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, send_from_directory

from .. import catalogue
from .incoming import as_json, service

FOLDER = Path(__file__).resolve().parent.parent / "console"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
blueprint = Blueprint("console", __name__)


@blueprint.get("/")
def page() -> Response:
    """The page itself."""
    return _file("index.html")


@blueprint.get("/console/static/<path:name>")
def static_file(name: str) -> Response:
    """A script, style or picture of the page."""
    return _file(name)


@blueprint.get("/console/models")
def models() -> Response:
    """What the page shows of each model."""
    return as_json([catalogue.console_entry(service().loaded(version)) for version in service().models()])


def _file(name: str) -> Response:
    response = send_from_directory(FOLDER, name, max_age=0)
    response.headers["Content-Security-Policy"] = POLICY
    return response

"""The console: a page of static files, and the list of models it shows."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

from .. import catalogue
from .incoming import as_json, respond, service

FOLDER = Path(__file__).resolve().parent.parent / "console"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
blueprint = Blueprint("console", __name__)


@blueprint.get("/")
def page() -> Response:
    """The page itself."""
    return _file("index.html")


@blueprint.get("/console/static/<name>")
def static_file(name: str) -> Response:
    """A script, style or picture of the page."""
    return _file(name)


@blueprint.get("/console/models")
def models() -> Response:
    """What the page shows of each model."""
    return as_json(
        [catalogue.console_entry(service().models.loaded(version)) for version in service().models.offered()]
    )


def _file(name: str) -> Response:
    """A file of the page; only names that are in the folder are read, so no name leads out of it."""
    for file in FOLDER.iterdir():
        if file.name == name and file.suffix in TYPES:
            headers = {"Content-Type": TYPES[file.suffix], "Content-Security-Policy": POLICY}
            return respond(file.read_bytes(), headers)
    raise NotFound

"""Routes: HTTP only. Each reads a request, calls the service or a wire format, and writes an answer."""

from __future__ import annotations

from flask import Flask

from . import cancelling, console, decisions, health, metadata, metrics, v1, v2


def register(app: Flask) -> None:
    """Adds every blueprint to the application."""
    for module in (health, metadata, metrics, v1, v2, cancelling, decisions, console):
        app.register_blueprint(module.blueprint)

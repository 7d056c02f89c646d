"""The server: HTTP doors, wire formats, and the story of predict and explain between them.

A request comes through a route, is unframed by a wire format, answered by :class:`Service` (which enters model_store,
engine, explain and audit once each) and framed again. ``create_app`` makes the Flask application, ``serve`` runs it.
"""

from .app import create_app
from .banner import banner
from .config import SETTINGS, Config, configuration_page, load_config, shown
from .errors import ConfigError, ServerError
from .service import Service
from .serving import check, open_service, serve
from .setting import Setting

__all__ = [
    "SETTINGS",
    "Config",
    "ConfigError",
    "ServerError",
    "Service",
    "Setting",
    "banner",
    "check",
    "configuration_page",
    "create_app",
    "load_config",
    "open_service",
    "serve",
    "shown",
]

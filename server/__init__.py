"""The server: HTTP doors, wire formats, and the story of predict and explain between them.

A request comes through a route, is unframed by a wire format, answered by :class:`Service` (which enters model_store,
engine, explain and audit once each) and framed again. ``create_app`` makes the Flask application, ``serve`` runs it.

Reading the settings must not cost the import of Flask, the runtime and the database: what serves is imported when it
is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import SETTINGS, Config, configuration_page, load_config, shown
from .errors import ConfigError, ServerError
from .setting import Setting

if TYPE_CHECKING:
    from .app import create_app
    from .front import Front
    from .metrics import metrics_page
    from .service import Service
    from .serving import check, listener, open_service, serve
    from .tuning import tune
    from .welcome import banner

_SERVING = {
    "Front": ".front",
    "Service": ".service",
    "banner": ".welcome",
    "check": ".serving",
    "create_app": ".app",
    "listener": ".serving",
    "metrics_page": ".metrics",
    "open_service": ".serving",
    "serve": ".serving",
    "tune": ".tuning",
}

__all__ = [
    "SETTINGS",
    "Config",
    "ConfigError",
    "Front",
    "ServerError",
    "Service",
    "Setting",
    "banner",
    "check",
    "configuration_page",
    "create_app",
    "listener",
    "load_config",
    "metrics_page",
    "open_service",
    "serve",
    "shown",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _SERVING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_SERVING[name], __name__), name)

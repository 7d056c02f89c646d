"""What the server says when it is ready: where the console is, and three commands that work when pasted."""

from __future__ import annotations

import json
import shlex
from typing import Any

from model_store import ModelVersion, StoreError

from . import catalogue
from .config import Config
from .service import Service

JSON_HEADER = "Content-Type: application/json"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 # named here to be replaced by an address that can be opened


def banner(config: Config, service: Service) -> str:
    """The text: the console's address, then a prediction, an explanation and a picture by ``curl``."""
    base = address(config)
    lines = [f"Glasshouse is ready. Console: {base}/"]
    chosen = _example(config, service)
    if chosen is None:
        return "\n".join([*lines, "There is no model with an example yet; `glasshouse import` adds models."])
    version, instance = chosen
    data = json.dumps({"instances": [instance]}, separators=(",", ":"), ensure_ascii=True)
    model = f"{base}/v1/models/{version.name}"
    lines += [
        "",
        _curl(f"{model}:predict", data),
        "",
        _curl(f"{model}:explain", data),
        "",
        _curl(f"{model}:explain", data, "-H", "Accept: image/png", "-o", f"{version.name}.png"),
    ]
    return "\n".join(lines)


def address(config: Config) -> str:
    """The address a browser on this machine opens."""
    host = ANY_ADDRESS.get(config.host, config.host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{host}:{config.port}"


def _curl(url: str, data: str, *more: str) -> str:
    return shlex.join(["curl", "-sS", *more, "-H", JSON_HEADER, "-d", data, url])


def _example(config: Config, service: Service) -> tuple[ModelVersion, Any] | None:
    """The model the settings name, else the first that has an example and a default method."""
    versions = service.models.offered()
    wanted = [version for version in versions if version.name == config.example]
    explained = [version for version in versions if version.manifest.explanation.method]
    for version in [*wanted, *explained, *versions]:
        try:
            instance = catalogue.example(version)
        except StoreError:
            continue
        if instance is not None:
            return version, instance
    return None

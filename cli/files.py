"""Files and values named on the command line: read whole, written whole, refused by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import BadInput
from .settings import open_store

IMAGE_TYPES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
STANDARD_INPUT = "-"


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises `BadInput`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file. Raises `BadInput`."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror or error}") from error


def onnx_bytes(path: Path) -> bytes:
    """The bytes of an ONNX file; whether they are a model is for the rooms to say."""
    content = read_file(path)
    if not content:
        raise BadInput(f"{path}: got an empty file, expected an ONNX model")
    return content


def model_bytes(model: str, store: Path | None, config_file: Path | None) -> bytes:
    """The ONNX bytes of a file, or of NAME or NAME/VERSION in the store."""
    path = Path(model)
    if path.suffix == ".onnx" or path.is_file():
        return onnx_bytes(path)
    name, _, version = model.partition("/")
    return open_store(config_file, store).resolve(name, version or None).file("model")


def image(path: Path) -> tuple[bytes, str]:
    """A picture and its media type. Raises `BadInput` for what is neither PNG nor JPEG."""
    content = read_file(path)
    for signature, media_type in IMAGE_TYPES.items():
        if content.startswith(signature):
            return content, media_type
    raise BadInput(f"{path}: got a file that is neither PNG nor JPEG, expected one of them")


def row(text: str) -> Any:
    """A row given as JSON, as `@FILE` or as `-` for standard input. Raises `BadInput`."""
    if text == STANDARD_INPUT:
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = read_file(Path(text[1:])).decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise BadInput(f"--row is no JSON ({error}); expected a list of values or an object of features") from error


def value_of(text: str) -> Any:
    """A value given on the command line: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def options_of(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """`NAME=VALUE` pairs. Raises `BadInput`."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise BadInput(f"{flag}: got {pair!r}, expected NAME=VALUE")
        options[name] = value_of(text)
    return options

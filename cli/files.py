"""Files and values named on the command line: read whole, written whole, refused by name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BadInput
from .settings import open_store

if TYPE_CHECKING:
    import explain

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


def model_handle(model: str, store: Path | None, config_file: Path | None) -> explain.Model:
    """The model of an ONNX file, or of NAME or NAME/VERSION in the store."""
    import explain

    path = Path(model)
    if path.suffix == ".onnx" or path.is_file():
        onnx_bytes(path)
        return explain.Model(path)
    name, _, number = model.partition("/")
    version = open_store(config_file, store).resolve(name, number or None)
    return explain.Model(version.file(version.model_role), data_files=version.data_files())


def copy_beside(data_files: Mapping[str, Path], out: Path) -> list[str]:
    """Copy data files to where `out` lies, under the names by which it refers to them, unless they lie there; the names
    of those copied. Raises `BadInput`, also where another file has the name."""
    copied = []
    for name, source in data_files.items():
        place = out.parent / name
        try:
            if place.exists() and not place.samefile(source):
                raise BadInput(f"{place}: is there, and {out.name} needs the model's data file of that name beside it")
            if not place.exists():
                shutil.copyfile(source, place)
                copied.append(name)
        except OSError as error:
            raise BadInput(f"{place} cannot be written: {error.strerror or error}") from error
    return copied


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

"""The options that `predict` and `explain` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from .settings import store_option

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("model"),
    click.option("--version", help="A version number or an alias; without it, the one that is served."),
    click.option("--row", "rows", multiple=True, help="A row as JSON, @FILE, or - for standard input; repeatable."),
    click.option("--image", "picture", type=click.Path(path_type=Path), help="A PNG or JPEG file."),
    click.option("--url", help="A running server; without it, the model is run in this process."),
    click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for the server."),
    click.option("--json", "raw", is_flag=True, help="The whole answer as JSON."),
)


def asking_options(function: CommandT) -> CommandT:
    """Model, version, rows or picture, and where to ask."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return store_option(function)


def check_one_kind(rows: Sequence[str], picture: Path | None) -> None:
    """Raises a usage error unless rows or a picture were given, and not both."""
    if bool(rows) == (picture is not None):
        raise click.UsageError("give --row (once or more) or --image")

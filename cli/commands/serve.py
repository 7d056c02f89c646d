"""`glasshouse serve`: the server, with a flag for every setting of its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import server

from ..settings import config_option, configuration


def _flags(function: Any) -> Any:
    """A flag for each row of the table. Values stay text: the table itself says what is wrong with them."""
    for setting in reversed(server.SETTINGS):
        shown = server.shown(setting.default) or "empty"
        option = click.option(
            setting.flag,
            setting.name,
            metavar=setting.kind.upper(),
            default=None,
            help=f"{setting.help} Default: {shown}.",
        )
        function = option(function)
    return function


@click.command("serve")
@config_option
@_flags
def command(config_file: Path | None, **flags: str | None) -> None:
    """Serve the models of the store over HTTP until it is stopped."""
    server.serve(configuration(config_file, **flags))

"""`glasshouse config`: the one table of settings, each with its value and where it came from."""

from __future__ import annotations

from pathlib import Path

import click

from ..screen import as_json, table
from ..settings import config_option, configuration


@click.command("config")
@click.option("--json", "raw", is_flag=True, help="As JSON.")
@config_option
def command(raw: bool, config_file: Path | None) -> None:
    """Show every setting, its value and where it came from (default < file < environment < flag)."""
    import server

    config = configuration(config_file)
    rows = [
        (setting.name, server.shown(getattr(config, setting.name)), config.origins[setting.name], setting.help)
        for setting in server.SETTINGS
    ]
    if raw:
        as_json({name: {"value": value, "origin": origin} for name, value, origin, _ in rows})
    else:
        table(["setting", "value", "from", "meaning"], rows)

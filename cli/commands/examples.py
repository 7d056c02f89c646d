"""`glasshouse examples`: the example models, trained once; instant where they are there."""

from __future__ import annotations

from pathlib import Path

import click

from ..screen import line
from ..settings import open_store, store_option


@click.command("examples")
@click.argument("recipes", nargs=-1)
@click.option("--data", type=click.Path(path_type=Path), envvar="GLASSHOUSE_DATA", help="Folder of data files.")
@click.option("--epochs", type=int, help="At most this many; each recipe's own number if not given.")
@store_option
def command(
    recipes: tuple[str, ...], data: Path | None, epochs: int | None, store: Path | None, config_file: Path | None
) -> None:
    """Train, export, certify and register the example models (or the RECIPES named) that the store does not have."""
    import training

    opened = open_store(config_file, store, create=True)
    training.prepare_examples(opened, recipes or None, data=data, epochs=epochs, tell=line)

"""The settings a command runs with: the server's one table, read the way the server reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    import model_store
    import server

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def config_option(function: CommandT) -> CommandT:
    """`--config FILE`."""
    option = click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        help="TOML file of settings; GLASSHOUSE_CONFIG if not given.",
    )
    return option(function)


def store_option(function: CommandT) -> CommandT:
    """`--store DIR`, with `--config FILE`."""
    option = click.option(
        "--store", type=click.Path(path_type=Path), help="Folder of the model store; the setting `store` if not given."
    )
    return config_option(option(function))


def configuration(config_file: Path | None, **flags: Any) -> server.Config:
    """The settings from file, environment and the flags that were given. Raises `server.ConfigError`."""
    import server

    return server.load_config(config_file, flags={name: value for name, value in flags.items() if value is not None})


def open_store(config_file: Path | None, store: Path | None, *, create: bool = False) -> model_store.Store:
    """The model store of the settings. Raises `model_store.StoreUnavailable` if there is none and none may be made."""
    import model_store

    return model_store.Store(configuration(config_file, store=store).store, create=create)

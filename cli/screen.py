"""What the commands print: tables and lines, for people; text from models and users never styles the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .entry import printable

PIPED_WIDTH = 120


def console() -> Console:
    """Standard output as it is at this moment; wide enough for a digest where it is no terminal."""
    out = Console(highlight=False, markup=False)
    return out if out.is_terminal else Console(highlight=False, markup=False, width=PIPED_WIDTH)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Print a table; a column whose name starts with `>` stands right."""
    made = Table(
        title=None if title is None else Text(printable(title)), title_justify="left", box=None, pad_edge=False
    )
    for column in columns:
        right = column.startswith(">")
        made.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold", header_style="bold")
    for row in rows:
        made.add_row(*(Text(printable(str(cell))) for cell in row))
    console().print(made)


def line(text: str) -> None:
    """Print one line, as long as it is."""
    click.echo(printable(text))


def as_json(value: Any) -> None:
    """Print JSON for another program to read."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def figure(value: float | None) -> str:
    """A number as people read it."""
    return "–" if value is None else f"{value:.6g}"

"""`glasshouse tune`: how a stored model runs best on this machine, measured, shown and kept beside its version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..screen import as_json, line, table
from ..settings import configuration, open_store, store_option

if TYPE_CHECKING:
    from model_store import Point, Tuning


@click.command("tune")
@click.argument("model")
@click.option("--version", "number", help="A version number or an alias; the default if not given.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    help="About how long to measure.",
)
@click.option(
    "--prefer",
    type=click.Choice(["latency", "throughput"]),
    default="latency",
    show_default=True,
    help="What counts more: the wait of a single request, or how many are answered when many come at once.",
)
@click.option("--max-batch", type=click.IntRange(1, 4096), default=64, show_default=True, help="Largest batch to try.")
@click.option(
    "--deadline-seconds",
    type=click.FloatRange(0, min_open=True),
    help="Also give the model a deadline of its own, which counts where it is sooner than the server's.",
)
@click.option("--forget", is_flag=True, help="Measure nothing: forget what was kept.")
@click.option("--json", "raw", is_flag=True, help="The tuning itself, as JSON.")
@click.option("--no-store", is_flag=True, help="Do not keep it with the version.")
@store_option
def command(
    model: str,
    number: str | None,
    seconds: float,
    prefer: Literal["latency", "throughput"],
    max_batch: int,
    deadline_seconds: float | None,
    forget: bool,
    raw: bool,
    no_store: bool,
    store: Path | None,
    config_file: Path | None,
) -> None:
    """Measure MODEL on its own examples, choose how many items, threads and runs at a time serve it best here, and keep
    the choice beside its version; a server that runs takes it on at once."""
    import server

    opened = open_store(config_file, store)
    version = opened.resolve(model, number)
    if configuration(config_file).precision == "float16":
        version = version.preferring("float16")
    which = f"{version.name} version {version.version}"
    if forget:
        opened.set_tuning(version.name, version.version, None)
        line(f"{which} is run as the server's settings say.")
        return
    tell = None if raw else _told
    limits: dict[str, Any] = {"max_batch": max_batch, "deadline_seconds": deadline_seconds}
    found = server.tune(version, seconds=seconds, prefer=prefer, **limits, tell=tell)
    as_json(_plain(found)) if raw else _show(found)
    if not no_store:
        opened.set_tuning(version.name, version.version, found)
        if not raw:
            line(f"Kept with {which}.")


def _told(point: Point) -> None:
    click.echo(f"… {point.threads} threads, {point.instances} at a time, batch {point.batch}", err=True)


def _plain(found: Tuning) -> Any:
    import json

    return json.loads(found.to_bytes())


def _show(found: Tuning) -> None:
    """The table, and the choice in one line."""
    measured = found.measured
    if measured is not None:
        rows = [
            (point.threads, point.instances, point.batch, f"{point.milliseconds:.3g}", f"{point.items_per_second:,.0f}")
            for point in measured.table
        ]
        table([">threads", ">at a time", ">batch", ">ms a run", ">items/s"], rows)
        line(f"{measured.machine}, {measured.cores} cores, {measured.runtime}, {measured.at}")
    line(f"Chosen: {found.told}.")

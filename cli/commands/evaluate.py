"""`glasshouse evaluate`: what a method's explanations of a stored model are worth, over rows of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import BadInput
from ..files import options_of, row
from ..screen import as_json, figure, line, table
from ..settings import open_store, store_option


@click.command("evaluate")
@click.argument("model")
@click.option("--rows", "data", required=True, metavar="JSON", help="A JSON list of rows: text, @FILE, or - for stdin.")
@click.option("--method", required=True, help="An explanation method.")
@click.option("--check", "checks", multiple=True, metavar="NAME", help="A check; repeatable; three of them by default.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Of the method; repeatable.")
@click.option(
    "--draws", default=3, show_default=True, type=click.IntRange(0), help="Random copies of the model; 0: none."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of all that is drawn.")
@click.option("--json", "raw", is_flag=True, help="As JSON.")
@store_option
def command(
    model: str,
    data: str,
    method: str,
    checks: tuple[str, ...],
    parameters: tuple[str, ...],
    draws: int,
    seed: int,
    raw: bool,
    store: Path | None,
    config_file: Path | None,
) -> None:
    """Explain every row with MODEL (NAME or NAME/VERSION) and say how far that can be trusted: medians, quartiles and
    the worst row of every figure, and how alike explanations stay when the model's weights are random."""
    import exporters

    rows = row(data)
    if not isinstance(rows, list) or not rows:
        raise BadInput("--rows: expected a JSON list of rows, at least one")
    name, _, version = model.partition("/")
    found = open_store(config_file, store).resolve(name, version or None)
    asked: dict[str, Any] = {"checks": list(checks)} if checks else {}
    engine = exporters.open_engine()
    try:
        given = options_of(parameters, "--parameter")
        report = exporters.evaluate(found, rows, engine, method=method, draws=draws, seed=seed, **asked, **given)
    finally:
        engine.close()
    as_json(report) if raw else _show(report)


def _show(report: dict[str, Any]) -> None:
    line(f"{report['model']} version {report['version']}, {report['method']}, {report['rows']} rows")
    columns = ["figure", ">median", ">quartile", ">quartile", ">worst", ">row", ">without"]
    table(columns, [_figures(name, entry) for name, entry in report["figures"].items()])
    test = report["randomisation"]
    if test is not None and "not_judged" in test:
        line(f"with random weights: not judged: {test['not_judged']}")
    elif test is not None:
        kind = test["kind"]
        line(f"with random weights (rank correlation, {kind}, {len(test['seeds'])} draws)")
        table(["layer", *columns[1:]], [_figures(entry["layer"], entry[kind]) for entry in test["layers"]])


def _figures(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    sides = (figure(entry[key]) for key in ("median", "lower_quartile", "upper_quartile", "worst"))
    row = "–" if entry["worst_row"] is None else str(entry["worst_row"])
    return (name, *sides, row, str(entry["undefined"]))

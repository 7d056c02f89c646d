"""`glasshouse verify`: the certificate of a model, measured anew, shown on one screen and kept with the version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import FAILED, BadInput
from ..files import read_file, write_file
from ..screen import as_json, line, table
from ..settings import open_store, store_option

if TYPE_CHECKING:
    from model_store import ModelVersion, Store


@click.command("verify")
@click.argument("model")
@click.option("--version", "number", help="A version number or an alias of a stored model; the default if not given.")
@click.option(
    "--rows",
    "rows_file",
    type=click.Path(path_type=Path),
    help="JSON list of instances, or npz with an array for each input; else the model's examples and background.",
)
@click.option("--limit", type=click.IntRange(1), help="At most so many rows.")
@click.option("--methods", help="Names of methods, with commas between; all that the model offers if not given.")
@click.option("--quick", is_flag=True, help="Few rows, no randomisation and no error bars, as at export.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="About what one check of one method may take, before it takes fewer rows; 30 if not given.",
)
@click.option("--json", "raw", is_flag=True, help="The certificate itself, as JSON.")
@click.option("--output", type=click.Path(path_type=Path), help="Also write the certificate to this file.")
@click.option("--no-store", is_flag=True, help="Do not keep the certificate with the version.")
@store_option
def command(
    model: str,
    number: str | None,
    rows_file: Path | None,
    limit: int | None,
    methods: str | None,
    quick: bool,
    seconds: float | None,
    raw: bool,
    output: Path | None,
    no_store: bool,
    store: Path | None,
    config_file: Path | None,
) -> int:
    """Measure MODEL, a name in the store or an ONNX file, and every explanation method it offers against independent
    judges, and keep what was found as the version's certificate. Exit code 1 if something judged failed."""
    import exporters

    data = None if rows_file is None else read_file(rows_file)
    if quick and seconds is not None:
        raise BadInput("--seconds: a quick certificate is limited by rows; give one of --quick and --seconds")
    engine = exporters.open_engine()
    try:
        kept, subject, rows = _subject(model, number, data, engine, (store, config_file))
        found = exporters.verify(
            subject,
            engine,
            rows=rows,
            limit=limit,
            methods=None if methods is None else [name.strip() for name in methods.split(",") if name.strip()],
            quick=quick,
            seconds=seconds,
            tell=lambda name: None if raw else click.echo(f"… {name}", err=True),
        )
    finally:
        engine.close()
    content = exporters.certificate_bytes(found)
    as_json(found) if raw else _show(found)
    if output is not None:
        write_file(output, content)
    if kept is not None and not no_store:
        _keep(*kept, content, raw)
    return 0 if found["passed"] else FAILED


def _subject(
    model: str, number: str | None, data: bytes | None, engine: Any, places: tuple[Path | None, Path | None]
) -> tuple[tuple[Store, ModelVersion] | None, Any, Any]:
    """Where the certificate may be kept, what it is of, and the rows that came."""
    import exporters

    if Path(model).suffix == ".onnx" or Path(model).is_file():
        if data is None or number is not None:
            raise BadInput("a file is verified on rows that come with it: give --rows, and no --version")
        return None, *exporters.file_with_rows(Path(model), data, engine)
    store, config_file = places
    opened = open_store(config_file, store)
    version = opened.resolve(model, number)
    rows = data and exporters.rows_of(version.manifest, data, "--rows")
    return (opened, version), exporters.exported_of(version), rows


def _keep(store: Store, version: ModelVersion, content: bytes, raw: bool) -> None:
    kept = store.set_certificate(version.name, version.version, content)
    if not raw:
        line(f"Kept as the certificate {kept.certificate_digest} of {version.name} version {version.version}.")


def _show(found: Mapping[str, Any]) -> None:
    """One screen: the model, a line for each method, and what failed."""
    line(f"model {found['model']}, {found['rows']['n']} rows, {found['seconds']:.0f} s")
    variant = [("float16 variant against the model", found["float16"])] if "float16" in found else []
    for name, figure in (("parity with the source", found["parity"]), *variant, *_gradients(found["gradients"])):
        line(f"{name}: {_worst(figure)}")
    columns = ["method", "judge", ">worst", ">gap: median", ">worst", ">randomised", ">error bars", "verdict"]
    table(columns, [_row(name, report) for name, report in found["methods"].items()])
    for failure in found["failures"]:
        line(f"failed: {failure}")
    line("passed" if found["passed"] else f"{len(found['failures'])} checks failed")


def _gradients(gradients: Any) -> list[tuple[str, Any]]:
    if not isinstance(gradients, Mapping):
        return [("gradients", gradients)]
    return [
        ("gradients against autograd", gradients["autograd"]),
        ("gradients against finite differences", gradients["finite_difference"]),
    ]


def _row(name: str, report: Mapping[str, Any]) -> tuple[str, ...]:
    judged_by = report["judged_by"]["name"] if report["judged_by"] else "–"
    gap = report["completeness"]
    verdict = {True: "passed", False: "FAILED", None: "not judged"}[report["passed"]]
    return (
        name,
        judged_by,
        _number(report["judge"], "worst"),
        _number(gap, "median"),
        _number(gap, "worst"),
        _number(report["randomisation"], "median_spearman"),
        _number(report["error_bars"], "share"),
        verdict,
    )


def _number(figure: Any, key: str) -> str:
    return f"{figure[key]:.2g}" if isinstance(figure, Mapping) and key in figure else "–"


def _worst(figure: Any) -> str:
    if not isinstance(figure, Mapping):
        return str(figure)
    verdict = "passed" if figure["passed"] else "FAILED"
    return f"{verdict}: worst {figure['worst']:.2g} on row {figure['row']} of {figure['n']}"

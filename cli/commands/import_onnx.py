"""`glasshouse import`: any ONNX file becomes a version in the store, and what was found out about it is said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import BadInput
from ..files import onnx_bytes, read_file
from ..screen import line
from ..settings import open_store, store_option

if TYPE_CHECKING:
    import exporters


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The model's name in the store.")
@click.option("--manifest", type=click.Path(path_type=Path), help="JSON file that describes the model.")
@click.option(
    "--background", type=click.Path(path_type=Path), help="CSV file with a header: rows that stand for the data."
)
@click.option("--float16", is_flag=True, help="Also make a variant in float16, if it answers as the model does.")
@click.option(
    "--rows",
    "rows_file",
    type=click.Path(path_type=Path),
    help="Rows for that question: JSON list of instances, or npz with an array for each input; else the background.",
)
@click.option(
    "--require-certificate",
    is_flag=True,
    help="Measure the model on its background first; register it with its certificate, if that has passed.",
)
@store_option
def command(
    file: Path,
    name: str,
    manifest: Path | None,
    background: Path | None,
    float16: bool,
    rows_file: Path | None,
    require_certificate: bool,
    store: Path | None,
    config_file: Path | None,
) -> None:
    """Put an ONNX FILE from anywhere into the store as a new version of NAME.

    Its batch axis is found by running it. Without --manifest a description is inferred; what could not be inferred, and
    which explanation methods are therefore offered, is printed.
    """
    import engine
    import exporters

    onnx_bytes(file)
    rows = None if rows_file is None else read_file(rows_file)
    if rows is not None and not float16:
        raise BadInput("--rows: are those that a float16 variant is tried on; give --float16, or --background")
    opened = open_store(config_file, store, create=True)
    runner = engine.InProcessEngine()
    try:
        exported, sentences = exporters.read_onnx(
            file, name=name, engine=runner, manifest=manifest, background=background
        )
        if float16:
            given = None if rows is None else exporters.rows_of(exported.manifest, rows, "--rows")
            exported = exporters.with_float16(exported, runner, rows=given)
            sentences = [*sentences, told(exported)]
        if require_certificate:
            exported = exported.but(certificate=exporters.verify(exported, runner, quick=True))
        version = exporters.register(opened, exported, require_certificate=require_certificate)
    finally:
        runner.close()
    line(f"{version.name} version {version.version} (model {version.model_digest}) is in {opened.root}")
    for sentence in sentences:
        line(f"- {sentence}")


def told(exported: exporters.Exported) -> str:
    """What there is to say of a float16 variant, a sentence."""
    found = exported.manifest.lineage["float16"]
    return (
        f"A float16 variant: {found['nodes_in_float16']} of {found['nodes']} nodes compute in float16; it differs from "
        f"the model by at most {found['worst']:.2g} of the largest output, on row {found['row']} of {found['n']} "
        f"(tolerance {found['tolerance']:g})."
    )

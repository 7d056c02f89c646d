"""`glasshouse import`: any ONNX file becomes a version in the store, and what was found out about it is said."""

from __future__ import annotations

from pathlib import Path

import click

from ..files import onnx_bytes
from ..screen import line
from ..settings import open_store, store_option


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The model's name in the store.")
@click.option("--manifest", type=click.Path(path_type=Path), help="JSON file that describes the model.")
@click.option(
    "--background", type=click.Path(path_type=Path), help="CSV file with a header: rows that stand for the data."
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
    opened = open_store(config_file, store, create=True)
    runner = engine.InProcessEngine()
    try:
        exported, sentences = exporters.read_onnx(
            file, name=name, engine=runner, manifest=manifest, background=background
        )
        if require_certificate:
            exported = exported.but(certificate=exporters.verify(exported, runner, quick=True))
        version = exporters.register(opened, exported, require_certificate=require_certificate)
    finally:
        runner.close()
    line(f"{version.name} version {version.version} (model {version.model_digest}) is in {opened.root}")
    for sentence in sentences:
        line(f"- {sentence}")

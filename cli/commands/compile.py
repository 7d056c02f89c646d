"""`glasshouse compile`: an explanation program as an ONNX file that any runtime can run."""

from __future__ import annotations

from pathlib import Path

import click

from ..files import copy_beside, model_handle, options_of, write_file
from ..screen import line, table
from ..settings import store_option


@click.command("compile")
@click.argument("model")
@click.option("--program", required=True, help="vjp, path_gradient, activation_map, masked_forward or forward.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the program; repeatable.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The file to write.")
@store_option
def command(
    model: str, program: str, options: tuple[str, ...], out: Path, store: Path | None, config_file: Path | None
) -> None:
    """Compile a program of MODEL, which is an ONNX file or the name of a model in the store.

    A model with external data has programs that refer to the same data file, which has to lie beside them.
    """
    import explain

    compiled = explain.compile(model_handle(model, store, config_file), program, **options_of(options, "--option"))
    copied = copy_beside(compiled.external.paths, out)
    write_file(out, compiled.model.SerializeToString(deterministic=True))
    line(f"{compiled.name} {compiled.digest} written to {out}")
    for name in copied:
        line(f"its data file {name} was copied beside it")
    rows = [("input", name, kind) for name, kind in compiled.inputs.items()]
    rows += [("output", name, kind) for name, kind in compiled.outputs.items()]
    table(["", "tensor", "kind"], rows)

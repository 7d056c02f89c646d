"""`glasshouse train`: a recipe becomes a certified version in the store."""

from __future__ import annotations

from pathlib import Path

import click

import training

from ..screen import figure, line, table
from ..settings import open_store, store_option


@click.command("train")
@click.argument("recipe", type=click.Choice(list(training.RECIPES)))
@click.option("--data", type=click.Path(path_type=Path), envvar="GLASSHOUSE_DATA", help="Folder of data files.")
@click.option("--epochs", type=int, help="At most this many; the recipe's own number if not given.")
@click.option("--seed", type=int, default=0, show_default=True, help="Fixes split, first weights and order.")
@click.option("--out", type=click.Path(path_type=Path), help="Also leave weights, model, manifest and report here.")
@click.option("--float16", is_flag=True, help="Also make a variant in float16, kept if it answers as the model does.")
@click.option("--require-certificate", is_flag=True, help="Register nothing whose certificate has not passed.")
@store_option
def command(
    recipe: str,
    data: Path | None,
    epochs: int | None,
    seed: int,
    out: Path | None,
    float16: bool,
    require_certificate: bool,
    store: Path | None,
    config_file: Path | None,
) -> None:
    """Train RECIPE, export it to ONNX, certify the export and put it into the store."""
    import engine
    import exporters

    opened = open_store(config_file, store, create=True)
    trained = training.train(recipe, data=data, epochs=epochs, seed=seed, out=out)
    runner = engine.InProcessEngine()
    try:
        exported = training.export(trained, runner, float16=float16)
    finally:
        runner.close()
    if out is not None:
        exporters.write(exported, out)
    version = exporters.register(opened, exported, require_certificate=require_certificate)
    line(f"{version.name} version {version.version} (model {version.model_digest}) is in {opened.root}")
    table(["metric", ">value"], [(name, figure(value)) for name, value in trained.metrics.items()])

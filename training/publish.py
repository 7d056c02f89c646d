"""From a trained model to a version in the store: export, describe, check from client bytes, certify, register."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import exporters
from model_store import NotFound

from .data import data_folder
from .recipes import RECIPES, recipe_named
from .trained import TrainedModel, train

if TYPE_CHECKING:
    from model_store import ModelVersion, Store

PARITY_ROWS = 64


def export(trained: TrainedModel, engine: exporters.Engine, *, float16: bool = False) -> exporters.Exported:
    """The certified export of a trained model, with a float16 variant if that is asked for.

    Raises exporters' ExportError, ParityFailed and VariantRefused above all.
    """
    recipe = trained.recipe
    output = "probabilities" if recipe.task == "classification" else "value"
    sample = [trained.background[name][:4] for name in recipe.input_names]
    model = exporters.export_torch(trained.module, sample, recipe.input_names, [output])
    exported = exporters.describe(
        model,
        name=recipe.name,
        description=recipe.description,
        inputs=recipe.inputs,
        outputs=[
            exporters.output_spec(
                model,
                output,
                "probabilities" if recipe.task == "classification" else "value",
                class_names=list(recipe.class_names),
                unit=recipe.unit,
                label=recipe.output_label,
            )
        ],
        features=recipe.features,
        training=trained.training_inputs,
        background=trained.background,
        examples=trained.examples,
        method=recipe.method,
        baseline=recipe.baseline,
        groups=recipe.groups,
        metrics=trained.metrics,
        lineage=trained.lineage,
    )
    if float16:
        exported = exporters.with_float16(exported, engine)
    return exporters.certify(exported, evidence(trained, output), engine, network=trained.network)


def evidence(trained: TrainedModel, output: str, rows: int = PARITY_ROWS) -> exporters.Evidence:
    """The first test rows, as clients send them and as the network answers them."""
    chosen = trained.test_rows[:rows]
    inputs = {name: array[chosen] for name, array in trained.dataset.inputs.items()}
    return exporters.Evidence(
        rows=chosen.tolist(),
        instances=[trained.dataset.instance(row) for row in chosen.tolist()],
        expected={output: trained.source(inputs)},
    )


def prepare_examples(
    store: Store,
    names: Iterable[str] | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    engine: exporters.Engine | None = None,
    epochs: int | None = None,
    seed: int = 0,
    progress: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> list[ModelVersion]:
    """The example models that the store does not have yet: trained, exported, certified and registered.

    names  recipes; None for those inside scikit-learn and, with a data folder, the others too
    tell   gets one sentence per model

    A model the store already has costs one look and imports nothing. Raises what ``train``, ``export`` and the
    store raise.
    """
    wanted = list(names) if names is not None else default_examples(data)
    missing = [recipe_named(name) for name in wanted if not _known(store, name)]
    if not missing:
        return []
    runner = engine or exporters.open_engine()
    made = []
    try:
        for recipe in missing:
            trained = train(
                recipe, data=data if recipe.needs_data else None, epochs=epochs, seed=seed, progress=progress
            )
            made.append(exporters.register(store, export(trained, runner)))
            tell(sentence(trained, made[-1]))
    finally:
        if engine is None:
            runner.close()
    return made


def default_examples(data: str | os.PathLike[str] | None = None) -> list[str]:
    """Recipes whose data is at hand: inside scikit-learn, or with a data folder named."""
    folder = data_folder(data)
    return [name for name, recipe in RECIPES.items() if folder is not None or not recipe.needs_data]


def sentence(trained: TrainedModel, version: ModelVersion) -> str:
    """One line for a person: what was registered, and how good it is on rows it has not seen."""
    metric = "accuracy" if trained.recipe.task == "classification" else "r2"
    figure = trained.metrics[f"test_{metric}"]
    return f"{version.name} version {version.version}: test {metric} {figure:.3f} on {len(trained.test_rows)} rows"


def _known(store: Store, name: str) -> bool:
    try:
        store.resolve(name)
    except NotFound:
        return False
    return True

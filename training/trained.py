"""``train``: a recipe becomes a trained network, with all that an export of it needs to be checked and explained.

recipe -> data set -> split by seed -> the loop -> metrics on the test rows -> TrainedModel. The export itself, and
what the store keeps, are the next step (``publish.py``).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Array, Dataset
from .errors import InvalidSetting, TrainingError
from .measure import classification, regression, softmax
from .recipe import Recipe, Schedule
from .recipes import recipe_named
from .split import Split, split

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .loop import Fitted, Loss

BACKGROUND_ROWS = 100
BACKGROUND_PICTURES = 32
EXAMPLES = 6
_LIBRARIES = ("torch", "lightning", "numpy", "scikit-learn")


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and what is known about it.

    module      what is exported (eval mode): gives probabilities [N, classes] or values [N, 1]
    network     the same weights, giving logits or values
    background  by input name: training rows, drawn by seed, that stand for the data
    examples    test rows as ``{"instance": ..., "label": ...}``
    train_rows  row numbers of the data set that the weights were fitted to
    test_rows   row numbers of the data set that nothing was fitted to or chosen by
    """

    recipe: Recipe
    module: nn.Module
    network: nn.Module
    dataset: Dataset
    train_rows: Array
    test_rows: Array
    background: dict[str, Array]
    examples: list[dict[str, Any]]
    metrics: dict[str, float]
    lineage: dict[str, Any]

    @property
    def training_inputs(self) -> dict[str, Array]:
        """By input name: the rows the weights were fitted to."""
        return {name: array[self.train_rows] for name, array in self.dataset.inputs.items()}

    @property
    def test_inputs(self) -> dict[str, Array]:
        """By input name: the test rows as the network takes them."""
        return {name: array[self.test_rows] for name, array in self.dataset.inputs.items()}

    @property
    def test_labels(self) -> Array:
        """Class numbers or values of the test rows."""
        return self.dataset.labels[self.test_rows]

    def source(self, inputs: Mapping[str, Array]) -> Array:
        """What the exported model should answer, computed from the network without the export: float64 [N, ...]."""
        answer = predict(self.network, [inputs[name] for name in self.recipe.input_names])
        return softmax(answer) if self.recipe.task == "classification" else answer.astype(np.float64)


def train(
    recipe: str | Recipe,
    *,
    data: str | os.PathLike[str] | None = None,
    epochs: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> TrainedModel:
    """Trains a recipe and measures it on its test rows.

    data    the folder that holds the recipe's file, for those not inside scikit-learn
    epochs  at most this many; None for the recipe's own number
    seed    fixes the split, the first weights, the order of rows, the background and the examples
    out     a folder to leave the weights (``network.pt``) and the report (``training.json``) in

    Raises UnknownRecipe, MissingData, BadData, InvalidSetting.
    """
    chosen = recipe_named(recipe) if isinstance(recipe, str) else recipe
    schedule = _schedule(chosen, epochs, seed)
    dataset = chosen.load(Path(data) if data is not None else None)
    parts = split(dataset, task=chosen.task, seed=seed)
    network, fitted = _fitted(chosen, dataset, parts, schedule, seed, progress)
    trained = _assembled(chosen, dataset, parts, schedule, seed, network, fitted)
    if out is not None:
        _write(trained, Path(out))
    return trained


def _schedule(recipe: Recipe, epochs: int | None, seed: int) -> Schedule:
    if epochs is not None and epochs < 1:
        raise InvalidSetting(f"epochs is {epochs}, expected 1 or more")
    if not 0 <= seed < 2**32:
        raise InvalidSetting(f"seed is {seed}, expected 0 to {2**32 - 1}")
    return recipe.schedule if epochs is None else dataclasses.replace(recipe.schedule, epochs=epochs)


def _fitted(
    recipe: Recipe, dataset: Dataset, parts: Split, schedule: Schedule, seed: int, progress: bool
) -> tuple[nn.Module, Fitted]:
    """The network, built from and fitted to the training rows only."""
    from .loop import Part, fit, seeded

    def part(rows: Array) -> Part:
        return Part([dataset.inputs[name][rows] for name in recipe.input_names], dataset.labels[rows])

    training = {name: array[parts.train] for name, array in dataset.inputs.items()}
    labels = dataset.labels[parts.train]
    with seeded(seed):
        network = recipe.network(training, labels)
    fitted = fit(
        network,
        part(parts.train),
        part(parts.validation),
        loss=_loss(recipe, labels),
        schedule=schedule,
        seed=seed,
        title=recipe.name,
        progress=progress,
    )
    return network, fitted


def _loss(recipe: Recipe, labels: Array) -> Loss:
    """Cross entropy of logits; or squared error as a share of the labels' variance, so that 1 is 'knows nothing'."""
    from torch.nn import functional

    if recipe.task == "classification":
        return functional.cross_entropy
    variance = float(labels.var()) or 1.0

    def squared(values: Tensor, targets: Tensor) -> Tensor:
        return functional.mse_loss(values[:, 0], targets) / variance

    return squared


def predict(network: nn.Module, inputs: list[Array], *, batch: int = 1024) -> Array:
    """The network's answer to whole arrays, float32 [N, ...], in batches and without gradients."""
    import torch

    rows = len(inputs[0])
    with torch.no_grad():
        pieces = [
            network(*(torch.from_numpy(array[start : start + batch]) for array in inputs)).numpy()
            for start in range(0, rows, batch)
        ]
    return np.concatenate(pieces)


def _assembled(
    recipe: Recipe, dataset: Dataset, parts: Split, schedule: Schedule, seed: int, network: nn.Module, fitted: Fitted
) -> TrainedModel:
    from .nets import Probabilities

    measure = classification if recipe.task == "classification" else regression
    metrics: dict[str, float] = {}
    for name, rows in (("validation", parts.validation), ("test", parts.test)):
        answer = predict(network, [dataset.inputs[key][rows] for key in recipe.input_names])
        metrics |= {f"{name}_{figure}": value for figure, value in measure(answer, dataset.labels[rows]).items()}
    random = np.random.default_rng([seed, 1])
    size = min(BACKGROUND_PICTURES if recipe.pictures else BACKGROUND_ROWS, len(parts.train))
    drawn = np.sort(random.choice(parts.train, size=size, replace=False))
    module = Probabilities(network) if recipe.task == "classification" else network
    return TrainedModel(
        recipe=recipe,
        module=module.eval(),
        network=network,
        dataset=dataset,
        train_rows=parts.train,
        test_rows=parts.test,
        background={name: array[drawn] for name, array in dataset.inputs.items()},
        examples=_examples(recipe, dataset, random.permutation(parts.test)),
        metrics=metrics,
        lineage=_lineage(recipe, dataset, parts, schedule, seed, fitted),
    )


def _examples(recipe: Recipe, dataset: Dataset, rows: Array) -> list[dict[str, Any]]:
    """Test rows a person can try: one of each class in turn, until there are enough and each class was shown."""
    classes = dataset.labels[rows] if recipe.task == "classification" else np.zeros(len(rows))
    turns = np.empty(len(rows), dtype=np.int64)
    for label in np.unique(classes):
        turns[classes == label] = np.arange((classes == label).sum())
    order = rows[np.lexsort((classes, turns))][: max(EXAMPLES, len(recipe.class_names))]
    return [
        {"instance": dataset.instance(row), "label": label_of(recipe, dataset.labels[row])} for row in order.tolist()
    ]


def label_of(recipe: Recipe, label: Any) -> str | float:
    """A label in words: the class name, or the value."""
    return recipe.class_names[int(label)] if recipe.class_names else float(label)


def _lineage(
    recipe: Recipe, dataset: Dataset, parts: Split, schedule: Schedule, seed: int, fitted: Fitted
) -> dict[str, Any]:
    """All that is needed to train the same model again."""
    return {
        "recipe": recipe.name,
        "data": {"name": dataset.name, "origin": dataset.origin, "sha256": dataset.sha256},
        "split": {
            "train": len(parts.train),
            "validation": len(parts.validation),
            "test": len(parts.test),
            "by": "publisher" if dataset.parts is not None else "seed",
        },
        "seed": seed,
        "schedule": dataclasses.asdict(schedule),
        "epochs_run": fitted.epochs_run,
        "best_epoch": fitted.best_epoch,
        "validation_loss": fitted.validation_loss,
        "versions": {name: version(name) for name in _LIBRARIES},
    }


def _write(trained: TrainedModel, folder: Path) -> None:
    """Weights that ``torch.load(weights_only=True)`` reads, and the report beside them."""
    import torch

    report = {"metrics": trained.metrics, "lineage": trained.lineage}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(trained.network.state_dict(), folder / "network.pt")
        (folder / "training.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"the trained network could not be written to {folder}: {error}") from error

"""What a recipe is: everything that is particular to one model, so that the loop needs to know nothing.

A recipe is data and two functions: one loads its data set, one builds its untrained network for that data.
Nothing here imports torch or scikit-learn; the functions do when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from model_store import Baseline, Feature, InputSpec

from .data import Array, Dataset

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Schedule:
    """How long and how hard a network is trained. Chosen on the validation split, never on the test split."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int


@dataclass(frozen=True)
class Recipe:
    """One model that can be trained from real data.

    network  training inputs by name and training labels -> a torch module that takes the inputs in the order
             of ``inputs`` and gives logits [N, classes], or values [N, 1] in the units of the labels
    needs_data  True when the data set is not inside scikit-learn
    """

    name: str
    description: str
    task: Literal["classification", "regression"]
    load: Callable[[Path | None], Dataset]
    network: Callable[[Mapping[str, Array], Array], nn.Module]
    schedule: Schedule
    inputs: tuple[InputSpec, ...]
    features: tuple[Feature, ...]
    method: str
    baseline: Baseline
    output_label: str
    class_names: tuple[str, ...] = ()
    unit: str | None = None
    groups: bool = False
    needs_data: bool = False

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs, in the order the network takes them."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def pictures(self) -> bool:
        """True when the model takes a picture."""
        return any(spec.kind == "image" for spec in self.inputs)

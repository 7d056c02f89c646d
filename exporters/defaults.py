"""How a model is explained unless somebody says otherwise, by the kind of model it is.

Trees and linear models have closed forms, columns through a network DeepSHAP, pictures a map of where the model looked,
tokens and series integrated gradients; what has no gradient is asked again and again with parts of it removed. A method
is a default only where it can answer without anything more being sent. Pictures are removed in pieces, and a piece
gives way to the picture's own mean or blur where there is no background set: never to zeros that nobody chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import explain
from model_store import Baseline, ExplanationDefaults, Feature, InputSpec, OutputSpec

from .exported import Array
from .offers import offers
from .running import DataFiles

Spec = str | dict[str, Any]
PREFERRED = {
    "image": ("grad_cam", "integrated_gradients", "partition_shap", "permutation_shap"),
    "tokens": ("integrated_gradients", "partition_shap", "permutation_shap"),
    "series": ("integrated_gradients", "permutation_shap"),
    "columns": ("tree_shap", "linear_shap", "deep_shap", "integrated_gradients", "permutation_shap"),
}
PIECES = 50
WHOLE = 12 * 12  # pixels up to which each is removed by itself
PATCHED = 64 * 64  # pixels up to which pieces are squares: colours say little of so small a picture
BLURRED = 64  # pixels of the shorter side from which on a blur leaves nothing of what was there but its light
SIGMA = 1 / 22  # of the longer side: 10 pixels of 224


def explanation(
    model: bytes,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    features: Sequence[Feature],
    background: Mapping[str, Array] | None,
    *,
    method: str | None,
    baseline: Baseline | None,
    groups: bool | Spec | None,
    removal: Spec | None,
    row_by_row: bool = False,
    data_files: DataFiles | None = None,
    held: Sequence[str] = (),
) -> ExplanationDefaults:
    """The methods on offer, why not the others, and what was told of defaults; what was left open, by kind of model."""
    removal = default_removal(inputs, background) if removal is None else removal
    offered, refused = offers(
        model,
        inputs=inputs,
        outputs=outputs,
        features=features,
        background=background,
        baseline=baseline,
        removal=removal,
        row_by_row=row_by_row,
        data_files=data_files,
        held=held,
    )
    return ExplanationDefaults(
        method=method if method in offered else preferred(inputs, features, offered, baseline),
        output=explained_output(outputs),
        baseline=baseline,
        groups=default_groups(inputs) if groups is None else groups,
        removal=removal,
        methods=offered,
        refused=refused,
        held=list(held),
    )


def explained_output(outputs: Sequence[OutputSpec]) -> str:
    """The output that is explained unless another is asked for: the first of numbers, since labels cannot be."""
    numbers = [spec.name for spec in outputs if spec.dtype.startswith("float")]
    return (numbers or [spec.name for spec in outputs])[0]


def preferred(
    inputs: Sequence[InputSpec], features: Sequence[Feature], offered: Sequence[str], baseline: Baseline | None
) -> str | None:
    """The first offered method of this kind of model that needs nothing more; None where nothing is offered."""

    def answers(name: str) -> bool:
        return name in offered and (baseline is not None or "baseline" not in explain.METHODS[name].needs)

    rest = [name for name in offered if answers(name)]
    return next((name for name in (*PREFERRED[kind_of(inputs, features)], *rest) if answers(name)), None)


def kind_of(inputs: Sequence[InputSpec], features: Sequence[Feature]) -> str:
    """Which of `PREFERRED`: "image", "tokens", "series" or "columns"."""
    if any(spec.image is not None or len(spec.item_shape) == 3 for spec in inputs):
        return "image"
    codes = not features and all(np.dtype(spec.dtype).kind in "iu" for spec in inputs)
    if codes or any(spec.kind == "text" for spec in inputs):
        return "tokens"
    return "series" if any(spec.kind == "series" or len(spec.item_shape) == 2 for spec in inputs) else "columns"


def default_groups(inputs: Sequence[InputSpec]) -> bool | Spec:
    """What is removed together from a picture, by its size; of anything else each element by itself."""
    image = inputs[0].image if len(inputs) == 1 else None
    if image is None or image.height * image.width <= WHOLE:
        return False
    kind = "patches" if image.height * image.width <= PATCHED else "superpixels"
    return {kind: {"count": PIECES}}


def default_removal(inputs: Sequence[InputSpec], background: Mapping[str, Array] | None) -> Spec | None:
    """What takes the place of pieces of a picture that came without a background set; None for anything else."""
    image = inputs[0].image if len(inputs) == 1 else None
    if image is None or background is not None:
        return None
    if min(image.height, image.width) < BLURRED:
        return "mean"
    return {"blur": {"sigma": max(1, round(max(image.height, image.width) * SIGMA))}}

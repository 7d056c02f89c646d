"""Which explanation methods a model is offered with, and why not the others.

Three things decide: what the graph allows (``explain.coverage``), what was handed over with it (a background set, a
baseline, a removal), and how many features or groups there are to share a score among.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import explain
from model_store import Baseline, Feature, InputSpec, OutputSpec

from .exported import Array
from .running import DataFiles, batch_axes

EXACT_LIMIT = 12
NO_BACKGROUND = "it needs a background set, and none came with the model"
NO_REFERENCE = "it needs a background set or a baseline, and neither came with the model"


def offers(
    model: bytes,
    *,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    features: Sequence[Feature],
    background: Mapping[str, Array] | None,
    baseline: Baseline | None = None,
    removal: Any = None,
    row_by_row: bool = False,
    data_files: DataFiles | None = None,
    held: Sequence[str] = (),
) -> tuple[list[str], dict[str, str]]:
    """The offered methods, in explain's order, and for each of the others one sentence."""
    axes = batch_axes(inputs, outputs)
    handle = explain.Model(model, batch_axes=axes, row_by_row=row_by_row, data_files=data_files, held=held)
    coverage = explain.coverage(handle)
    offered: list[str] = []
    refused: dict[str, str] = {}
    for name, method in explain.METHODS.items():
        reason = coverage.refused.get(name)
        if reason is None and background is None and not (method.removes and removal is not None):
            reason = _missing(method.needs, baseline)
        if reason is None and name == "exact_shap":
            reason = _too_many(inputs, features)
        if reason is None:
            offered.append(name)
        else:
            refused[name] = reason
    return offered, refused


def _missing(needs: frozenset[str], baseline: Baseline | None) -> str | None:
    """What a method lacks where there is no background set; a baseline that is the mean of one is missing too."""
    if "background" in needs:
        return NO_BACKGROUND
    return NO_REFERENCE if "reference" in needs and (baseline is None or baseline.kind != "constant") else None


def players(inputs: Sequence[InputSpec], features: Sequence[Feature]) -> int | None:
    """How many features or groups share a score; None where the shape leaves it open."""
    named = {feature.group or feature.name for feature in features}
    fed = {feature.input for feature in features}
    for spec in inputs:
        if spec.name in fed:
            continue
        sizes = [dim for dim in spec.item_shape if isinstance(dim, int)]
        if len(sizes) != len(spec.item_shape):
            return None
        named |= {f"{spec.name}.{place}" for place in range(math.prod(sizes))}
    return len(named)


def _too_many(inputs: Sequence[InputSpec], features: Sequence[Feature]) -> str | None:
    count = players(inputs, features)
    if count is not None and count <= EXACT_LIMIT:
        return None
    what = "an open number of" if count is None else str(count)
    return f"it weighs every subset, and {what} features or groups are more than {EXACT_LIMIT}"

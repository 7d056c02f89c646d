"""Attributions by feature: each number of a flat attribution gets its feature's name, value and unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model_store import Feature, Manifest

from .messages import Arrays, FeatureAttribution

GROUPS = "groups"
Figures = tuple[Arrays, Arrays | None, Arrays | None]


def by_feature(
    manifest: Manifest,
    inputs: Arrays,
    figures: Figures,
    group_names: Sequence[Sequence[str]] | None,
    rows: int,
) -> list[list[FeatureAttribution]] | None:
    """Per row one entry for each feature (or declared group), in the manifest's order; None without features, and where
    values are not one for each, as those of pairs.

    Args:
        manifest: the model's manifest.
        inputs: the decoded inputs, axis 0 = rows.
        figures: attributions by input name, or the single key ``groups``, axis 0 = rows; their errors, and the half
            widths of their intervals, or None.
        group_names: of each row, the names of its groups along axis 1 of ``groups``.
        rows: the number of rows.
    """
    values = figures[0]
    if any(array.ndim != 2 for name, array in values.items() if name == GROUPS):
        return None
    if GROUPS in values and group_names is not None:
        return [
            [
                FeatureAttribution(name, name, None, "", None, *_figures(figures, GROUPS, row, at))
                for at, name in enumerate(group_names[row])
            ]
            for row in range(rows)
        ]
    if not manifest.features or any(feature.input not in values for feature in manifest.features):
        return None
    if any(values[feature.input].shape != inputs[feature.input].shape for feature in manifest.features):
        return None
    return [[_feature(feature, inputs, figures, row) for feature in manifest.features] for row in range(rows)]


def _feature(feature: Feature, inputs: Arrays, figures: Figures, row: int) -> FeatureAttribution:
    raw = inputs[feature.input][row].reshape(-1)[feature.index].item()
    value, shown = client_value(feature, raw)
    return FeatureAttribution(
        feature.name,
        feature.label or feature.name,
        value,
        shown,
        feature.unit,
        *_figures(figures, feature.input, row, feature.index),
    )


def _figures(figures: Figures, name: str, row: int, position: int) -> tuple[float, float | None, float | None]:
    """What one element contributed, its error, and half the width of its interval, where they are known."""
    values, *known = figures
    error, half_width = (_error(arrays, name, row, position) for arrays in known)
    return _at(values, name, row, position), error, half_width


def _at(arrays: Arrays, name: str, row: int, position: int) -> float:
    return float(arrays[name][row].reshape(-1)[position])


def _error(errors: Arrays | None, name: str, row: int, position: int) -> float | None:
    return None if errors is None or name not in errors else _at(errors, name, row, position)


def declared_groups(manifest: Manifest) -> dict[str, Any]:
    """The players of a coalition method, where the manifest wants its features' groups explained."""
    return grouped(manifest) if manifest.explanation.groups is True else {}


def grouped(manifest: Manifest) -> dict[str, Any]:
    """The groups of the manifest's features: ``groups`` and ``group_names``.

    Features of one group are one player; a feature without a group is a player of its own; elements that no feature
    feeds are never masked. Empty where an input has a free size.
    """
    sizes = {spec.name: spec.item_shape for spec in manifest.inputs}
    if any(not isinstance(size, int) for shape in sizes.values() for size in shape):
        return {}
    index = {name: np.full([int(str(size)) for size in shape], -1, dtype=np.int64) for name, shape in sizes.items()}
    names: dict[str, int] = {}
    for feature in manifest.features:
        player = names.setdefault(feature.group or feature.label or feature.name, len(names))
        index[feature.input].reshape(-1)[feature.index] = player
    return {"groups": index, "group_names": list(names)}


def client_value(feature: Feature, raw: Any) -> tuple[Any, str]:
    """A model's number as the client wrote it, and as a person reads it: a category by its level's value and label."""
    if feature.kind == "category" and raw == raw and 0 <= int(raw) < len(feature.levels):
        level = feature.levels[int(raw)]
        return level.value, level.label or level.value
    return raw, f"{raw:g}" if isinstance(raw, float) else str(raw)


def kind_of_model(manifest: Manifest) -> str:
    """The kind of input a page should ask for: that of the model's only input, ``tabular`` when it names features."""
    if manifest.features:
        return "tabular"
    kinds = {spec.kind for spec in manifest.inputs}
    return kinds.pop() if len(kinds) == 1 else "tensor"


def describe(manifest: Manifest) -> list[Mapping[str, Any]]:
    """The features as a form needs them."""
    return [
        {
            "name": feature.name,
            "label": feature.label or feature.name,
            "unit": feature.unit,
            "kind": feature.kind,
            "group": feature.group,
            "minimum": feature.minimum,
            "maximum": feature.maximum,
            "levels": [{"value": level.value, "label": level.label or level.value} for level in feature.levels],
        }
        for feature in manifest.features
    ]

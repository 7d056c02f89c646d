"""Attributions by feature: each number of a flat attribution gets its feature's name, value and unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from model_store import Feature, Manifest

from .messages import Arrays, FeatureAttribution

GROUPS = "groups"


def by_feature(
    manifest: Manifest, inputs: Arrays, values: Arrays, group_names: Sequence[str] | None, rows: int
) -> list[list[FeatureAttribution]] | None:
    """Per row one entry for each feature (or declared group), in the manifest's order; None without features.

    Args:
        manifest: the model's manifest.
        inputs: the decoded inputs, axis 0 = rows.
        values: attributions by input name, or the single key ``groups``; axis 0 = rows.
        group_names: names of the groups along axis 1 of ``groups``.
        rows: the number of rows.
    """
    if GROUPS in values and group_names is not None:
        return [
            [_group(name, float(values[GROUPS][row][at])) for at, name in enumerate(group_names)] for row in range(rows)
        ]
    if not manifest.features or any(feature.input not in values for feature in manifest.features):
        return None
    return [[_feature(feature, inputs, values, row) for feature in manifest.features] for row in range(rows)]


def _group(name: str, attribution: float) -> FeatureAttribution:
    return FeatureAttribution(name, name, None, "", None, attribution)


def _feature(feature: Feature, inputs: Arrays, values: Arrays, row: int) -> FeatureAttribution:
    raw = inputs[feature.input][row].reshape(-1)[feature.index].item()
    value, shown = client_value(feature, raw)
    attribution = float(values[feature.input][row].reshape(-1)[feature.index])
    return FeatureAttribution(feature.name, feature.label or feature.name, value, shown, feature.unit, attribution)


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

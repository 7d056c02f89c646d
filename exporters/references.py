"""The reference points of a described model: where its attributions start from, and which features move together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from model_store import Manifest

from .exported import Array


def baseline_of(manifest: Manifest, background: Mapping[str, Array] | None) -> dict[str, Array] | None:
    """The manifest's default baseline as one item per input ([1, ...item]); None where it has none.

    A mean exists for numbers only; a coded input takes the most frequent code of each position instead.
    """
    chosen = manifest.explanation.baseline
    if chosen is None or (chosen.kind == "background_mean" and background is None):
        return None
    found = {}
    for spec in manifest.inputs:
        shape = (1, *(dim if isinstance(dim, int) else 1 for dim in spec.item_shape))
        if chosen.kind == "constant" or background is None:
            found[spec.name] = np.full(shape, chosen.value, dtype=spec.dtype)
            continue
        rows = background[spec.name]
        coded = [part.index for part in manifest.features if part.input == spec.name and part.kind == "category"]
        found[spec.name] = _centre(rows, coded)[np.newaxis].astype(spec.dtype)
    return found


def compared(
    needs: frozenset[str],
    manifest: Manifest,
    background: Mapping[str, Array] | None,
    baseline: Mapping[str, Array] | None,
) -> dict[str, Any]:
    """What a method with these needs compares with, by the name explain/ has for it, and the groups it removes.

    What is removed from a row of features is replaced by the background, from anything else by the baseline.
    """
    found: dict[str, Any] = {}
    if needs & {"masks", "reference"}:
        found["layouts"] = {spec.name: spec.image.layout for spec in manifest.inputs if spec.image is not None}
    groups = manifest.explanation.groups if "masks" in needs else False
    if not isinstance(groups, bool):
        found["groups"] = groups
    if manifest.explanation.removal is not None and needs & {"masks", "reference"}:
        return found | {"removal": manifest.explanation.removal, "background": background}
    rows = all(spec.kind == "tabular" for spec in manifest.inputs) or baseline is None
    if "baseline" in needs or ("reference" in needs and (background is None or not rows)):
        found["baseline"] = baseline
    if "background" in needs or ("reference" in needs and "baseline" not in found):
        found["background"] = background
    grouped = groups_of(manifest) if groups is True else None
    if grouped is not None:
        found["groups"], found["group_names"] = grouped
    return found


def _centre(rows: Array, coded: list[int]) -> Array:
    """The mean of each element; of codes and whole numbers the most frequent, the smallest of equals."""
    flat = rows.reshape(len(rows), -1)
    numbers = rows.dtype.kind == "f"
    centre = flat.mean(axis=0, dtype=np.float64) if numbers else np.empty(flat.shape[1], dtype=rows.dtype)
    for place in coded if numbers else range(flat.shape[1]):
        codes, counts = np.unique(flat[:, place], return_counts=True)
        centre[place] = codes[counts.argmax()]
    return centre.reshape(rows.shape[1:])


def groups_of(manifest: Manifest) -> tuple[dict[str, Array], list[str]] | None:
    """By input the group number of each element, and the groups' names; None where no feature names a group.

    A feature without a group is one by itself.
    """
    if not any(feature.group for feature in manifest.features):
        return None
    names = list(dict.fromkeys(feature.group or feature.name for feature in manifest.features))
    sizes = {spec.name: [dim for dim in spec.item_shape if isinstance(dim, int)] for spec in manifest.inputs}
    numbers = {name: np.full(int(np.prod(size)), -1, dtype=np.int64) for name, size in sizes.items()}
    for feature in manifest.features:
        numbers[feature.input][feature.index] = names.index(feature.group or feature.name)
    return {name: array.reshape(sizes[name]) for name, array in numbers.items()}, names

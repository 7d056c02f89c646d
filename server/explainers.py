"""What a client should know of a method before it asks this model for it: what it needs and what meets that, what may
be sent, what is taken if nothing is, and about how many evaluations it comes to."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import explain
from model_store import Manifest, StoreError

from . import estimates, grouping
from .errors import ModelUnusable
from .loaded import LoadedModel

GRAPH = {
    "gradient": "the operators of the model have gradients",
    "chords": "no operator on the way holds graphs inside of it",
    "numbers": "the inputs are numbers",
    "spatial": "the model has a layer of maps",
    "affine": "the explained value is affine in the inputs",
    "trees": "the explained value is a sum over trees",
}


def told(loaded: LoadedModel, method: str, takes: Sequence[str]) -> dict[str, Any]:
    """The members of an entry of ``/explainers`` that are about this model."""
    needs, rows = explain.METHODS[method].needs, _rows(loaded)
    groups = default_groups(loaded.manifest) if "groups" in takes else None
    removal = loaded.manifest.explanation.removal if "removal" in takes else None
    return {
        "met": {need: _met(need, loaded.manifest, method, rows) for need in sorted(needs)},
        "takes": list(takes),
        "groups": groups,
        "removal": removal,
        "evaluations": estimates.evaluations(method, _size(loaded.manifest, method, groups, rows)),
    }


def default_groups(manifest: Manifest) -> Any:
    """What is removed together unless a request says it: a spec, "declared" or "elements"."""
    default = manifest.explanation.groups
    return (grouping.DECLARED if default else grouping.ELEMENTS) if isinstance(default, bool) else default


def _rows(loaded: LoadedModel) -> int | None:
    """How many rows the model's background set has; None without one, or if it cannot be read."""
    try:
        background = loaded.background
    except (ModelUnusable, StoreError):
        return None
    return None if background is None else len(next(iter(background.values())))


def _met(need: str, manifest: Manifest, method: str, rows: int | None) -> str | None:
    """What meets a need of a method; None where a request has to."""
    if need in GRAPH:
        return GRAPH[need]
    if need == "masks":
        return f"groups: {json.dumps(default_groups(manifest), ensure_ascii=False)}"
    removal, baseline = manifest.explanation.removal, manifest.explanation.baseline
    background = None if rows is None else f"the background set of {rows} rows"
    point = None
    if baseline is not None:
        constant = baseline.kind == "constant"
        point = f"the constant {baseline.value:g}" if constant else background and f"the centre of {background}"
    if need == "baseline":
        return point
    if removal is not None and explain.METHODS[method].removes:
        return f"removal: {json.dumps(removal, ensure_ascii=False)}"
    columns = bool(manifest.features)
    return background if need == "background" or (columns and background) else point or background


def _size(manifest: Manifest, method: str, groups: Any, rows: int | None) -> estimates.Size:
    """Of one row at the manifest's defaults."""
    removal = manifest.explanation.removal if explain.METHODS[method].removes else None
    met = _met("reference", manifest, method, rows) if "reference" in explain.METHODS[method].needs else None
    if removal is not None:
        rows = rows if grouping.of_background(removal) else 1
    elif met is not None and "set" not in met.split(" of ")[0]:
        rows = 1
    return estimates.Size(_players(manifest, groups), rows, _places(manifest), own=removal is not None and rows == 1)


def _players(manifest: Manifest, groups: Any) -> int | None:
    """How many groups there are, about."""
    if groups == grouping.DECLARED:
        return len({feature.group or feature.name for feature in manifest.features})
    if groups == grouping.ELEMENTS:
        sizes = [size for spec in manifest.inputs for size in spec.item_shape]
        return _product_of_each(manifest) if all(isinstance(size, int) for size in sizes) else None
    options = next(iter(groups.values())) if isinstance(groups, dict) else None
    count = options.get("count") if isinstance(options, dict) else None
    return count if isinstance(count, int) else None


def _product_of_each(manifest: Manifest) -> int:
    return sum(math.prod(int(str(size)) for size in spec.item_shape) for spec in manifest.inputs)


def _places(manifest: Manifest) -> tuple[int, ...] | None:
    """Along which axes a window slides over the only input, and how far."""
    if len(manifest.inputs) != 1:
        return None
    spec = manifest.inputs[0]
    if spec.image is not None:
        return spec.image.height, spec.image.width
    shape = spec.item_shape
    return (shape[0],) if len(shape) == 1 and isinstance(shape[0], int) else None

"""Which elements of a row are removed together: as the request says, else as the manifest does; and how that is told.

A request says it by a spec of explain/ ("positions", {"superpixels": {"count": 50}}), as "declared" (the groups of the
manifest's features), as "elements", or by the group of each element, one array for each input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import explain
from model_store import InputSpec, Manifest

from . import features
from .errors import BadRequest
from .messages import Array, Arrays, ExplainRequest

DECLARED = "declared"
ELEMENTS = "elements"
GROUPED = frozenset({"masks", "trees"})  # needs of the methods that share out among groups
EXPECTED = "a kind of groups, alone or as the only member of an object, or whole numbers for each input"


def groups_of(manifest: Manifest, request: ExplainRequest) -> dict[str, Any]:
    """What explain/ is told of groups, by the names it has there; nothing where each element is a group of its own.

    Raises:
        BadRequest: groups that are declared are asked for and none are, or one list of numbers for several inputs.
    """
    asked = request.groups
    if asked is None:
        default = manifest.explanation.groups
        found = features.declared_groups(manifest) if isinstance(default, bool) else {"groups": default}
    elif asked == DECLARED:
        found = _declared(manifest)
    elif is_labels(manifest, asked):
        found = {"groups": _labels(manifest, asked)}
    else:
        found = {"groups": asked}
    if request.group_names is None:
        return found
    if asked is None or not is_labels(manifest, asked):
        raise BadRequest("group_names", "some", "groups as whole numbers beside them; other groups have names")
    return {**found, "group_names": list(request.group_names)}


def _declared(manifest: Manifest) -> dict[str, Any]:
    found = features.grouped(manifest) if any(feature.group for feature in manifest.features) else {}
    if not found:
        raise BadRequest("groups", f"{DECLARED!r}, and the model declares none", EXPECTED)
    return found


def is_labels(manifest: Manifest, asked: Any) -> bool:
    """Whether groups came as whole numbers, and not as a spec."""
    return isinstance(asked, list) or (isinstance(asked, Mapping) and any(s.name in asked for s in manifest.inputs))


def _labels(manifest: Manifest, asked: Any) -> dict[str, Any]:
    """By input the group of each element; of a picture, one number may stand for all channels of a pixel."""
    if isinstance(asked, list):
        if len(manifest.inputs) != 1:
            names = ", ".join(spec.name for spec in manifest.inputs)
            raise BadRequest("groups", "one list of numbers", f"one for each of the inputs {names}, by name")
        asked = {manifest.inputs[0].name: asked}
    specs = {spec.name: spec for spec in manifest.inputs}
    return {name: _spread(specs[name], given) if name in specs else given for name, given in asked.items()}


def _spread(spec: InputSpec, given: Any) -> Any:
    if spec.image is None:
        return given
    try:
        labels = np.asarray(given)
    except ValueError:
        return given  # explain/ says what is wrong with it
    image = spec.image
    if labels.shape == image.item_shape or labels.shape[-2:] != (image.height, image.width) or labels.ndim > 3:
        return labels
    axis = -3 if image.layout == "NCHW" else -1
    return np.repeat(np.expand_dims(labels, axis), image.channels, axis=axis)


def layouts(manifest: Manifest) -> dict[str, str]:
    """What the axes of each picture are."""
    return {spec.name: spec.image.layout for spec in manifest.inputs if spec.image is not None}


def of_background(removal: Any) -> bool:
    """Whether a removal, of all inputs or of one, puts rows of the background in the place of what is removed."""
    if isinstance(removal, Mapping):
        return "background" in removal or any(of_background(one) for one in removal.values() if one != removal)
    return bool(removal == "background")


@dataclass(frozen=True)
class Removed:
    """What an explanation removed, as answers and records say it: one entry per row, None for what removes nothing.

    ``groups``: spec, names, and the digest of the group of each element. ``removal``: spec, and the digest of the rows
    that took the place of what was removed. ``index`` by input: the group of each element, [rows, item...].
    """

    groups: Sequence[Mapping[str, Any]] | None = None
    removal: Sequence[Mapping[str, Any]] | None = None
    index: Arrays = field(default_factory=dict)


def removed(run: explain.Run, manifest: Manifest, request: ExplainRequest, compared: Mapping[str, Any]) -> Removed:
    """What a run removed; the group of each element where it can be drawn, or came with the request."""
    rows, groups = run.asked.items, run.asked.groups
    removal = _replaced(run, compared.get("removal")) if run.method.removes else None
    if groups.names is None or not run.method.needs & GROUPED:
        return Removed(None, removal)
    index = {
        name: array if groups.per_item else np.broadcast_to(array, (rows, *array.shape))
        for name, array in groups.index.items()
    }
    spec, counts = _quoted(manifest, request, compared), groups.counts(rows)
    told = [
        {
            "spec": spec,
            "names": list(groups.names[: counts[row]]),
            "digest": explain.digest_arrays(_row(index, row)),
        }
        for row in range(rows)
    ]
    fed = {feature.input for feature in manifest.features} if spec is not None else set()
    return Removed(told, removal, {name: array for name, array in index.items() if name not in fed})


def _replaced(run: explain.Run, spec: Any) -> list[dict[str, Any]] | None:
    rows, taken = range(run.asked.items), run.asked.removal
    if taken is None:
        return None
    weight = {".weight": taken.weight}
    if not taken.per_item:
        same = {"spec": spec, "digest": explain.digest_arrays({**taken.rows, **weight})}
        return [same for _ in rows]
    return [{"spec": spec, "digest": explain.digest_arrays({**_row(taken.rows, row), **weight})} for row in rows]


def _row(arrays: Mapping[str, Array], row: int) -> dict[str, Array]:
    return {name: array[row] for name, array in arrays.items()}


def _quoted(manifest: Manifest, request: ExplainRequest, compared: Mapping[str, Any]) -> Any:
    """The spec that the groups were made from; None where their numbers came with the request."""
    if request.groups is not None and is_labels(manifest, request.groups):
        return None
    return DECLARED if "group_names" in compared else compared.get("groups")

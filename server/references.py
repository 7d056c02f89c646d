"""What an explanation compares with: the background rows and the baseline, from the manifest or from the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

import explain
from model_store import InputSpec, Manifest, decode_rows

from . import checks, features, grouping, methods
from .errors import BadRequest
from .loaded import LoadedModel
from .messages import Array, ExplainRequest

NUMBER = (int, float)


def compared(loaded: LoadedModel, method: str, request: ExplainRequest, limit: int) -> dict[str, Any]:
    """What explain/ is given to compare with, by the name it has there: what the method needs, and what it can use.

    A check that removes elements is given a baseline too.

    A method that can do without a baseline compares with one that was sent, and otherwise with the model's own only
    where the model takes codes: a number is compared with zero, and a code has no zero.

    Raises:
        BadRequest: a baseline or background of the wrong kind, both where one is used, or more background rows than
            ``limit``.
        InvalidInput: one that does not fit the model.
    """
    found: dict[str, Any] = {}
    needs = explain.METHODS[method].needs
    removes = explain.METHODS[method].removes
    able = "baseline" in methods.OPTIONAL.get(method, ())
    optional = able and (request.baseline is not None or _codes(loaded.manifest))
    if "baseline" in needs or optional:
        found["baseline"] = baseline(loaded, request.baseline)
    if "background" in needs and not removes:
        found |= background(loaded, request.background, limit)
    if removes:
        found |= _in_place_of(loaded, "background" in needs, request, limit)
        found["layouts"] = grouping.layouts(loaded.manifest)
    if needs & grouping.GROUPED:
        found |= grouping.groups_of(loaded.manifest, request)
    if not found and checks.remove(request):
        found |= _beside(loaded, method, request, limit)
    return found


def _in_place_of(loaded: LoadedModel, always: bool, request: ExplainRequest, limit: int) -> dict[str, Any]:
    """What takes the place of what a method removes: what was sent, else what the manifest says, else the background
    of rows of features (or `always`), else the baseline, else the background of whatever else."""
    sent = [role for role in ("baseline", "removal", "background") if getattr(request, role) is not None]
    if len(sent) > 1 and not (sent == ["removal", "background"] and grouping.of_background(request.removal)):
        raise BadRequest(
            sent[-1], f"one beside a {sent[0]}", "one of the two: either takes the place of what is removed"
        )
    removal = request.removal if sent else loaded.manifest.explanation.removal
    if removal is not None:
        rows_of = background(loaded, request.background, limit) if grouping.of_background(removal) else {}
        return {"removal": removal, **rows_of}
    if always:
        return background(loaded, request.background, limit)
    rows = features.kind_of_model(loaded.manifest) == "tabular" and loaded.background is not None
    if request.background is not None or (request.baseline is None and rows):
        return background(loaded, request.background, limit)
    start = baseline(loaded, request.baseline)
    return background(loaded, None, limit) if start is None else {"baseline": start}


def _beside(loaded: LoadedModel, method: str, request: ExplainRequest, limit: int) -> dict[str, Any]:
    """What a check puts in the place of what it removes, where the method compares with nothing: a baseline, or for a
    method that would compare with it the model's own background."""
    if methods.takes(method, "baseline"):
        return background(loaded, request.background, limit)
    return {"baseline": baseline(loaded, request.baseline)}


def _codes(manifest: Manifest) -> bool:
    return any(np.dtype(spec.dtype).kind in "biu" for spec in _walked(manifest))


def _walked(manifest: Manifest) -> list[InputSpec]:
    """The inputs that are features: nothing takes the place of what is held."""
    return [spec for spec in manifest.inputs if spec.name not in manifest.explanation.held]


def _rows(manifest: Manifest, instances: list[Any]) -> dict[str, Array]:
    """Instances that were sent to be compared with; inputs that are held may be left out, and have no part in it."""
    if not (held := set(manifest.explanation.held)):
        return dict(decode_rows(manifest, instances).inputs)
    own = [part for part in manifest.features if part.input not in held]
    without = msgspec.structs.replace(manifest, inputs=_walked(manifest), features=own)
    left_out = held | {part.name for part in manifest.features if part.input in held}
    rows = [
        {name: given for name, given in row.items() if name not in left_out} if isinstance(row, dict) else row
        for row in instances
    ]
    return dict(decode_rows(without, rows).inputs)


def background(loaded: LoadedModel, asked: Any, limit: int) -> dict[str, Any]:
    """What is compared with, by the names explain/ has: the rows that the request brings, or the set that it names, or
    the model's own, prepared; else nothing.

    Raises:
        BadRequest: no list of rows, or more than ``limit``; no set of this name.
        InvalidInput: a row that does not fit the model.
    """
    if isinstance(asked, list):
        if not 0 < len(asked) <= limit:
            raise BadRequest("background", f"a list of {len(asked)}", f"a list of 1 to {limit} instances of the model")
        return {"background": _rows(loaded.manifest, asked)}
    if not isinstance(asked, str | Mapping | None):
        raise BadRequest("background", type(asked).__name__, "a list of instances, or a background set")
    found = loaded.backgrounds.get() if asked is None else loaded.backgrounds.asked(asked)
    return {} if found is None else {"background": found.prepared(loaded.source)}


def quoted(loaded: LoadedModel, request: ExplainRequest, compared: Mapping[str, Any]) -> dict[str, Any] | None:
    """What an answer says of the background that was compared with: name, digest, rows; None without one."""
    rows = compared.get("background")
    if rows is None:
        return None
    if isinstance(request.background, list):
        count = len(next(iter(rows.values())))
        return {"name": None, "digest": explain.digest_arrays(rows), "rows": count, "summary": None}
    sets = loaded.backgrounds
    found = sets.get() if request.background is None else sets.asked(request.background)
    return None if found is None else dict(found.quoted)


def baseline(loaded: LoadedModel, instance: Any) -> dict[str, Array] | None:
    """One reference point by input name, shaped like one item with an axis of length 1 in front; None leaves it open.

    The request's instance (or one number for every element), else what the manifest says: a constant, or the centre of
    the background, where a category has no mean and its commonest code stands instead.

    Raises:
        InvalidInput: an instance that does not fit the model.
    """
    if isinstance(instance, NUMBER) and not isinstance(instance, bool):
        return _constant(loaded.manifest, float(instance))
    if instance is not None:
        return _rows(loaded.manifest, [instance])
    default = loaded.manifest.explanation.baseline
    if default is None:
        return None
    if default.kind == "constant":
        return _constant(loaded.manifest, default.value)
    found = loaded.backgrounds.get()
    return None if found is None else centre(loaded.manifest, found.arrays, found.weight)


def _constant(manifest: Manifest, value: float) -> dict[str, Array] | None:
    shapes = {spec.name: spec.item_shape for spec in _walked(manifest)}
    if any(not isinstance(size, int) for shape in shapes.values() for size in shape):
        raise BadRequest("baseline", f"the number {value:g}", "an instance, because the model's inputs have free sizes")
    return {
        spec.name: np.full((1, *(int(str(size)) for size in shapes[spec.name])), value, dtype=spec.dtype)
        for spec in _walked(manifest)
    }


def centre(manifest: Manifest, rows: dict[str, Array], weight: Array | None = None) -> dict[str, Array]:
    """The mean of the rows, which count by `weight` [B], [1, ...] by input name; categories and whole numbers take the
    commonest value."""
    middle: dict[str, Array] = {}
    for name, values in rows.items():
        flat = values.reshape(len(values), -1)
        if values.dtype.kind == "f":
            point = np.average(flat.astype(np.float64), axis=0, weights=weight)
            coded = [part.index for part in manifest.features if part.input == name and part.kind == "category"]
        else:
            point = np.empty(flat.shape[1], dtype=values.dtype)
            coded = list(range(flat.shape[1]))
        for position in coded:
            point[position] = _commonest(flat[:, position], weight)
        middle[name] = point.reshape(1, *values.shape[1:]).astype(values.dtype)
    return middle


def _commonest(values: Array, weight: Array | None) -> Any:
    found, places = np.unique(values, return_inverse=True)
    return found[np.argmax(np.bincount(places.reshape(-1), weight))]


def sent(request: ExplainRequest, compared: Mapping[str, Any]) -> dict[str, Array]:
    """The references that came with the request and are in no file of the model, named for the decision's record."""
    came = {"baseline": request.baseline, "background": request.background}
    return {
        f"{role}.{name}": array
        for role, given in came.items()
        if given is not None and not (role == "background" and not isinstance(given, list))
        for name, array in (compared.get(role) or {}).items()
    }

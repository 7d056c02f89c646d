"""Named tensors, as the V2 protocol and its binary extension carry them, checked against the manifest.

A tensor comes in the model's own layout, as the model's metadata tell it, and leaves with the items along axis 0.
Nothing is cast: a tensor of another dtype is refused, as the client said what it sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .errors import InvalidInput, shown
from .images import array_picture
from .layout import Array, Decoded, check_shapes_agree, described, fits
from .manifest import Feature, InputSpec, Manifest

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_tensors(manifest: Manifest, tensors: Mapping[str, Array]) -> Decoded:
    """Check names, dtypes, shapes, finiteness and category codes, and put the items along axis 0.

    An input without a batch axis is one item. Raises InvalidInput naming input, row and feature.
    """
    known = [spec.name for spec in manifest.inputs]
    for name in tensors:
        if name not in known:
            raise InvalidInput("inputs", f"the unknown name {shown(name)}", f"only {', '.join(map(shown, known))}")
    inputs: dict[str, Array] = {}
    for spec in manifest.inputs:
        if spec.name not in tensors:
            raise InvalidInput(
                f"input {spec.name!r}", "nothing", f"a tensor for each of {', '.join(map(shown, known))}"
            )
        inputs[spec.name] = _one(spec, tensors[spec.name], [f for f in manifest.features if f.input == spec.name])
    rows = {name: len(items) for name, items in inputs.items()}
    first = known[0]
    for name, count in rows.items():
        if count != rows[first]:
            raise InvalidInput(f"input {name!r}", f"{count} items", f"{rows[first]}, as in {first!r}")
    check_shapes_agree(manifest, inputs)
    return Decoded(inputs, rows[first], _pictures(manifest, inputs, rows[first]))


def _one(spec: InputSpec, tensor: Array, features: list[Feature]) -> Array:
    field = f"input {spec.name!r}"
    if tensor.dtype != np.dtype(spec.dtype):
        raise InvalidInput(field, f"dtype {tensor.dtype.name}", spec.dtype)
    declared = list(spec.shape)
    if spec.batch_axis is not None:
        # A model with a fixed batch of 1 takes any number of items; they are run one by one.
        declared[spec.batch_axis] = "items"
    if not fits(tensor.shape, tuple(declared)):
        raise InvalidInput(field, f"shape {list(tensor.shape)}", f"shape {described(tuple(declared))}")
    if tensor.size == 0:
        raise InvalidInput(field, f"shape {list(tensor.shape)}", "at least one element")
    items = tensor[np.newaxis] if spec.batch_axis is None else np.moveaxis(tensor, spec.batch_axis, 0)
    items = np.ascontiguousarray(items)
    _check_finite(items, field, features)
    _check_codes(items, field, features)
    return items


def _check_finite(items: Array, field: str, features: list[Feature]) -> None:
    if items.dtype.kind != "f":
        return
    bad = ~np.isfinite(items)
    if bad.any():
        place = tuple(int(index) for index in np.argwhere(bad)[0])
        raise InvalidInput(f"{field} {_place(items, place, features)}", str(items[place]), "a finite number")


def _check_codes(items: Array, field: str, features: list[Feature]) -> None:
    flat = items.reshape(len(items), -1)
    for feature in features:
        if feature.kind != "category":
            continue
        codes, count = flat[:, feature.index].astype(np.float64), len(feature.levels)
        bad = (codes < 0) | (codes >= count) | (codes != np.floor(codes))
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidInput(
                f"{field} row {row} feature {feature.name!r}",
                f"{codes[row]:g}",
                f"a whole number from 0 to {count - 1}: the position of one of its {count} levels",
            )


def _place(items: Array, place: tuple[int, ...], features: list[Feature]) -> str:
    flat = int(np.ravel_multi_index(place[1:], items.shape[1:])) if len(place) > 1 else 0
    for feature in features:
        if feature.index == flat:
            return f"row {place[0]} feature {feature.name!r}"
    return f"row {place[0]}" + (f" at {list(place[1:])}" if place[1:] else "")


def _pictures(manifest: Manifest, inputs: Mapping[str, Array], rows: int) -> list[Image | None]:
    for spec in manifest.inputs:
        if spec.kind == "image":
            return [array_picture(spec, item) for item in inputs[spec.name]]
    return [None] * rows

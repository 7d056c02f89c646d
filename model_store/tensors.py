"""Named tensors, as the V2 protocol and its binary extension carry them, checked against the manifest.

A tensor comes in the model's own layout, as the model's metadata tell it, and leaves with the items along axis 0.
Nothing is cast: a tensor of another dtype is refused, as the client said what it sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from .errors import InvalidInput, shown
from .images import array_picture
from .layout import Array, Decoded, check_shapes_agree, described, fits
from .manifest import Feature, InputSpec, Manifest

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_tensors(manifest: Manifest, tensors: Mapping[str, Array]) -> Decoded:
    """`TensorDecoder.decode` for one request; whoever reads many keeps the decoder."""
    return TensorDecoder(manifest).decode(tensors)


class TensorDecoder:
    """Checks the tensors of requests for one model. What depends on the manifest alone is worked out once."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._inputs = [_Input(spec, manifest) for spec in manifest.inputs]
        self._known = [spec.name for spec in manifest.inputs]
        self._listed = ", ".join(map(shown, self._known))
        self._pictured = next((spec for spec in manifest.inputs if spec.kind == "image"), None)
        self._shares_axes = any(isinstance(dim, str) for spec in manifest.inputs for dim in spec.item_shape)

    def decode(self, tensors: Mapping[str, Array]) -> Decoded:
        """Check names, dtypes, shapes, finiteness and category codes, and put the items along axis 0.

        An input without a batch axis is one item. Raises InvalidInput naming input, row and feature.
        """
        for name in tensors:
            if name not in self._known:
                raise InvalidInput("inputs", f"the unknown name {shown(name)}", f"only {self._listed}")
        inputs: dict[str, Array] = {}
        for each in self._inputs:
            if each.name not in tensors:
                raise InvalidInput(each.field, "nothing", f"a tensor for each of {self._listed}")
            inputs[each.name] = each.items(tensors[each.name])
        first = self._known[0]
        rows = len(inputs[first])
        for name, items in inputs.items():
            if len(items) != rows:
                raise InvalidInput(f"input {name!r}", f"{len(items)} items", f"{rows}, as in {first!r}")
        if self._shares_axes:
            check_shapes_agree(self._manifest, inputs)
        pictured = self._pictured
        return Decoded(inputs, rows, [None] * rows if pictured is None else _Pictures(pictured, inputs[pictured.name]))


class _Input:
    """One input of a model: what a tensor for it must be."""

    def __init__(self, spec: InputSpec, manifest: Manifest) -> None:
        self.name, self.field = spec.name, f"input {spec.name!r}"
        self._dtype = np.dtype(spec.dtype)
        self._axis = spec.batch_axis
        # A model with a fixed batch of 1 takes any number of items; they are run one by one.
        declared = ["items" if axis == spec.batch_axis else dim for axis, dim in enumerate(spec.shape)]
        self._shape = tuple(declared)
        # An input that is no feature, such as a cache, may hold nothing yet.
        free = any(not isinstance(dim, int) for axis, dim in enumerate(spec.shape) if axis != spec.batch_axis)
        self._may_be_empty = free and spec.name in manifest.explanation.held
        self._features = [feature for feature in manifest.features if feature.input == spec.name]
        self._categories = [feature for feature in self._features if feature.kind == "category"]

    def items(self, tensor: Array) -> Array:
        """The tensor with its items along axis 0, if it is what the model takes."""
        if tensor.dtype != self._dtype:
            raise InvalidInput(self.field, f"dtype {tensor.dtype.name}", self._dtype.name)
        if not fits(tensor.shape, self._shape):
            raise InvalidInput(self.field, f"shape {list(tensor.shape)}", f"shape {described(self._shape)}")
        shape = list(tensor.shape)
        if self._axis:
            tensor = np.moveaxis(tensor, self._axis, 0)
        items = np.ascontiguousarray(tensor[np.newaxis] if self._axis is None else tensor)
        if len(items) == 0 or (items.size == 0 and not self._may_be_empty):
            raise InvalidInput(self.field, f"shape {shape}", "at least one element")
        _check_finite(items, self.field, self._features)
        _check_codes(items, self.field, self._categories)
        return items


def _check_finite(items: Array, field: str, features: list[Feature]) -> None:
    if items.dtype.kind != "f":
        return
    finite = np.isfinite(items)
    if not finite.all():
        place = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise InvalidInput(f"{field} {_place(items, place, features)}", str(items[place]), "a finite number")


def _check_codes(items: Array, field: str, categories: list[Feature]) -> None:
    if not categories:
        return
    flat = items.reshape(len(items), -1)
    for feature in categories:
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


class _Pictures(Sequence["Image | None"]):
    """The pictures that items make, each made when it is asked for: few requests draw."""

    def __init__(self, spec: InputSpec, items: Array) -> None:
        self._spec, self._items = spec, items

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, row: int) -> Image: ...

    @overload
    def __getitem__(self, row: slice) -> _Pictures: ...

    def __getitem__(self, row: int | slice) -> Image | _Pictures:
        if isinstance(row, slice):
            return _Pictures(self._spec, self._items[row])
        return array_picture(self._spec, self._items[row])

"""JSON instances as the model's arrays: lists in the order of the features, objects by name, pictures, nested lists.

The names an object may have are those of the features and of the inputs that no feature feeds. A row of several
ONNX inputs (numbers here, category codes there) is cut up by each feature's `input` and `index`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidInput, shown
from .images import MAX_PIXELS, array_picture, from_base64, picture_array
from .layout import Array, Decoded, check_shapes_agree
from .manifest import Feature, InputSpec, Manifest
from .values import array, kind_of, number

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_rows(manifest: Manifest, instances: list[Any], max_pixels: int = MAX_PIXELS) -> Decoded:
    """Instances as arrays [len(instances), ...item].

    An instance is a list of values in the order of `manifest.features`; or an object with a value for each feature
    and for each input without features; or, for a model of one input without features, that input's value itself:
    nested lists in the model's own units, or for an image input also `{"b64": "..."}`. `max_pixels` bounds all pictures
    of the request together, as all are held at once. Raises InvalidInput naming instance and feature, TooLarge.
    """
    if not isinstance(instances, list) or not instances:
        raise InvalidInput("instances", "an empty list" if instances == [] else kind_of(instances), "a list of rows")
    reader = _Reader(manifest, max_pixels)
    items: dict[str, list[Array]] = {spec.name: [] for spec in manifest.inputs}
    images: list[Image | None] = []
    for position, instance in enumerate(instances):
        row, picture = reader.read(instance, f"instances[{position}]")
        for name, item in row.items():
            if items[name] and items[name][0].shape != item.shape:
                raise InvalidInput(
                    f"instances[{position}]",
                    f"shape {list(item.shape)} for input {name!r}",
                    f"{list(items[name][0].shape)}, as in instances[0]; send other shapes separately",
                )
            items[name].append(item)
        images.append(picture)
    inputs = {name: np.stack(parts) for name, parts in items.items()}
    check_shapes_agree(manifest, inputs)
    return Decoded(inputs, len(instances), images)


class _Reader:
    """What reading each row of one model needs, worked out once."""

    def __init__(self, manifest: Manifest, max_pixels: int) -> None:
        self._features = manifest.features
        self._specs = {spec.name: spec for spec in manifest.inputs}
        fed = {feature.input for feature in manifest.features}
        self._fed = [spec for spec in manifest.inputs if spec.name in fed]
        self._whole = [spec for spec in manifest.inputs if spec.name not in fed]
        self._names = [feature.name for feature in self._features] + [spec.name for spec in self._whole]
        self._codes = {
            feature.name: {level.value: code for code, level in enumerate(feature.levels)}
            for feature in self._features
            if feature.kind == "category"
        }
        self._pixels_left = max_pixels

    def read(self, instance: Any, field: str) -> tuple[dict[str, Array], Image | None]:
        """One row: an item for each input, and the picture if there is one."""
        values = self._named(instance, field)
        row = {
            spec.name: np.zeros([dim for dim in spec.item_shape if isinstance(dim, int)], dtype=spec.dtype)
            for spec in self._fed
        }
        for feature in self._features:
            value = self._feature(feature, values[feature.name], field)
            row[feature.input].reshape(-1)[feature.index] = value
        picture: Image | None = None
        for spec in self._whole:
            place = field if self._is_alone() else f"{field}.{spec.name}"
            row[spec.name], seen = self._input(spec, values[spec.name], place)
            picture = picture or seen
        return row, picture

    def _is_alone(self) -> bool:
        return len(self._whole) == 1 and not self._features

    def _named(self, instance: Any, field: str) -> Mapping[str, Any]:
        """The row's values by name, with nothing missing and nothing more."""
        if self._is_alone():
            (spec,) = self._whole
            if isinstance(instance, dict) and set(instance) == {spec.name} and spec.name != "b64":
                return instance
            return {spec.name: instance}
        if isinstance(instance, list) and not self._whole:
            if len(instance) != len(self._names):
                raise InvalidInput(field, f"{len(instance)} values", f"{len(self._names)}: {_listed(self._names)}")
            return dict(zip(self._names, instance, strict=True))
        if not isinstance(instance, dict):
            form = "an object" if self._whole else "a list or an object"
            raise InvalidInput(field, kind_of(instance), f"{form} with {_listed(self._names)}")
        known = set(self._names)
        unknown = [name for name in instance if name not in known]
        if unknown:
            raise InvalidInput(field, f"the unknown name {shown(unknown[0])}", f"only {_listed(self._names)}")
        missing = [name for name in self._names if name not in instance]
        if missing:
            raise InvalidInput(f"{field}.{missing[0]}", "nothing", f"a value for each of {_listed(self._names)}")
        return instance

    def _feature(self, feature: Feature, value: Any, field: str) -> float | int | bool:
        place = f"{field}.{feature.name}"
        spec = self._specs[feature.input]
        if feature.kind == "number":
            if spec.dtype == "bool" and isinstance(value, bool):
                return value
            return number(value, spec.dtype, place)
        codes = self._codes[feature.name]
        if not isinstance(value, str) or value not in codes:
            raise InvalidInput(place, shown(value), f"one of {_listed(list(codes))}")
        return codes[value]

    def _input(self, spec: InputSpec, value: Any, field: str) -> tuple[Array, Image | None]:
        if spec.kind == "image":
            if isinstance(value, dict):
                picture = from_base64(value, field, self._pixels_left)
                self._pixels_left -= picture.width * picture.height
                return picture_array(spec, picture, field), picture
            item = array(value, spec.dtype, spec.item_shape, field)
            return item, array_picture(spec, item)
        if spec.kind == "text" and isinstance(value, str):
            raise InvalidInput(field, kind_of(value), f"token numbers for input {spec.name!r}, as nested lists")
        return array(value, spec.dtype, spec.item_shape, field), None


def _listed(names: list[str], most: int = 40) -> str:
    """Names as an error text shows them, the end left out where there are very many."""
    text = ", ".join(shown(name) for name in names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"

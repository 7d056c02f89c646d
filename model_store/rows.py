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
from .values import array, floats, kind_of, number

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_rows(manifest: Manifest, instances: list[Any], max_pixels: int = MAX_PIXELS) -> Decoded:
    """`RowDecoder.decode` for one request; whoever reads many keeps the decoder."""
    return RowDecoder(manifest).decode(instances, max_pixels)


class RowDecoder:
    """Reads JSON instances for one model. What depends on the manifest alone is worked out once."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._tables = _Tables(manifest)

    def decode(self, instances: list[Any], max_pixels: int = MAX_PIXELS) -> Decoded:
        """Instances as arrays [len(instances), ...item].

        An instance is a list of values in the order of `manifest.features`; or an object with a value for each feature
        and for each input without features; or, for a model of one input without features, that input's value itself:
        nested lists in the model's own units, or for an image input also `{"b64": "..."}`. `max_pixels` bounds all
        pictures of the request together, as all are held at once. Raises InvalidInput naming instance and feature,
        TooLarge.
        """
        if not isinstance(instances, list) or not instances:
            raise InvalidInput(
                "instances", "an empty list" if instances == [] else kind_of(instances), "a list of rows"
            )
        plain = self._tables.plain(instances)
        if plain is not None:
            return Decoded(plain, len(instances), [None] * len(instances))
        reader = _Reader(self._tables, max_pixels)
        items: dict[str, list[Array]] = {spec.name: [] for spec in self._manifest.inputs}
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
        check_shapes_agree(self._manifest, inputs)
        return Decoded(inputs, len(instances), images)


class _Tables:
    """What reading the rows of one model needs of its manifest."""

    def __init__(self, manifest: Manifest) -> None:
        self.features = manifest.features
        self.specs = {spec.name: spec for spec in manifest.inputs}
        fed = {feature.input for feature in manifest.features}
        self.fed = [spec for spec in manifest.inputs if spec.name in fed]
        self.whole = [spec for spec in manifest.inputs if spec.name not in fed]
        self.names = [feature.name for feature in self.features] + [spec.name for spec in self.whole]
        self.alone = len(self.whole) == 1 and not self.features
        self.codes = {
            feature.name: {level.value: code for code, level in enumerate(feature.levels)}
            for feature in self.features
            if feature.kind == "category"
        }
        self._columns = self._plain_columns()

    def _plain_columns(self) -> dict[str, list[int]]:
        """For each input the columns of a row in the order of its elements; none where a row is not only floats."""
        floats = all(np.dtype(spec.dtype).kind == "f" for spec in self.fed)
        if self.whole or self.codes or not floats:
            return {}
        columns: dict[str, list[tuple[int, int]]] = {spec.name: [] for spec in self.fed}
        for column, feature in enumerate(self.features):
            columns[feature.input].append((feature.index, column))
        return {name: [column for _, column in sorted(places)] for name, places in columns.items()}

    def plain(self, instances: list[Any]) -> dict[str, Array] | None:
        """Rows of numbers alone, all at once; None where a row is anything else, or has a number that does not fit."""
        if not self._columns:
            return None
        flat: list[Any] = []
        for instance in instances:
            row = instance
            if isinstance(instance, dict) and len(instance) == len(self.names):
                row = [instance.get(name) for name in self.names]
            if not isinstance(row, list) or len(row) != len(self.names):
                return None
            flat.extend(row)
        if not set(map(type, flat)) <= {int, float}:
            return None
        table: dict[str, Array] = {}
        for name, columns in self._columns.items():
            spec = self.specs[name]
            numbers = floats(flat, np.dtype(spec.dtype))
            if numbers is None:
                return None
            rows = numbers.reshape(len(instances), -1)[:, columns]
            table[name] = rows.reshape(len(instances), *(dim for dim in spec.item_shape if isinstance(dim, int)))
        return table


class _Reader:
    """Reads the rows of one request, one after the other."""

    def __init__(self, tables: _Tables, max_pixels: int) -> None:
        self._tables = tables
        self._pixels_left = max_pixels

    def read(self, instance: Any, field: str) -> tuple[dict[str, Array], Image | None]:
        """One row: an item for each input, and the picture if there is one."""
        values = self._named(instance, field)
        row = {
            spec.name: np.zeros([dim for dim in spec.item_shape if isinstance(dim, int)], dtype=spec.dtype)
            for spec in self._tables.fed
        }
        for feature in self._tables.features:
            value = self._feature(feature, values[feature.name], field)
            row[feature.input].reshape(-1)[feature.index] = value
        picture: Image | None = None
        for spec in self._tables.whole:
            place = field if self._tables.alone else f"{field}.{spec.name}"
            row[spec.name], seen = self._input(spec, values[spec.name], place)
            picture = picture or seen
        return row, picture

    def _named(self, instance: Any, field: str) -> Mapping[str, Any]:
        """The row's values by name, with nothing missing and nothing more."""
        names = self._tables.names
        if self._tables.alone:
            (spec,) = self._tables.whole
            if isinstance(instance, dict) and set(instance) == {spec.name} and spec.name != "b64":
                return instance
            return {spec.name: instance}
        if isinstance(instance, list) and not self._tables.whole:
            if len(instance) != len(names):
                raise InvalidInput(field, f"{len(instance)} values", f"{len(names)}: {_listed(names)}")
            return dict(zip(names, instance, strict=True))
        if not isinstance(instance, dict):
            form = "an object" if self._tables.whole else "a list or an object"
            raise InvalidInput(field, kind_of(instance), f"{form} with {_listed(names)}")
        known = set(names)
        unknown = [name for name in instance if name not in known]
        if unknown:
            raise InvalidInput(field, f"the unknown name {shown(unknown[0])}", f"only {_listed(names)}")
        missing = [name for name in names if name not in instance]
        if missing:
            raise InvalidInput(f"{field}.{missing[0]}", "nothing", f"a value for each of {_listed(names)}")
        return instance

    def _feature(self, feature: Feature, value: Any, field: str) -> float | int | bool:
        place = f"{field}.{feature.name}"
        spec = self._tables.specs[feature.input]
        if feature.kind == "number":
            if spec.dtype == "bool" and isinstance(value, bool):
                return value
            return number(value, spec.dtype, place)
        codes = self._tables.codes[feature.name]
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

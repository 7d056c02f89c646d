"""What makes a well-typed manifest sensible: fields that must agree with each other.

Each check raises InvalidManifest with the path of the field at fault. Types are already right when these run.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable

from .errors import InvalidManifest, shown
from .manifest import (
    DEFAULT_BACKGROUND,
    Dim,
    ExplanationDefaults,
    Feature,
    FileRef,
    ImageSpec,
    InputSpec,
    Manifest,
    OutputSpec,
)
from .outside import is_plain

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NAME_RULE = "1 to 100 letters, digits, '.', '_' or '-', starting with a letter or digit"
DIGEST = re.compile(r"[0-9a-f]{64}")

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES = (*FLOATS, *INTEGERS, "bool")


def check_sense(manifest: Manifest) -> None:
    """Raise InvalidManifest for the first field that contradicts another or cannot be served."""
    if not NAME.fullmatch(manifest.name):
        raise InvalidManifest("name", f"got {shown(manifest.name)}, expected {NAME_RULE}")
    _check_created(manifest.created)
    for role, file in manifest.files.items():
        _check_file(f"files.{role}", file)
    for name, file in manifest.data_files.items():
        if not is_plain(name):
            raise InvalidManifest("data_files", f"got {shown(name)}, expected the name of a file")
        _check_file(f"data_files.{name}", file)
    _check_backgrounds(manifest)
    if not manifest.inputs:
        raise InvalidManifest("inputs", "is empty; a served model has at least one input")
    if not manifest.outputs:
        raise InvalidManifest("outputs", "is empty; a served model has at least one output")
    _unique("inputs", "name", (spec.name for spec in manifest.inputs))
    _unique("outputs", "name", (spec.name for spec in manifest.outputs))
    for position, spec in enumerate(manifest.inputs):
        _check_input(f"inputs[{position}]", spec)
    for position, output in enumerate(manifest.outputs):
        _check_tensor(f"outputs[{position}]", output)
        _check_output(f"outputs[{position}]", output)
    dtypes = {spec.dtype for spec in manifest.inputs} | {spec.dtype for spec in manifest.outputs}
    if "model_float16" in manifest.files and "float16" in dtypes:
        raise InvalidManifest("files.model_float16", "stands beside a model that takes or gives float16 itself")
    _check_features(manifest)
    _check_batching(manifest)
    _check_explanation(manifest.explanation, [output.name for output in manifest.outputs])
    _check_held(manifest.explanation.held, [spec.name for spec in manifest.inputs])
    for name, value in manifest.metrics.items():
        _finite(f"metrics.{name}", value)


def _check_created(created: str) -> None:
    if not created:
        return
    try:
        moment = datetime.datetime.fromisoformat(created)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidManifest("created", f"got {shown(created)}, expected an RFC 3339 time with its zone")


def _check_file(path: str, file: FileRef) -> None:
    if not DIGEST.fullmatch(file.digest):
        raise InvalidManifest(f"{path}.digest", f"got {shown(file.digest)}, expected 64 lower-case hex digits")
    if file.size < 0:
        raise InvalidManifest(f"{path}.size", f"got {file.size}, expected 0 or more bytes")


def _check_backgrounds(manifest: Manifest) -> None:
    for name, found in manifest.backgrounds.items():
        path = f"backgrounds.{name}"
        if not NAME.fullmatch(name):
            raise InvalidManifest("backgrounds", f"got {shown(name)}, expected {NAME_RULE}")
        if name == DEFAULT_BACKGROUND and "background" in manifest.files:
            raise InvalidManifest(path, "stands beside files.background, which is the set of this name")
        if found.rows < 1:
            raise InvalidManifest(f"{path}.rows", f"got {found.rows}, expected at least 1")
        if found.file is not None:
            _check_file(f"{path}.file", found.file)


def _check_tensor(path: str, spec: InputSpec | OutputSpec) -> None:
    if not spec.name:
        raise InvalidManifest(f"{path}.name", "is empty")
    if spec.dtype not in DTYPES:
        raise InvalidManifest(f"{path}.dtype", f"got {shown(spec.dtype)}, expected one of {', '.join(DTYPES)}")
    for axis, dim in enumerate(spec.shape):
        if isinstance(dim, int) and dim < 1:
            raise InvalidManifest(f"{path}.shape[{axis}]", f"got {dim}, expected at least 1")
        if dim == "":
            raise InvalidManifest(f"{path}.shape[{axis}]", "is an empty name; write null for a free axis")
    if spec.batch_axis is not None and not 0 <= spec.batch_axis < len(spec.shape):
        raise InvalidManifest(
            f"{path}.batch_axis",
            f"got {spec.batch_axis}, expected an axis of a shape of rank {len(spec.shape)}, or null",
        )


def _check_input(path: str, spec: InputSpec) -> None:
    _check_tensor(path, spec)
    if spec.kind == "image":
        if spec.image is None:
            raise InvalidManifest(f"{path}.image", "is missing; an image input says its size and colours")
        _check_image(path, spec, spec.image)
    elif spec.image is not None:
        raise InvalidManifest(f"{path}.image", f"stands on an input of kind {spec.kind!r}, expected null")


def _check_image(path: str, spec: InputSpec, image: ImageSpec) -> None:
    for field in ("height", "width"):
        if getattr(image, field) < 1:
            raise InvalidManifest(f"{path}.image.{field}", f"got {getattr(image, field)}, expected at least 1")
    wanted = image.item_shape
    item = spec.item_shape
    if spec.batch_axis is None and len(item) == 4 and item[0] == 1:
        raise InvalidManifest(
            f"{path}.batch_axis", f"is null for shape {spec.shape}; a fixed batch of 1 is batch axis 0"
        )
    if len(item) != 3 or any(isinstance(dim, int) and dim != want for dim, want in zip(item, wanted, strict=True)):
        raise InvalidManifest(
            f"{path}.shape", f"got {list(item)} per item, expected {list(wanted)} ({image.mode}, {image.layout})"
        )
    for field in ("scale", "offset"):
        _check_per_channel(f"{path}.image.{field}", getattr(image, field), image.channels, nonzero=field == "scale")
    if spec.dtype == "bool" or (spec.dtype not in FLOATS and (image.scale != 1.0 or image.offset != 0.0)):
        raise InvalidManifest(
            f"{path}.image.scale", f"cannot be applied to {spec.dtype}; expected a float input, or scale 1 and offset 0"
        )
    if spec.dtype == "int8":
        raise InvalidManifest(f"{path}.dtype", "int8 cannot hold pixels of 0 to 255")


def _check_per_channel(path: str, value: float | list[float], channels: int, *, nonzero: bool) -> None:
    if isinstance(value, list) and len(value) != channels:
        raise InvalidManifest(path, f"has {len(value)} numbers, expected one, or one for each of {channels} channels")
    for number in value if isinstance(value, list) else [value]:
        _finite(path, number)
        if nonzero and number == 0:
            raise InvalidManifest(path, "is 0, which would erase the picture")


def _check_output(path: str, output: OutputSpec) -> None:
    if output.threshold is not None:
        _finite(f"{path}.threshold", output.threshold)
    if not output.class_names:
        return
    _unique(f"{path}.class_names", "", output.class_names)
    if output.kind not in ("logits", "probabilities"):
        raise InvalidManifest(f"{path}.class_names", f"stands on an output of kind {output.kind!r}")
    count, item = len(output.class_names), output.item_shape
    if len(item) <= 1:
        classes: Dim = item[0] if item else 1
        # One number between two classes carries both names.
        fits = not isinstance(classes, int) or count == classes or (classes == 1 and count == 2)
    else:
        fits = any(not isinstance(dim, int) or dim == count for dim in item)
    if not fits:
        raise InvalidManifest(f"{path}.class_names", f"has {count} names for an output of shape {list(item)} per item")


def _check_features(manifest: Manifest) -> None:
    _unique("features", "name", (feature.name for feature in manifest.features))
    inputs = {spec.name: spec for spec in manifest.inputs}
    fed: dict[str, dict[int, int]] = {}
    for position, feature in enumerate(manifest.features):
        path = f"features[{position}]"
        if not feature.name:
            raise InvalidManifest(f"{path}.name", "is empty")
        if feature.input not in inputs:
            raise InvalidManifest(f"{path}.input", f"got {shown(feature.input)}, expected one of {sorted(inputs)}")
        spec = inputs[feature.input]
        if spec.kind == "image":
            raise InvalidManifest(f"{path}.input", f"{shown(feature.input)} is an image, which has no features")
        size = _item_size(path, spec)
        if not 0 <= feature.index < size:
            raise InvalidManifest(
                f"{path}.index", f"got {feature.index}, expected 0 to {size - 1} of {feature.input!r}"
            )
        places = fed.setdefault(feature.input, {})
        if feature.index in places:
            other = places[feature.index]
            raise InvalidManifest(
                f"{path}.index", f"{feature.index} of {feature.input!r} is already fed by features[{other}]"
            )
        places[feature.index] = position
        _check_feature(path, feature, spec)
    for name, places in fed.items():
        missing = [index for index in range(_item_size("features", inputs[name])) if index not in places]
        if missing:
            raise InvalidManifest("features", f"no feature feeds position {missing[0]} of input {name!r}")
    clash = {feature.name for feature in manifest.features} & (set(inputs) - set(fed))
    if clash:
        raise InvalidManifest("features", f"{sorted(clash)[0]!r} names both a feature and an input that has none")


def _item_size(path: str, spec: InputSpec) -> int:
    size = 1
    for dim in spec.item_shape:
        if not isinstance(dim, int):
            raise InvalidManifest(
                f"{path}.input", f"{spec.name!r} has a free axis; features need a fixed shape per item"
            )
        size *= dim
    return size


def _check_feature(path: str, feature: Feature, spec: InputSpec) -> None:
    if feature.kind == "category":
        if not feature.levels:
            raise InvalidManifest(f"{path}.levels", "is empty; a category has at least one level")
        _unique(f"{path}.levels", "value", (level.value for level in feature.levels))
        largest = {"bool": 2, "int8": 128, "uint8": 256, "float16": 2049}.get(spec.dtype, 1 << 24)
        if len(feature.levels) > largest:
            raise InvalidManifest(
                f"{path}.levels", f"has {len(feature.levels)} levels, {spec.dtype} can number {largest}"
            )
    elif feature.levels:
        raise InvalidManifest(f"{path}.levels", "stands on a number; only a category has levels")
    for field in ("minimum", "maximum"):
        value = getattr(feature, field)
        if value is not None:
            _finite(f"{path}.{field}", value)
    if feature.minimum is not None and feature.maximum is not None and feature.minimum > feature.maximum:
        raise InvalidManifest(f"{path}.minimum", f"{feature.minimum} is greater than the maximum {feature.maximum}")


def _check_batching(manifest: Manifest) -> None:
    specs: list[tuple[str, InputSpec | OutputSpec]] = [
        *((f"inputs[{position}]", spec) for position, spec in enumerate(manifest.inputs)),
        *((f"outputs[{position}]", spec) for position, spec in enumerate(manifest.outputs)),
    ]
    for path, spec in specs:
        dim = None if spec.batch_axis is None else spec.shape[spec.batch_axis]
        if isinstance(dim, int) and dim != 1:
            raise InvalidManifest(f"{path}.batch_axis", f"is fixed at {dim}; expected a free axis, 1, or null")
        if manifest.batching.mode == "item" and (spec.batch_axis is None or isinstance(dim, int)):
            raise InvalidManifest(
                f"{path}.batch_axis", "is no free axis, so items cannot be stacked; expected batching.mode 'row'"
            )


def _check_explanation(explanation: ExplanationDefaults, outputs: list[str]) -> None:
    _unique("explanation.methods", "", explanation.methods)
    if explanation.method is not None and explanation.method not in explanation.methods:
        raise InvalidManifest(
            "explanation.method", f"got {shown(explanation.method)}, expected one of the methods {explanation.methods}"
        )
    if explanation.output is not None and explanation.output not in outputs:
        raise InvalidManifest("explanation.output", f"got {shown(explanation.output)}, expected one of {outputs}")
    for method in explanation.refused:
        if method in explanation.methods:
            raise InvalidManifest(f"explanation.refused.{method}", "is both offered and refused")
    if explanation.baseline is not None:
        _finite("explanation.baseline.value", explanation.baseline.value)


def _check_held(held: list[str], inputs: list[str]) -> None:
    _unique("explanation.held", "", held)
    unknown = [name for name in held if name not in inputs]
    if unknown:
        raise InvalidManifest("explanation.held", f"got {shown(unknown[0])}, expected some of {inputs}")
    if len(held) == len(inputs):
        raise InvalidManifest("explanation.held", "names every input; at least one is a feature")


def _finite(path: str, value: float) -> None:
    if not math.isfinite(value):
        raise InvalidManifest(path, f"got {value}, expected a finite number")


def _unique(path: str, field: str, values: Iterable[str]) -> None:
    seen: dict[str, int] = {}
    for position, value in enumerate(values):
        if value in seen:
            place = f"{path}[{position}]" + (f".{field}" if field else "")
            raise InvalidManifest(place, f"{shown(value)} already stands at {path}[{seen[value]}]")
        seen[value] = position

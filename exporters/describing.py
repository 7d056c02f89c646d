"""Builds an Exported: a graph and what is known about it become a checked manifest with its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import onnx

from model_store import (
    Baseline,
    ExplanationDefaults,
    Feature,
    InputSpec,
    InvalidManifest,
    Manifest,
    OutputSpec,
)

from .backgrounds import Background, background_sets
from .defaults import Spec, explanation
from .errors import InvalidExport
from .exported import Array, Exported

StructT = TypeVar("StructT", Manifest, ExplanationDefaults)


def describe(
    model: bytes,
    *,
    name: str,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    features: Sequence[Feature] = (),
    description: str = "",
    training: Mapping[str, Array] | None = None,
    background: Mapping[str, Array] | None = None,
    backgrounds: Mapping[str, Background | Mapping[str, Array]] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    method: str | None = None,
    baseline: Baseline | None = None,
    groups: bool | Spec | None = None,
    removal: Spec | None = None,
    metrics: Mapping[str, float] | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> Exported:
    """A draft manifest and its files; the methods on offer are those the graph and the files allow.

    training  the rows the model was trained on, by input name: they give each number its range seen in training
    backgrounds  further sets of rows by name, of which at most 100 are kept (backgrounds.py)
    method, groups, removal  how it is explained; by the kind of model where left open or not possible (defaults.py)

    Raises InvalidExport where graph, manifest and files contradict each other.
    """
    check_graph(model, inputs, outputs)
    check_background(inputs, background)
    ranged = [_ranged(feature, training) for feature in features] if training else list(features)
    sets, packed = background_sets(_checked(inputs, backgrounds or {}), ranged)
    known = baseline if background is not None else _without_background(baseline)
    graph = (model, inputs, outputs, ranged, background)
    told = explanation(*graph, method=method, baseline=known, groups=groups, removal=removal)
    manifest = Manifest(
        name=name,
        description=description,
        inputs=list(inputs),
        outputs=list(outputs),
        features=ranged,
        backgrounds=sets,
        explanation=told,
        metrics=dict(metrics or {}),
        lineage=dict(lineage or {}),
    )
    return Exported(model, _validated(manifest), background, tuple(examples), background_sets=packed)


def _validated(manifest: Manifest) -> Manifest:
    try:
        return manifest.validated()
    except InvalidManifest as error:
        raise InvalidExport(f"the export of {manifest.name!r} cannot be described: {error}") from error


def _without_background(baseline: Baseline | None) -> Baseline | None:
    """A mean of rows that are not there is no baseline."""
    return None if baseline is None or baseline.kind == "background_mean" else baseline


def output_spec(
    model: bytes, name: str, kind: Literal["logits", "probabilities", "value", "reconstruction", "tensor"], **rest: Any
) -> OutputSpec:
    """An OutputSpec whose dtype and shape are read from the graph; axis 0 is the batch."""
    for value in onnx.load_model_from_string(model).graph.output:
        if value.name == name:
            dtype, shape = tensor_type(value)
            return OutputSpec(name=name, kind=kind, dtype=dtype, shape=shape, batch_axis=0, **rest)
    raise InvalidExport(f"the graph has no output {name!r}")


def tensor_type(value: onnx.ValueInfoProto) -> tuple[str, list[int | str | None]]:
    """numpy dtype name and shape (int fixed, name or None free) of a graph's input or output."""
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    shape: list[int | str | None] = []
    for dim in kind.shape.dim:
        shape.append(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None)
    return dtype, shape


def check_graph(model: bytes, inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec]) -> None:
    """Graph and specs name the same tensors, of the same dtypes and ranks. Raises InvalidExport."""
    graph = onnx.load_model_from_string(model).graph
    weights = {tensor.name for tensor in graph.initializer}
    pairs: tuple[tuple[str, Sequence[InputSpec | OutputSpec], list[onnx.ValueInfoProto]], ...] = (
        ("input", inputs, [value for value in graph.input if value.name not in weights]),
        ("output", outputs, list(graph.output)),
    )
    for word, specs, values in pairs:
        found = {value.name: tensor_type(value) for value in values}
        if {spec.name for spec in specs} != set(found):
            raise InvalidExport(f"{word}s: described {[spec.name for spec in specs]}, the graph has {list(found)}")
        for spec in specs:
            dtype, shape = found[spec.name]
            if dtype != spec.dtype or len(shape) != len(spec.shape):
                raise InvalidExport(
                    f"{word} {spec.name!r}: described {spec.dtype} {spec.shape}, the graph has {dtype} {shape}"
                )


def check_background(inputs: Sequence[InputSpec], background: Mapping[str, Array] | None) -> None:
    """A background has every input, each with the same number of rows and the input's own dtype and item shape."""
    if background is None:
        return
    if set(background) != {spec.name for spec in inputs}:
        raise InvalidExport(f"background: has {sorted(background)}, expected {sorted(spec.name for spec in inputs)}")
    rows = {len(array) for array in background.values()}
    if len(rows) != 1 or rows == {0}:
        raise InvalidExport(f"background: inputs have {sorted(rows)} rows, expected one number of at least 1")
    for spec in inputs:
        array = background[spec.name]
        fits = array.ndim == len(spec.item_shape) + 1 and all(
            not isinstance(want, int) or want == size
            for want, size in zip(spec.item_shape, array.shape[1:], strict=True)
        )
        if array.dtype.name != spec.dtype or not fits:
            raise InvalidExport(
                f"background {spec.name!r}: {array.dtype.name} {list(array.shape[1:])} per row, "
                f"expected {spec.dtype} {list(spec.item_shape)}"
            )


def _checked(
    inputs: Sequence[InputSpec], sets: Mapping[str, Background | Mapping[str, Array]]
) -> Mapping[str, Background | Mapping[str, Array]]:
    for each in sets.values():
        check_background(inputs, each.rows if isinstance(each, Background) else each)
    return sets


def _ranged(feature: Feature, training: Mapping[str, Array]) -> Feature:
    """The feature with the range its numbers had in training."""
    if feature.kind != "number":
        return feature
    rows = training[feature.input]
    column = rows.reshape(len(rows), -1)[:, feature.index].astype(np.float64)
    return Feature(
        name=feature.name,
        label=feature.label,
        unit=feature.unit,
        kind=feature.kind,
        input=feature.input,
        index=feature.index,
        group=feature.group,
        minimum=float(column.min()),
        maximum=float(column.max()),
    )


def rebuilt(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with some fields changed, validated."""
    return replaced(manifest, **changes).validated()


def replaced(struct: StructT, **changes: Any) -> StructT:
    """A part of a manifest, or a manifest, with some fields changed."""
    fields = {name: getattr(struct, name) for name in type(struct).__struct_fields__}
    return type(struct)(**{**fields, **changes})

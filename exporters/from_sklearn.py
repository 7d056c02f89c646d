"""A fitted scikit-learn pipeline as ONNX, with its preprocessing inside and the inputs a client can send.

    pipeline fitted on an array         features [N, k] ─────────────────────────────► converted pipeline
    pipeline fitted on a DataFrame      numeric  [N, k] ─ one [N, 1] per column ─────► converted pipeline
                                        codes    [N, c] ─ level value of each code ──┘

A category is sent as the position of its level; the graph looks the level's value up (text or number), so that the
pipeline's own encoder still sees what it was fitted on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import onnx

from model_store import Feature, InputSpec, Level, OutputSpec

from .describing import output_spec
from .errors import InvalidExport, UnsupportedModel
from .graphs import finished
from .sklearn_boosting import converters
from .sklearn_graph import OPSETS, columns_behind_tensors, with_outputs


@dataclass(frozen=True)
class Column:
    """One column of the data a pipeline was fitted on.

    levels  for a category: each value as it stands in the data (text or number) with its plain-language label, in the
            order by which codes count
    """

    name: str
    label: str = ""
    unit: str | None = None
    levels: Mapping[Any, str] = field(default_factory=dict)
    group: str | None = None


@dataclass(frozen=True)
class Converted:
    """A converted pipeline and how its tensors are described; what ``describe`` takes."""

    model: bytes
    inputs: list[InputSpec]
    outputs: list[OutputSpec]
    features: list[Feature]


def export_sklearn(
    pipeline: Any,
    columns: Sequence[Column],
    *,
    class_names: Sequence[str] | None = None,
    output_label: str | None = None,
    unit: str | None = None,
) -> Converted:
    """Converts a fitted classifier (``probabilities`` [N, classes]) or regressor (``value`` [N, 1]).

    columns  in the order of the data the pipeline was fitted on

    Raises UnsupportedModel naming the step that skl2onnx cannot convert, InvalidExport when columns do not fit.
    """
    named = _names_seen(pipeline, columns)
    if named:
        blocks = {"numeric": [c for c in columns if not c.levels], "codes": [c for c in columns if c.levels]}
    else:
        blocks = {"features": list(columns), "codes": []}
    raw = _converted(pipeline, columns, named)
    tables = {column.name: list(column.levels) for column in blocks["codes"]}
    if named:
        raw = columns_behind_tensors(raw, [column.name for column in blocks["numeric"]], tables)
    classifier = hasattr(pipeline, "predict_proba")
    wanted = {"probabilities": "probabilities"} if classifier else {"variable": "value"}
    model = finished(with_outputs(raw, wanted))
    classes = [str(name) for name in (class_names or pipeline.classes_)] if classifier else []
    kind: Literal["probabilities", "value"] = "probabilities" if classifier else "value"
    return Converted(
        model,
        [_input(name, members) for name, members in blocks.items() if members],
        [output_spec(model, kind, kind, class_names=classes, unit=unit, label=output_label)],
        [_feature(column, blocks) for column in columns],
    )


def _names_seen(pipeline: Any, columns: Sequence[Column]) -> bool:
    """Whether the pipeline was fitted on named columns; checks that they are these. Raises InvalidExport."""
    if not hasattr(pipeline, "predict"):
        raise UnsupportedModel(f"{type(pipeline).__name__} does not predict; export a fitted classifier or regressor")
    if not hasattr(pipeline, "n_features_in_"):
        raise UnsupportedModel(f"{type(pipeline).__name__} is not fitted; call fit first")
    given = [column.name for column in columns]
    seen = getattr(pipeline, "feature_names_in_", None)
    if seen is not None and list(seen) != given:
        raise InvalidExport(f"columns: came {given}, the pipeline was fitted on {list(seen)}")
    if len(given) != pipeline.n_features_in_:
        raise InvalidExport(f"columns: came {len(given)}, the pipeline was fitted on {pipeline.n_features_in_}")
    coded = [column.name for column in columns if column.levels]
    if seen is None and coded:
        raise InvalidExport(
            f"column {coded[0]!r} has levels, but the pipeline was fitted on an array without column names; "
            "fit it on a DataFrame, so that its encoder can be given the level's value"
        )
    return seen is not None


def _converted(pipeline: Any, columns: Sequence[Column], named: bool) -> onnx.ModelProto:
    """skl2onnx's own result: an input per named column, or one matrix."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"text": StringTensorType, "integer": Int64TensorType, "float": FloatTensorType}
    types = [(column.name, kinds[_value_kind(column)]([None, 1])) for column in columns]
    if not named:
        types = [("features", FloatTensorType([None, len(columns)]))]
    options = {"zipmap": False} if hasattr(pipeline, "predict_proba") else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: onnx.ModelProto = convert_sklearn(
                pipeline,
                initial_types=types,
                target_opset=OPSETS,
                options={id(pipeline): options} if options else None,
                **converters(),
            )
    except Exception as error:  # converters of single estimators raise whatever their author chose
        raise UnsupportedModel(_advice(pipeline, error)) from error
    return model


def _value_kind(column: Column) -> str:
    """How the level values of a column stand in the graph; numbers without levels are floats."""
    if not column.levels:
        return "float"
    kinds = {type(value) for value in column.levels}
    if kinds == {str}:
        return "text"
    if kinds == {int}:
        return "integer"
    if kinds <= {int, float}:
        return "float"
    raise InvalidExport(f"column {column.name!r}: levels are of {sorted(k.__name__ for k in kinds)}, expected one kind")


def _advice(pipeline: Any, error: Exception) -> str:
    """Which estimator, and what to do instead."""
    parts = [part for part in (pipeline, *pipeline.get_params(deep=True).values()) if hasattr(part, "fit")]
    names = [type(part).__name__ for part in parts]
    last = type(pipeline.steps[-1][1]).__name__ if hasattr(pipeline, "steps") else names[0]
    name = next((name for name in names if name in str(error) and name != "Pipeline"), last)
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"scikit-learn's {name} cannot be converted to ONNX ({first[:160]}); use an estimator that skl2onnx knows, "
        "or do that step before the data is sent and export the rest of the pipeline"
    )


def _input(name: str, members: Sequence[Column]) -> InputSpec:
    dtype = "int64" if name == "codes" else "float32"
    return InputSpec(name=name, kind="tabular", dtype=dtype, shape=["N", len(members)], batch_axis=0)


def _feature(column: Column, blocks: Mapping[str, list[Column]]) -> Feature:
    block = next(name for name, members in blocks.items() if column in members)
    return Feature(
        name=column.name,
        label=column.label or column.name,
        unit=column.unit,
        kind="category" if column.levels else "number",
        input=block,
        index=blocks[block].index(column),
        levels=[Level(value=str(value), label=label) for value, label in column.levels.items()],
        group=column.group,
    )

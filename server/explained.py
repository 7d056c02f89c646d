"""From an attribution to the answer that carries it: names for targets and features, figures per row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import explain
from model_store import Decoded, OutputSpec

from . import features, grouping, references, targets
from .loaded import LoadedModel
from .messages import Answer, ExplainAnswer, ExplainRequest, FeatureAttribution, Runs


def explained_answer(
    loaded: LoadedModel,
    predicted: Answer,
    run: explain.Run,
    decoded: Decoded,
    request: ExplainRequest,
    compared: Mapping[str, Any],
) -> ExplainAnswer:
    """The prediction together with its explanation so far; `compared` is what explain/ was given to compare with."""
    rows, attribution, spec = decoded.rows, run.result(), targets.output_spec(loaded.manifest, request.output)
    removed = grouping.removed(run, predicted.manifest, request, compared)
    figures = (attribution.values, attribution.errors, attribution.half_widths)
    common = {entry.name: getattr(predicted, entry.name) for entry in dataclasses.fields(Answer)}
    return ExplainAnswer(
        **common,
        method=attribution.method,
        parameters=dict(attribution.parameters),
        seed=attribution.seed,
        output=spec.name,
        explained_name=attribution.explained_name,
        units=_units(attribution.units, spec),
        targets=[
            targets.describe_target(attribution.target.index[row], attribution.target.weight[row], spec)
            for row in range(rows)
        ],
        values=attribution.values,
        errors=attribution.errors,
        error_kind=attribution.error_kind,
        half_widths=attribution.half_widths,
        groups=removed.groups,
        removal=removed.removal,
        group_index=removed.index,
        background=references.quoted(loaded, request, compared),
        features=_named(loaded, decoded, figures, removed.groups),
        compared=references.sent(request, compared),
        base_values=_numbers(attribution.base_values),
        explained_values=_numbers(attribution.explained_value) or (),
        quality=[dict(entry) for entry in attribution.quality],
        program_digest=attribution.program_digest,
        baseline_digest=attribution.baseline_digest,
        background_digest=attribution.background_digest,
        approximations=attribution.approximations,
        images=decoded.images,
    )


def kept_answer(loaded: LoadedModel, decoded: Decoded, kept: Mapping[str, Any], runs: Runs) -> ExplainAnswer:
    """The answer of an equal request before (results.py), for this one: its own rows, names and `runs`, still none."""
    figures = (kept["values"], kept["errors"], kept["half_widths"])
    return ExplainAnswer(
        **kept,
        version=loaded.version,
        inputs=decoded.inputs,
        images=decoded.images,
        features=_named(loaded, decoded, figures, kept["groups"]),
        runs=runs,
        cached=True,
    )


def _named(
    loaded: LoadedModel, decoded: Decoded, figures: features.Figures, groups: Sequence[Mapping[str, Any]] | None
) -> list[list[FeatureAttribution]] | None:
    names = None if groups is None else [entry["names"] for entry in groups]
    return features.by_feature(loaded.manifest, decoded.inputs, figures, names, decoded.rows)


def _units(units: str, spec: OutputSpec) -> str:
    """The unit explained: a logit or a probability as such, else the output's own unit by the manifest."""
    if units in ("logit", "probability"):
        return units
    return spec.unit or {"logits": "logit", "probabilities": "probability"}.get(spec.kind, "output units")


def _numbers(array: Any) -> Sequence[float] | None:
    return None if array is None else [float(value) for value in np.asarray(array).reshape(-1)]

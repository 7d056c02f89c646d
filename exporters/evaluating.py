"""A stored model's explanations over rows of data: distributions of their figures, and the randomisation test."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import explain
from model_store import Manifest, ModelVersion, decode_rows

from .exported import Array
from .references import baseline_of, compared
from .running import batch_axes, run

if TYPE_CHECKING:
    from engine import Engine


def evaluate(
    version: ModelVersion,
    instances: Sequence[Any],
    engine: Engine,
    *,
    method: str,
    checks: Any = ("deletion_insertion", "infidelity", "max_sensitivity"),
    draws: int = 0,
    **parameters: Any,
) -> dict[str, Any]:
    """What one method is worth on a model of the store, over `instances` as a client would send them; JSON-able.

    `draws` random copies of the model are compared with it, none for 0; `randomisation` says "not_judged" and why where
    the model has no weights. What is compared with is the manifest's:
    baseline, background and groups of features. Raises what `explain.evaluate` and `explain.mprt` raise, and the
    store's errors for rows that do not fit.
    """
    manifest = version.manifest
    axes = batch_axes(manifest.inputs, manifest.outputs)
    by_row = manifest.batching.mode == "row"
    model = explain.Model(
        version.file(version.model_role),
        batch_axes=axes,
        row_by_row=by_row,
        data_files=version.data_files() or None,
        held=manifest.explanation.held,
    )
    background = _background(version)
    options = {
        "method": method,
        "run": partial(run, engine),
        "output": manifest.outputs[0].name,
        **_compared(method, manifest, background),
        **parameters,
    }
    inputs = dict(decode_rows(manifest, list(instances)).inputs)
    report = explain.evaluate(model, inputs, checks=checks, **options).to_dict()
    test = _randomised(model, inputs, draws, options) if draws else None
    return {"model": version.name, "version": version.version, **report, "randomisation": test}


def _randomised(
    model: explain.Model, inputs: Mapping[str, Array], draws: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The randomisation test, or why it cannot judge the model."""
    try:
        return explain.mprt(model, inputs, draws=draws, **options).to_dict()
    except explain.MethodUnavailable as error:
        return {"not_judged": str(error)}


def _background(version: ModelVersion) -> dict[str, Array] | None:
    if not version.has("background"):
        return None
    with np.load(io.BytesIO(version.file("background")), allow_pickle=False) as rows:
        return {name: rows[name] for name in rows.files}


def _compared(method: str, manifest: Manifest, background: Mapping[str, Array] | None) -> dict[str, Any]:
    """What the method compares with, or, where it compares with nothing, what a check may put in the place of what it
    removes: a baseline, but for input x gradient, which would compare with it."""
    chosen = explain.METHODS.get(method)
    needs = chosen.needs if chosen is not None else frozenset()
    if "baseline" in needs or not (needs & {"background", "reference"} or method == "input_x_gradient"):
        return {"baseline": baseline_of(manifest, background)}
    if chosen is not None and chosen.removes:
        return compared(needs, manifest, background, baseline_of(manifest, background))
    return {"background": background}

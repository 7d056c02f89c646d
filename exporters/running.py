"""Running a described model in the engine: arrays with the items along axis 0 in, the same out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import Engine, InProcessEngine, StoredModel
from model_store import InputSpec, Manifest, OutputSpec, from_model_layout, to_model_layout

from .exported import Array

if TYPE_CHECKING:
    from engine import Artifact

CHECK_BATCH = 256


def open_engine() -> Engine:
    """An engine of this process for checks alone, where no server has one to lend; the caller closes it."""
    return InProcessEngine(max_batch=CHECK_BATCH)


def batch_axes(inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec]) -> dict[str, int | None]:
    """The batch axis of every input and output, by name."""
    return {spec.name: spec.batch_axis for spec in inputs} | {spec.name: spec.batch_axis for spec in outputs}


def artifact_of(model: bytes, manifest: Manifest) -> StoredModel:
    """The model as the engine runs it: items along axis 0, or the whole tensors where the model knows no such axis."""
    axes = batch_axes(manifest.inputs, manifest.outputs)
    whole = manifest.batching.mode == "row" or any(axis != 0 for axis in axes.values())
    return stored(model, [spec.name for spec in manifest.inputs], [spec.name for spec in manifest.outputs], whole=whole)


def stored(model: bytes, inputs: Sequence[str], outputs: Sequence[str], *, whole: bool) -> StoredModel:
    """A file as the engine runs it; ``whole`` where its tensors cannot be joined along axis 0."""
    kind: Any = "shared" if whole else "item"
    digest = hashlib.sha256(model).hexdigest()
    return StoredModel(digest, dict.fromkeys(inputs, kind), dict.fromkeys(outputs, kind), lambda: model)


def predict(model: bytes, manifest: Manifest, inputs: Mapping[str, Array], engine: Engine) -> dict[str, Array]:
    """Outputs by name, [N, ...item]; one row per run where the manifest says ``row``."""
    artifact = artifact_of(model, manifest)
    rows = len(next(iter(inputs.values())))
    step = 1 if manifest.batching.mode == "row" else rows
    pieces = []
    for start in range(0, rows, step):
        feeds = to_model_layout(manifest, {name: array[start : start + step] for name, array in inputs.items()})
        pieces.append(from_model_layout(manifest, run(engine, artifact, feeds)))
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def run(engine: Engine, artifact: Artifact, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """One run's outputs; explanations of a check wait behind real predictions."""
    return dict(engine.run(artifact, dict(feeds), lane="explain").outputs)

"""Running a described model in the engine: arrays with the items along axis 0 in, the same out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import explain
from engine import Engine, InProcessEngine, StoredModel
from model_store import InputSpec, Manifest, OutputSpec, from_model_layout, to_model_layout

from .exported import Array

if TYPE_CHECKING:
    from engine import Artifact

CHECK_BATCH = 256
DataFiles = Mapping[str, Path]


def open_engine() -> Engine:
    """An engine of this process for checks alone, where no server has one to lend; the caller closes it."""
    return InProcessEngine(max_batch=CHECK_BATCH)


def batch_axes(inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec]) -> dict[str, int | None]:
    """The batch axis of every input and output, by name."""
    return {spec.name: spec.batch_axis for spec in inputs} | {spec.name: spec.batch_axis for spec in outputs}


def artifact_of(model: bytes, manifest: Manifest, data_files: DataFiles | None = None) -> StoredModel:
    """The model as the engine runs it: items along axis 0, or the whole tensors where the model knows no such axis."""
    axes = batch_axes(manifest.inputs, manifest.outputs)
    whole = manifest.batching.mode == "row" or any(axis != 0 for axis in axes.values())
    ends = [spec.name for spec in manifest.inputs], [spec.name for spec in manifest.outputs]
    return stored(model, *ends, whole=whole, data_files=data_files)


def stored(
    model: bytes, inputs: Sequence[str], outputs: Sequence[str], *, whole: bool, data_files: DataFiles | None = None
) -> StoredModel:
    """A file as the engine runs it; ``whole`` where its tensors cannot be joined along axis 0.

    data_files  paths of the files that hold its external data, by the names it has for them
    """
    kind: Any = "shared" if whole else "item"
    kinds = dict.fromkeys(inputs, kind), dict.fromkeys(outputs, kind)
    if not data_files:
        return StoredModel(hashlib.sha256(model).hexdigest(), *kinds, lambda: model)
    placed, folder = explain.placed(model, data_files)
    return StoredModel(
        _known_as(model, data_files),
        *kinds,
        lambda: placed,
        constants=lambda _: explain.weights(model, data_files),
        data_folder=folder,
    )


def _known_as(model: bytes, data_files: DataFiles) -> str:
    """What tells a file and its data from others while they are run here, without reading all of the data."""
    found = [(name, path, path.stat()) for name, path in sorted(data_files.items())]
    told = [(name, str(path), status.st_size, status.st_mtime_ns) for name, path, status in found]
    return hashlib.sha256(hashlib.sha256(model).digest() + repr(told).encode()).hexdigest()


def predict(
    model: bytes,
    manifest: Manifest,
    inputs: Mapping[str, Array],
    engine: Engine,
    data_files: DataFiles | None = None,
) -> dict[str, Array]:
    """Outputs by name, [N, ...item]; one row per run where the manifest says ``row``."""
    artifact = artifact_of(model, manifest, data_files)
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

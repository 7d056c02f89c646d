"""What is said about models: V2 metadata and configuration, statistics, and the console's list."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import engine
import explain
from model_store import InputSpec, ModelVersion, OutputSpec, StoreError

from . import features, methods, records
from .errors import ModelUnusable
from .loaded import LoadedModel, file_of
from .version import VERSION
from .wire.tensors import datatype_of

NAME = "glasshouse"
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
    "explain",
)
PLATFORM = "onnxruntime_onnx"


def server_metadata(info: engine.EngineInfo) -> dict[str, Any]:
    """The body of ``GET /v2``; its parameters say what computes the answers, the device that is tried first first."""
    runtime = {"runtime": info.runtime, "runtime_version": info.version, "providers": list(info.providers)}
    return {"name": NAME, "version": VERSION, "extensions": list(EXTENSIONS), "parameters": runtime}


def model_metadata(version: ModelVersion, numbers: list[int]) -> dict[str, Any]:
    """The body of ``GET /v2/models/{m}``; -1 stands for a free size."""
    return {
        "name": version.name,
        "versions": [str(number) for number in numbers],
        "platform": PLATFORM,
        "inputs": [_tensor(spec) for spec in version.manifest.inputs],
        "outputs": [_tensor(spec) for spec in version.manifest.outputs],
        "parameters": {
            "version": str(version.version),
            "model_digest": version.model_digest,
            "manifest_digest": version.digest,
            **records.told(version),
            **({"certificate_digest": version.certificate_digest} if version.certificate_digest else {}),
        },
    }


def _tensor(spec: InputSpec | OutputSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": _sizes(spec.shape)}


def _sizes(shape: Any) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in shape]


def model_config(loaded: LoadedModel, max_batch: int) -> dict[str, Any]:
    """The body of ``GET /v2/models/{m}/config``: what Triton's clients read of a configuration."""
    manifest = loaded.manifest
    return {
        "name": loaded.version.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": 0 if loaded.row_by_row else max_batch,
        "input": [_config_tensor(spec, loaded.row_by_row) for spec in manifest.inputs],
        "output": [_config_tensor(spec, loaded.row_by_row) for spec in manifest.outputs],
        "version_policy": {"all": {}},
    }


def _config_tensor(spec: InputSpec | OutputSpec, whole: bool) -> dict[str, Any]:
    datatype = datatype_of(spec.dtype)
    shape = spec.shape if whole else spec.item_shape
    return {
        "name": spec.name,
        "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
        "dims": _sizes(shape),
    }


def statistics(version: ModelVersion, all_figures: engine.EngineStatistics) -> dict[str, Any]:
    """One entry of ``model_stats``: the runs of the served file; explanations' programs are not among them."""
    figures = all_figures.artifacts.get(version.model_digest, engine.ArtifactStatistics())
    parts = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    return {
        "name": version.name,
        "version": str(version.version),
        "inference_count": figures.inference_count,
        "execution_count": figures.execution_count,
        "inference_stats": {part: _duration(getattr(figures, part)) for part in parts},
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": _duration(batch.compute_input),
                "compute_infer": _duration(batch.compute_infer),
                "compute_output": _duration(batch.compute_output),
            }
            for size, batch in figures.batches.items()
        ],
    }


def _duration(duration: engine.Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}


def example(version: ModelVersion) -> Any:
    """The first real example of a model, as a V1 instance; None where it has none.

    Raises:
        ModelUnusable: the file of examples is damaged.
    """
    if not version.has("examples"):
        return None
    try:
        entries = json.loads(file_of(version, "examples"))
        return entries[0]["instance"]
    except (ValueError, LookupError, TypeError):
        return None


def console_entry(loaded: LoadedModel) -> dict[str, Any]:
    """What the console needs to know of a model."""
    version, manifest = loaded.version, loaded.manifest
    offered = [name for name in manifest.explanation.methods if name in explain.METHODS]
    refused = [name for name in explain.METHODS if name not in offered]
    return {
        "name": version.name,
        "version": version.version,
        "digest": version.digest,
        "model_digest": version.model_digest,
        "description": manifest.description,
        "kind": features.kind_of_model(manifest),
        "features": features.describe(manifest),
        "inputs": [_input(spec) for spec in manifest.inputs],
        "outputs": [_output(spec) for spec in manifest.outputs],
        "metrics": dict(manifest.metrics),
        "explainers": [{"name": name, "summary": explain.METHODS[name].summary} for name in offered],
        "refused": [{"name": name, "reason": methods.reason(loaded, name)} for name in refused],
        "default_method": manifest.explanation.method,
        "example": _example_or_none(version),
    }


def _example_or_none(version: ModelVersion) -> Any:
    try:
        return example(version)
    except (StoreError, ModelUnusable):
        return None


def _input(spec: InputSpec) -> Mapping[str, Any]:
    size = None if spec.image is None else {"height": spec.image.height, "width": spec.image.width}
    return {"name": spec.name, "kind": spec.kind, "shape": _sizes(spec.shape), "image": size}


def _output(spec: OutputSpec) -> Mapping[str, Any]:
    return {
        "name": spec.name,
        "kind": spec.kind,
        "class_names": list(spec.class_names),
        "unit": spec.unit,
        "label": spec.label or spec.name,
        "threshold": spec.threshold,
    }

"""A served model as the bridges see it: arrays by input name in; the explained value and its gradient out.

Both come from the engine. The value is the served file's own output, or, for a logit that the file keeps inside, that
of a compiled program; the gradient is the compiled `vjp` of the same value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

import explain
from engine import Engine, StoredModel
from model_store import Feature, Manifest, ModelVersion, Store

from ..errors import InvalidBridge
from ..exported import Array, Exported
from ..running import CHECK_BATCH, batch_axes, run, stored

Served = explain.Model | onnx.ModelProto | bytes | str | os.PathLike[str] | ModelVersion | Exported


@dataclass(frozen=True)
class Bridged:
    """One output of a served model, explained in one space.

    model      the handle the programs are made of
    artifact   the served file
    output     which output; ``space``: "logit", "probability" or "output"; ``dtype`` of the value, a numpy name
    features   the manifest's, where there is one
    """

    model: explain.Model
    artifact: StoredModel
    engine: Engine
    output: str
    space: str
    dtype: str
    features: Sequence[Feature] = ()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The model's inputs, in the order of the file."""
        return tuple(self.model.graph.inputs)

    def value(self, inputs: Mapping[str, Array]) -> Array:
        """The explained value [N, ...item] of inputs [N, ...item]."""
        return self._logit(inputs) if self.space == "logit" else self._served(inputs)

    def gradient(self, inputs: Mapping[str, Array], cotangent: Array) -> dict[str, Array]:
        """Σ cotangent · ∂value/∂x by name of the inputs that are floats and carry a gradient, each shaped like x.

        Raises UnsupportedOperator or MethodUnavailable (of ``explain``) where the model has no gradient.
        """
        program = explain.compile(self.model, "vjp", output=self.output, space=self.space)
        made = run(self.engine, program, {**inputs, f"{self.output}.cotangent": cotangent.astype(self.dtype)})
        floats = [name for name, kind in self.model.graph.inputs.items() if kind.is_float]
        return {name: made[f"{name}.gradient"] for name in floats if f"{name}.gradient" in made}

    def _served(self, inputs: Mapping[str, Array]) -> Array:
        """The output of the served file; in parts where its tensors are taken whole."""
        axis = self.model.batch_axis(self.output)
        rows = len(next(iter(inputs.values())))
        whole = self.artifact.outputs[self.output] == "shared"
        step = 1 if self.model.row_by_row else CHECK_BATCH if whole else rows
        parts = []
        for start in range(0, rows, step):
            feeds = {name: self._laid_out(name, array[start : start + step]) for name, array in inputs.items()}
            array = run(self.engine, self.artifact, feeds)[self.output]
            parts.append(array[None] if axis is None else np.moveaxis(array, axis, 0))
        return np.concatenate(parts)

    def _laid_out(self, name: str, items: Array) -> Array:
        axis = self.model.batch_axis(name)
        return np.ascontiguousarray(items[0] if axis is None else np.moveaxis(items, 0, axis))

    def _logit(self, inputs: Mapping[str, Array]) -> Array:
        """What enters the final Softmax or Sigmoid: `masked_forward` with nothing masked gives it, flat."""
        program = explain.compile(self.model, "masked_forward", output=self.output, space=self.space)
        rows = len(next(iter(inputs.values())))
        feeds: dict[str, Array] = dict(inputs)
        for name, array in inputs.items():
            feeds[f"{name}.groups"] = np.zeros(array.shape[1:], dtype=np.int64)
            feeds[f"{name}.background"] = np.zeros_like(array[:1]) if array.dtype.kind == "f" else array[:1]
        feeds["mask"] = np.ones((rows, 1, 1), dtype=self.dtype)
        feeds["background.weight"] = np.ones(1, dtype=self.dtype)
        flat = run(self.engine, program, feeds)["value"][:, 0]
        sizes = self._item_sizes()
        if sum(not isinstance(size, int) for size in sizes) > 1:
            return flat.reshape(self._served(inputs).shape)
        return flat.reshape(rows, *(size if isinstance(size, int) else -1 for size in sizes))

    def _item_sizes(self) -> list[int | str | None]:
        """The sizes of one item of the output, a name or None where they are free."""
        shape, axis = self.model.graph.outputs[self.output].shape or (), self.model.batch_axis(self.output)
        return [size for place, size in enumerate(shape) if place != axis]

    def fitted(self, name: str, values: Array) -> Array:
        """Values in the dtype of an input. Raises InvalidBridge where that would change what they say."""
        kind = self.model.graph.inputs[name]
        if kind.dtype == "string":
            return np.asarray(values, dtype=object)
        wanted = np.dtype(kind.dtype)
        if values.dtype.kind not in "biuf":
            raise InvalidBridge(f"input {name!r}: came {values.dtype}, expected {wanted}")
        with np.errstate(invalid="ignore"):  # what is no number is not equal to itself below
            array = values.astype(wanted)
        if wanted.kind in "biu" and not np.array_equal(array, values):
            advice = (
                "whole codes; a background of means (shap.kmeans, say) has none" if values.dtype.kind == "f" else ""
            )
            raise InvalidBridge(f"input {name!r}: came values that {wanted} cannot hold, expected {advice or wanted}")
        return array


def bridged(
    model: Served,
    engine: Engine,
    *,
    store: Store | Path | str | None = None,
    version: int | str | None = None,
    output: str | None = None,
    space: str | None = None,
) -> Bridged:
    """A model made ready: a file, a handle, an export, a stored version, or with ``store`` the name of one in it.

    Raises InvalidBridge; InvalidModel and InvalidParameter of ``explain``; UnknownModel and its like of the store.
    """
    if isinstance(model, str) and store is not None:
        held = store if isinstance(store, Store) else Store(store, create=False)
        model = held.resolve(model, version)
    elif store is not None or version is not None:
        raise InvalidBridge(f"store, version: came with a {type(model).__name__}, expected the name of a stored model")
    handle, data, manifest = _opened(model)
    if manifest is not None and output is None:
        output = manifest.explanation.output
    explained = handle.explained(output, space)
    axes = [handle.batch_axis(name) for name in (*handle.graph.inputs, explained.output)]
    whole = handle.row_by_row or any(axis != 0 for axis in axes)
    inputs, data_files = list(handle.graph.inputs), handle.external.paths
    artifact = stored(data, inputs, [explained.output], whole=whole, data_files=data_files)
    features = () if manifest is None else tuple(manifest.features)
    return Bridged(handle, artifact, engine, explained.output, explained.space, explained.dtype, features)


def _opened(model: Served) -> tuple[explain.Model, bytes, Manifest | None]:
    """The handle, the file's bytes, and the manifest where there is one."""
    if isinstance(model, ModelVersion | Exported):
        data = model.model if isinstance(model, Exported) else model.file(model.model_role)
        manifest = model.manifest
        axes = batch_axes(manifest.inputs, manifest.outputs)
        files = model.data_files if isinstance(model, Exported) else model.data_files()
        by_row = manifest.batching.mode == "row"
        held = manifest.explanation.held
        handle = explain.Model(data, batch_axes=axes, row_by_row=by_row, data_files=files, held=held)
        return handle, data, manifest
    handle = explain.Model.of(model)
    return handle, model if isinstance(model, bytes) else bytes(handle.proto.SerializeToString()), None

"""Models in use: for each version, what the engine runs, what explain/ reads and its background rows.

What is costly is kept here for each version, the least recently used leaving first. Everything is made on first use, so
a model that is only predicted with is never parsed for explanations.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import engine
import explain
from model_store import CorruptBlob, ModelVersion, RowDecoder, StoreError, TensorDecoder, Tuning, UnknownBlob

from . import certified
from .backgrounds import BackgroundSets
from .errors import ModelUnusable
from .holds import Holds
from .logs import log, reasons
from .messages import Array

Key = tuple[str, int, str, str | None]


class LoadedModel:
    """One version: its artifact, its explain handle and its background sets.

    ``holds`` is told which graphs it needs in the engine, for as long as something refers to this object. So nothing
    in here may refer back to it: it ends the moment the last request lets go of it, not when cycles are looked for.
    """

    def __init__(self, version: ModelVersion, holds: Holds | None = None) -> None:
        self.version = version
        self.manifest = version.manifest
        self.key = key_of(version)
        # How long a row takes: of the shortest runs, in which it waited for nobody (runner.py).
        self.row_seconds = 0.0
        self._lock = threading.Lock()
        self._run_rows: int | None = None
        self._hold = None if holds is None else holds.of(self)

    @cached_property
    def row_by_row(self) -> bool:
        """Whether items cannot share a run, or do not lie along axis 0."""
        return self.manifest.batching.mode == "row" or any(axis != 0 for axis in self._axes.values())

    @cached_property
    def _axes(self) -> dict[str, int | None]:
        """The batch axis of every input and output."""
        axes = {spec.name: spec.batch_axis for spec in self.manifest.inputs}
        return axes | {spec.name: spec.batch_axis for spec in self.manifest.outputs}

    @cached_property
    def rows(self) -> RowDecoder:
        """Reads the rows of requests."""
        return RowDecoder(self.manifest)

    @cached_property
    def tensors(self) -> TensorDecoder:
        """Reads the tensors of requests."""
        return TensorDecoder(self.manifest)

    @cached_property
    def tuning(self) -> Tuning:
        """How it is run; where nobody has measured that, or what was kept cannot be read, the server's own settings."""
        try:
            return self.version.tuning() or Tuning()
        except StoreError as error:
            log().warning("tuning not read", extra={"model": self.version.name, "reason": reasons(error)})
            return Tuning()

    @cached_property
    def artifact(self) -> engine.StoredModel:
        """What the engine runs. Row by row, a run's tensors are taken whole, whichever axis counts its items."""
        kind: engine.Kind = "shared" if self.row_by_row else "item"
        version = self.version
        if self._hold is not None:
            self._hold.add(version.model_digest)
        return engine.StoredModel(
            digest=version.model_digest,
            inputs={spec.name: kind for spec in self.manifest.inputs},
            outputs={spec.name: kind for spec in self.manifest.outputs},
            **_content_of(version, self.data_files),
            max_items=1 if self.row_by_row else None,
            knobs=engine.Knobs(
                max_batch=self.tuning.max_batch,
                max_wait_ms=self.tuning.max_wait_ms,
                instances=self.tuning.instances,
                threads=self.tuning.threads,
            ),
        )

    @cached_property
    def data_files(self) -> dict[str, Path]:
        """Where the external data of the model lie, by the names its file has for them. Raises as `file_of`."""
        return data_of(self.version)

    def running(self, program: explain.Program) -> engine.Artifact:
        """A program of this model on its way to the engine: its session is unloaded with the model's, and its runs take
        as many threads as the model's; how large they may be is the plan's to say."""
        if self._hold is not None:
            self._hold.add(program.digest)
        return engine.StoredModel(
            digest=program.digest,
            inputs=program.inputs,
            outputs=program.outputs,
            load=program.serialize,
            max_items=program.max_items,
            constants=program.constants,
            data_folder=program.data_folder,
            knobs=engine.Knobs(instances=self.tuning.instances, threads=self.tuning.threads),
        )

    @property
    def run_rows(self) -> int | None:
        """How many rows of the model a run of its programs has at most; None while that is not decided."""
        return self._run_rows or self.tuning.run_rows

    def bound_runs(self, rows: int) -> None:
        """Decides it, once and for all: attributions depend on it in their last digits."""
        with self._lock:
            if self._run_rows is None:
                self._run_rows = self._source.run_rows = rows

    @property
    def source(self) -> explain.Model:
        """The handle whose compiled programs are kept for later requests."""
        with self._lock:
            return self._source

    @cached_property
    def _source(self) -> explain.Model:
        one_at_a_time = self.manifest.batching.mode == "row"
        return explain.Model(
            file_of(self.version, self.version.model_role),
            batch_axes=self._axes,
            row_by_row=one_at_a_time,
            run_rows=self.tuning.run_rows,
            data_files=self.data_files,
            held=self.manifest.explanation.held,
        )

    @property
    def background(self) -> dict[str, Array] | None:
        """Rows of the default background set by input name, axis 0 = rows; None where the model has none.

        Raises:
            ModelUnusable: the file is damaged.
            InvalidManifest: the file is no npz of the model's inputs.
        """
        found = self.backgrounds.get()
        return None if found is None else found.arrays

    @cached_property
    def backgrounds(self) -> BackgroundSets:
        """All background sets, by name."""
        version = self.version
        return BackgroundSets(self.manifest, lambda role: file_of(version, role))


def key_of(version: ModelVersion) -> Key:
    """What tells a loaded model from another: a version that is run in another way is loaded anew."""
    return version.name, version.version, version.digest, version.tuning_digest


def file_of(version: ModelVersion, role: str) -> bytes:
    """The bytes of a version's file.

    Raises:
        ModelUnusable: they are damaged or gone; names the model, the version, the file's part in it and its digest.
        StoreError: the store cannot be read.
    """
    try:
        return version.file(role)
    except (CorruptBlob, UnknownBlob) as error:
        raise _unusable(version, f"{role} file {version.manifest.every_file[role].digest}", error) from error


def data_of(version: ModelVersion) -> dict[str, Path]:
    """Where the external data of a version lie, verified, by the names its model has for them. Raises as `file_of`."""
    try:
        return version.data_files()
    except (CorruptBlob, UnknownBlob) as error:
        raise _unusable(version, f"data file {error.digest}", error) from error


def _unusable(version: ModelVersion, file: str, error: CorruptBlob | UnknownBlob) -> ModelUnusable:
    why = f"is damaged: {error.problem}" if isinstance(error, CorruptBlob) else "is not in the store"
    return ModelUnusable(f"model {version.name} version {version.version}: its {file} {why}")


def _content_of(version: ModelVersion, data_files: Mapping[str, Path]) -> dict[str, Any]:
    """How the engine gets the graph of a version and its constants: read when a session is made."""
    if not data_files:
        return {"load": lambda: file_of(version, version.model_role), "constants": explain.weights}
    return {
        "load": lambda: explain.placed(file_of(version, version.model_role), data_files)[0],
        "constants": lambda _: explain.weights(file_of(version, version.model_role), data_files),
        "data_folder": explain.placed(file_of(version, version.model_role), data_files)[1],
    }


class naming:  # noqa: N801 # a context manager, as contextlib spells them
    """Gives a failure to load the model its name: which version, which file, and why if that is known.

    Raises:
        ModelUnusable: in place of the engine's ``LoadFailed``.
    """

    __slots__ = ("_version",)

    def __init__(self, version: ModelVersion) -> None:
        self._version = version

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, engine.LoadFailed):
            return
        if isinstance(error.__cause__, ModelUnusable | StoreError):
            raise error.__cause__ from error.__cause__.__cause__
        version = self._version
        which = f"model {version.name} version {version.version}"
        raise ModelUnusable(f"{which}: the runtime refused its model file {version.model_digest}") from error


class LoadedModels:
    """The models in use, at most ``limit`` of them; with ``certified`` only those whose certificate has passed."""

    def __init__(self, limit: int, holds: Holds, *, certified: bool = False) -> None:
        self._limit = limit
        self._holds = holds
        self._certified = certified
        self._passed: set[tuple[str, str | None]] = set()
        self._models: OrderedDict[Key, LoadedModel] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, version: ModelVersion) -> LoadedModel:
        """The model of this version, made if it is not in use. Raises as `admit`."""
        self.admit(version)
        with self._lock:
            loaded = self._models.get(key_of(version)) or LoadedModel(version, self._holds)
            loaded.version = version  # its certificate may have been renewed
        self.put(loaded)
        return loaded

    def admit(self, version: ModelVersion) -> None:
        """Nothing, for a version that may be served.

        Raises:
            NotCertified: a certificate is required, and none has passed.
            ModelUnusable: it is damaged.
        """
        known = (version.digest, version.certificate_digest)
        if self._certified and known not in self._passed:
            certified.require(version)
            self._passed.add(known)

    def put(self, loaded: LoadedModel) -> None:
        """Takes a model into use; the one least recently used makes room."""
        with self._lock:
            self._models[loaded.key] = loaded
            self._models.move_to_end(loaded.key)
            while len(self._models) > self._limit:
                self._models.popitem(last=False)

    def used(self, loaded: LoadedModel) -> bool:
        """Whether the model is still in use; if so, it is the most recently used one from now on."""
        with self._lock:
            if self._models.get(loaded.key) is not loaded:
                return False
            self._models.move_to_end(loaded.key)
            return True

    def drop(self, loaded: LoadedModel) -> None:
        """Takes a model out of use; requests that hold it finish."""
        with self._lock:
            if self._models.get(loaded.key) is loaded:
                del self._models[loaded.key]

    def __contains__(self, loaded: LoadedModel | None) -> bool:
        return loaded is not None and self._models.get(loaded.key) is loaded

    def versions(self) -> list[ModelVersion]:
        """The versions in use, the least recently used first."""
        with self._lock:
            return [loaded.version for loaded in self._models.values()]

    def __len__(self) -> int:
        return len(self._models)

"""Models in use: for each version, what the engine runs, what explain/ reads and its background rows.

The store is asked on every request (an alias may have moved), which is cheap; what is costly is kept here by the
manifest's digest, the least recently used leaving first. Everything is made on first use, so a model that is only
predicted with is never parsed for explanations.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import engine
import explain
from model_store import CorruptBlob, ModelVersion, StoreError, UnknownBlob

from . import certified
from .backgrounds import BackgroundSets
from .errors import ModelUnusable
from .messages import Array


class LoadedModel:
    """One version: its artifact, its explain handle and its background sets."""

    def __init__(self, version: ModelVersion) -> None:
        self.version = version
        self.manifest = version.manifest
        self._lock = threading.Lock()

    @property
    def row_by_row(self) -> bool:
        """Whether items cannot share a run, or do not lie along axis 0."""
        return self.manifest.batching.mode == "row" or any(axis != 0 for axis in self._axes.values())

    @property
    def _axes(self) -> dict[str, int | None]:
        """The batch axis of every input and output."""
        axes = {spec.name: spec.batch_axis for spec in self.manifest.inputs}
        return axes | {spec.name: spec.batch_axis for spec in self.manifest.outputs}

    @cached_property
    def artifact(self) -> engine.StoredModel:
        """What the engine runs. Row by row, a run's tensors are taken whole, whichever axis counts its items."""
        kind: engine.Kind = "shared" if self.row_by_row else "item"
        return engine.StoredModel(
            digest=self.version.model_digest,
            inputs={spec.name: kind for spec in self.manifest.inputs},
            outputs={spec.name: kind for spec in self.manifest.outputs},
            load=lambda: file_of(self.version, "model"),
            max_items=1 if self.row_by_row else None,
            constants=explain.weights,
        )

    @property
    def source(self) -> explain.Model:
        """The handle whose compiled programs are kept for later requests."""
        with self._lock:
            return self._source

    @cached_property
    def _source(self) -> explain.Model:
        one_at_a_time = self.manifest.batching.mode == "row"
        return explain.Model(file_of(self.version, "model"), batch_axes=self._axes, row_by_row=one_at_a_time)

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
        return BackgroundSets(self.manifest, lambda role: file_of(self.version, role))


def file_of(version: ModelVersion, role: str) -> bytes:
    """The bytes of a version's file.

    Raises:
        ModelUnusable: they are damaged or gone; names the model, the version, the file's part in it and its digest.
        StoreError: the store cannot be read.
    """
    try:
        return version.file(role)
    except (CorruptBlob, UnknownBlob) as error:
        why = f"is damaged: {error.problem}" if isinstance(error, CorruptBlob) else "is not in the store"
        file = f"its {role} file {version.manifest.every_file[role].digest}"
        raise ModelUnusable(f"model {version.name} version {version.version}: {file} {why}") from error


@contextmanager
def naming(version: ModelVersion) -> Iterator[None]:
    """Gives a failure to load the model its name: which version, which file, and why if that is known.

    Raises:
        ModelUnusable: in place of the engine's ``LoadFailed``.
    """
    try:
        yield
    except engine.LoadFailed as error:
        if isinstance(error.__cause__, ModelUnusable | StoreError):
            raise error.__cause__ from error.__cause__.__cause__
        which = f"model {version.name} version {version.version}"
        raise ModelUnusable(f"{which}: the runtime refused its model file {version.model_digest}") from error


class LoadedModels:
    """The models in use, at most ``limit`` of them; with ``certified`` only those whose certificate has passed."""

    def __init__(self, limit: int, *, certified: bool = False) -> None:
        self._limit = limit
        self._certified = certified
        self._passed: set[tuple[str, str | None]] = set()
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, version: ModelVersion) -> LoadedModel:
        """The model of this version, made if it is not in use.

        Raises:
            NotCertified: a certificate is required, and none has passed.
            ModelUnusable: it is damaged.
        """
        known = (version.digest, version.certificate_digest)
        if self._certified and known not in self._passed:
            certified.require(version)
            self._passed.add(known)
        with self._lock:
            loaded = self._models.get(version.digest)
            if loaded is None or loaded.version.name != version.name or loaded.version.version != version.version:
                loaded = self._models[version.digest] = LoadedModel(version)
            loaded.version = version  # its certificate may have been renewed
            self._models.move_to_end(version.digest)
            while len(self._models) > self._limit:
                self._models.popitem(last=False)
            return loaded

    def __len__(self) -> int:
        return len(self._models)

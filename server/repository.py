"""The models this server offers: which version a request means, and whether it is ready to answer.

The store is asked which version a name stands for; what is costly, a session and a compiled program, is kept in use.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping

import engine
import model_store
from model_store import ModelVersion, Store

from . import catalogue
from .config import Config
from .errors import ModelUnusable, message_of
from .loaded import LoadedModel, LoadedModels, naming
from .logs import log, reasons
from .messages import Runs
from .runner import run_model


class Repository:
    """The models of one store, as one engine serves them. Every method may be called from many threads."""

    def __init__(self, store: Store, runner: engine.Engine, config: Config) -> None:
        self.store = store
        self._engine = runner
        self._config = config
        self._models = LoadedModels(config.model_cache, certified=config.require_certificate)
        self._missing: dict[str, str] = {"server": "is starting"}

    def start(self) -> None:
        """Loads every required model and runs its example once, so that the first request finds it warm."""
        missing: dict[str, str] = {}
        for name in self._config.required_models or self._offering():
            try:
                self._warm_up(self.resolve(name, None))
            except (model_store.StoreError, engine.EngineError, ModelUnusable) as error:
                log().error("model not loaded", extra={"model": name, "reason": reasons(error)})
                missing[name] = message_of(error)
        self._missing = missing

    def _offering(self) -> list[str]:
        """The models of which some version is not archived; one that cannot be read is among them."""
        names = []
        for name in self.store.models():
            with contextlib.suppress(model_store.UnknownVersion):
                with contextlib.suppress(model_store.CorruptBlob, model_store.InvalidManifest):
                    self.store.resolve(name)
                names.append(name)
        return names

    def _warm_up(self, loaded: LoadedModel) -> None:
        self._open(loaded)
        instance = catalogue.example(loaded.version)
        if instance is not None:
            decoded = model_store.decode_rows(loaded.manifest, [instance], self._config.max_image_pixels)
            run_model(self._engine, loaded, decoded, time.monotonic() + self._config.deadline_seconds, Runs())

    def missing(self) -> Mapping[str, str]:
        """The required models that are not loaded, with the reason; empty means ready."""
        return self._missing

    def offered(self) -> list[ModelVersion]:
        """The default version of every model that offers a readable one, by name."""
        found = []
        for name in self.store.models():
            with contextlib.suppress(model_store.UnknownVersion, model_store.CorruptBlob, model_store.InvalidManifest):
                found.append(self.store.resolve(name))
        return found

    def loaded(self, version: ModelVersion) -> LoadedModel:
        """The model of this version as it is kept in use."""
        return self._models.get(version)

    def resolve(self, name: str, version: str | None) -> LoadedModel:
        """The model of a name and a version (a number, an alias or None for the default)."""
        return self.loaded(self.store.resolve(name, version))

    def load(self, name: str, version: str | None) -> None:
        """Makes the model's session, unless it is there."""
        self._open(self.resolve(name, version))

    def _open(self, loaded: LoadedModel) -> None:
        with naming(loaded.version):
            self._engine.load(loaded.artifact)

    def index(self) -> list[dict[str, str]]:
        """Every offered version with its state, READY or UNAVAILABLE with the reason."""
        entries = []
        for name in self.store.models():
            for number in self.store.numbers(name, archived=False):
                entries.append({"name": name, "version": str(number), **self._state(name, number)})
        return entries

    def _state(self, name: str, number: int) -> dict[str, str]:
        try:
            self._open(self.loaded(self.store.resolve(name, number)))
        except (model_store.StoreError, engine.EngineError, ModelUnusable) as error:
            return {"state": "UNAVAILABLE", "reason": message_of(error)}
        return {"state": "READY", "reason": ""}

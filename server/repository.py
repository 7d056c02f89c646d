"""The models this server offers: which version a request means, and whether it is ready to answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import engine
import model_store
from model_store import ModelVersion, Store

from . import catalogue
from .config import Config
from .errors import ModelUnusable, ServerError, message_of
from .holds import Holds
from .in_service import InService
from .loaded import LoadedModel, LoadedModels, data_of, file_of, naming
from .logs import log, reasons
from .messages import Runs
from .runner import run_model
from .withdrawn import Withdrawn

Entry = dict[str, str]
STATES = ("READY", "LOADING", "UNAVAILABLE")


class Repository:
    """The models of one store, as one engine serves them. Every method may be called from many threads.

    ``shared`` is a folder through which the worker processes of one server know what was unloaded on request.
    """

    def __init__(self, store: Store, runner: engine.Engine, config: Config, shared: Path | None = None) -> None:
        self.store = store
        self._engine = runner
        self._config = config
        self._holds = Holds(runner)
        self._models = LoadedModels(config.model_cache, self._holds, certified=config.require_certificate)
        self._withdrawn = Withdrawn(shared)
        self._in_service = InService(store, self._models, self._withdrawn, self, config.load_seconds)
        self._known: set[str] = set()
        self._missing: dict[str, str] = {"server": "is starting"}
        self._sound: set[str] = set()
        self._threads: dict[str, int | None] = {}

    def start(self) -> None:
        """Loads every required model and runs its example once, so that the first request finds it warm."""
        missing: dict[str, str] = {}
        for name in self._config.required_models or self._offering():
            try:
                self.resolve(name, None)
            except (model_store.StoreError, engine.EngineError, ServerError) as error:
                if self._in_service.at(name, None) is None:
                    log().error("model not loaded", extra={"model": name, "reason": reasons(error)})
                missing[name] = message_of(error)
            place = self._in_service.at(name, None)
            if place is not None and place.failure is not None:
                missing[name] = place.failure.reason
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

    def missing(self) -> Mapping[str, str]:
        """The required models that could not be loaded and have not come into service since; empty means ready."""
        return {name: reason for name, reason in self._missing.items() if not self._came(name)}

    def _came(self, name: str) -> bool:
        place = self._in_service.at(name, None)
        return place is not None and place.current is not None and place.failure is None

    def offered(self) -> list[ModelVersion]:
        """The version in service, or else the store's, of every model that offers a readable one, by name."""
        found = []
        for name in self.store.models():
            with contextlib.suppress(model_store.UnknownVersion, model_store.CorruptBlob, model_store.InvalidManifest):
                found.append(self.version(name, None))
        return found

    def version(self, name: str, version: str | None) -> ModelVersion:
        """The version that answers under a name, or would if it were loaded. Nothing is loaded."""
        place = self._in_service.at(name, version)
        if place is not None and place.current in self._models:
            with contextlib.suppress(ServerError):
                return self.resolve(name, version).version
        return self.store.resolve(name, version)

    def loaded(self, version: ModelVersion) -> LoadedModel:
        """The model of this version as it is kept in use."""
        return self._models.get(version)

    def known(self, name: str) -> str:
        """The name, if the store has or had a model of that name; else "": what clients make up leaves no trace."""
        if name not in self._known:
            try:
                self.store.numbers(name)
            except model_store.StoreError:
                return ""
            self._known.add(name)
        return name

    def in_use(self) -> list[ModelVersion]:
        """The versions that are kept in use."""
        return self._models.versions()

    def resolve(self, name: str, version: str | None, deadline: float | None = None) -> LoadedModel:
        """The model that answers for a name and a version (a number, an alias or None for the default), loaded.

        Raises what `InService.get` raises.
        """
        return self._in_service.get(name, version, deadline)

    def ensure(self, name: str, version: str | None) -> None:
        """Makes the model's session, unless it is there."""
        self.open(self.resolve(name, version))

    def load(self, name: str) -> None:
        """Has the model answer with what the store says now; back in service, if it was taken out."""
        self._in_service.load(name)

    def unload(self, name: str) -> None:
        """Takes a model out of service until it is loaded again."""
        self._in_service.unload(name)

    def look(self, *, fully: bool = False) -> None:
        """Sees at once what the watching would see within seconds."""
        self._in_service.look(fully=fully)

    def close(self) -> None:
        """Nothing is watched or loaded any more."""
        self._in_service.close()
        self._holds.close()

    # Making a model ready: what InService asks for

    def open(self, loaded: LoadedModel) -> None:
        """Makes its session, anew where its graph has one of other threads. Raises ModelUnusable, or what the engine
        raises."""
        digest, threads = loaded.version.model_digest, loaded.tuning.threads
        if self._threads.get(digest, threads) != threads:
            self._engine.unload(digest)
        with naming(loaded.version):
            self._engine.load(loaded.artifact)
        self._threads[digest] = threads

    def try_out(self, loaded: LoadedModel) -> None:
        """Runs its example once, if it has one."""
        instance = catalogue.example(loaded.version)
        if instance is None:
            return
        decoded = loaded.rows.decode([instance], self._config.max_image_pixels)
        which = f"model {loaded.version.name} version {loaded.version.version}"
        try:
            run_model(self._engine, loaded, decoded, time.monotonic() + self._config.deadline_seconds, Runs())
        except engine.RunFailed as error:
            raise ModelUnusable(f"{which}: its example could not be run") from error

    def forget(self, version: ModelVersion) -> None:
        """Gives up on a session whose making has not come to an end."""
        with contextlib.suppress(engine.EngineError):
            self._engine.unload(version.model_digest)

    # The index

    def index(self) -> list[Entry]:
        """Every offered version with its state: READY (it answers, or will when it is asked for), LOADING, or
        UNAVAILABLE with the reason."""
        entries = []
        for name in self.store.models():
            for number in self.store.numbers(name, archived=False):
                state, reason = self._state(name, number)
                entries.append({"name": name, "version": str(number), "state": state, "reason": reason})
        return entries

    def _state(self, name: str, number: int) -> tuple[str, str]:
        if name in self._withdrawn:
            return "UNAVAILABLE", f"model {name} was taken out of service"
        places = self._in_service.places(name)
        try:
            answering = [place.current for place in places if place.current in self._models]
            if any(loaded is not None and loaded.version.version == number for loaded in answering):
                self._models.admit(self.store.resolve(name, number))
                return "READY", ""
            for failure in (place.failure for place in places):
                if failure is not None and failure.number == number:
                    return "UNAVAILABLE", failure.reason
            if any(place.coming and place.coming.version.version == number for place in places):
                return "LOADING", ""
            self._check(self.store.resolve(name, number))
        except (model_store.StoreError, ServerError) as error:
            return "UNAVAILABLE", message_of(error)
        return "READY", ""

    def _check(self, version: ModelVersion) -> None:
        """Nothing, where a version that is not loaded could be: its file is whole and its certificate will do."""
        self._models.admit(version)
        if version.model_digest not in self._sound:
            file_of(version, version.model_role)
            data_of(version)
            self._sound.add(version.model_digest)


def worst(views: Sequence[Sequence[Entry]]) -> list[Entry]:
    """One index of several: of the entries of a version the one in the worst state, the first among equals."""
    found: dict[tuple[str, str], Entry] = {}
    for entry in (entry for view in views for entry in view):
        known = found.setdefault((entry["name"], entry["version"]), entry)
        if STATES.index(entry["state"]) > STATES.index(known["state"]):
            found[entry["name"], entry["version"]] = entry
    return list(found.values())

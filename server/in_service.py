"""What is in service: the version that answers under each name, and how another one takes its place.

The store says which version a name stands for. When that changes, the new version is loaded and its example run in
the background while the old one goes on answering; then they change places. What a request began with, it ends
with, and the old one's sessions go when the last such request has ended (holds.py). A version that cannot be loaded
leaves the old one in service, and the cause is told: in the log and in the repository's index. It is tried again when
anything of the model changes in the store, or on request. Where nothing is in service yet, requests wait for the load.

A request costs a look into a table, and once in a millisecond one at the time of the model's folder
(`Store.changed_at`). A thread watches for
what no request would find: models that nobody asks for, files that came into the store's folder by another way than a
store, loads that take too long.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from functools import partial
from typing import Protocol

import engine
import model_store
from model_store import ModelVersion, Store

from .errors import ModelUnusable, NotReady, ServerError, message_of
from .loaded import LoadedModel, LoadedModels
from .loaders import Loaders
from .logs import log, reasons
from .places import Coming, Failure, Place
from .pool import step_aside
from .withdrawn import Withdrawn

WATCH_SECONDS = 1.0
FRESH_NS = 1_000_000
LOOKS_PER_FULL_LOOK = 10


class Bringer(Protocol):
    """Makes a model ready to answer; raises what stands in the way."""

    def open(self, loaded: LoadedModel) -> None:
        """Makes its session."""

    def try_out(self, loaded: LoadedModel) -> None:
        """Runs its example."""

    def forget(self, version: ModelVersion) -> None:
        """Gives up on a session whose making has not come to an end."""


class InService:
    """The models that answer. Every method may be called from many threads.

    `limit` is how many seconds a load may take before it counts as failed; if it ends later after all, it counts.
    """

    def __init__(self, store: Store, models: LoadedModels, withdrawn: Withdrawn, bring: Bringer, limit: float) -> None:
        self._store = store
        self._models = models
        self._withdrawn = withdrawn
        self._bring = bring
        self._limit = limit
        self._places: dict[tuple[str, str | None], Place] = {}
        self._loaders = Loaders()
        self._closed = threading.Event()
        threading.Thread(
            target=_watch, args=(weakref.ref(self), self._closed), name="glasshouse-watching", daemon=True
        ).start()

    def get(self, name: str, version: str | None, deadline: float | None = None) -> LoadedModel:
        """The model that answers under a name, waited for if it is the first there.

        Raises StoreError where the store has no such thing, ModelUnusable where it cannot be loaded, NotReady where it
        was taken out of service, engine.DeadlineExceeded where the first load outlasts the deadline.
        """
        place = self._places.get((name, version))
        if place is None:
            place = self._places.setdefault((name, version), Place(name, version))
        current = place.current
        if current is not None and place.changed == self._seen(place) and self._models.used(current):
            return current
        step_aside()
        current, coming = self._look(place)
        return current if current is not None else self._landed(coming, deadline)

    def at(self, name: str, version: str | None) -> Place | None:
        """The place of a name that was asked for."""
        return self._places.get((name, version))

    def places(self, name: str) -> list[Place]:
        """All places of a model that were asked for."""
        return [place for place in list(self._places.values()) if place.name == name]

    def load(self, name: str) -> None:
        """Looks at the store now, tries again what has failed, and waits until the model's default and what else of it
        was asked for answer with what the store says. Raises what stands in the way, as `get` does."""
        self._store.resolve(name)
        self._withdrawn.discard(name)
        self._places.setdefault((name, None), Place(name, None))
        for place in self.places(name):
            _, coming = self._look(place, anew=True)
            if coming is not None:
                self._landed(coming, None)
                if coming.error is not None:
                    raise coming.error

    def unload(self, name: str) -> None:
        """Takes a model out of service until it is loaded again; requests under way finish. Raises UnknownModel."""
        self._store.numbers(name)
        self._withdrawn.add(name)
        self._clear(name)

    def look(self, *, fully: bool = False) -> None:
        """Sees whether the store says anything new of what is in service, and whether a load takes too long; `fully`
        even where no store has told of a change."""
        for place in list(self._places.values()):
            coming = place.coming
            if coming is not None and not coming.overdue and time.monotonic() - coming.since > self._limit:
                self._overdue(place, coming)
            # Whoever asks for it is told what is wrong with it.
            with contextlib.suppress(model_store.StoreError, ServerError, OSError):
                wanted = place.current in self._models or place.failure is not None
                if wanted and (fully or place.changed != self._changed(place.name)):
                    self._look(place)

    def close(self) -> None:
        """Ends the watching and the loading."""
        self._closed.set()
        self._loaders.close()

    def _seen(self, place: Place) -> object:
        """`_changed`, found out at most once in `FRESH_NS`."""
        now = time.monotonic_ns()
        if now - place.looked_ns > FRESH_NS:
            place.seen, place.looked_ns = self._changed(place.name), now
        return place.seen

    def _changed(self, name: str) -> tuple[int | None, int]:
        try:
            return self._store.changed_at(name), self._withdrawn.changed()
        except model_store.StoreUnavailable:  # what is in service does not need it
            return None, self._withdrawn.changed()

    def _look(self, place: Place, *, anew: bool = False) -> tuple[LoadedModel | None, Coming | None]:
        """Follows the store: what answers, and what is about to. `anew`: tries again what failed.

        Of many requests one looks, the others meanwhile take what is there.
        """
        current = place.current
        if not place.lock.acquire(blocking=anew or current not in self._models):
            return current, None
        try:
            changed = self._changed(place.name)
            if place.name in self._withdrawn:
                self._clear(place.name)
                raise NotReady(f"model {place.name} was taken out of service; it is served once it is loaded again")
            if place.current not in self._models:
                place.current = None
            version = self._resolved(place)
            if version is not None:
                self._follow(place, version, anew or changed != place.changed)
            place.changed = changed
            return place.current, place.coming
        finally:
            place.lock.release()

    def _resolved(self, place: Place) -> ModelVersion | None:
        """The version that the store says; None where it cannot be read and another one goes on answering."""
        try:
            return self._store.resolve(place.name, place.version)
        except model_store.NotFound:
            self._places.pop((place.name, place.version), None)
            left, place.current, place.coming = place.current, None, None
            self._drop(left)
            raise
        except model_store.StoreError as error:
            if place.current is None:
                raise
            self._fail(place, None, error)
            return None

    def _follow(self, place: Place, version: ModelVersion, anew: bool) -> None:
        if place.answers_with(version):
            self._models.get(version)  # with the certificate that it has by now
            place.coming = None
            if anew:
                place.failure = None
            return
        coming = place.coming
        if coming is not None and place.awaits(version):
            if not (anew and coming.overdue):
                return
            self._bring.forget(version)
        elif place.current is not None and not anew:
            return
        place.coming = Coming(version)
        self._loaders.start(partial(self._load, place, place.coming))

    def _load(self, place: Place, coming: Coming) -> None:
        """In a loader's thread: makes a version ready, and has it take its place."""
        which = f"model {coming.version.name} version {coming.version.version}"
        loaded: LoadedModel | None = None
        failed: Exception | None = None
        try:
            loaded = self._models.get(coming.version)
            self._bring.open(loaded)
            coming.loaded = loaded
            self._bring.try_out(loaded)
        except (model_store.StoreError, ServerError, engine.EngineError) as error:
            failed = error
        except MemoryError as error:
            failed = ModelUnusable(f"{which}: there is no memory to load it")
            failed.__cause__ = error
        except Exception as error:  # whatever it was, those who wait must be told
            failed = ModelUnusable(f"{which}: loading it failed ({type(error).__name__})")
            failed.__cause__ = error
        with place.lock:
            coming.error = failed
            self._settle(place, coming, loaded)
        coming.landed.set()

    def _settle(self, place: Place, coming: Coming, loaded: LoadedModel | None) -> None:
        """Switches, unless it failed and another goes on answering, or the store says something else by now."""
        if place.coming is coming:
            place.coming = None
            if coming.error is None:
                place.failure = None
            else:
                self._fail(place, coming.version.version, coming.error)
            if coming.loaded is not None and (coming.error is None or place.current is None):
                loaded = self._switch(place, coming.loaded)
        self._drop(loaded)

    def _switch(self, place: Place, loaded: LoadedModel) -> LoadedModel | None:
        """What answered until now."""
        left, place.current = place.current, loaded
        self._models.put(loaded)
        was = "" if left is None else f" in the place of version {left.version.version}"
        reason = f"version {loaded.version.version}{was}"
        log().info("model in service", extra={"model": place.name, "reason": reason})
        return left

    def _overdue(self, place: Place, coming: Coming) -> None:
        version = coming.version
        error = ModelUnusable(
            f"model {version.name} version {version.version}: loading it has not ended within {self._limit:g} s"
        )
        with place.lock:
            if place.coming is coming:
                coming.overdue, coming.error = True, error
                self._fail(place, version.version, error)
        coming.landed.set()

    def _fail(self, place: Place, number: int | None, error: Exception) -> None:
        failure = Failure(number, message_of(error))
        if failure != place.failure:
            log().error("model not loaded", extra={"model": place.name, "reason": reasons(error)})
        place.failure = failure

    def _landed(self, coming: Coming | None, deadline: float | None) -> LoadedModel:
        if coming is None:
            raise ModelUnusable("the model went out of service while it was asked for")
        if not coming.landed.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise engine.DeadlineExceeded(f"the deadline passed while model {coming.version.name} was being loaded")
        if coming.loaded is None:
            raise coming.error or ModelUnusable(f"model {coming.version.name} could not be loaded")
        return coming.loaded

    def _clear(self, name: str) -> None:
        for place in self.places(name):
            left, place.current, place.coming, place.failure = place.current, None, None, None
            self._drop(left)

    def _drop(self, loaded: LoadedModel | None) -> None:
        """Takes a model out of use that answers nowhere any more."""
        if loaded is not None and not any(place.current is loaded for place in list(self._places.values())):
            self._models.drop(loaded)


def _watch(service: weakref.ref[InService], closed: threading.Event) -> None:
    looks = 0
    while not closed.wait(WATCH_SECONDS):
        watched = service()
        if watched is None:
            return
        looks += 1
        watched.look(fully=looks % LOOKS_PER_FULL_LOOK == 0)
        del watched

"""A name that requests use, the model that answers it, and the version on its way to take its place: plain data."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass, field

from model_store import ModelVersion

from .loaded import LoadedModel, key_of


@dataclass(eq=False)
class Coming:
    """A version being loaded. ``landed`` is set when it is loaded, has failed, or took too long to be waited for."""

    version: ModelVersion
    landed: threading.Event = field(default_factory=threading.Event)
    since: float = field(default_factory=time.monotonic)
    loaded: LoadedModel | None = None
    error: Exception | None = None
    overdue: bool = False


@dataclass(frozen=True)
class Failure:
    """Why a version did not come into service; ``number`` is None where not even its number could be read."""

    number: int | None
    reason: str


class Place:
    """A model's default (``version`` is None), an alias of it, or one of its numbers.

    ``changed`` tells which changes of the store it has followed, ``seen`` those at the last look (``looked_ns``, of
    ``time.monotonic_ns``). ``lock`` is held to look at the store and to switch,
    never to answer and never while anything is loaded.
    """

    def __init__(self, name: str, version: str | None) -> None:
        self.name, self.version = name, version
        self.coming: Coming | None = None
        self.failure: Failure | None = None
        self.changed: object = None
        self.seen: object = None
        self.looked_ns = 0
        self.lock = threading.Lock()
        self._current: weakref.ref[LoadedModel] | None = None

    @property
    def current(self) -> LoadedModel | None:
        """The model that answers; None before the first load. It is kept by the models in use, not from here: the one
        that has not been used for longest may leave them."""
        return None if self._current is None else self._current()

    @current.setter
    def current(self, loaded: LoadedModel | None) -> None:
        self._current = None if loaded is None else weakref.ref(loaded)

    def answers_with(self, version: ModelVersion) -> bool:
        """Whether this version is in service here."""
        current = self.current
        return current is not None and current.key == key_of(version)

    def awaits(self, version: ModelVersion) -> bool:
        """Whether this version is being loaded to take this place."""
        return self.coming is not None and key_of(self.coming.version) == key_of(version)

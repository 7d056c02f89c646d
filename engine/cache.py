"""The sessions that are ready, by digest and by the threads of a run, in which two tunings of one graph may differ.

Bounded: the least recently used goes first. Single flight: however many threads ask for a digest that is not there,
one of them makes the session and the others wait for it (and get its error, if it fails). Whoever holds a session keeps
it alive, so that forgetting one never breaks a run under way.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from .errors import DeadlineExceeded, EngineClosed, EngineError, LoadFailed
from .protocol import Artifact
from .sessions import Session

Key = tuple[str, int]


class _Flight:
    """A session in the making, and those who wait for it."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.session: Session | None = None
        self.error: EngineError | None = None


class SessionCache:
    """At most `limit` sessions made by `make`, each with the threads that `threads_of` says."""

    def __init__(
        self, make: Callable[[Artifact], Session], limit: int, threads_of: Callable[[Artifact], int] = lambda _: 1
    ) -> None:
        self._make = make
        self._threads_of = threads_of
        self._limit = limit
        self._lock = threading.Lock()
        self._ready: OrderedDict[Key, Session] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}
        self._closed = False

    def get(self, artifact: Artifact, deadline: float | None = None) -> Session:
        """The artifact's session, made if need be.

        Raises `LoadFailed`, `EngineClosed`, and `DeadlineExceeded` when another thread's making outlasts the deadline.
        """
        digest, key = artifact.digest, self._key(artifact)
        with self._lock:
            if self._closed:
                raise EngineClosed("the engine is closed")
            session = self._ready.get(key)
            if session is not None:
                self._ready.move_to_end(key)
                return session
            flight = self._flights.get(key)
            ours = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if ours:
            self._fly(artifact, flight)
        elif not flight.landed.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise DeadlineExceeded(f"the deadline passed while {digest[:12]} was being loaded")
        if flight.session is None:
            raise flight.error or LoadFailed(f"{digest[:12]} could not be loaded")
        return flight.session

    def forget(self, digest: str) -> None:
        """Drop its sessions; a session in the making is kept out of the cache."""
        with self._lock:
            for kept in (self._ready, self._flights):
                for key in [key for key in kept if key[0] == digest]:
                    del kept[key]

    def digests(self) -> tuple[str, ...]:
        """Those that are ready, the least recently used first."""
        with self._lock:
            return tuple(dict.fromkeys(digest for digest, _ in self._ready))

    def close(self) -> None:
        """Drop every session and make no more."""
        with self._lock:
            self._closed = True
            self._ready.clear()
            self._flights.clear()

    def _key(self, artifact: Artifact) -> Key:
        return artifact.digest, self._threads_of(artifact)

    def _fly(self, artifact: Artifact, flight: _Flight) -> None:
        key = self._key(artifact)
        try:
            flight.session = self._make(artifact)
        except EngineError as error:
            flight.error = error
        except Exception as error:
            # Where the bytes come from (a store, a compiler) is not ours to know: its own error stays the cause.
            flight.error = LoadFailed(f"{artifact.digest[:12]} could not be read: {error}")
            flight.error.__cause__ = error
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
                    if flight.session is not None:
                        self._ready[key] = flight.session
                        while len(self._ready) > self._limit:
                            self._ready.popitem(last=False)
            flight.landed.set()

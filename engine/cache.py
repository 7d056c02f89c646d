"""The sessions that are ready, by digest.

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


class _Flight:
    """A session in the making, and those who wait for it."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.session: Session | None = None
        self.error: EngineError | None = None


class SessionCache:
    """At most `limit` sessions made by `make`."""

    def __init__(self, make: Callable[[Artifact], Session], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._lock = threading.Lock()
        self._ready: OrderedDict[str, Session] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._closed = False

    def get(self, artifact: Artifact, deadline: float | None = None) -> Session:
        """The artifact's session, made if need be.

        Raises `LoadFailed`, `EngineClosed`, and `DeadlineExceeded` when another thread's making outlasts the deadline.
        """
        digest = artifact.digest
        with self._lock:
            if self._closed:
                raise EngineClosed("the engine is closed")
            session = self._ready.get(digest)
            if session is not None:
                self._ready.move_to_end(digest)
                return session
            flight = self._flights.get(digest)
            ours = flight is None
            if flight is None:
                flight = self._flights[digest] = _Flight()
        if ours:
            self._fly(artifact, flight)
        elif not flight.landed.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
            raise DeadlineExceeded(f"the deadline passed while {digest[:12]} was being loaded")
        if flight.session is None:
            raise flight.error or LoadFailed(f"{digest[:12]} could not be loaded")
        return flight.session

    def forget(self, digest: str) -> None:
        """Drop a session; a session in the making is kept out of the cache."""
        with self._lock:
            self._ready.pop(digest, None)
            self._flights.pop(digest, None)

    def digests(self) -> tuple[str, ...]:
        """Those that are ready, the least recently used first."""
        with self._lock:
            return tuple(self._ready)

    def close(self) -> None:
        """Drop every session and make no more."""
        with self._lock:
            self._closed = True
            self._ready.clear()
            self._flights.clear()

    def _fly(self, artifact: Artifact, flight: _Flight) -> None:
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
                if self._flights.get(artifact.digest) is flight:
                    del self._flights[artifact.digest]
                    if flight.session is not None:
                        self._ready[artifact.digest] = flight.session
                        while len(self._ready) > self._limit:
                            self._ready.popitem(last=False)
            flight.landed.set()

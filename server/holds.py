"""Which graphs the models in use need in the engine, so that what nobody needs any more is unloaded.

A loaded model holds its own graph and every program that was run for it. It is let go of when nothing refers to it: it
is out of service, out of the models in use, and the last request that began with it has ended. Python then tells us;
the engine is told in a thread of its own, since that moment may come anywhere, within a lock of the engine's even.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import Counter
from queue import SimpleQueue

import engine

from .logs import log


class Hold:
    """The graphs of one loaded model, by digest."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._digests: set[str] = set()

    def add(self, digest: str) -> None:
        """One more graph is needed; told again, it is the same one."""
        if digest not in self._digests:
            self._holds.take(self._digests, digest)


class Holds:
    """The holds of all loaded models on one engine."""

    def __init__(self, runner: engine.Engine) -> None:
        self._engine = runner
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._left: SimpleQueue[set[str] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def of(self, holder: object) -> Hold:
        """A hold that ends with the life of `holder`."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._release, name="glasshouse-unloading", daemon=True)
                self._thread.start()
        hold = Hold(self)
        weakref.finalize(holder, self._left.put, hold._digests).atexit = False
        return hold

    def take(self, digests: set[str], digest: str) -> None:
        """Adds a digest to those of a hold."""
        with self._lock:
            if digest not in digests:
                digests.add(digest)
                self._counts[digest] += 1

    def close(self) -> None:
        """Ends the thread; the engine is closed next, and drops everything."""
        self._left.put(None)

    def _release(self) -> None:
        while (digests := self._left.get()) is not None:
            for digest in digests:
                self._give_back(digest)

    def _give_back(self, digest: str) -> None:
        # Within the lock: a model that is loaded meanwhile takes its graph before or after this, never between.
        with self._lock:
            self._counts[digest] -= 1
            if self._counts[digest] > 0:
                return
            del self._counts[digest]
            with contextlib.suppress(engine.EngineError):
                self._engine.unload(digest)
        log().debug("unloaded", extra={"model": digest})

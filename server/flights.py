"""Explanations that are being made: an equal request that comes meanwhile waits for the first instead of making it too.

The first is never held up, and owes the others nothing: whatever ends it without a result (its deadline, a cancel, a
failure, a clock that cut it) sends those that waited off to make their own, side by side.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import engine

from .messages import ExplainAnswer
from .pool import step_aside
from .results import Kept, Results


@dataclass(eq=False)
class Flight:
    """An explanation on its way. ``kept`` is the result of an equal request, where there is one; the answer that is
    made otherwise is handed to ``finish``."""

    finish: Callable[[ExplainAnswer], None]
    kept: Kept | None = None
    over: bool = False


@dataclass(eq=False)
class _Waiting:
    tag: str
    cancelled: bool = False


@dataclass
class Flights:
    """The explanations of one process that are being made, by the digest of their result. For many threads."""

    results: Results
    _under_way: dict[str, Flight] = field(default_factory=dict)
    _waiting: set[_Waiting] = field(default_factory=set)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def board(self, digest: str, deadline: float, tag: str, *, alone: bool = False) -> Iterator[Flight]:
        """The flight of a request: the first of its digest, one that waited for the first, or one that flies `alone`.

        Raises:
            DeadlineExceeded: the deadline, a moment of `time.monotonic()`, passed while it waited.
            Cancelled: it was cancelled by its tag while it waited.
        """
        own = Flight(lambda answer: self._land(digest, own, self.results.keep(digest, answer)))
        first = own
        if not alone:
            with self._changed:
                first = self._under_way.setdefault(digest, own)
        try:
            if first is not own:
                self._wait(first, deadline, tag)
            own.kept = self.results.get(digest) or first.kept
            if own.kept is not None:
                self._land(digest, own, own.kept)
            yield own
        finally:
            self._land(digest, own, None)

    def cancel(self, tag: str) -> None:
        """Ends the waiting of requests under this tag."""
        with self._changed:
            for waiting in self._waiting:
                waiting.cancelled |= waiting.tag == tag
            self._changed.notify_all()

    def _wait(self, first: Flight, deadline: float, tag: str) -> None:
        step_aside()
        waiting = _Waiting(tag)
        with self._changed:
            self._waiting.add(waiting)
            try:
                self._changed.wait_for(lambda: first.over or waiting.cancelled, max(0.0, deadline - time.monotonic()))
            finally:
                self._waiting.discard(waiting)
        if waiting.cancelled:
            raise engine.Cancelled("cancelled while it waited for an equal explanation")
        if not first.over:
            raise engine.DeadlineExceeded("the deadline passed while an equal explanation was made")

    def _land(self, digest: str, flight: Flight, kept: Kept | None) -> None:
        """It is over, with a result or without; told again, nothing changes."""
        with self._changed:
            if flight.over:
                return
            flight.over, flight.kept = True, kept
            if self._under_way.get(digest) is flight:
                del self._under_way[digest]
                self._changed.notify_all()

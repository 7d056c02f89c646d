"""Stopping runs that nobody waits for any more.

A run under way can be told to end; the runtime looks between two nodes of the graph. That is done when every request of
the run was cancelled or is past its deadline: one thread, started when it is first needed, sleeps until the next of
these deadlines.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Sequence

from .lanes import Request
from .sessions import Stop

SPARE = 64  # deadlines of runs that have ended, not yet forgotten


class Running:
    """A batch in the runtime, and the way to stop it."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = tuple(requests)
        self.stop = Stop()
        self.number = -1  # among those the watchdog knows
        deadlines = [request.deadline for request in requests if request.deadline is not None]
        self.deadline = max(deadlines) if len(deadlines) == len(self.requests) else None

    def stop_if_unwanted(self, now: float) -> None:
        """Ends the run if nobody waits for it any more."""
        if all(request.cancelled or request.expired(now) for request in self.requests):
            self.stop.now()


class Watchdog:
    """Stops runs at the moment when the last of their requests expires.

    A run that has ended is let go of at once, with its arrays and its session; only its deadline may stay for a while.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._coming: list[tuple[float, int]] = []
        self._watched: dict[int, Running] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, running: Running) -> None:
        """From now on; a run without a deadline is not watched."""
        if running.deadline is None:
            return
        with self._changed:
            running.number = next(self._order)
            self._watched[running.number] = running
            heapq.heappush(self._coming, (running.deadline, running.number))
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="engine-watchdog", daemon=True)
                self._thread.start()
            elif self._coming[0][1] == running.number:
                self._changed.notify()

    def done(self, running: Running) -> None:
        """It has ended by itself."""
        with self._changed:
            self._watched.pop(running.number, None)
            if len(self._coming) > 2 * len(self._watched) + SPARE:
                self._coming = [entry for entry in self._coming if entry[1] in self._watched]
                heapq.heapify(self._coming)

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                while self._coming and self._coming[0][0] <= now:
                    running = self._watched.get(heapq.heappop(self._coming)[1])
                    if running is not None:
                        running.stop_if_unwanted(now)
                    del running
                self._changed.wait(max(0.0, self._coming[0][0] - now) if self._coming else None)

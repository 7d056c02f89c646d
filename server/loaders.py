"""A few threads that load models, so that loads neither wait for each other nor need a new thread each.

(An engine in another process is spoken to through sockets of each thread's own: threads that come and go would leave
theirs behind.) A load that hangs keeps its thread; the others go on.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

MOST = 8


class Loaders:
    """At most `most` threads, made when they are needed and kept."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._work: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._threads = self._idle = 0
        self._closed = False

    def start(self, work: Callable[[], None]) -> None:
        """Has a thread do it, as soon as one is free. It must not raise."""
        with self._changed:
            self._work.append(work)
            if len(self._work) > self._idle and self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._run, name="glasshouse-loading", daemon=True).start()
            self._changed.notify()

    def close(self) -> None:
        """Ends the threads that have nothing to do, and the others when they have done it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # and with it the models that it knows

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._work:
                if self._closed:
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return self._work.popleft()

"""A fixed number of threads that answer requests, woken one after the other.

All threads share one interpreter: of a crowd woken at once, all but one wait for it, and each handover costs. A job
therefore rings for one thread, unless one is on its way already; a thread that finds more work than it takes rings for
the next before it begins, and one that has finished looks for more before it sleeps. So cheap requests are answered by
a few threads, however many there are, and as many wake as are held up elsewhere (in a model run, in a commit).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

Job = Callable[[], None]


class Pool:
    """Runs jobs in ``threads`` daemon threads, first come, first served. A job must not raise."""

    def __init__(self, threads: int) -> None:
        self._jobs: deque[Job] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._ringing = False
        for number in range(threads):
            threading.Thread(target=self._work, name=f"request-{number}", daemon=True).start()

    def submit(self, job: Job) -> None:
        """Hands a job over; never waits. How many may be under way is the caller's to bound."""
        self._jobs.append(job)
        self._ring()

    def _ring(self) -> None:
        """Two that ring at the same moment wake two threads, of which one may find nothing: harmless."""
        if not self._ringing:
            self._ringing = True
            self._bell.put(None)

    def _work(self) -> None:
        while True:
            self._bell.get()
            # Before looking: a job that comes after the look rings again.
            self._ringing = False
            while self._jobs:
                self._next()

    def _next(self) -> None:
        try:
            job = self._jobs.popleft()
        except IndexError:  # another thread was faster
            return
        if self._jobs:
            self._ring()
        job()

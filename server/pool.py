"""Threads that answer requests, one of them leading.

All threads share one interpreter. Of a crowd woken at once, all but one wait for it, and where each lets go of it for
microseconds (a short model run, a look at a file), they pass it round without end. So one thread, the leader, takes
one request after the other. Before it waits for something else than the interpreter (a long run, a commit), it steps
aside: another thread leads from then on, and the first, when it has finished, sleeps or leads again if nobody does.
Cheap requests are so answered by one hot thread, costly ones by as many as are held up. Who forgets to step aside is
replaced by `Pool.look`. (D. Schmidt et al., Leader/Followers, Pattern Languages of Programs 2000.)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

Job = Callable[[], None]
PATIENCE = 3
_own = threading.local()


class Pool:
    """Runs jobs in ``threads`` daemon threads, first come, first served. A job must not raise."""

    def __init__(self, threads: int) -> None:
        self._jobs: deque[Job] = deque()
        self._asleep: list[SimpleQueue[int]] = []
        self._lock = threading.Lock()
        # Leadership is a term; a thread leads while the term it was given is the pool's. None: nobody leads.
        self._term: int | None = None
        self._terms = 0
        self._vacant = False
        self._started = self._seen = self._idle_looks = 0
        for number in range(threads):
            threading.Thread(target=self._work, name=f"request-{number}", daemon=True).start()

    def submit(self, job: Job) -> None:
        """Hands a job over; never waits. How many may be under way is the caller's to bound."""
        with self._lock:
            self._jobs.append(job)
            if self._term is None:
                self._appoint()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    def look(self) -> bool:
        """To be called now and then: replaces a leader who has not taken a job for `PATIENCE` looks.

        Looks are counted, not time: where the machine is busy elsewhere, those who look are as late as those who work.
        Returns whether jobs wait, so that another look is due.
        """
        with self._lock:
            self._idle_looks = self._idle_looks + 1 if self._jobs and self._seen == self._started else 0
            if self._idle_looks >= PATIENCE:
                self._idle_looks = 0
                self._appoint()
            self._seen = self._started
            return bool(self._jobs)

    def step_aside(self, term: int) -> None:
        """The leader of a term gives it up; of a term that is over, this is nothing. The lock is not held."""
        with self._lock:
            if self._term != term:
                return
            self._term = None
            if self._jobs:
                self._appoint()

    def _appoint(self) -> None:
        """A new term begins: of those who sleep, the one who worked last leads; else whoever finishes first.

        The lock is held.
        """
        self._begin()
        if self._asleep:
            self._asleep.pop().put(self._terms)
        else:
            self._vacant = True

    def _begin(self) -> None:
        self._terms += 1
        self._term = self._terms
        self._vacant = False

    def _work(self) -> None:
        bell: SimpleQueue[int] = SimpleQueue()
        _own.pool, _own.term = self, None
        while True:
            while (job := self._next(bell)) is not None:
                job()
                del job  # what it holds is not kept until the next one comes
            _own.term = bell.get()

    def _next(self, bell: SimpleQueue[int]) -> Job | None:
        """The next job, for the thread that leads or for one that has finished while nobody does.

        None: sleep until the bell rings, which has then been left where it is found.
        """
        with self._lock:
            if self._jobs and (self._term is None or self._vacant):
                self._begin()
                _own.term = self._term
            if self._term == _own.term and self._jobs:
                self._started += 1
                return self._jobs.popleft()
            if self._term == _own.term or self._vacant:
                self._term, self._vacant = None, False
            self._asleep.append(bell)
            return None


class MustWait(BaseException):
    """What was to be done without waiting would have to wait. No `Exception`: no handler of errors is to answer it."""


@contextmanager
def without_waiting() -> Iterator[None]:
    """In here, `step_aside` raises `MustWait`, before anything was done that cannot be done again elsewhere."""
    _own.hurried = True
    try:
        yield
    finally:
        _own.hurried = False


def step_aside() -> None:
    """What follows may wait for something else than the interpreter: lets another thread lead, if this one does.

    Costs next to nothing where no requests wait, and is nothing at all in threads of no pool.

    Raises:
        MustWait: nothing may wait here.
    """
    if getattr(_own, "hurried", False):
        raise MustWait
    pool: Pool | None = getattr(_own, "pool", None)
    if pool is not None:
        pool.step_aside(_own.term)

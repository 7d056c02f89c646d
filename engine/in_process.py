"""The engine's home in this process: batches across the requests of all threads, and has no thread of its own.

A caller's request joins the queue. If a slot is free, the caller takes it, runs the next batch (predictions first, its
own or not) and hands every request of the batch its outcome; otherwise it sleeps until its outcome is there or until
it is its turn to run a batch. So an idle engine answers in the caller's own thread, without a handover, and a busy one
batches by itself: whatever arrived during a run shares the next. `max_wait_ms` (0 by default) additionally holds back
a batch that could carry more, counted from its first request.

One lock guards queue, slots and outcomes; it is never held during a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

from .cache import SessionCache
from .counters import Counters, EngineStatistics
from .errors import DeadlineExceeded, EngineClosed, EngineError, InvalidSettings, QueueFull, RunFailed
from .feeds import check
from .lanes import Group, Lanes, Pace, Request
from .protocol import LANES, Array, Artifact, EngineInfo, Lane, RunResult
from .runs import execute
from .sessions import RUNTIME, Runtime


class InProcessEngine:
    """An `Engine` whose runs happen in the threads that ask for them.

    `max_batch`: most items in one run; a larger request runs alone, in slices. `max_wait_ms`: how long a run may wait
    for company. `queue_limit`: most items that wait; a request larger than that is still taken when nothing else waits.
    `threads`: of one run (None: one per processor). `session_limit`: most sessions kept ready. `providers`: devices in
    order of preference, of `cpu` and `cuda`. `slots`: runs at a time. `explain_quantum_ms`: how long a run of
    explanation chunks may take when several share it, so that predictions never wait long behind them.
    Raises `InvalidSettings`.
    """

    def __init__(
        self,
        *,
        max_batch: int = 32,
        max_wait_ms: float = 0.0,
        queue_limit: int = 1024,
        threads: int | None = None,
        session_limit: int = 64,
        providers: Sequence[str] = ("cpu",),
        slots: int = 1,
        explain_quantum_ms: float = 50.0,
    ) -> None:
        counts = {"max_batch": max_batch, "queue_limit": queue_limit, "session_limit": session_limit, "slots": slots}
        for name, value in counts.items():
            if value < 1:
                raise InvalidSettings(f"{name}: came {value}, expected 1 or more")
        for name, wait in {"max_wait_ms": max_wait_ms, "explain_quantum_ms": explain_quantum_ms}.items():
            if not wait >= 0:
                raise InvalidSettings(f"{name}: came {wait}, expected 0 or more")
        self._runtime = Runtime(providers, threads)
        self._sessions = SessionCache(self._runtime.open, session_limit)
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1000
        self._quantum = explain_quantum_ms / 1000
        self._queue_limit = queue_limit
        self._slots = slots
        self._free = slots
        self._lock = threading.Lock()
        self._arrival = threading.Condition(self._lock)
        self._quiet = threading.Condition(self._lock)
        self._pace = Pace()
        self._lanes = Lanes(self._limit)
        self._counters = Counters()
        self._closed = False

    def run(
        self,
        artifact: Artifact,
        feeds: Mapping[str, Array],
        *,
        lane: Lane = "predict",
        deadline: float | None = None,
    ) -> RunResult:
        """See `Engine.run`."""
        if lane not in LANES:
            raise InvalidSettings(f"lane: came {lane!r}, expected one of {', '.join(LANES)}")
        arrived = time.monotonic()
        session = self._sessions.get(artifact, deadline)
        checked = check(artifact, session, feeds)
        request = Request(artifact, session, checked, lane, deadline, arrived, threading.Condition(self._lock))
        with self._lock:
            self._admit(request)
            try:
                self._see_through(request)
            finally:
                if request.waiting:
                    self._lanes.remove(request)
                self._wake_next()
        if isinstance(request.outcome, RunResult):
            return request.outcome
        raise request.outcome or RunFailed("the run ended without an outcome")

    def load(self, artifact: Artifact) -> None:
        """See `Engine.load`."""
        self._sessions.get(artifact)

    def unload(self, digest: str) -> None:
        """See `Engine.unload`."""
        self._sessions.forget(digest)

    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return EngineInfo(RUNTIME, self._runtime.version, self._runtime.providers, self._runtime.threads)

    def statistics(self) -> EngineStatistics:
        """See `Engine.statistics`."""
        with self._lock:
            items, requests, running = self._lanes.items, self._lanes.requests, self._slots - self._free
        return self._counters.snapshot(
            queued_items=items, queued_requests=requests, running=running, sessions=self._sessions.digests()
        )

    def close(self) -> None:
        """See `Engine.close`."""
        with self._lock:
            self._closed = True
            for request in list(self._lanes):
                self._lanes.remove(request)
                _settle(request, EngineClosed("the engine was closed while the request waited"))
            self._arrival.notify_all()
            while self._free < self._slots:
                self._quiet.wait()
        self._sessions.close()

    def _admit(self, request: Request) -> None:
        if self._closed:
            raise EngineClosed("the engine is closed")
        if request.expired(time.monotonic()):
            self._counters.expired()
            raise DeadlineExceeded("the deadline passed before the work was started")
        waiting, items = self._lanes.items, request.checked.items
        if waiting and waiting + items > self._queue_limit:
            self._counters.rejected()
            raise QueueFull(f"{waiting} items wait already and {items} more came, expected {self._queue_limit} at most")
        self._lanes.add(request)
        self._arrival.notify_all()

    def _see_through(self, request: Request) -> None:
        """Wait for the request's outcome, and run batches whenever a slot is free meanwhile."""
        while request.outcome is None:
            if request.waiting and self._free:
                self._run_next()
            elif request.waiting and request.expired(time.monotonic()):
                self._lanes.remove(request)
                self._expire(request)
            elif request.waiting and request.deadline is not None:
                request.wake.wait(max(0.0, request.deadline - time.monotonic()))
            else:
                self._wake_next()
                request.wake.wait()

    def _run_next(self) -> None:
        """Take a slot, gather the next batch, run it, hand out the outcomes, give the slot back."""
        self._free -= 1
        batch: list[Request] = []
        try:
            batch = self._gather()
            if batch:
                self._lock.release()
                try:
                    outcomes = execute(batch, self._max_batch, self._counters)
                finally:
                    self._lock.acquire()
                for request, outcome in zip(batch, outcomes, strict=True):
                    self._learn(request, outcome)
                    _settle(request, outcome)
        finally:
            self._free += 1
            for request in batch:
                if request.outcome is None:
                    _settle(request, RunFailed("the thread that ran the batch was interrupted"))
            self._quiet.notify_all()

    def _gather(self) -> list[Request]:
        """The requests of the next run; empty when nothing is left to run. May sleep until company has come."""
        while (group := self._lanes.next()) is not None:
            now = time.monotonic()
            if self._held_back(group, now):
                self._arrival.wait(group.due(self._max_wait) - now)
                continue
            batch: list[Request] = []
            for request in self._lanes.take(group):
                if request.expired(now):
                    self._expire(request)
                else:
                    request.started = now
                    batch.append(request)
            if batch:
                return batch
        return []

    def _held_back(self, group: Group, now: float) -> bool:
        return self._max_wait > 0 and not self._lanes.full(group) and now < group.due(self._max_wait)

    def _limit(self, request: Request) -> int:
        """How many items a run may carry that starts with this request."""
        most = request.checked.slice_size(self._max_batch)
        if request.lane == "explain":
            most = min(most, self._pace.items_within(request.checked.key, self._quantum))
        return most

    def _learn(self, request: Request, outcome: RunResult | EngineError) -> None:
        if request.lane == "explain" and isinstance(outcome, RunResult):
            self._pace.learn(request.checked.key, outcome.batch_items * outcome.runs, outcome.run_seconds)

    def _expire(self, request: Request) -> None:
        self._counters.expired()
        _settle(request, DeadlineExceeded("the deadline passed before the work was started"))

    def _wake_next(self) -> None:
        """A slot is free and somebody waits: tell the one whose turn it is."""
        group = self._lanes.next() if self._free else None
        if group is not None:
            group.requests[0].wake.notify()


def _settle(request: Request, outcome: RunResult | EngineError) -> None:
    """Give the request its outcome and tell its caller. The lock is held."""
    request.outcome = outcome
    request.wake.notify()

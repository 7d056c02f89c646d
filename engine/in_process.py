"""The engine's home in this process: batches across the requests of all threads, which do its work themselves.

A caller's request joins the queue. If there are threads to spare, the caller runs the next batch (its own or not) and
hands every request of the batch its outcome; otherwise it sleeps until its outcome is there or until it is its turn to
run a batch. So an idle engine answers in the caller's own thread, without a handover, and a busy one batches by itself:
whatever arrived during a run shares the next. A prediction that is shorter than its way through the queue
(`at_once_us`) is not queued at all, but run where it stands.

One lock guards queue, schedule and outcomes; it is never held during a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from .cache import SessionCache
from .counters import Counters, EngineStatistics
from .errors import DeadlineExceeded, EngineClosed, EngineError, InvalidSettings, QueueFull, RunFailed
from .feeds import check
from .lanes import Group, Request
from .protocol import LANES, Array, Artifact, EngineInfo, Lane, RunResult
from .runs import Outcome, Runner
from .schedule import Schedule
from .sessions import RUNTIME, Runtime, Session
from .settings import EngineSettings
from .stopping import Running, Watchdog
from .tags import Tags


class InProcessEngine:
    """An `Engine` whose runs happen in the threads that ask for them; `settings` are the fields of `EngineSettings`.

    Raises `InvalidSettings`.
    """

    def __init__(self, settings: EngineSettings | None = None, **fields: object) -> None:
        self._settings = settings = EngineSettings.of(settings, fields)
        self._runtime = Runtime(
            settings.providers,
            settings.threads,
            settings.arena_mib,
            tf32=settings.tf32,
            io_binding=settings.io_binding,
            cuda_graphs=settings.cuda_graphs,
        )
        self._sessions = SessionCache(self._runtime.open, settings.session_limit, self._runtime.threads_of)
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)
        self._schedule = Schedule(settings.rules(self._runtime.threads))
        self._in_flight: set[Running] = set()
        self._watchdog = Watchdog()
        self._tags = Tags()
        self._counters = Counters(LANES)
        filled = self._runtime.decides(settings.shape_buckets)
        self._runner = Runner(settings.max_batch, self._counters, self._reopen, filled)
        self._closed = False

    def run(
        self,
        artifact: Artifact,
        feeds: Mapping[str, Array],
        *,
        lane: Lane = "predict",
        deadline: float | None = None,
        tag: str = "",
    ) -> RunResult:
        """See `Engine.run`."""
        if lane not in LANES:
            raise InvalidSettings(f"lane: came {lane!r}, expected one of {', '.join(LANES)}")
        arrived = time.monotonic()
        self._refuse_unwanted(arrived, lane, deadline, tag)
        session = self._sessions.get(artifact, deadline)
        checked = check(artifact, session, feeds)
        request = Request(artifact, session, checked, lane, deadline, arrived, tag)
        if lane == "predict" and self._is_short(request):
            return self._run_at_once(request)
        request.wake = threading.Condition(self._lock)
        with self._lock:
            self._admit(request)
            try:
                self._see_through(request)
            finally:
                if request.waiting:
                    self._schedule.lanes.remove(request)
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

    def cancel(self, tag: str) -> None:
        """See `Engine.cancel`."""
        with self._lock:
            self._tags.cancel(tag, time.monotonic())
            for request in [waiting for waiting in self._schedule.lanes if waiting.tag == tag]:
                request.cancelled = True
                self._drop(request)
            for running in self._in_flight:
                for request in running.requests:
                    request.cancelled |= request.tag == tag
                running.stop_if_unwanted(time.monotonic())

    def backlog(self, lane: Lane = "predict") -> float:
        """See `Engine.backlog`."""
        with self._lock:
            return self._schedule.backlog(lane)

    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return EngineInfo(RUNTIME, self._runtime.version, self._runtime.providers, self._runtime.threads)

    def statistics(self) -> EngineStatistics:
        """See `Engine.statistics`."""
        with self._lock:
            queued, running = self._schedule.lanes.queued(), self._schedule.runs
        return self._counters.snapshot(queued=queued, running=running, sessions=self._sessions.digests())

    def statistics_of_each(self) -> list[EngineStatistics]:
        """See `Engine.statistics_of_each`."""
        return [self.statistics()]

    def close(self) -> None:
        """See `Engine.close`."""
        with self._lock:
            self._closed = True
            for request in list(self._schedule.lanes):
                self._schedule.lanes.remove(request)
                _settle(request, EngineClosed("the engine was closed while the request waited"))
            while self._schedule.runs:
                self._quiet.wait()
        self._watchdog.close()
        self._sessions.close()
        self._runtime.close()

    def _refuse_unwanted(self, now: float, lane: Lane, deadline: float | None, tag: str) -> None:
        unwanted: EngineError | None = self._tags.refuse(tag, now) if tag else None
        if deadline is not None and deadline <= now:
            unwanted = DeadlineExceeded("the deadline passed before the work was started")
        if unwanted is not None:
            self._counters.over(lane, unwanted)
            raise unwanted

    def _is_short(self, request: Request) -> bool:
        """Whether its run takes less time than the queue would, and it is not to wait for company."""
        shortest = self._schedule.pace.shortest_run(request.checked.key)
        return (
            shortest is not None
            and shortest < self._settings.at_once_us / 1e6
            and request.checked.items <= min(self._settings.at_once_items, request.most(self._settings.max_batch))
            and not request.wait(self._settings.max_wait_ms)
            and not self._closed
        )

    def _run_at_once(self, request: Request) -> RunResult:
        """In this thread, beside any other run."""
        request.waiting, request.started = False, request.arrived
        outcome = self._runner.at_once(request)
        self._schedule.pace.learn(request.checked.key, request.checked.items, outcome.run_seconds)
        return outcome

    def _admit(self, request: Request) -> None:
        if self._closed:
            raise EngineClosed("the engine is closed")
        lanes, limit = self._schedule.lanes, self._settings.queue_limit
        waiting, items = lanes.items, request.checked.items
        if waiting and waiting + items > limit:
            self._counters.rejected(request.lane)
            raise QueueFull(f"{waiting} items wait already and {items} more came, expected {limit} at most")
        seconds, most = self._schedule.backlog(request.lane), self._settings.queue_seconds
        if request.lane == "predict" and seconds > most:
            self._counters.rejected(request.lane)
            raise QueueFull(f"work for about {seconds:.1f} s waits already, expected {most:g} s at most")
        lanes.add(request)

    def _see_through(self, request: Request) -> None:
        """Wait for the request's outcome, and run batches whenever there are threads to spare meanwhile."""
        while request.outcome is None:
            now = time.monotonic()
            if request.waiting and request.expired(now):
                self._drop(request)
                continue
            group, due = self._schedule.next(now) if request.waiting else (None, None)
            if group is not None:
                self._run_next(group, now)
                continue
            if not request.waiting:
                self._wake_next()
            moments = [moment for moment in (due, request.deadline) if moment is not None and request.waiting]
            request.wake.wait(max(0.0, min(moments) - now) if moments else None)

    def _run_next(self, group: Group, now: float) -> None:
        """Take the group's next batch, run it, hand out the outcomes."""
        batch = self._schedule.start(group)
        self._wake_next()
        wanted = [request for request in batch if not self._dropped(request, now)]
        started, outcomes = time.monotonic(), list[Outcome]()
        try:
            if wanted:
                outcomes = self._unlocked(wanted, started)
        finally:
            self._schedule.end(batch, time.monotonic() - started)
            for request in wanted[len(outcomes) :]:
                _settle(request, RunFailed("the thread that ran the batch was interrupted"))
            self._quiet.notify_all()
        for request, outcome in zip(wanted, outcomes, strict=True):
            self._learn(request, outcome)
            _settle(request, outcome)

    def _unlocked(self, batch: list[Request], started: float) -> list[Outcome]:
        """Run the batch without the lock."""
        for request in batch:
            request.started = started
        running = Running(batch)
        self._in_flight.add(running)
        self._lock.release()
        try:
            self._watchdog.watch(running)
            return self._runner.execute(running)
        finally:
            self._watchdog.done(running)
            self._lock.acquire()
            self._in_flight.discard(running)

    def _learn(self, request: Request, outcome: Outcome) -> None:
        if isinstance(outcome, RunResult):
            self._schedule.pace.learn(request.checked.key, outcome.batch_items, outcome.run_seconds / outcome.runs)

    def _dropped(self, request: Request, now: float) -> bool:
        """Whether nobody wants it any more; it then has its outcome."""
        unwanted = request.over(now)
        if unwanted is not None:
            self._counters.over(request.lane, unwanted)
            _settle(request, unwanted)
        return unwanted is not None

    def _drop(self, request: Request) -> None:
        """Take a waiting request that nobody wants any more out of the queue."""
        self._schedule.lanes.remove(request)
        self._dropped(request, time.monotonic())

    def _reopen(self, request: Request) -> Session:
        """A fresh session in the place of one that ran out of memory: on a device, its arena may be unusable."""
        if request.session.on_processor:
            return request.session
        self._sessions.forget(request.artifact.digest)
        return self._sessions.get(request.artifact)

    def _wake_next(self) -> None:
        """Tell the one whose turn it is that there are threads for its run, or that company is waited for."""
        group, _ = self._schedule.next(time.monotonic())
        if group is not None:
            group.first.wake.notify()


def _settle(request: Request, outcome: Outcome | EngineError) -> None:
    """Give the request its outcome and tell its caller. The lock is held."""
    request.outcome = outcome
    request.wake.notify()

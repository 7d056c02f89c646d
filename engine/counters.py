"""What the engine has done so far, counted where it happens.

The in-process home writes one line per run; `EngineStatistics` is a snapshot that nobody changes afterwards. Durations
are nanoseconds, as in the statistics of the Open Inference Protocol.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .errors import Cancelled, EngineError
from .memory import resident

REMEMBERED_DIGESTS = 1024
SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)


@dataclass(frozen=True)
class Duration:
    """How often something happened and how long it took altogether."""

    count: int = 0
    ns: int = 0


@dataclass(frozen=True)
class BatchDuration:
    """The runs of one batch size."""

    compute_input: Duration = Duration()
    compute_infer: Duration = Duration()
    compute_output: Duration = Duration()


@dataclass(frozen=True)
class ArtifactStatistics:
    """One artifact's figures.

    `inference_count` counts items, `execution_count` runs; `success`, `fail` and `queue` count requests, the
    `compute_*` figures runs: joining the inputs, the runtime itself, checking the outputs. `batches` is by number of
    items in the run.
    """

    inference_count: int = 0
    execution_count: int = 0
    success: Duration = Duration()
    fail: Duration = Duration()
    queue: Duration = Duration()
    compute_input: Duration = Duration()
    compute_infer: Duration = Duration()
    compute_output: Duration = Duration()
    batches: Mapping[int, BatchDuration] = field(default_factory=dict)


@dataclass(frozen=True)
class Histogram:
    """How values are distributed: `counts[i]` are those up to `bounds[i]` and above the bound before, the last count
    those above every bound; `total` is the sum of all."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)
    total: float = 0.0


@dataclass(frozen=True)
class LaneStatistics:
    """One lane's figures.

    `queued_*` are of this moment. `rejected` (the queue was full), `expired` and `cancelled` count requests;
    `queue_seconds` is of requests that were run, `batch_items` and `run_seconds` (the runtime alone) of runs.
    """

    queued_items: int = 0
    queued_requests: int = 0
    rejected: int = 0
    expired: int = 0
    cancelled: int = 0
    queue_seconds: Histogram = Histogram()
    batch_items: Histogram = Histogram()
    run_seconds: Histogram = Histogram()


@dataclass(frozen=True)
class EngineStatistics:
    """The engine as a whole: `queued_*`, `running` and `sessions` are of this moment, the others since its start.

    `processes` is the memory in bytes of each process that did the work, by its id: statistics of equal processes are
    of one engine. `device_memory` is the memory in use in bytes by device, where the runtime says.
    """

    items: int = 0
    runs: int = 0
    rejected: int = 0
    expired: int = 0
    cancelled: int = 0
    queued_items: int = 0
    queued_requests: int = 0
    running: int = 0
    sessions: tuple[str, ...] = ()
    processes: Mapping[str, int] = field(default_factory=dict, compare=False)
    artifacts: Mapping[str, ArtifactStatistics] = field(default_factory=dict)
    lanes: Mapping[str, LaneStatistics] = field(default_factory=dict)
    device_memory: Mapping[str, int] = field(default_factory=dict)


class _Sum:
    """A `Duration` while it grows: this is on the path of every request, so it is added to in place."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = 0
        self.ns = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def frozen(self) -> Duration:
        return Duration(self.count, self.ns)


class _Batch:
    """The runs of one artifact at one batch size."""

    __slots__ = ("infer", "input", "output")

    def __init__(self) -> None:
        self.input, self.infer, self.output = _Sum(), _Sum(), _Sum()

    def frozen(self) -> BatchDuration:
        return BatchDuration(self.input.frozen(), self.infer.frozen(), self.output.frozen())


class _Artifact:
    """The sums of one artifact."""

    __slots__ = ("batches", "fail", "queue", "success")

    def __init__(self) -> None:
        self.success, self.fail, self.queue = _Sum(), _Sum(), _Sum()
        self.batches: dict[int, _Batch] = {}

    def frozen(self) -> ArtifactStatistics:
        batches = {items: batch.frozen() for items, batch in sorted(self.batches.items())}
        return ArtifactStatistics(
            inference_count=sum(items * batch.compute_infer.count for items, batch in batches.items()),
            execution_count=sum(batch.compute_infer.count for batch in batches.values()),
            success=self.success.frozen(),
            fail=self.fail.frozen(),
            queue=self.queue.frozen(),
            compute_input=_total(batch.compute_input for batch in batches.values()),
            compute_infer=_total(batch.compute_infer for batch in batches.values()),
            compute_output=_total(batch.compute_output for batch in batches.values()),
            batches=batches,
        )


class Spread:
    """A `Histogram` while it grows; whoever adds to it holds a lock."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def frozen(self) -> Histogram:
        return Histogram(self.bounds, tuple(self.counts), self.total)


class _Lane:
    """The sums of one lane."""

    __slots__ = ("batch", "cancelled", "expired", "queue", "rejected", "run")

    def __init__(self) -> None:
        self.queue, self.batch, self.run = Spread(SECONDS), Spread(ITEMS), Spread(SECONDS)
        self.rejected = self.expired = self.cancelled = 0

    def frozen(self, queued: tuple[int, int]) -> LaneStatistics:
        return LaneStatistics(
            queued_items=queued[0],
            queued_requests=queued[1],
            rejected=self.rejected,
            expired=self.expired,
            cancelled=self.cancelled,
            queue_seconds=self.queue.frozen(),
            batch_items=self.batch.frozen(),
            run_seconds=self.run.frozen(),
        )


class Counters:
    """The running figures behind `EngineStatistics`; remembers the most recently used digests."""

    def __init__(self, lanes: Iterable[str], remembered: int = REMEMBERED_DIGESTS) -> None:
        self._lock = threading.Lock()
        self._remembered = remembered
        self._artifacts: OrderedDict[str, _Artifact] = OrderedDict()
        self._lanes: dict[str, _Lane] = {lane: _Lane() for lane in lanes}
        self._items = self._runs = 0

    def run(self, digest: str, lane: str, *, items: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """One run that succeeded: the items it carried and where its time went."""
        with self._lock:
            self._count(self._of(digest), lane, items, input_ns, infer_ns, output_ns)

    def at_once(self, digest: str, lane: str, *, items: int, infer_ns: int) -> None:
        """One request that did not wait and had a run of its own, which succeeded."""
        with self._lock:
            artifact = self._of(digest)
            self._count(artifact, lane, items, 0, infer_ns, 0)
            self._lanes[lane].queue.add(0.0)
            artifact.queue.add(0)
            artifact.success.add(infer_ns)

    def request(self, digest: str, lane: str, *, queue_ns: int, total_ns: int, succeeded: bool) -> None:
        """One request that was run: how long it waited, how long it took from its arrival on, how it ended."""
        with self._lock:
            self._lanes[lane].queue.add(queue_ns / 1e9)
            artifact = self._of(digest)
            artifact.queue.add(queue_ns)
            (artifact.success if succeeded else artifact.fail).add(total_ns)

    def rejected(self, lane: str) -> None:
        """One request that found the queue full."""
        with self._lock:
            self._lanes[lane].rejected += 1

    def over(self, lane: str, error: EngineError) -> None:
        """One request that nobody wants any more, with the error it gets."""
        with self._lock:
            if isinstance(error, Cancelled):
                self._lanes[lane].cancelled += 1
            else:
                self._lanes[lane].expired += 1

    def snapshot(
        self, *, queued: Mapping[str, tuple[int, int]], running: int, sessions: tuple[str, ...]
    ) -> EngineStatistics:
        """Everything counted so far, with the figures of this moment; `queued` are items and requests by lane."""
        with self._lock:
            return EngineStatistics(
                items=self._items,
                runs=self._runs,
                rejected=sum(lane.rejected for lane in self._lanes.values()),
                expired=sum(lane.expired for lane in self._lanes.values()),
                cancelled=sum(lane.cancelled for lane in self._lanes.values()),
                queued_items=sum(items for items, _ in queued.values()),
                queued_requests=sum(requests for _, requests in queued.values()),
                running=running,
                sessions=sessions,
                processes={str(os.getpid()): resident()},
                artifacts={digest: artifact.frozen() for digest, artifact in self._artifacts.items()},
                lanes={name: lane.frozen(queued.get(name, (0, 0))) for name, lane in self._lanes.items()},
            )

    def _count(self, artifact: _Artifact, lane: str, items: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        self._items += items
        self._runs += 1
        self._lanes[lane].batch.add(items)
        self._lanes[lane].run.add(infer_ns / 1e9)
        batch = artifact.batches.get(items)
        if batch is None:
            batch = artifact.batches[items] = _Batch()
        batch.input.add(input_ns)
        batch.infer.add(infer_ns)
        batch.output.add(output_ns)

    def _of(self, digest: str) -> _Artifact:
        artifact = self._artifacts.get(digest)
        if artifact is None:
            artifact = self._artifacts[digest] = _Artifact()
            if len(self._artifacts) > self._remembered:
                self._artifacts.popitem(last=False)
        else:
            self._artifacts.move_to_end(digest)
        return artifact


def _total(durations: Iterable[Duration]) -> Duration:
    count = ns = 0
    for duration in durations:
        count += duration.count
        ns += duration.ns
    return Duration(count, ns)

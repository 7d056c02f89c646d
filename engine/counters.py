"""What the engine has done so far, counted where it happens.

The in-process home writes one line per run; `EngineStatistics` is a snapshot that nobody changes afterwards. Durations
are nanoseconds, as in the statistics of the Open Inference Protocol.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .errors import Cancelled, EngineError
from .memory import resident

REMEMBERED_DIGESTS = 1024


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
class EngineStatistics:
    """The engine as a whole: `queued_*`, `running`, `sessions` and `processes` (memory in bytes by process
    number) are of this moment, the others since its start."""

    items: int = 0
    runs: int = 0
    rejected: int = 0
    expired: int = 0
    cancelled: int = 0
    queued_items: int = 0
    queued_requests: int = 0
    running: int = 0
    sessions: tuple[str, ...] = ()
    processes: Mapping[str, int] = field(default_factory=dict)
    artifacts: Mapping[str, ArtifactStatistics] = field(default_factory=dict)


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


class Counters:
    """The running figures behind `EngineStatistics`; remembers the most recently used digests."""

    def __init__(self, remembered: int = REMEMBERED_DIGESTS) -> None:
        self._lock = threading.Lock()
        self._remembered = remembered
        self._artifacts: OrderedDict[str, _Artifact] = OrderedDict()
        self._items = self._runs = self._rejected = self._expired = self._cancelled = 0

    def run(self, digest: str, *, items: int, input_ns: int, infer_ns: int, output_ns: int) -> None:
        """One run that succeeded: the items it carried and where its time went."""
        with self._lock:
            self._items += items
            self._runs += 1
            batches = self._of(digest).batches
            batch = batches.get(items)
            if batch is None:
                batch = batches[items] = _Batch()
            batch.input.add(input_ns)
            batch.infer.add(infer_ns)
            batch.output.add(output_ns)

    def request(self, digest: str, *, queue_ns: int, total_ns: int, succeeded: bool) -> None:
        """One request that was run: how long it waited, how long it took from its arrival on, how it ended."""
        with self._lock:
            artifact = self._of(digest)
            artifact.queue.add(queue_ns)
            (artifact.success if succeeded else artifact.fail).add(total_ns)

    def rejected(self) -> None:
        """One request that found the queue full."""
        with self._lock:
            self._rejected += 1

    def expired(self) -> None:
        """One request whose deadline passed before its work was done."""
        with self._lock:
            self._expired += 1

    def over(self, error: EngineError) -> None:
        """One request that nobody wants any more, with the error it gets."""
        with self._lock:
            if isinstance(error, Cancelled):
                self._cancelled += 1
            else:
                self._expired += 1

    def snapshot(
        self, *, queued_items: int, queued_requests: int, running: int, sessions: tuple[str, ...]
    ) -> EngineStatistics:
        """Everything counted so far, with the figures of this moment."""
        with self._lock:
            return EngineStatistics(
                items=self._items,
                runs=self._runs,
                rejected=self._rejected,
                expired=self._expired,
                cancelled=self._cancelled,
                queued_items=queued_items,
                queued_requests=queued_requests,
                running=running,
                sessions=sessions,
                processes={str(os.getpid()): resident()},
                artifacts={digest: artifact.frozen() for digest, artifact in self._artifacts.items()},
            )

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
